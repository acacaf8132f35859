"""Decisions of the gate on entries: what is granted, what is refused and why, what a repeat answers."""

from __future__ import annotations

from typing import Any

import pytest

from quota_agent.errors import Refusal
from quota_agent.gate.model import AcquireMode, AcquireRequest, Balance, EntryState, Granted, Verb
from quota_agent.gate.operations import Batch, Contact, End, FenceStore, Touch
from quotafleet.link.messages import FenceKind
from tests.gate_kit import START_MS, uid_of
from tests.pure_gate import PureGate, acquire

COMMIT, CANCEL, RELEASE = Verb.COMMIT, Verb.CANCEL, Verb.RELEASE
UP_TO = AcquireMode.UP_TO


@pytest.fixture
def gate() -> PureGate:
    """A gate with a limit of 10 in the quota q."""
    pure = PureGate()
    pure.limit(10)
    return pure


def reason(answer: object) -> str:
    """The reason of a refusal, or the state of the entry."""
    if isinstance(answer, Refusal):
        return answer.reason
    assert isinstance(answer, Granted)
    return answer.entry.state.value


def test_units_are_granted_up_to_the_limit_and_not_past_it(gate: PureGate) -> None:
    assert gate.granted(acquire("a", 6)).balance == Balance(count=6, held=0, remaining=4, limit=10)
    refusal = gate.refused(acquire("b", 5))
    assert refusal.reason == "QUOTA_REACHED"
    assert refusal.metadata == {"quota": "q", "limit": "10", "count": "6", "held": "0", "requested": "5"}
    assert gate.granted(acquire("b", 4)).balance.remaining == 0


def test_a_group_is_decided_in_its_order_on_what_the_ones_before_left(gate: PureGate) -> None:
    answers = gate.group(acquire("a", 7), acquire("b", 4), acquire("c", 3), acquire("d", 1))
    assert [reason(answer) for answer in answers] == ["COUNTED", "QUOTA_REACHED", "COUNTED", "QUOTA_REACHED"]


def test_a_refused_id_is_not_remembered_and_may_try_again(gate: PureGate) -> None:
    gate.granted(acquire("a", 10))
    gate.refused(acquire("b"))
    gate.end(RELEASE, "a")
    assert gate.granted(acquire("b", 2)).entry.granted == 2


def test_up_to_grants_what_is_left_and_refuses_when_nothing_is(gate: PureGate) -> None:
    gate.granted(acquire("a", 7))
    assert gate.granted(acquire("b", 5, mode=UP_TO)).entry.granted == 3
    assert gate.refused(acquire("c", 5, mode=UP_TO)).reason == "QUOTA_REACHED"
    assert gate.granted(acquire("b", 5, mode=UP_TO)).entry.granted == 3, "a repeat answers what was granted"


def test_a_repeat_answers_the_recorded_entry_and_counts_once(gate: PureGate) -> None:
    first = gate.granted(acquire("a", 6, labels=(("b", "2"), ("a", "1"))))
    again = gate.granted(acquire("a", 6, labels=(("a", "1"), ("b", "2")), max_wait_ms=5))
    assert again == first
    assert gate.balance().count == 6


def test_a_repeat_within_the_same_group_counts_once(gate: PureGate) -> None:
    first, second = gate.group(acquire("a", 6), acquire("a", 6))
    assert first == second
    assert gate.balance().count == 6


@pytest.mark.parametrize(
    "other",
    [{"amount": 3}, {"mode": UP_TO}, {"hold_ms": 9}, {"override_id": "o"}, {"labels": (("a", "1"),)}],
    ids=lambda other: next(iter(other)),
)
def test_the_same_id_with_other_content_is_refused(gate: PureGate, other: dict[str, Any]) -> None:
    gate.granted(acquire("a", 2))
    assert gate.refused(acquire("a", 2)._replace(**other)).reason == "REQUEST_ID_REUSED"


def test_the_length_of_a_hold_is_content_even_after_its_commit(gate: PureGate) -> None:
    gate.granted(acquire("a", hold_ms=1000))
    gate.end(COMMIT, "a")
    assert gate.granted(acquire("a", hold_ms=1000)).entry.state is EntryState.COUNTED
    assert gate.refused(acquire("a", hold_ms=999)).reason == "REQUEST_ID_REUSED"
    assert gate.refused(acquire("a")).reason == "REQUEST_ID_REUSED"


def test_a_repeat_is_answered_whatever_has_become_of_the_quota(gate: PureGate) -> None:
    first = gate.granted(acquire("a", 6))
    for terms in (
        {"suspended": True},
        {"end_ms": 1},
        {"closed": True},
        {"assigned": False},
        {"active": False},
    ):
        gate.limit(0, **terms)
        assert gate.granted(acquire("a", 6)).entry == first.entry, terms
    gate.one(FenceStore(FenceKind.ENDED, "x"))
    assert gate.granted(acquire("a", 6)).entry == first.entry


def test_an_ended_id_is_used_up(gate: PureGate) -> None:
    gate.group(acquire("a"), acquire("b", hold_ms=10), acquire("c", hold_ms=10))
    gate.end(RELEASE, "a")
    gate.end(CANCEL, "b")
    gate.now += 10
    assert [reason(gate.one(acquire("a")))] == ["ENTRY_ENDED"]
    assert [reason(gate.one(acquire("b", hold_ms=10)))] == ["ENTRY_ENDED"]
    assert [reason(gate.one(acquire("c", hold_ms=10)))] == ["HOLD_EXPIRED"]


def refusing_states() -> list[tuple[str, dict[str, Any]]]:
    """Terms, each of which has all the faults of those after it, and the reason that is given."""
    past = {"end_ms": START_MS, "max_offline_ms": 1}
    return [
        ("NOT_ASSIGNED", {"assigned": False, "closed": True, "active": False, "suspended": True, **past}),
        ("QUOTA_CLOSED", {"closed": True, "active": False, "suspended": True, **past}),
        ("AGENT_INACTIVE", {"active": False, "suspended": True, **past}),
        ("QUOTA_SUSPENDED", {"suspended": True, **past}),
        ("QUOTA_EXPIRED", past),
        ("QUOTA_NOT_STARTED", {"start_ms": START_MS + 1, "max_offline_ms": 1}),
        ("OFFLINE_TOO_LONG", {"max_offline_ms": 1}),
        ("QUOTA_REACHED", {}),
    ]


@pytest.mark.parametrize(("expected", "terms"), refusing_states(), ids=[row[0] for row in refusing_states()])
def test_reasons_come_in_their_order(expected: str, terms: dict[str, Any]) -> None:
    pure = PureGate()
    pure.limit(0, **terms)
    assert pure.refused(acquire("a")).reason == expected


def test_an_unknown_name_is_not_assigned(gate: PureGate) -> None:
    assert gate.refused(AcquireRequest("other", "a")).reason == "NOT_ASSIGNED"


def test_an_agent_that_was_never_welcomed_is_not_enrolled() -> None:
    pure = PureGate(welcomed=False)
    assert pure.refused(acquire("a")).reason == "NOT_ENROLLED"
    assert reason(pure.end(RELEASE, "a")) == "NOT_ENROLLED"


def test_a_period_holds_its_start_and_not_its_end(gate: PureGate) -> None:
    gate.limit(10, start_ms=START_MS + 10, end_ms=START_MS + 20)
    early = gate.refused(acquire("a"))
    assert early.reason == "QUOTA_NOT_STARTED"
    assert early.metadata["start_time"] == "2026-07-01T00:00:00.010Z"
    gate.now = START_MS + 10
    gate.granted(acquire("a"))
    gate.now = START_MS + 19
    gate.granted(acquire("b"))
    gate.now = START_MS + 20
    assert gate.refused(acquire("c")).reason == "QUOTA_EXPIRED"


def test_offline_counts_from_the_last_contact_and_a_contact_ends_it(gate: PureGate) -> None:
    gate.limit(10, max_offline_ms=1_000)
    gate.contact = Contact(gate.now, gate.now)
    gate.granted(acquire("a"))
    gate.now += 1_000
    gate.granted(acquire("b"))
    gate.now += 1
    assert gate.refused(acquire("c")).reason == "OFFLINE_TOO_LONG"
    gate.contact = Contact(gate.now, gate.now)
    gate.granted(acquire("c"))


def test_a_hold_sets_units_aside_until_committed_or_cancelled(gate: PureGate) -> None:
    gate.group(acquire("a", 4, hold_ms=1000), acquire("b", 5, hold_ms=1000))
    assert gate.balance() == Balance(count=0, held=9, remaining=1, limit=10)
    committed = gate.end(COMMIT, "a")
    assert reason(committed) == "COUNTED"
    assert gate.balance() == Balance(count=4, held=5, remaining=1, limit=10)
    assert reason(gate.end(CANCEL, "b")) == "CANCELLED"
    assert gate.balance() == Balance(count=4, held=0, remaining=6, limit=10)


def test_a_hold_ends_with_its_time_and_that_is_final(gate: PureGate) -> None:
    gate.granted(acquire("a", 10, hold_ms=1000))
    gate.now += 999
    assert gate.refused(acquire("b")).reason == "QUOTA_REACHED"
    gate.now += 1
    assert gate.granted(acquire("b", 10)).balance.held == 0
    gate.now -= 500
    for verb in Verb:
        assert reason(gate.end(verb, "a")) == "HOLD_EXPIRED"


def test_a_hold_whose_time_is_over_cannot_be_committed_in_the_group_that_finds_out(gate: PureGate) -> None:
    gate.granted(acquire("a", 10, hold_ms=1000))
    gate.now += 1000
    late, other = gate.group(End(COMMIT, "q", "a"), acquire("b", 10))
    assert (reason(late), reason(other)) == ("HOLD_EXPIRED", "COUNTED")


def test_holds_end_by_a_touch_too(gate: PureGate) -> None:
    gate.group(acquire("a", 2, hold_ms=1000), acquire("b", 3, hold_ms=2000))
    gate.now += 1000
    gate.one(Touch())
    assert gate.balance().held == 3
    assert gate.state.hold_due_ms == START_MS + 2000


def test_holds_go_by_the_latest_time_seen(gate: PureGate) -> None:
    gate.granted(acquire("a", 10, hold_ms=60_000))
    gate.now += 60_000
    gate.one(Touch())
    gate.now -= 30_000
    assert gate.granted(acquire("b", 10)).entry.create_ms == START_MS + 60_000


ENDS = [
    # entry, verb, what comes of it, and of a repeat
    ("held", COMMIT, "COUNTED", "COUNTED"),
    ("held", CANCEL, "CANCELLED", "CANCELLED"),
    ("held", RELEASE, "FIELD_INVALID", "FIELD_INVALID"),
    ("committed", COMMIT, "COUNTED", "COUNTED"),
    ("committed", CANCEL, "FIELD_INVALID", "FIELD_INVALID"),
    ("committed", RELEASE, "RELEASED", "RELEASED"),
    ("counted", COMMIT, "FIELD_INVALID", "FIELD_INVALID"),
    ("counted", CANCEL, "FIELD_INVALID", "FIELD_INVALID"),
    ("counted", RELEASE, "RELEASED", "RELEASED"),
    ("cancelled", COMMIT, "ENTRY_ENDED", "ENTRY_ENDED"),
    ("cancelled", RELEASE, "ENTRY_ENDED", "ENTRY_ENDED"),
    ("released", COMMIT, "ENTRY_ENDED", "ENTRY_ENDED"),
    ("released", CANCEL, "ENTRY_ENDED", "ENTRY_ENDED"),
    ("expired", COMMIT, "HOLD_EXPIRED", "HOLD_EXPIRED"),
    ("expired", CANCEL, "HOLD_EXPIRED", "HOLD_EXPIRED"),
    ("expired", RELEASE, "HOLD_EXPIRED", "HOLD_EXPIRED"),
    ("unknown", COMMIT, "ENTRY_UNKNOWN", "ENTRY_UNKNOWN"),
]


@pytest.mark.parametrize(
    ("kind", "verb", "first", "again"), ENDS, ids=lambda value: str(getattr(value, "value", value))
)
def test_every_verb_on_every_entry(gate: PureGate, kind: str, verb: Verb, first: str, again: str) -> None:
    if kind != "unknown":
        gate.granted(acquire("a", 3, hold_ms=None if kind in ("counted", "released") else 1000))
    before = {"committed": COMMIT, "cancelled": CANCEL, "released": RELEASE}.get(kind)
    if before is not None:
        gate.end(before, "a")
    if kind == "expired":
        gate.now += 1000
    assert reason(gate.end(verb, "a")) == first
    balance = gate.state.quotas[uid_of("q")].balance()
    assert reason(gate.end(verb, "a")) == again
    assert gate.balance() == balance, "a repeat changes nothing"
    assert balance.count + balance.held in (0, 3)


def test_a_fenced_store_ends_nothing_any_more(gate: PureGate) -> None:
    gate.group(acquire("a"), acquire("b", hold_ms=1000))
    gate.end(RELEASE, "a")
    gate.one(FenceStore(FenceKind.ENDED, "x"))
    assert {reason(gate.end(verb, request)) for verb in Verb for request in "ab"} == {"AGENT_FENCED"}


def test_a_batch_answers_each_item(gate: PureGate) -> None:
    answers = gate.one(Batch((acquire("a", 6), acquire("b", 6), acquire("c", 4)), atomic=False))
    assert [reason(answer) for answer in answers] == ["COUNTED", "QUOTA_REACHED", "COUNTED"]


def test_an_atomic_batch_keeps_nothing_if_an_item_is_refused(gate: PureGate) -> None:
    gate.limit(5, "other")
    before = gate.state
    items = (acquire("a", 6), AcquireRequest("other", "a", 5), AcquireRequest("missing", "a"))
    refusal = gate.refused(Batch(items, atomic=True))
    assert (refusal.reason, refusal.metadata["index"]) == ("NOT_ASSIGNED", "2")
    assert gate.state == before
    assert not gate.entries


def test_an_atomic_batch_sees_what_the_group_decided_before_it(gate: PureGate) -> None:
    single, batch, after = gate.group(
        acquire("a", 6), Batch((acquire("a", 6), acquire("b", 4)), atomic=True), acquire("c")
    )
    assert [reason(single), *map(reason, batch), reason(after)] == ["COUNTED"] * 3 + ["QUOTA_REACHED"]
    assert gate.balance().count == 10


def test_a_refused_atomic_batch_leaves_the_group_before_and_after_it_alone(gate: PureGate) -> None:
    answers = gate.group(
        acquire("a", 3), Batch((acquire("b", 3), acquire("c", 9)), atomic=True), acquire("d", 7)
    )
    assert [reason(answer) for answer in answers] == ["COUNTED", "QUOTA_REACHED", "COUNTED"]
    assert answers[1].metadata["index"] == "1"
    assert sorted(request_id for _, request_id in gate.entries) == ["a", "d"]


def test_repeats_of_an_atomic_batch_return_its_entries(gate: PureGate) -> None:
    batch = Batch((acquire("a", 3), acquire("b", 7)), atomic=True)
    first: list[Granted] = gate.one(batch)
    again: list[Granted] = gate.one(batch)
    assert [each.entry for each in first] == [each.entry for each in again]
    assert gate.balance().count == 10


def test_a_new_quota_of_the_same_name_is_another_quota(gate: PureGate) -> None:
    gate.granted(acquire("a", 10))
    gate.limit(10, closed=True)
    assert gate.refused(acquire("b")).reason == "QUOTA_CLOSED"
    gate.limit(4, uid="second")
    assert gate.granted(acquire("a", 3)).entry.quota_uid == "second"
    assert gate.granted(acquire("b", 1)).balance.limit == 4


def test_ends_find_entries_of_an_older_quota_of_that_name(gate: PureGate) -> None:
    gate.group(acquire("a", 4), acquire("b", 4))
    gate.limit(10, closed=True)
    gate.limit(4, uid="second")
    gate.granted(acquire("b", 1))
    released = gate.end(RELEASE, "a")
    assert isinstance(released, Granted)
    assert released.entry.quota_uid == uid_of("q")
    newer = gate.end(RELEASE, "b")
    assert isinstance(newer, Granted)
    assert newer.entry.quota_uid == "second", "the open quota comes first"


def test_those_who_would_wait_do_not_overtake_those_who_do(gate: PureGate) -> None:
    waiting = acquire("big", 11, max_wait_ms=100)
    small = acquire("small", 1, max_wait_ms=100)
    answers = gate.group(waiting, small, acquire("now", 1))
    assert [reason(answer) for answer in answers] == ["QUOTA_REACHED", "QUOTA_REACHED", "COUNTED"]
    assert reason(gate.group(small, waited=frozenset({uid_of("q")}))[0]) == "QUOTA_REACHED"
    assert reason(gate.one(small)) == "COUNTED"
