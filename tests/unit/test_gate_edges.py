"""Decisions of the gate in its rarer states: fenced, put right, nearly full, told the same again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from quota_agent.gate.continuity import missing
from quota_agent.gate.model import MAX_TOTAL, EntryState, Verb
from quota_agent.gate.operations import AskOverride, Bind, Contact, FenceConfirmed, FenceStore, Touch
from quota_agent.gate.overrides import views
from quotafleet.link.messages import FenceKind, OverrideState
from tests.gate_kit import HOUR_MS, START_MS, uid_of
from tests.pure_gate import PureGate, acquire, approval

Q = uid_of("q")


@pytest.fixture
def gate() -> PureGate:
    gate = PureGate()
    gate.limit(10)
    return gate


@pytest.mark.parametrize("verb", Verb)
def test_a_fenced_store_ends_no_entry_any_more(gate: PureGate, verb: Verb) -> None:
    """Its final totals are said: nothing may change them, and what was held is cancelled already."""
    gate.granted(acquire("hold", 3, hold_ms=1_000))
    gate.granted(acquire("counted", 2))
    gate.one(FenceStore(FenceKind.ENDED, "drawn"))
    before = gate.balance()
    for request_id in ("hold", "counted"):
        assert getattr(gate.end(verb, request_id), "reason", None) == "AGENT_FENCED"
    assert gate.balance() == before
    assert gate.entries[Q, "hold"].state is EntryState.CANCELLED


@pytest.mark.parametrize("verb", Verb)
def test_no_entry_ends_in_a_quota_that_this_agent_has_no_part_in(gate: PureGate, verb: Verb) -> None:
    answer = gate.end(verb, "a", quota="elsewhere")
    assert getattr(answer, "reason", None) == "NOT_ASSIGNED"


def test_that_the_final_totals_have_arrived_is_remembered_once_and_only_of_a_fenced_store(
    gate: PureGate,
) -> None:
    gate.one(FenceConfirmed())
    assert not gate.state.agent.fence_confirmed
    gate.one(FenceStore(FenceKind.ENDED, "drawn"))
    gate.one(FenceConfirmed())
    assert gate.state.agent.fence_confirmed
    gate.one(FenceConfirmed())
    assert gate.last is not None
    assert not gate.last.changes.needed, "nothing is written again"


def test_a_bound_store_takes_another_name_of_its_agent_and_nothing_else(gate: PureGate) -> None:
    before = gate.state.agent
    gate.one(Bind("school-8", "agent-uid-7", 1, "another-id"))
    assert gate.state.agent == replace(before, agent="school-8")
    gate.one(Bind("school-8", "agent-uid-7", 1, "another-id"))
    assert gate.last is not None
    assert not gate.last.changes.needed


def test_a_hold_that_is_over_only_by_a_clock_that_is_put_right_goes_on(gate: PureGate) -> None:
    """The group that brings the controller's time looks holds up by the wrong time, and ends them by the right one."""
    gate.granted(acquire("hold", 3, hold_ms=HOUR_MS))
    wrong = replace(gate.state.agent, clock_mark_ms=START_MS + 1_000 * HOUR_MS)
    gate.state = replace(gate.state, agent=wrong)
    gate.contact = Contact(gate.now, gate.now)
    gate.granted(acquire("a"))
    assert gate.state.agent.clock_mark_ms == gate.now
    assert gate.balance().held == 3
    gate.now += HOUR_MS
    gate.one(Touch())
    assert gate.balance().held == 0, "it ends when its time has come"


def test_an_override_pays_nothing_that_would_not_fit_the_running_total(gate: PureGate) -> None:
    gate.apply(approval("o-1", 5))
    full = replace(gate.state.quotas[Q], override_consumed=MAX_TOTAL - 4)
    gate.state = replace(gate.state, quotas={**gate.state.quotas, Q: full})
    refusal = gate.refused(acquire("a", 5, override_id="o-1"))
    assert (refusal.reason, set(refusal.fields)) == ("FIELD_INVALID", {"amount"})
    gate.granted(acquire("a", 4, override_id="o-1"))
    assert gate.state.quotas[Q].override_consumed == MAX_TOTAL


def test_the_answer_to_an_ask_that_is_heard_again_writes_nothing(gate: PureGate) -> None:
    gate.one(AskOverride("q", 5, "r", "ask"))
    gate.apply(approval("", state=OverrideState.DENIED, ask_id="ask"))
    assert gate.state.asks[Q, "ask"].state is OverrideState.DENIED
    gate.apply(approval("", state=OverrideState.DENIED, ask_id="ask"))
    assert gate.last is not None
    assert not gate.last.changes.needed


def test_what_is_decided_or_spent_is_not_listed_as_open(gate: PureGate) -> None:
    gate.apply(approval("open"), approval("spent"))
    gate.granted(acquire("a", 5, override_id="spent"))
    for ask_id in ("waits", "denied"):
        gate.one(AskOverride("q", 1, "r", ask_id))
    gate.apply(approval("", state=OverrideState.DENIED, ask_id="denied"))
    listed = [view.override_id or view.request_id for view in views(gate.state)[Q]]
    assert listed == ["open", "waits"]


def test_an_override_that_was_spent_and_is_open_on_disk_shows_an_older_store(gate: PureGate) -> None:
    """Also if everything else goes on; so does an ask that is gone."""
    gate.apply(approval("o-1"))
    open_one = gate.state.overrides["o-1"]
    gate.granted(acquire("a", 5, override_id="o-1"))
    known = gate.state
    found = replace(known, overrides={"o-1": open_one})
    assert missing(known, found) == "an override that had ended is open or gone"
    assert missing(known, replace(known, overrides={})) is not None
    assert missing(replace(known, overrides={"o-1": open_one}), known) is None
