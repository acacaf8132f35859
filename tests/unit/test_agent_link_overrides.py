"""Overrides at the agent's end of a stream: which a report states, and what a new generation does to them."""

from __future__ import annotations

from quota_agent.uplink.actions import Action, Apply, MakeReport, Store, make_report
from quota_agent.uplink.protocol import AgentLink
from quotafleet.link.messages import (
    MAX_OVERRIDES,
    AllocationUpdate,
    Hello,
    OverrideAsk,
    OverrideStanding,
    OverrideState,
    OverrideUpdate,
    Report,
    ReportAck,
    Revision,
    Standing,
    Terms,
    Update,
    Welcome,
)

HEARTBEAT = 1_000
APPROVED, USED, DEAD = OverrideState.APPROVED, OverrideState.USED, OverrideState.DEAD


def allocation(generation: int) -> AllocationUpdate:
    return AllocationUpdate("q", Revision(generation, 1 + generation), 10, Terms("q"))


def approval(override_id: str) -> OverrideUpdate:
    return OverrideUpdate(override_id, "", "q", 5, APPROVED)


class Driven:
    """A link that is up, and the reports that its driver builds of `overrides`."""

    mark = b"m1"

    def __init__(self, **overrides: OverrideState) -> None:
        self.overrides = overrides
        self.now = 0
        self.reports: list[Report] = []
        self.applied: list[Apply] = []
        self.link = AgentLink()
        self.link.opened(Hello("agent", 1, "store", 7, b"m0", 0, ()), 0)
        self.hear(Welcome(b"m1", 0, 50, HEARTBEAT, ()))

    def hear(self, message: Welcome | Update | ReportAck) -> None:
        self.perform(self.link.received(message, self.now))

    def beat(self) -> list[str]:
        """The ids in the next heartbeat's report."""
        self.now += HEARTBEAT
        self.perform(self.link.tick(self.now))
        return [standing.override_id for standing in self.reports[-1].overrides]

    def acknowledge(self, number: int | None = None) -> None:
        self.hear(ReportAck(number or self.reports[-1].number, 0))

    def perform(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, MakeReport):
                report, stamp = make_report(self, action, self.now)
                self.link.made(report.number, stamp, report.overrides)
                self.reports.append(report)
                self.perform(self.link.written(self.now))
            elif isinstance(action, Store):
                assert isinstance(action.command, Apply)
                self.applied.append(action.command)
                self.perform(self.link.stored(None, self.now))

    def changes(self, after: int) -> tuple[tuple[Standing, ...], int]:
        return (), after

    def standing(self, quota_uid: str) -> Standing | None:
        return None

    def override_standings(self) -> tuple[OverrideStanding, ...]:
        return tuple(
            OverrideStanding(override_id, state, amount=4) for override_id, state in self.overrides.items()
        )

    def open_asks(self) -> tuple[OverrideAsk, ...]:
        return ()


def test_the_end_of_an_override_is_reported_until_a_report_of_it_is_acknowledged() -> None:
    """What may still change is reported for as long as it may."""
    agent = Driven(open=APPROVED, used=USED, dead=DEAD)
    assert agent.beat() == ["open", "used", "dead"]
    assert agent.beat() == ["open", "used", "dead"], "the reports before may be lost"
    agent.acknowledge()
    assert agent.beat() == ["open"]
    agent.overrides["open"] = USED
    assert agent.beat() == ["open"]


def test_an_end_that_the_acknowledged_report_did_not_state_is_still_reported() -> None:
    """The override was spent after that report was built."""
    agent = Driven(one=APPROVED)
    agent.beat()
    agent.overrides["one"] = USED
    agent.acknowledge()
    assert agent.beat() == ["one"]
    agent.acknowledge()
    assert agent.beat() == []


def test_an_override_that_is_named_again_is_reported_again() -> None:
    """Whatever became of the controller's memory, it asks."""
    agent = Driven(used=USED)
    agent.beat()
    agent.acknowledge()
    assert agent.beat() == []
    agent.hear(Update((), (approval("used"),)))
    assert agent.beat() == ["used"]


def test_a_new_generation_hears_of_every_override_again() -> None:
    """Also of those in reports that are acknowledged late."""
    agent = Driven(used=USED, dead=DEAD)
    agent.beat()
    agent.acknowledge()
    agent.overrides["late"] = DEAD
    agent.beat()
    late = agent.reports[-1].number
    agent.hear(Update((allocation(generation=1),)))
    agent.acknowledge(late)
    assert agent.beat() == ["used", "dead", "late"]


def test_reports_do_not_grow_with_the_overrides_of_a_stream() -> None:
    """Those that have ended make room; none is left out for good."""
    agent = Driven(**{"open": APPROVED}, **{f"o{number}": DEAD for number in range(30_000)})
    seen: set[str] = set()
    while (stated := agent.beat()) != ["open"]:
        assert len(stated) <= MAX_OVERRIDES
        assert not seen & set(stated) - {"open"}
        seen |= set(stated)
        agent.acknowledge()
    assert len(seen) == 30_001


def test_approvals_of_the_generation_before_are_dropped_when_they_wait_for_a_store() -> None:
    """Merged into one command they would be opened after the new generation has closed them all."""
    link = AgentLink()
    link.opened(Hello("agent", 1, "store", 7, b"m0", 0, ()), 0)
    link.received(Welcome(b"m1", 1, 50, HEARTBEAT, ()), 0)
    link.received(Update((allocation(generation=1),), (approval("old"),)), 0)
    link.received(Update((allocation(generation=2),), (approval("new"),)), 0)
    link.received(Update((), (approval("newer"),)), 0)
    [_, command] = link.stored(None, 0)
    assert command == Store(Apply((allocation(generation=2),), (approval("new"), approval("newer"))))


def test_approvals_of_the_same_generation_are_merged() -> None:
    """The generation is the welcome's, though no allocation has named it yet."""
    link = AgentLink()
    link.opened(Hello("agent", 1, "store", 7, b"m0", 0, ()), 0)
    link.received(Welcome(b"m1", 1, 50, HEARTBEAT, ()), 0)
    link.received(Update((), (approval("first"),)), 0)
    link.received(Update((allocation(generation=1),), (approval("second"),)), 0)
    [_, command] = link.stored(None, 0)
    assert command == Store(Apply((allocation(generation=1),), (approval("first"), approval("second"))))


def test_asks_that_are_denied_without_an_id_are_told_apart() -> None:
    """An ask that nobody can grant is denied without becoming an override, so none of them has an id."""
    link = AgentLink()
    link.opened(Hello("agent", 1, "store", 7, b"m0", 0, ()), 0)
    link.received(Welcome(b"m1", 1, 50, HEARTBEAT, ()), 0)
    denials = tuple(OverrideUpdate("", ask, "q", 5, OverrideState.DENIED) for ask in ("ask-1", "ask-2"))
    for denial in denials:
        link.received(Update((), (denial,)), 0)
    [_, command] = link.stored(None, 0)
    assert command == Store(Apply((), denials))
