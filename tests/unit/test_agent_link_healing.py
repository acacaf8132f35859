"""Lost, repeated, late and reordered messages are healed by those that follow; and what a report is made of."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from quota_agent.uplink.actions import (
    Action,
    AdvanceDial,
    Apply,
    Close,
    Command,
    MakeReport,
    Send,
    Store,
    make_report,
)
from quota_agent.uplink.protocol import AgentLink
from quotafleet.link.messages import (
    AllocationUpdate,
    FromAgent,
    FromController,
    Hello,
    OverrideAsk,
    OverrideStanding,
    OverrideState,
    Report,
    ReportAck,
    Revision,
    StaleHello,
    Standing,
    Terms,
    Totals,
    Update,
    Welcome,
)

HEARTBEAT = 1_000
UIDS = ("q", "r", "s")


@dataclass
class Agent:
    """The durable view of an agent: standings, each with the stamp of its last change."""

    standings: dict[str, Standing] = field(default_factory=dict)
    stamps: dict[str, int] = field(default_factory=dict)
    stamp: int = 0
    dial: int = 0
    mark: bytes = b""

    def put(self, standing: Standing) -> None:
        self.stamp += 1
        self.standings[standing.quota_uid] = replace(standing, sequence=self.stamp)
        self.stamps[standing.quota_uid] = self.stamp

    def changes(self, after: int) -> tuple[tuple[Standing, ...], int]:
        changed = (standing for uid, standing in self.standings.items() if self.stamps[uid] > after)
        return tuple(changed), self.stamp

    def standing(self, quota_uid: str) -> Standing | None:
        return self.standings.get(quota_uid)

    def override_standings(self) -> tuple[OverrideStanding, ...]:
        return ()

    def open_asks(self) -> tuple[OverrideAsk, ...]:
        return ()

    def run(self, command: Command) -> None:
        if isinstance(command, AdvanceDial):
            self.dial = max(self.dial, command.last)
        assert isinstance(command, AdvanceDial | Apply)
        if isinstance(command, Apply):
            self.mark = command.mark or self.mark
            for update in command.allocations:
                known = self.standings.get(update.quota_uid)
                known = known or Standing(update.quota_uid, Revision(), 0, Totals(), 0, 0)
                if known.revision < update.revision:
                    self.put(replace(known, revision=update.revision, limit=update.limit))


@dataclass
class Controller:
    """A controller that keeps what it hears, the newest of each quota, and repeats what it wants."""

    wanted: dict[str, AllocationUpdate] = field(default_factory=dict)
    view: dict[str, Standing] = field(default_factory=dict)
    last_dial: int = 0
    recorded: int = 0

    def want(self, uid: str, limit: int) -> None:
        number = self.wanted[uid].revision.number + 1 if uid in self.wanted else 1
        self.wanted[uid] = AllocationUpdate(uid, Revision(0, number), limit, Terms(uid))

    def hear(self, message: FromAgent) -> list[FromController]:
        if isinstance(message, Hello) and message.dial <= self.last_dial:
            return [StaleHello(self.last_dial)]
        assert isinstance(message, Hello | Report)
        for standing in message.standings:
            if standing.sequence >= self.view.get(standing.quota_uid, standing).sequence:
                self.view[standing.quota_uid] = standing
        if isinstance(message, Hello):
            self.last_dial, self.recorded = message.dial, 0
            return [Welcome(b"m", 0, 0, HEARTBEAT, tuple(self.wanted.values()))]
        self.recorded = max(self.recorded, message.number)
        return [ReportAck(self.recorded, 0)]

    def repeat(self) -> list[FromController]:
        late = [
            update
            for uid, update in self.wanted.items()
            if uid not in self.view or self.view[uid].revision < update.revision
        ]
        return [Update(tuple(late))] if late else []


class World:
    """One agent, one controller, and two heaps of messages between them."""

    def __init__(self) -> None:
        self.agent, self.controller = Agent(), Controller()
        self.now = 0
        self.up: list[FromAgent] = []
        self.down: list[FromController] = []
        self.dial()

    def dial(self) -> None:
        """Begin a new stream: what the old one still carries is dropped by the driver."""
        self.link = AgentLink()
        self.up, self.down = [], []
        self.commands: list[Command] = []
        self.agent.dial += 1
        hello = Hello(
            "a", 1, "s", self.agent.dial, self.agent.mark, self.now, tuple(self.agent.standings.values())
        )
        self.perform(self.link.opened(hello, self.now))

    def perform(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Send(message):
                    self.up.append(message)
                case MakeReport():
                    report, stamp = make_report(self.agent, action, self.now)
                    self.link.made(report.number, stamp, report.overrides)
                    self.up.append(report)
                    self.perform(self.link.written(self.now))
                case Store(command):
                    assert not self.commands, "one store command at a time"
                    self.commands.append(command)
                case Close():
                    self.dial()
                    return

    def spend(self, uid: str) -> None:
        standing = self.agent.standing(uid)
        if standing is not None and standing.used < standing.limit:
            consumed = standing.totals.consumed + 1
            self.agent.put(replace(standing, totals=Totals(consumed)))

    def hear_agent(self, index: int) -> None:
        message = self.up.pop(index)
        if isinstance(message, Report) and self.controller.last_dial != self.agent.dial:
            return  # its hello was lost: a controller ends such a stream, and the agent will find it silent
        self.down += self.controller.hear(message)

    def hear_controller(self, index: int) -> None:
        self.perform(self.link.received(self.down.pop(index), self.now))

    def store(self) -> None:
        if self.commands:
            self.agent.run(self.commands.pop())
            self.perform(self.link.stored(None, self.now))

    def wait(self, milliseconds: int) -> None:
        self.now += milliseconds
        if self.link.wake_at_ms is not None and self.now >= self.link.wake_at_ms:
            self.perform(self.link.tick(self.now))

    def meddle(self, kind: str, number: int) -> None:
        """Let one thing happen; messages are taken from anywhere, lost, or seen twice."""
        heap: list[FromAgent] | list[FromController] = self.up if kind.endswith("up") else self.down
        if kind == "spend":
            self.spend(UIDS[number % len(UIDS)])
        elif kind == "want":
            self.controller.want(UIDS[number % len(UIDS)], number)
        elif kind == "repeat":
            self.down += self.controller.repeat()
        elif kind == "store":
            self.store()
        elif kind == "wait":
            self.wait(40 * number)
        elif heap:
            index = number % len(heap)
            if kind.startswith("lose"):
                del heap[index]
            elif kind.startswith("repeat"):
                heap.append(heap[index])  # type: ignore[arg-type]
            elif kind == "hear up":
                self.hear_agent(index)
            else:
                self.hear_controller(index)

    def settle(self, heartbeats: int) -> None:
        """Let everything arrive in order."""
        for _ in range(heartbeats):
            self.down += self.controller.repeat()
            while self.up or self.down or self.commands:
                self.store()
                if self.up:
                    self.hear_agent(0)
                if self.down:
                    self.hear_controller(0)
            self.wait(HEARTBEAT)


KINDS = ("hear up", "hear down", "lose up", "lose down", "repeat up", "repeat down")
steps = st.tuples(st.sampled_from((*KINDS, "spend", "want", "repeat", "store", "wait")), st.integers(0, 30))


@settings(max_examples=200)
@given(st.lists(steps, min_size=60, max_size=120))
def test_after_any_disorder_both_ends_agree(disorder: list[tuple[str, int]]) -> None:
    """Messages are lost, repeated and reordered; then they are not; then both know the same."""
    world = World()
    for uid in UIDS:
        world.controller.want(uid, 20)
    world.settle(2)
    for kind, number in disorder:
        world.meddle(kind, number)
    world.settle(60)  # more than any bound of the protocol needs
    assert world.link.up
    assert world.controller.view == world.agent.standings
    revisions = {uid: update.revision for uid, update in world.controller.wanted.items()}
    assert revisions == {uid: standing.revision for uid, standing in world.agent.standings.items()}


class Source:
    """Two quotas, of which "q" changed at stamp 5."""

    mark = b"mark"

    def __init__(self) -> None:
        self.known = {uid: Standing(uid, Revision(0, 1), 10, Totals(), 0, 1) for uid in ("q", "r")}

    def changes(self, after: int) -> tuple[tuple[Standing, ...], int]:
        return ((self.known["q"],) if after < 5 else ()), 5

    def standing(self, quota_uid: str) -> Standing | None:
        return self.known.get(quota_uid)

    def override_standings(self) -> tuple[OverrideStanding, ...]:
        return (OverrideStanding("o", OverrideState.DEAD, amount=4),)

    def open_asks(self) -> tuple[OverrideAsk, ...]:
        return (OverrideAsk("a", "q", 1, ""),)


def test_a_report_holds_what_changed_and_what_was_asked_for() -> None:
    """Each quota once; one that the store does not know is left out."""
    source = Source()
    made, stamp = make_report(source, MakeReport(3, 0, ("q", "r", "unknown"), (9,)), 77)
    assert [standing.quota_uid for standing in made.standings] == ["q", "r"]
    assert (stamp, made.number, made.mark, made.clock_ms, made.answers) == (5, 3, b"mark", 77, (9,))
    assert (made.overrides, made.asks) == (source.override_standings(), source.open_asks())
    assert make_report(source, MakeReport(4, 5), 78)[0].standings == ()
