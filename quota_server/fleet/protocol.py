"""One agent's stream as a state machine without I/O: messages and time in, events for the ledger and messages out.

A session knows what it told its agent and has not seen acknowledged; it says that again every heartbeat. Everything
else is in the ledger. It is bounded: at most one update per quota and one per override, the newest.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, replace

from quota_server.errors import LedgerRefusal, field_invalid
from quota_server.ledger.events import FenceAckEvent, HelloEvent, LinkEvent, Reply, ReportEvent
from quota_server.ledger.model import AgentKey
from quotafleet.link.messages import (
    PROTOCOL_VERSION,
    AllocationUpdate,
    Fence,
    FenceAck,
    FenceDone,
    FenceKind,
    FromAgent,
    FromController,
    Hello,
    OverrideState,
    OverrideUpdate,
    Report,
    ReportAck,
    ReportRequest,
    StaleHello,
    Update,
    Welcome,
)

#: Updates of at most this many quotas go into one message, so that it stays far below the size limit.
UPDATES_PER_MESSAGE = 500


class Phase(enum.Enum):
    """How far a stream has come."""

    AWAITING_HELLO = enum.auto()
    GREETED = enum.auto()  # the ledger is deciding on the hello
    ONLINE = enum.auto()
    FENCING = enum.auto()  # a Fence was sent; only a FenceAck matters now
    OVER = enum.auto()


@dataclass(frozen=True, slots=True)
class Ending:
    """The stream ends: with an error if there is one, else quietly."""

    refusal: LedgerRefusal | None = None


class AgentSession:
    """The controller's end of one stream. Times are monotonic milliseconds."""

    def __init__(self, heartbeat_ms: int, now_ms: int) -> None:
        self._heartbeat_ms = heartbeat_ms
        self._heard_ms = now_ms
        self._told_ms: dict[str, int] = {}
        self._unacknowledged: dict[str, AllocationUpdate] = {}
        self._told_override_ms: dict[str, int] = {}
        self._open_overrides: dict[str, OverrideUpdate] = {}
        #: As the agent reported them last.
        self._seen_overrides: dict[str, OverrideState] = {}
        self._outbox: list[FromController] = []
        self._updates: dict[str, AllocationUpdate] = {}
        self._overrides: dict[tuple[str, str], OverrideUpdate] = {}
        self._questions: dict[int, ReportRequest] = {}
        self.phase = Phase.AWAITING_HELLO
        self.ending: Ending | None = None
        self.agent: AgentKey | None = None
        self.dial = 0

    # --- events ------------------------------------------------------------------------------------------------------

    def received(self, message: FromAgent, now_ms: int) -> LinkEvent | None:
        """A message came in; the event it means for the ledger, if any."""
        self._heard_ms = now_ms
        if isinstance(message, Hello):
            return self._hello(message)
        if self.phase is Phase.AWAITING_HELLO or self.agent is None:
            self._end(field_invalid("message", "a stream begins with hello"))
            return None
        if isinstance(message, Report) and self.phase is Phase.ONLINE:
            for standing in message.standings:
                self._acknowledged(standing.quota_uid, standing.revision)
            for override in message.overrides:
                self._override_seen(override.override_id, override.state)
            return ReportEvent(self.agent, self.dial, message)
        if isinstance(message, FenceAck) and self.phase is Phase.FENCING:
            return FenceAckEvent(self.agent, self.dial, message)
        return None  # a report that crossed a fence, or came before the welcome

    def replied(self, reply: Reply, now_ms: int) -> None:
        """The ledger has decided on an event of this stream, durably."""
        if reply.refusal is not None or reply.superseded:
            self._end(reply.refusal)
            return
        for message in reply.messages:
            match message:
                case Welcome():
                    self._welcome(message, now_ms)
                case StaleHello() | FenceDone():
                    self._outbox.append(message)
                    self._end(None)
                case Fence():
                    self.fence(message.kind)
                case ReportAck():
                    self._acknowledge(message)
                case _:
                    self._outbox.append(message)

    def post(self, updates: Iterable[AllocationUpdate], overrides: Iterable[OverrideUpdate] = ()) -> None:
        """New state for the agent; a newer one of the same quota replaces what was not sent yet.

        An override's end is not told: it is the agent's own word, and no state that an agent takes from a controller.
        """
        if self.phase not in (Phase.ONLINE, Phase.GREETED):
            return
        for update in updates:
            known = self._updates.get(update.quota_uid) or self._unacknowledged.get(update.quota_uid)
            if known is None or known.revision < update.revision:
                self._updates[update.quota_uid] = update
        for override in overrides:
            if override.state not in (OverrideState.USED, OverrideState.DEAD) and not self._knows(override):
                self._overrides[override.override_id, override.ask_id] = override

    def ask(self, question: ReportRequest) -> None:
        """Asks the agent to report now."""
        self._questions[question.request] = question

    def fence(self, kind: FenceKind) -> None:
        """Tells the store that it may spend nothing any more."""
        if self.phase in (Phase.OVER, Phase.FENCING):
            return
        self.phase = Phase.FENCING
        self._outbox.append(Fence(kind))

    def supersede(self) -> None:
        """A newer stream owns the agent, or it has to say hello again."""
        self._end(None)

    def tick(self, now_ms: int) -> None:
        """Says again what was not acknowledged for a heartbeat; ends a stream silent for two."""
        if now_ms - self._heard_ms > 2 * self._heartbeat_ms:
            self._end(None)
            return
        if self.phase is not Phase.ONLINE:
            return
        due = now_ms - self._heartbeat_ms
        for quota_uid, update in self._unacknowledged.items():
            if self._told_ms[quota_uid] <= due:
                self._updates.setdefault(quota_uid, update)
        for override_id, override in self._open_overrides.items():
            if self._told_override_ms[override_id] <= due:
                self._overrides.setdefault((override_id, override.ask_id), override)

    # --- what goes out -----------------------------------------------------------------------------------------------

    def outgoing(self, now_ms: int) -> list[FromController]:
        """Everything that is to be sent now, in order."""
        messages, self._outbox = self._outbox, []
        if self.phase is not Phase.ONLINE:
            return messages
        updates, self._updates = list(self._updates.values()), {}
        overrides, self._overrides = list(self._overrides.values()), {}
        for update in updates:
            self._unacknowledged[update.quota_uid] = update
            self._told_ms[update.quota_uid] = now_ms
        for override in overrides:
            self._remember(override, now_ms)
        while updates or overrides:
            messages.append(
                Update(tuple(updates[:UPDATES_PER_MESSAGE]), tuple(overrides[:UPDATES_PER_MESSAGE]))
            )
            updates, overrides = updates[UPDATES_PER_MESSAGE:], overrides[UPDATES_PER_MESSAGE:]
        questions, self._questions = list(self._questions.values()), {}
        return [*messages, *questions]

    # --- inside ------------------------------------------------------------------------------------------------------

    def _hello(self, hello: Hello) -> LinkEvent | None:
        if self.phase is not Phase.AWAITING_HELLO:
            self._end(field_invalid("hello", "a stream has one hello"))
            return None
        if hello.protocol_version != PROTOCOL_VERSION:
            self._end(field_invalid("hello.protocol_version", f"this controller speaks {PROTOCOL_VERSION}"))
            return None
        self.phase = Phase.GREETED
        self.agent, self.dial = AgentKey(hello.agent_uid, hello.epoch), hello.dial
        return HelloEvent(self.agent, hello)

    def _welcome(self, welcome: Welcome, now_ms: int) -> None:
        if self.phase is not Phase.GREETED:
            return
        self.phase = Phase.ONLINE
        self._outbox.append(welcome)
        for update in welcome.allocations:
            self._unacknowledged[update.quota_uid] = update
            self._told_ms[update.quota_uid] = now_ms
        for override in welcome.overrides:
            self._remember(override, now_ms)

    def _acknowledge(self, ack: ReportAck) -> None:
        """Acknowledgements not sent yet become one, so that an agent that does not read costs nothing."""
        if self._outbox and isinstance(waiting := self._outbox[-1], ReportAck):
            self._outbox[-1] = replace(ack, mark=ack.mark or waiting.mark)
        else:
            self._outbox.append(ack)

    def _acknowledged(self, quota_uid: str, revision: tuple[int, int]) -> None:
        update = self._unacknowledged.get(quota_uid)
        if update is not None and revision >= update.revision:
            del self._unacknowledged[quota_uid], self._told_ms[quota_uid]
            waiting = self._updates.get(quota_uid)
            if waiting is not None and revision >= waiting.revision:
                del self._updates[quota_uid]

    def _remember(self, override: OverrideUpdate, now_ms: int) -> None:
        """Approvals and revocations are said again until the agent shows that it knows; other answers it asks for."""
        if override.state is OverrideState.APPROVED:
            self._open_overrides[override.override_id] = override
            self._told_override_ms[override.override_id] = now_ms

    def _knows(self, override: OverrideUpdate) -> bool:
        """Whether the agent has shown that it has this approval; a revocation it shows by ending it."""
        seen = self._seen_overrides.get(override.override_id)
        approved = override.state is OverrideState.APPROVED
        return approved and seen is not None and (seen is not OverrideState.APPROVED or not override.revoked)

    def _override_seen(self, override_id: str, state: OverrideState) -> None:
        self._seen_overrides[override_id] = state
        override = self._open_overrides.get(override_id)
        if override is not None and (state is not OverrideState.APPROVED or not override.revoked):
            del self._open_overrides[override_id], self._told_override_ms[override_id]

    def _end(self, refusal: LedgerRefusal | None) -> None:
        if self.ending is None:
            self.ending = Ending(refusal)
            self.phase = Phase.OVER
