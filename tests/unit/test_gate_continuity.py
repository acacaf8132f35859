"""What may be read back from disk, and what is an older or another store."""

from __future__ import annotations

from dataclasses import replace

import pytest

from quota_agent.gate.continuity import missing
from quota_agent.gate.draft import Draft, Known
from quota_agent.gate.entries import acquire_batch
from quota_agent.gate.model import EntryState
from quota_agent.gate.moments import moment
from quota_agent.gate.operations import AskOverride, Batch, FenceStore
from quota_agent.gate.records import State
from quota_agent.gate.status import MAX_LISTED, status
from quotafleet.link.messages import FenceKind
from tests.gate_kit import uid_of
from tests.pure_gate import PureGate, acquire, approval


@pytest.fixture
def gate() -> PureGate:
    gate = PureGate()
    gate.limit(10)
    gate.apply(approval())
    return gate


def test_a_group_that_was_written_and_not_answered_may_be_found(gate: PureGate) -> None:
    for operation in (
        acquire("a", 3),
        acquire("b", 5, override_id="o-1"),
        AskOverride("q", 1, "r", "ask"),
        FenceStore(FenceKind.COPY, "other"),
    ):
        before = gate.state
        gate.one(operation)
        assert missing(before, gate.state) is None


def test_a_store_that_was_put_back_is_not_the_same(gate: PureGate) -> None:
    for operation in (
        acquire("hold", 3, hold_ms=1_000),
        acquire("b", 5, override_id="o-1"),
        AskOverride("q", 1, "r", "ask"),
        FenceStore(FenceKind.ENDED, "other"),
    ):
        before = gate.state
        gate.one(operation)
        assert missing(gate.state, before) is not None, operation


@pytest.mark.parametrize(
    "values", [{"dial": 0}, {"store_id": "x"}, {"epoch": 2}, {"agent_uid": "x"}, {"generation": -1}]
)
def test_another_agent_epoch_id_or_an_older_dial_is_not_the_same(
    gate: PureGate, values: dict[str, object]
) -> None:
    known = replace(gate.state, agent=replace(gate.state.agent, dial=1))
    found = replace(known, agent=replace(known.agent, **values))  # type: ignore[arg-type]
    assert missing(known, found) is not None
    assert missing(State(), gate.state) is None, "an empty store may become one"


def test_a_hold_that_a_refused_batch_found_to_be_over_has_ended(gate: PureGate) -> None:
    held = gate.granted(acquire("hold", 3, hold_ms=1_000)).entry
    later = moment(gate.state.agent, gate.now + 1_000, None)
    key = (uid_of("q"), "hold")
    draft = Draft.on(gate.state, Known({key: held}), later, gate.settings, set())
    answer = acquire_batch(draft, Batch((acquire("new"), acquire("hold", 3, hold_ms=1_000)), atomic=True))
    assert getattr(answer, "reason", None) == "HOLD_EXPIRED"
    assert draft.changed[key].state is EntryState.EXPIRED
    assert not draft.created


def test_the_status_lists_what_can_be_spent_and_the_newest_asks(gate: PureGate) -> None:
    for number in range(MAX_LISTED + 50):
        gate.one(AskOverride("q", 1, "r", f"ask-{number}"))
    now = moment(gate.state.agent, gate.now, None)
    (quota,) = status(gate.state, now, gate.settings, store_ok=True).quotas
    listed = [view.override_id or view.request_id for view in quota.overrides]
    assert listed == ["o-1", *(f"ask-{MAX_LISTED + 49 - number}" for number in range(MAX_LISTED - 1))]
