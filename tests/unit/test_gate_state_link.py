"""Decisions of the gate on what comes from the controller: limits, marks, fences, overrides, time."""

from __future__ import annotations

import pytest

from quota_agent.errors import Refusal
from quota_agent.gate.model import Verb
from quota_agent.gate.operations import (
    AdvanceDial,
    AskOverride,
    Batch,
    Contact,
    FenceConfirmed,
    FenceStore,
    ResetClock,
    SayHello,
    Touch,
)
from quota_agent.gate.overrides import MAX_REPORTED_ASKS, open_asks, standings
from quotafleet.link.messages import (
    AllocationUpdate,
    FenceKind,
    OverrideStanding,
    OverrideState,
    Revision,
    Terms,
    Totals,
)
from tests.gate_kit import START_MS, uid_of
from tests.pure_gate import PureGate, acquire, approval, named

Q = uid_of("q")
HOUR = 3_600_000
APPROVED, USED, DEAD = OverrideState.APPROVED, OverrideState.USED, OverrideState.DEAD


@pytest.fixture
def gate() -> PureGate:
    """A gate with a limit of 10 in the quota q."""
    pure = PureGate()
    pure.limit(10)
    return pure


def told(gate: PureGate) -> dict[str, OverrideState]:
    """The overrides that are reported."""
    return {standing.override_id: standing.state for standing in standings(gate.state.overrides)}


# --- limits -----------------------------------------------------------------------------------------------------------


def test_a_limit_below_what_is_used_takes_effect_as_use_falls(gate: PureGate) -> None:
    gate.group(acquire("a", 4), acquire("b", 2, hold_ms=1000), acquire("c", 3))
    gate.limit(5)
    assert gate.balance().limit == 9, "count + held"
    limits = []
    for verb, request in ((Verb.CANCEL, "b"), (Verb.RELEASE, "c"), (Verb.RELEASE, "a")):
        gate.end(verb, request)
        limits.append(gate.balance().limit)
    assert limits == [7, 5, 5]
    assert gate.balance().remaining == 5


def test_the_limit_falls_when_a_hold_ends(gate: PureGate) -> None:
    gate.granted(acquire("a", 8, hold_ms=1000))
    gate.limit(0)
    gate.now += 1000
    gate.one(Touch())
    assert gate.balance().limit == 0


def test_units_that_came_back_above_the_wanted_limit_cannot_be_acquired_again(gate: PureGate) -> None:
    gate.group(acquire("a", 5), acquire("b", 5))
    gate.limit(7)
    gate.end(Verb.RELEASE, "a")
    assert gate.refused(acquire("c", 3)).reason == "QUOTA_REACHED"
    gate.granted(acquire("c", 2))


@pytest.mark.parametrize("stale", [Revision(0, 1), Revision(0, 2), Revision(1, 4), Revision(1, 5)])
def test_an_equal_or_older_revision_changes_nothing(gate: PureGate, stale: Revision) -> None:
    gate.apply(AllocationUpdate(Q, Revision(1, 5), 20, Terms("q")))
    before = gate.state
    gate.apply(AllocationUpdate(Q, stale, 99, Terms("other", suspended=True)))
    assert gate.state == before


def test_the_generation_comes_before_the_number(gate: PureGate) -> None:
    gate.apply(AllocationUpdate(Q, Revision(1, 1), 20, Terms("q")))
    assert gate.balance().limit == 20


def test_every_durable_change_of_a_quota_has_a_higher_sequence(gate: PureGate) -> None:
    sequences = [gate.state.quotas[Q].sequence]
    for operation in (acquire("a"), acquire("b", hold_ms=5), Touch()):
        gate.now += 10
        gate.one(operation)
        sequences.append(gate.state.quotas[Q].sequence)
    assert sequences == sorted(set(sequences))


def test_refusals_and_empty_touches_write_nothing(gate: PureGate) -> None:
    for operation in (acquire("a", 99), Touch(), Batch((acquire("a", 99),), atomic=True)):
        gate.one(operation)
        assert gate.last is not None
        assert not gate.last.changes.needed


# --- hello, marks -----------------------------------------------------------------------------------------------------


def test_a_hello_takes_the_next_dial_and_says_what_is_durable(gate: PureGate) -> None:
    gate.apply(approval(), mark=b"m1")
    gate.one(AskOverride("q", 3, "more", "ask-1"))
    gate.group(acquire("a", 4), acquire("b", 2, hold_ms=1000))
    hello = gate.one(SayHello())
    assert (hello.agent_uid, hello.epoch, hello.store_id) == ("agent-uid-7", 1, "store-1")
    assert (hello.dial, hello.mark, gate.state.agent.dial) == (1, b"m1", 1)
    (standing,) = hello.standings
    assert (standing.limit, standing.held, standing.totals) == (10, 2, Totals(consumed=4))
    assert standing.revision == Revision(0, 1)
    assert hello.overrides == (OverrideStanding("o-1", APPROVED, 0, Q, 5),)
    assert [ask.ask_id for ask in hello.asks] == ["ask-1"]


def test_a_stale_dial_is_left_behind_and_never_goes_back(gate: PureGate) -> None:
    gate.one(AdvanceDial(7))
    gate.one(AdvanceDial(3))
    assert gate.one(SayHello()).dial == 8


def test_a_mark_is_stored_beside_the_totals_of_that_moment_and_is_the_baseline_once_it_was_shown(
    gate: PureGate,
) -> None:
    gate.limit(10, "other")
    gate.granted(acquire("a", 4))
    seen = []
    for mark, spends in ((b"m1", 2), (b"m1", 0), (b"m2", 1), (b"m3", 0)):
        gate.apply(mark=mark)
        quota = gate.state.quotas[Q]
        seen.append((quota.marked.consumed, quota.marking.consumed))
        if spends:
            gate.granted(acquire(f"after {mark!r}", spends))
    assert seen == [(0, 4), (0, 4), (4, 6), (6, 7)], "the same mark again is no new one"
    assert gate.state.quotas[uid_of("other")].marked == Totals()


def test_what_was_released_before_a_store_was_copied_does_not_make_up_for_what_was_spent_after(
    gate: PureGate,
) -> None:
    """The other store has released it too."""
    gate.group(acquire("a", 4), acquire("b", 2))
    gate.apply(mark=b"m1")
    gate.apply(mark=b"m2")
    gate.end(Verb.RELEASE, "a")
    gate.granted(acquire("after the copy", 3))
    final = named(gate.one(FenceStore(FenceKind.COPY, "drawn")))[Q]
    assert (final.totals.count, final.marked.count) == (5, 2)


# --- fences -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FenceKind)
def test_a_fence_ends_all_spending_at_once_and_draws_a_new_id(gate: PureGate, kind: FenceKind) -> None:
    gate.apply(approval("o-1"), approval("o-2"), mark=b"m1")
    gate.group(acquire("a", 4), acquire("b", 2, hold_ms=1000), acquire("c", 3, override_id="o-1"))
    gate.limit(1)
    ack = gate.one(FenceStore(kind, "drawn"))
    assert (ack.kind, ack.store_id, ack.mark) == (kind, "drawn", b"m1")
    assert named(ack)[Q].totals == Totals(consumed=4, override_consumed=3)
    assert named(ack)[Q].marked == Totals()
    assert {each.override_id: each.state for each in ack.overrides} == {"o-1": USED, "o-2": DEAD}
    assert gate.state.quotas[Q].held == 0
    assert gate.balance().limit == 4
    assert gate.refused(acquire("d")).reason == "AGENT_FENCED"
    assert gate.refused(acquire("b", 2, hold_ms=1000)).reason == "ENTRY_ENDED"


def test_a_repeated_fence_changes_nothing_and_answers_the_same(gate: PureGate) -> None:
    gate.granted(acquire("a", 4))
    first = gate.one(FenceStore(FenceKind.COPY, "drawn"))
    before = gate.state
    assert gate.one(FenceStore(FenceKind.ENDED, "drawn again")) == first
    assert gate.state == before
    gate.one(FenceConfirmed())
    assert gate.state.agent.fence_confirmed
    assert gate.one(FenceStore(FenceKind.COPY, "and again")) == first


def test_a_fenced_store_takes_no_word_any_more(gate: PureGate) -> None:
    gate.granted(acquire("a", 4))
    ack = gate.one(FenceStore(FenceKind.COPY, "drawn"))
    gate.apply(gate.update(99), approval("o-9"), mark=b"m9", complete=True)
    assert gate.one(FenceStore(FenceKind.COPY, "x")) == ack
    assert gate.one(SayHello()).store_id == "drawn"


# --- overrides --------------------------------------------------------------------------------------------------------


def test_an_override_pays_a_whole_amount_beyond_the_limit_once(gate: PureGate) -> None:
    gate.granted(acquire("a", 10))
    gate.apply(approval(amount=5))
    granted = gate.granted(acquire("b", 4, override_id="o-1"))
    assert (granted.entry.override_id, granted.balance.remaining) == ("o-1", 0)
    assert gate.state.quotas[Q].totals == Totals(10, 0, 4, 0)
    assert gate.refused(acquire("c", 1, override_id="o-1")).reason == "OVERRIDE_DECIDED"
    assert gate.granted(acquire("b", 4, override_id="o-1")) == granted, "a repeat"
    assert standings(gate.state.overrides) == (OverrideStanding("o-1", USED, 4, Q, 5),)


def test_releasing_what_an_override_paid_does_not_renew_it(gate: PureGate) -> None:
    gate.apply(approval())
    gate.granted(acquire("b", 4, override_id="o-1"))
    gate.end(Verb.RELEASE, "b")
    assert gate.state.quotas[Q].totals == Totals(0, 0, 4, 4)
    assert gate.refused(acquire("c", 1, override_id="o-1")).reason == "OVERRIDE_DECIDED"


def test_an_override_pays_up_to_its_amount_and_for_its_quota_only(gate: PureGate) -> None:
    gate.limit(1, "other")
    gate.apply(approval(amount=5))
    assert set(gate.refused(acquire("b", 6, override_id="o-1")).fields) == {"amount"}
    assert gate.refused(acquire("b", 5, override_id="nope")).reason == "OVERRIDE_UNKNOWN"
    other = acquire("b", 5, override_id="o-1")._replace(quota="other")
    assert gate.refused(other).reason == "OVERRIDE_UNKNOWN"


def test_an_override_lifts_the_limit_and_nothing_else(gate: PureGate) -> None:
    gate.apply(approval())
    gate.limit(10, suspended=True)
    assert gate.refused(acquire("b", override_id="o-1")).reason == "QUOTA_SUSPENDED"


def test_an_override_in_a_refused_atomic_batch_is_not_spent(gate: PureGate) -> None:
    gate.apply(approval())
    gate.refused(Batch((acquire("a", 5, override_id="o-1"), acquire("b", 11)), atomic=True))
    assert told(gate) == {"o-1": APPROVED}
    gate.granted(acquire("a", 5, override_id="o-1"))


def test_two_in_one_group_cannot_spend_the_same_override(gate: PureGate) -> None:
    gate.apply(approval())
    first, second = gate.group(acquire("a", 5, override_id="o-1"), acquire("b", 5, override_id="o-1"))
    assert isinstance(second, Refusal)
    assert not isinstance(first, Refusal)


def test_a_revoked_override_is_dead_for_good_unless_it_was_spent(gate: PureGate) -> None:
    gate.apply(approval("spent"), approval("open"))
    gate.granted(acquire("a", 1, override_id="spent"))
    revoked = [approval(name, revoked=True) for name in ("spent", "open", "never seen")]
    gate.apply(*revoked)
    gate.apply(approval("spent"), approval("open"), approval("never seen"))
    assert told(gate) == {"spent": USED, "open": DEAD, "never seen": DEAD}
    assert gate.refused(acquire("b", override_id="open")).reason == "OVERRIDE_DECIDED"


def test_a_new_generation_closes_open_overrides(gate: PureGate) -> None:
    gate.apply(approval("spent"), approval("open"))
    gate.granted(acquire("a", 1, override_id="spent"))
    gate.apply(gate.update(10, generation=2), approval("open"), approval("new"))
    assert told(gate) == {"spent": USED, "open": DEAD, "new": APPROVED}
    assert gate.state.agent.generation == 2


def test_an_override_that_a_whole_list_leaves_out_is_closed_and_no_longer_reported(gate: PureGate) -> None:
    gate.apply(approval("a"), approval("b"), approval("c"))
    gate.granted(acquire("x", 1, override_id="a"))
    gate.apply(approval("c"), complete=True)
    assert told(gate) == {"c": APPROVED}
    assert gate.refused(acquire("y", 1, override_id="b")).reason == "OVERRIDE_DECIDED"
    gate.apply(approval("a"))
    assert told(gate) == {"a": USED, "c": APPROVED}, "named again, reported again"


def test_an_ask_is_repeated_until_the_controller_names_it(gate: PureGate) -> None:
    ask = AskOverride("q", 3, "more", "ask-1")
    assert gate.one(ask).state is OverrideState.PENDING
    assert [each.ask_id for each in open_asks(gate.state)] == ["ask-1"]
    gate.apply(approval("o-1", 3, state=OverrideState.PENDING, ask_id="ask-1"))
    assert open_asks(gate.state) == ()
    assert (gate.one(ask).state, gate.one(ask).override_id) == (OverrideState.PENDING, "o-1")
    gate.apply(approval("o-1", 3, ask_id="ask-1"))
    assert gate.one(ask).state is APPROVED
    gate.granted(acquire("a", 3, override_id="o-1"))
    assert gate.one(ask).state is USED
    assert gate.refused(ask._replace(amount=4)).reason == "REQUEST_ID_REUSED"


@pytest.mark.parametrize("answer", [OverrideState.DENIED, OverrideState.FROM_RESERVE])
def test_an_answer_without_an_override_leaves_nothing_to_spend(gate: PureGate, answer: OverrideState) -> None:
    ask = AskOverride("q", 3, "more", "ask-1")
    gate.one(ask)
    gate.apply(approval("o-1", 3, state=answer, ask_id="ask-1"))
    assert gate.one(ask).state is answer
    assert told(gate) == {}
    assert gate.refused(acquire("a", 3, override_id="o-1")).reason == "OVERRIDE_UNKNOWN"


def test_asks_need_a_quota_that_is_open_here(gate: PureGate) -> None:
    assert gate.refused(AskOverride("missing", 3, "more", "x")).reason == "NOT_ASSIGNED"
    gate.limit(10, closed=True)
    assert gate.refused(AskOverride("q", 3, "more", "x")).reason == "QUOTA_CLOSED"


def test_a_message_carries_a_bounded_number_of_asks_the_oldest(gate: PureGate) -> None:
    gate.group(*(AskOverride("q", 1, "", f"ask-{number}") for number in range(MAX_REPORTED_ASKS + 1)))
    asks = open_asks(gate.state)
    assert (len(asks), asks[0].ask_id, asks[-1].ask_id) == (MAX_REPORTED_ASKS, "ask-0", "ask-63")


# --- time -------------------------------------------------------------------------------------------------------------


def test_a_clock_that_went_back_is_refused_beyond_the_tolerance(gate: PureGate) -> None:
    gate.now = START_MS + HOUR
    gate.one(Touch())
    gate.now -= gate.settings.clock_tolerance_ms
    gate.granted(acquire("a"))
    gate.now -= 1
    refusal = gate.refused(acquire("b"))
    assert refusal.reason == "CLOCK_WENT_BACK"
    assert refusal.metadata["seen"] == "2026-07-01T01:00:00.000Z"


def test_the_latest_time_is_written_with_what_is_written(gate: PureGate) -> None:
    gate.now += 10_000
    gate.granted(acquire("a"))
    assert gate.state.agent.clock_mark_ms == START_MS + 10_000


def test_the_controllers_time_puts_the_mark_right_if_the_clock_agrees_with_it(gate: PureGate) -> None:
    gate.now = START_MS + 1000 * HOUR
    gate.contact = Contact(gate.now, gate.now)
    gate.one(Touch())
    gate.limit(10, max_offline_ms=1_000)
    gate.now = START_MS
    gate.contact = Contact(gate.now, START_MS + gate.settings.clock_tolerance_ms)
    gate.granted(acquire("a"))
    assert gate.state.agent.clock_mark_ms == START_MS + gate.settings.clock_tolerance_ms
    (audit,) = gate.audits
    assert (audit.before, audit.after) == (START_MS + 1000 * HOUR, gate.state.agent.clock_mark_ms)
    gate.now += gate.settings.clock_tolerance_ms + 1_001
    assert gate.refused(acquire("b")).reason == "OFFLINE_TOO_LONG", "the contact is no longer in the future"


def test_the_controllers_time_proves_nothing_if_the_clock_disagrees(gate: PureGate) -> None:
    gate.now = START_MS + 1000 * HOUR
    gate.one(Touch())
    gate.now = START_MS
    gate.contact = Contact(gate.now, START_MS + gate.settings.clock_tolerance_ms + 1)
    assert gate.refused(acquire("a")).reason == "CLOCK_WENT_BACK"
    assert not gate.audits


def test_an_operator_may_put_the_mark_right(gate: PureGate) -> None:
    gate.now = START_MS + 1000 * HOUR
    gate.one(Touch())
    gate.now = START_MS
    gate.one(ResetClock("the battery was empty"))
    assert gate.audits[0].reason == "the battery was empty"
    gate.granted(acquire("a"))
    gate.now += 1_000
    gate.one(ResetClock("once more"))
    assert len(gate.audits) == 1, "nothing to put right"


def test_a_contact_from_the_future_is_none_once_the_mark_is_put_right(gate: PureGate) -> None:
    gate.limit(10, max_offline_ms=1_000)
    gate.now = START_MS + 1000 * HOUR
    gate.contact = Contact(gate.now, gate.now)
    gate.granted(acquire("a"))
    gate.now = START_MS
    gate.one(ResetClock("the battery was empty"))
    gate.now += 1_000
    gate.granted(acquire("b"))
    gate.now += 1
    assert gate.refused(acquire("c")).reason == "OFFLINE_TOO_LONG"


# --- bounds -----------------------------------------------------------------------------------------------------------


def test_a_total_that_would_not_fit_is_refused(gate: PureGate) -> None:
    gate.limit(10**15)
    quota = gate.state.quotas[Q]
    quota.consumed = quota.released = 2**63 - 1
    assert set(gate.refused(acquire("a")).fields) == {"amount"}


def test_a_broken_invariant_stops_the_group(gate: PureGate) -> None:
    gate.state.quotas[Q].consumed = 11
    with pytest.raises(AssertionError, match="S1"):
        gate.apply(mark=b"any change of the quota")
