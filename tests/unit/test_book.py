"""The book: what a transaction holds, its sums, and the decisions that it does not let past (S2)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from quota_server.ledger import escrow
from quota_server.ledger.book import Book
from quota_server.ledger.model import (
    Agent,
    AgentKey,
    Allocation,
    AllocationKey,
    Assignment,
    Epoch,
    Mark,
    Meta,
    Override,
    Quota,
    QuotaState,
    Sums,
)
from quotafleet.link.messages import OverrideState, Revision, Totals

KEY = AllocationKey("q", "a", 1)
OTHER = AllocationKey("q", "b", 1)


def make_book(target: int = 100, **quota: object) -> Book:
    """A book as a store loads it: one quota, two agents with nothing yet."""
    book = Book(Meta())
    book.load([Quota("q", "quota", target, **quota)])  # type: ignore[arg-type]
    for key in (KEY, OTHER):
        book.load([Agent(key.agent_uid, key.agent_uid, 1), Epoch(*key.agent)])
        book.load([Assignment("q", key.agent_uid), Allocation(*key)])
    return book


def offer(book: Book, key: AllocationKey, limit: int) -> None:
    book.decide(escrow.offer(book.allocations[key], limit, 1))


# --- S2 --------------------------------------------------------------------------------------------------------------


def test_decisions_raise_e_up_to_the_target_and_not_by_one_unit_more() -> None:
    book = make_book(target=100)
    offer(book, KEY, 60)
    offer(book, OTHER, 40)
    assert book.quotas["q"].escrowed == 100
    with pytest.raises(AssertionError, match="S2"):
        offer(book, OTHER, 41)


def test_a_charge_counts_like_an_exposure() -> None:
    book = make_book(target=100)
    book.decide(Assignment("q", "a", initial_count=70))
    with pytest.raises(AssertionError, match="S2"):
        offer(book, KEY, 31)


def test_a_refused_decision_is_not_among_the_sums() -> None:
    book = make_book(target=100)
    with pytest.raises(AssertionError, match="S2"):
        offer(book, KEY, 101)
    assert book.quotas["q"].sums == Sums()


def test_a_fact_may_raise_e_above_the_target() -> None:
    book = make_book(target=100)
    book.note_fact(replace(book.allocations[KEY], exposure=150))
    assert book.quotas["q"].overcommitted


def test_while_overcommitted_decisions_that_raise_nothing_go_through() -> None:
    book = make_book(target=100)
    book.note_fact(replace(book.allocations[KEY], exposure=150, offered=150))
    offer(book, KEY, 90)
    assert book.quotas["q"].escrowed == 150, "a smaller limit is only an offer"
    book.decide(replace(book.allocations[KEY], exposure=120))
    assert book.quotas["q"].escrowed == 120
    with pytest.raises(AssertionError, match="S2"):
        offer(book, OTHER, 1)


def test_the_target_falls_to_the_known_count_and_not_below() -> None:
    book = make_book(target=100)
    offer(book, KEY, 60)
    book.note_fact(replace(book.allocations[KEY], totals=Totals(30, 5), held=5))
    book.decide(Assignment("q", "b", initial_count=10))
    assert book.quotas["q"].known_count == 40
    book.decide(replace(book.quotas["q"], target=40))
    assert book.quotas["q"].overcommitted
    with pytest.raises(AssertionError, match="known count"):
        book.decide(replace(book.quotas["q"], target=39))


def test_the_target_may_rise_while_it_is_below_the_known_count() -> None:
    book = make_book(target=10)
    book.note_fact(replace(book.allocations[KEY], exposure=50, totals=Totals(50)))
    book.decide(replace(book.quotas["q"], target=20))
    assert book.quotas["q"].target == 20


def test_overrides_never_fund_limits() -> None:
    book = make_book(target=100)
    offer(book, KEY, 100)
    book.decide(Override("o", "", *KEY, amount=1000, reason="", state=OverrideState.APPROVED))
    assert book.quotas["q"].escrowed == 100
    assert book.quotas["q"].upper_bound == 1100


def test_a_limit_without_an_exposure_does_not_get_past() -> None:
    book = make_book()
    with pytest.raises(AssertionError, match="unescrowed"):
        book.decide(replace(book.allocations[KEY], offered=5))


def test_an_acknowledgement_of_what_was_never_sent_does_not_get_past() -> None:
    book = make_book()
    with pytest.raises(AssertionError, match="never sent"):
        book.note_fact(replace(book.allocations[KEY], acknowledged=Revision(1, 1)))


# --- sums ------------------------------------------------------------------------------------------------------------


def test_sums_move_with_what_they_sum_up() -> None:
    book = make_book()
    offer(book, KEY, 30)
    offer(book, OTHER, 20)
    book.note_fact(replace(book.allocations[KEY], totals=Totals(10, 2, 5, 1), held=3, wanted=37))
    assert book.quotas["q"].sums == Sums(exposure=50, count=8, held=3, overridden=4, aside=7)
    book.note_fact(replace(book.allocations[KEY], totals=Totals(12, 2, 5, 5), held=0, wanted=30))
    assert book.quotas["q"].sums == Sums(exposure=50, count=10)


def test_loaded_records_are_in_the_sums_already() -> None:
    book = Book(Meta())
    book.load([Quota("q", "quota", 100, sums=Sums(exposure=30))])
    book.load([Allocation(*KEY, exposure=30, offered=30)])
    assert book.quotas["q"].sums.exposure == 30
    book.decide(replace(book.allocations[KEY], exposure=31))
    assert book.quotas["q"].sums.exposure == 31


def test_a_settled_override_counts_as_spent_until_its_store_turns_up() -> None:
    book = make_book()
    approved = Override("o", "", *KEY, amount=7, reason="", state=OverrideState.APPROVED)
    book.decide(approved)
    assert book.quotas["q"].sums == Sums(overrides=7)
    book.note_fact(replace(approved, settled=True))
    assert book.quotas["q"].sums == Sums(overrides=7, overridden=7)
    book.note_fact(replace(approved, settled=True, at_risk=True))
    assert book.quotas["q"].sums == Sums(at_risk=7)
    book.note_fact(replace(approved, state=OverrideState.USED, spent=4))
    assert book.quotas["q"].sums == Sums(overrides=4)
    book.note_fact(replace(approved, state=OverrideState.DEAD))
    assert book.quotas["q"].sums == Sums()


# --- what changed ----------------------------------------------------------------------------------------------------


def test_loading_changes_nothing() -> None:
    book = make_book()
    assert (book.changes(), book.revised, book.touched) == ([], set(), set())


def test_putting_what_is_there_changes_nothing() -> None:
    book = make_book()
    book.decide(replace(book.allocations[KEY]))
    book.decide(replace(book.quotas["q"]))
    assert (book.changes(), book.revised, book.touched) == ([], set(), set())


def test_what_changed_twice_is_written_once_as_it_is_in_the_end() -> None:
    book = make_book()
    offer(book, KEY, 10)
    offer(book, KEY, 20)
    assert sorted(map(type, book.changes()), key=str) == [Allocation, Quota]
    assert set(book.changes()) == {book.allocations[KEY], book.quotas["q"]}


def test_a_new_revision_is_to_be_sent_and_a_new_count_is_not() -> None:
    book = make_book()
    book.note_fact(replace(book.allocations[OTHER], totals=Totals(1), exposure=1))
    assert book.revised == set()
    assert book.touched == {"q"}
    offer(book, KEY, 10)
    assert book.revised == {KEY}


def test_a_setting_touches_its_quota() -> None:
    book = make_book()
    book.decide(replace(book.quotas["q"], state=QuotaState.SUSPENDED))
    assert book.touched == {"q"}


def test_a_record_that_is_here_is_not_replaced_by_loading_it_again() -> None:
    book = make_book()
    stored = book.allocations[KEY]
    offer(book, KEY, 10)
    book.load([stored])
    assert book.allocations[KEY].offered == 10


# --- the rest --------------------------------------------------------------------------------------------------------


def test_recovery_takes_in_what_is_here_and_what_comes_in_later() -> None:
    book = make_book()
    book.begin_recovery(1, "restored")
    book.load([Quota("late", "late", 5)])
    assert book.quotas["q"].recovering
    assert book.quotas["late"].recovering
    assert book.quotas["q"].upper_bound is None
    assert book.meta == Meta(1, recovering=True)
    assert book.everything_recovers


def test_a_mark_is_fenced_once_and_a_copy_charged_once() -> None:
    book, agent = make_book(), AgentKey("a", 1)
    book.fence_mark(agent, Mark(1, 1))
    book.fence_mark(agent, Mark(1, 1))
    assert book.new_fenced_marks == [(agent, Mark(1, 1))]
    assert book.charge_copy_once(agent, "copy")
    assert not book.charge_copy_once(agent, "copy")
    assert book.new_charged_copies == [(agent, "copy")]


@pytest.mark.parametrize(
    "change",
    [
        lambda b: b.decide(Assignment("q", "a", assigned=False)),
        lambda b: b.decide(replace(b.agents["a"], active=False)),
        lambda b: b.decide(replace(b.agents["a"], retired=True)),
        lambda b: b.decide(replace(b.agents["a"], epoch=2)),
        lambda b: b.decide(replace(b.epochs["a", 1], ended=True)),
        lambda b: b.decide(replace(b.allocations[KEY], settled=True)),
        lambda b: b.decide(replace(b.quotas["q"], state=QuotaState.CLOSED)),
    ],
    ids=["unassigned", "inactive", "retired", "older epoch", "ended", "settled", "closed"],
)
def test_who_is_no_member(change: object) -> None:
    book = make_book()
    assert book.is_member(book.allocations[KEY])
    change(book)  # type: ignore[operator]
    assert not book.is_member(book.allocations[KEY])
    assert book.is_member(book.allocations[OTHER]) is (book.quotas["q"].state is QuotaState.OPEN)


def test_an_update_says_what_the_agent_has_to_know() -> None:
    book = make_book(decimals=3, start_ms=1, end_ms=2, max_offline_ms=3, state=QuotaState.SUSPENDED)
    offer(book, KEY, 10)
    update = book.update_of(KEY)
    assert (update.quota_uid, update.revision, update.limit) == ("q", Revision(1, 1), 10)
    terms = update.terms
    assert (terms.name, terms.decimals, terms.start_ms, terms.end_ms, terms.max_offline_ms) == (
        "quota",
        3,
        1,
        2,
        3,
    )
    assert (terms.suspended, terms.closed, terms.assigned, terms.active) == (True, False, True, True)


def test_allocations_come_by_agent_name_and_epoch() -> None:
    book = make_book()
    book.load([Agent("z", "0", 2), Allocation("q", "z", 2), Allocation("q", "z", 1)])
    assert [a.key.agent for a in book.allocations_of("q")] == [("z", 1), ("z", 2), ("a", 1), ("b", 1)]
    assert [a.key for a in book.allocations_of_agent(AgentKey("a", 1))] == [KEY]
