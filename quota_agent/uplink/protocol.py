"""The agent's end of one stream to a controller, as a state machine: events in, actions out.

No network, no disk, no clock: the driver (`stream.py`, or a simulator) performs the actions and feeds back what came
of them. There is one machine per stream; from a new hello on the driver drops the old machine, and with it whatever
the old stream still says.

The rules, in short. The hello goes first, and its answer must be Welcome, StaleHello or Fence. What the controller
wants is made durable before it is acknowledged, one store command at a time; what arrives meanwhile is merged, the
newest of each winning. A report holds every standing changed since the last report that was acknowledged on this
stream, and every override that has not ended or whose end is not acknowledged, so a lost, repeated or late message is
healed by the next one. Nothing here grows with time, but the ids of overrides that have ended.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from quota_agent.uplink.actions import (
    Action,
    AdvanceDial,
    Apply,
    ApplyFence,
    Close,
    Command,
    Contact,
    FenceConfirmed,
    MakeReport,
    Send,
    Store,
    is_final,
)
from quotafleet.link.messages import (
    AllocationUpdate,
    Fence,
    FenceAck,
    FenceDone,
    FenceKind,
    FromController,
    Hello,
    OverrideStanding,
    OverrideUpdate,
    ReportAck,
    ReportRequest,
    StaleHello,
    Update,
    Welcome,
)

#: How long the first answer may take. Before it there is no heartbeat to go by.
FIRST_ANSWER_MS: Final = 20_000
#: The interval of a repeated FenceAck when no Welcome has said what a heartbeat is.
DEFAULT_HEARTBEAT_MS: Final = 5_000
#: A stream silent for so many heartbeats is dead.
SILENT_HEARTBEATS: Final = 2
#: Urgent reports are at least a heartbeat divided by this apart.
URGENT_FRACTION: Final = 20
#: How many reports may wait for their acknowledgement, and how many requests for their report, before the oldest is
#: forgotten. Forgetting costs a repetition, no more.
MAX_REMEMBERED: Final = 1024


class Phase(enum.Enum):
    """Where a stream stands."""

    NEW = "no hello yet"
    GREETING = "hello sent, no answer yet"
    WELCOMING = "storing the welcome"
    UP = "reports and updates"
    STALE = "storing a higher dial"
    FENCING = "storing the fence"
    FENCED = "repeating the FenceAck"
    DONE = "storing that the fence is recorded"
    CLOSED = "over"


#: In these it is the controller's turn; in the others the store's.
LISTENING: Final = frozenset({Phase.GREETING, Phase.UP, Phase.FENCED})


@dataclass(slots=True)
class _Waiting:
    """What arrived while a store command was under way: the newest of each."""

    allocations: dict[str, AllocationUpdate]
    #: By id and ask: asks that are denied outright have no id.
    overrides: dict[tuple[str, str], OverrideUpdate]
    mark: bytes | None = None
    controller_ms: int | None = None
    fence: FenceKind | None = None
    #: The newest generation of the controller's database that this stream has spoken in.
    generation: int = 0

    def add(self, update: Update) -> bool:
        """Merge an update; whether it begins a new generation."""
        generations = (allocation.revision.generation for allocation in update.allocations)
        newest = max(generations, default=self.generation)
        renews = newest > self.generation
        if renews:
            # Approvals of the generation before end with it. Merged into one command they would come after its end.
            self.generation, self.overrides = newest, {}
        for allocation in update.allocations:
            known = self.allocations.get(allocation.quota_uid)
            if known is None or known.revision < allocation.revision:
                self.allocations[allocation.quota_uid] = allocation
        for override in update.overrides:
            self.overrides[override.override_id, override.ask_id] = override
        return renews

    def take(self) -> Command | None:
        """The next command, if anything waits; a fence makes all else pointless."""
        if self.fence is not None:
            command: Command = ApplyFence(self.fence)
        elif self.allocations or self.overrides or self.mark is not None:
            allocations, overrides = tuple(self.allocations.values()), tuple(self.overrides.values())
            command = Apply(allocations, overrides, self.mark, self.controller_ms)
        else:
            return None
        self.allocations, self.overrides = {}, {}
        self.mark = self.controller_ms = self.fence = None
        return command


class _Made(NamedTuple):
    """A report that waits for its acknowledgement."""

    number: int
    stamp: int
    #: The overrides that it states to have ended.
    finals: frozenset[str]


class AgentLink:
    """One stream. Every method is an event and returns the actions that follow, in order; times are milliseconds."""

    def __init__(self) -> None:
        self.phase = Phase.NEW
        #: Call `tick` no later than this.
        self.wake_at_ms: int | None = None
        self.heartbeat_ms = DEFAULT_HEARTBEAT_MS
        self._heard_ms = 0
        self._storing: Command | None = None
        self._waiting = _Waiting({}, {})
        self._fence_ack: FenceAck | None = None
        self._fence_ack_due_ms = 0
        # Reports: the last one, whether it is being written, and why there should be another.
        self._number = 0
        self._reported_ms = 0
        self._writing = False
        self._wanted = False
        self._urgent = False
        self._answers: dict[int, str] = {}
        # Acknowledgements: the reports that wait for theirs, and what the others come to.
        self._unacknowledged: deque[_Made] = deque(maxlen=MAX_REMEMBERED)
        self._acknowledged_stamp = 0
        self._acknowledged = 0
        self._settled: frozenset[str] = frozenset()

    @property
    def up(self) -> bool:
        """Whether the controller has welcomed this store, and that is durable."""
        return self.phase is Phase.UP

    # Events

    def opened(self, hello: Hello, now_ms: int) -> list[Action]:
        """The stream is there; `hello` is durable, its dial included."""
        assert self.phase is Phase.NEW, "one machine per stream"
        self.phase = Phase.GREETING
        self._heard_ms = now_ms
        return self._wake([Send(hello)])

    def received(self, message: FromController, now_ms: int) -> list[Action]:
        """The controller has spoken."""
        self._heard_ms = now_ms
        match self.phase:
            case Phase.GREETING:
                actions = self._first_answer(message, now_ms)
            case Phase.WELCOMING | Phase.UP:
                actions = self._wanted_state(message, now_ms)
            case Phase.FENCED:
                actions = self._after_fence(message, now_ms)
            case _:
                actions = []  # nothing that the controller says now matters any more
        return self._wake(actions)

    def stored(self, result: FenceAck | None, now_ms: int) -> list[Action]:
        """The command under way is durable; `result` is the FenceAck of an ApplyFence."""
        command, self._storing = self._storing, None
        if self.phase is Phase.CLOSED:
            return []
        if self.phase is not Phase.UP:
            self._heard_ms = now_ms  # until now it was the controller that waited
        actions: list[Action] = []
        match command:
            case AdvanceDial():
                actions = self._close("the controller has seen a later dial", redial_at_once=True)
            case FenceConfirmed():
                actions = self._close("the fence is recorded", for_good=True)
            case ApplyFence():
                assert result is not None, "a fence is answered by its FenceAck"
                self.phase, self._fence_ack = Phase.FENCED, result
                actions = self._acknowledge_fence(now_ms)
            case Apply():
                if self.phase is Phase.WELCOMING:
                    self.phase = Phase.UP
                if command.complete or command.allocations or command.overrides:
                    actions = self._report(now_ms)  # which is the acknowledgement
                actions += self._store_next()
        return self._wake(actions)

    def urgent(self, now_ms: int) -> list[Action]:
        """A request waits for more limit, or somebody asked for an override."""
        self._urgent = True
        return self.tick(now_ms)

    def tick(self, now_ms: int) -> list[Action]:
        """Time has passed."""
        actions: list[Action] = []
        if self.phase in (Phase.NEW, Phase.CLOSED):
            return actions
        if self.phase in LISTENING and now_ms > self._silent_ms():
            silent_ms = now_ms - self._heard_ms
            return self._wake(self._close(f"the controller has said nothing for {silent_ms} ms"))
        if self.phase is Phase.UP and now_ms >= self._report_due_ms():
            actions = self._report(now_ms)
        elif self.phase is Phase.FENCED and now_ms >= self._fence_ack_due_ms:
            actions = self._acknowledge_fence(now_ms)
        return self._wake(actions)

    def made(self, number: int, stamp: int, overrides: Iterable[OverrideStanding] = ()) -> None:
        """Report `number` is built, on the view with that stamp. Call it before the report can be acknowledged."""
        finals = (standing.override_id for standing in overrides if is_final(standing))
        self._unacknowledged.append(_Made(number, stamp, frozenset(finals)))

    def written(self, now_ms: int) -> list[Action]:
        """The stream has taken the report."""
        self._writing = False
        wanted = self._wanted and self.phase is Phase.UP
        return self._wake(self._report(now_ms) if wanted else [])

    # What the controller says

    def _first_answer(self, message: FromController, now_ms: int) -> list[Action]:
        match message:
            case Welcome():
                self.phase = Phase.WELCOMING
                self.heartbeat_ms, self._waiting.generation = message.heartbeat_ms, message.generation
                whole = Apply(
                    message.allocations, message.overrides, message.mark, message.clock_ms, complete=True
                )
                return self._store(whole)
            case StaleHello():
                self.phase = Phase.STALE
                return self._store(AdvanceDial(message.last_dial))
            case Fence():
                return self._fence(message)
        return self._close(f"the first answer to a hello was {type(message).__name__}")

    def _wanted_state(self, message: FromController, now_ms: int) -> list[Action]:
        match message:
            case ReportAck():
                return self._acknowledge(message)
            case Update():
                self._hear_overrides(message, self._waiting.add(message))
                return self._store_next()
            case ReportRequest():
                self._answers[message.request] = message.quota_uid
                if len(self._answers) > MAX_REMEMBERED:
                    del self._answers[next(iter(self._answers))]
                return self._report(now_ms)
            case Fence():
                return self._fence(message)
        return []  # a repeated or late Welcome or StaleHello: an old mark must not replace a newer one

    def _after_fence(self, message: FromController, now_ms: int) -> list[Action]:
        match message:
            case FenceDone():
                self.phase = Phase.DONE
                return self._store(FenceConfirmed())
            case Fence():
                return self._acknowledge_fence(now_ms)
        return []

    def _acknowledge(self, ack: ReportAck) -> list[Action]:
        """Move on to the newest report that is recorded; an older acknowledgement says nothing new."""
        if ack.number <= self._acknowledged or ack.number > self._number:
            return []
        self._acknowledged = ack.number
        while self._unacknowledged and self._unacknowledged[0].number <= ack.number:
            made = self._unacknowledged.popleft()
            self._acknowledged_stamp = made.stamp
            if not made.finals <= self._settled:
                self._settled |= made.finals
        if not ack.mark:
            return [Contact(ack.clock_ms)]
        self._waiting.mark, self._waiting.controller_ms = ack.mark, ack.clock_ms
        return [Contact(ack.clock_ms), *self._store_next()]

    def _hear_overrides(self, update: Update, renews: bool) -> None:
        """What the controller names it wants to hear of, settled or not; a new generation wants to hear of all."""
        if renews:
            self._settled = frozenset()
            self._unacknowledged = deque(
                (made._replace(finals=frozenset()) for made in self._unacknowledged), MAX_REMEMBERED
            )
        elif self._settled and update.overrides:
            self._settled -= {override.override_id for override in update.overrides}

    def _fence(self, fence: Fence) -> list[Action]:
        self.phase = Phase.FENCING
        self._waiting.fence = fence.kind
        return self._store_next()

    # What follows

    def _store(self, command: Command) -> list[Action]:
        assert self._storing is None, "one store command at a time"
        self._storing = command
        return [Store(command)]

    def _store_next(self) -> list[Action]:
        if self._storing is not None:
            return []
        command = self._waiting.take()
        return [] if command is None else self._store(command)

    def _report(self, now_ms: int) -> list[Action]:
        """Report now, or as soon as the report under way is written."""
        if self._writing or self.phase is not Phase.UP:
            self._wanted = True
            return []
        self._writing, self._wanted, self._urgent = True, False, False
        self._number += 1
        self._reported_ms = now_ms
        uids, answers = tuple(dict.fromkeys(self._answers.values())), tuple(self._answers)
        self._answers = {}
        return [MakeReport(self._number, self._acknowledged_stamp, uids, answers, self._settled)]

    def _acknowledge_fence(self, now_ms: int) -> list[Action]:
        assert self._fence_ack is not None, "the fence is durable"
        self._fence_ack_due_ms = now_ms + self.heartbeat_ms
        return [Send(self._fence_ack)]

    def _close(self, reason: str, *, redial_at_once: bool = False, for_good: bool = False) -> list[Action]:
        self.phase = Phase.CLOSED
        return [Close(reason, redial_at_once, for_good)]

    # Deadlines

    def _silent_ms(self) -> int:
        """After this the controller has been silent for too long."""
        if self.phase is Phase.GREETING:
            return self._heard_ms + FIRST_ANSWER_MS
        return self._heard_ms + SILENT_HEARTBEATS * self.heartbeat_ms

    def _report_due_ms(self) -> int:
        divisor = URGENT_FRACTION if self._urgent else 1
        return self._reported_ms + max(1, self.heartbeat_ms // divisor)

    def _wake(self, actions: list[Action]) -> list[Action]:
        """Set the time of the next `tick`."""
        due = [self._silent_ms() + 1] if self.phase in LISTENING else []
        if self.phase is Phase.UP and not self._writing:
            due.append(self._report_due_ms())
        if self.phase is Phase.FENCED:
            due.append(self._fence_ack_due_ms)
        self.wake_at_ms = min(due, default=None)
        return actions
