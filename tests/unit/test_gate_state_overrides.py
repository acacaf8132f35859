"""Decisions of the gate on what it has to tell of overrides, above all when the controller's database was put back."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest

from quota_agent.errors import Refusal
from quota_agent.gate import overrides
from quota_agent.gate.operations import AskOverride, SayHello
from quota_agent.gate.overrides import standings
from quota_server.ledger.events import HelloEvent, ReportEvent
from quota_server.ledger.model import AgentKey, OverridePolicy
from quotafleet.link.messages import OverrideState, Report, ReportAck, Welcome
from tests.gate_kit import uid_of
from tests.link_kit import Ledger
from tests.memory_store import MemoryLedgerStore, Tables
from tests.pure_gate import PureGate, acquire, approval

Q = uid_of("q")
APPROVED, USED, DEAD = OverrideState.APPROVED, OverrideState.USED, OverrideState.DEAD


@pytest.fixture
def gate() -> PureGate:
    """A gate with a limit of 10 in the quota q, one override spent and settled, one dead and settled, one open."""
    pure = PureGate()
    pure.limit(10)
    pure.apply(approval("used"), approval("dead"), approval("open"))
    pure.granted(acquire("a", 4, override_id="used"))
    pure.apply(approval("open"), complete=True)
    return pure


def told(gate: PureGate) -> dict[str, OverrideState]:
    return {standing.override_id: standing.state for standing in standings(gate.state.overrides)}


def greeted(gate: PureGate) -> dict[str, OverrideState]:
    return {standing.override_id: standing.state for standing in gate.one(SayHello()).overrides}


def test_a_new_generation_has_every_override_reported_again(gate: PureGate) -> None:
    assert told(gate) == {"open": APPROVED}
    gate.apply(gate.update(10, generation=1))
    assert told(gate) == {"used": USED, "dead": DEAD, "open": DEAD}


def test_the_word_that_brings_a_generation_settles_nothing(gate: PureGate) -> None:
    gate.apply(gate.update(10, generation=1), approval("new"), complete=True)
    assert told(gate) == {"used": USED, "dead": DEAD, "open": DEAD, "new": APPROVED}
    assert greeted(gate) == told(gate)
    gate.apply(gate.update(10), approval("new"), complete=True)
    assert told(gate) == {"new": APPROVED}, "the next one answers a hello that stated them all"


def test_a_hello_states_a_bounded_number_and_its_answer_settles_no_others(
    gate: PureGate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overrides, "MAX_OVERRIDES", 2)
    gate.apply(gate.update(10, generation=1))
    assert greeted(gate) == {"dead": DEAD, "open": DEAD}
    gate.apply(complete=True)
    assert greeted(gate) == told(gate) == {"used": USED}
    gate.apply(complete=True)
    assert told(gate) == {}


def test_an_open_override_that_no_word_names_is_closed_even_beyond_what_a_hello_states(
    gate: PureGate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overrides, "MAX_OVERRIDES", 0)
    gate.apply(complete=True)
    assert told(gate) == {"open": DEAD}
    assert gate.refused(acquire("b", override_id="open")).reason == "OVERRIDE_DECIDED"


# --- with a real ledger -----------------------------------------------------------------------------------------------


class Field:
    """A gate and its ledger, message by message."""

    def __init__(self, ledger: Ledger, key: AgentKey) -> None:
        self.ledger, self.key, self.gate = ledger, key, PureGate(welcomed=False)
        self.number = 0

    async def hello(self) -> None:
        said = self.gate.one(SayHello())
        said = replace(said, agent_uid=self.key.agent_uid, epoch=self.key.epoch)
        reply = await self.ledger.send(HelloEvent(self.key, said))
        (welcome,) = reply.messages
        assert isinstance(welcome, Welcome)
        self.gate.apply(*welcome.allocations, *welcome.overrides, mark=welcome.mark, complete=True)

    async def report(self) -> None:
        state = self.gate.state
        self.number += 1
        said = Report(
            self.number,
            state.agent.mark,
            self.ledger.now_ms,
            tuple(quota.standing() for quota in state.quotas.values()),
            standings(state.overrides),
        )
        reply = await self.ledger.send(ReportEvent(self.key, state.agent.dial, said))
        (ack,) = reply.messages
        assert isinstance(ack, ReportAck)
        self.gate.apply(mark=ack.mark)


async def test_an_override_settled_before_the_restore_is_adopted_from_the_next_report() -> None:
    ledger = Ledger(MemoryLedgerStore())
    await ledger.quota(target=100, override_policy=OverridePolicy.ASK)
    field = Field(ledger, (await ledger.site("a")).key)
    await field.hello()
    await field.report()
    store = ledger.store
    assert isinstance(store, MemoryLedgerStore)
    backup = Tables(**{name: copy.copy(table) for name, table in vars(store.tables).items()})
    asked = await ledger.overrides.request(ledger.call(), "q", "a", 10)
    decided = await ledger.overrides.decide(ledger.call(), asked.override.override_id, True)
    await field.hello()
    field.gate.granted(acquire("x", 10, override_id=decided.override.override_id))
    await field.report()
    await field.hello()  # whose welcome does not name the override any more
    assert told(field.gate) == {}
    field.gate.granted(acquire("y", 100))
    store.tables = backup
    await ledger.recovery.begin(ledger.now_ms)
    await field.hello()
    await field.report()
    await ledger.recovery.finish(ledger.call(), confirm=True)
    quota = await ledger.get_quota()
    assert (quota.sums.overrides, quota.known_count, quota.upper_bound) == (10, 100, 110)
    await field.hello()
    assert told(field.gate) == {}


def test_so_many_asks_may_wait_and_no_more(gate: PureGate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overrides, "MAX_WAITING_ASKS", 2)
    for number in range(2):
        assert not isinstance(gate.one(AskOverride("q", 1, "", f"ask-{number}")), Refusal)
    refused = gate.one(AskOverride("q", 1, "", "ask-2"))
    assert isinstance(refused, Refusal)
    assert list(refused.fields) == ["quota"]
    assert not isinstance(gate.one(AskOverride("q", 1, "", "ask-1")), Refusal)  # a repeat is no new ask
