"""The connected fleet: brings what streams say to the ledger in batches, and what the ledger decides to the streams."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from quota_server.clock import Clock
from quota_server.errors import LedgerRefusal, StoreUnavailable
from quota_server.fleet.again import again
from quota_server.fleet.connection import Connection
from quota_server.fleet.fanout import AgentOutcome
from quota_server.fleet.others import Neighbourhood, Others
from quota_server.fleet.pauses import Pauses
from quota_server.fleet.ports import Asks, Batches, Demand
from quota_server.fleet.protocol import Phase
from quota_server.fleet.rounds import Outcomes, Rounds
from quota_server.ledger.calls import Change
from quota_server.ledger.effects import Effects, Participant
from quota_server.ledger.events import GoneEvent, HelloEvent, LinkEvent, Reply, ReportEvent
from quota_server.ledger.model import AgentKey
from quotafleet.link.messages import FenceKind, OverrideAsk

_log = logging.getLogger(__name__)
T = TypeVar("T")

#: At most this many events go into one transaction.
MAX_BATCH = 2_000
#: Redistributions by demand are at least a heartbeat / this apart.
REDISTRIBUTIONS_PER_HEARTBEAT = 20
_STORE_FAILED = "the database does not take changes: %s"
#: How long the outcomes of a fan-out are collected that nobody waits for.
DEFAULT_WAIT_MS = 5_000


@dataclass(frozen=True, slots=True)
class _Waiting:
    connection: Connection | None
    event: LinkEvent
    handled: asyncio.Future[None]


class Fleet:
    """All streams of this controller. `run` does the work; it fails only by being cancelled, or by a bug."""

    def __init__(
        self,
        batches: Batches,
        demand: Demand,
        asks: Asks,
        outcomes: Outcomes,
        clock: Clock,
        heartbeat_ms: int,
        around: Neighbourhood | None = None,
        gather_ms: int = 0,
    ) -> None:
        self._batches = batches
        self._demand = demand
        self._asks = asks
        self._clock = clock
        self._heartbeat_ms = heartbeat_ms
        self._gather_ms = gather_ms
        self._connections: dict[AgentKey, Connection] = {}
        self._queue: list[_Waiting] = []
        self._queued = asyncio.Event()
        self._stale: set[str] = set()
        self._stale_event = asyncio.Event()
        self._pauses = Pauses(heartbeat_ms / REDISTRIBUTIONS_PER_HEARTBEAT, heartbeat_ms)
        #: A commit and what it sends are one step: no acknowledgement comes between them.
        self._step = asyncio.Lock()
        self._rounds = Rounds(self._connections, outcomes, clock, around.controller if around else None)
        self._others: Others | None = None
        if around is not None:
            self._others = Others(around, self, self._rounds, self._connections, clock, heartbeat_ms)
            self._rounds.ask_elsewhere = self._others.ask
        self._watchers: dict[str, set[asyncio.Event]] = {}
        self._unsaved: list[GoneEvent] = []
        self._over = False
        #: Set while the store takes changes.
        self.store_ok = True

    async def run(self) -> None:
        """Works until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._handle_events(), name="fleet: link events")
                tasks.create_task(self._follow_demand(), name="fleet: demand")
                if self._others is not None:
                    tasks.create_task(self._others.run(), name="fleet: others")
        finally:
            self._over = True
            for waiting in self._queue:
                waiting.handled.cancel()
            self._rounds.cancel()

    # --- streams -----------------------------------------------------------------------------------------------------

    async def handle(self, connection: Connection, event: LinkEvent) -> None:
        """Brings an event to the ledger; returns when the connection's session has been told the reply."""
        await self._submit(connection, event)

    async def closed(self, connection: Connection) -> None:
        """The stream has ended. If the ledger is still deciding on its hello, it learns of the end right after."""
        connection.session.supersede()
        self._forget(connection)
        if connection.welcomed:
            await self._submit(None, self._end_of(connection))

    async def _submit(self, connection: Connection | None, event: LinkEvent) -> None:
        if self._over:
            return
        handled = asyncio.get_running_loop().create_future()
        self._queue.append(_Waiting(connection, event, handled))
        self._queued.set()
        await handled

    # --- operators ---------------------------------------------------------------------------------------------------

    async def carry_out(
        self, use_case: Callable[[], Awaitable[Change]], wait_ms: int
    ) -> tuple[Change, list[AgentOutcome]]:
        """Decides a change, sends it to all connected agents at once, and waits until they have acknowledged it."""
        async with self._step:
            change = await self._on_store(use_case)
            self.dispatch(change.effects)
            round_ = self._rounds.open(change.quota.uid, change.participants)
        return change, await self._rounds.close(change.quota.uid, change.round_id, round_, wait_ms)

    async def decide(self, use_case: Callable[[], Awaitable[T]], effects: Callable[[T], Effects]) -> T:
        """Decides something and sends what follows from it, without waiting for anybody."""
        async with self._step:
            result = await self._on_store(use_case)
            self.dispatch(effects(result))
        return result

    async def refresh(
        self, quota_uid: str, participants: Iterable[Participant], wait_ms: int
    ) -> list[AgentOutcome]:
        """Asks all connected agents of a quota for a report, at once."""
        return await self._rounds.ask(quota_uid, participants, wait_ms)

    def is_connected(self, agent: AgentKey) -> bool:
        """Whether a stream of this enrolment is up here."""
        return agent in self._connections

    def is_reachable(self, participant: Participant) -> bool:
        """Whether a stream of it is up, here or on another controller."""
        return self._rounds.is_reachable(participant)

    def watch(self, quota_uid: str) -> asyncio.Event:
        """An event that is set whenever the quota's numbers may have changed."""
        event = asyncio.Event()
        self._watchers.setdefault(quota_uid, set()).add(event)
        return event

    def unwatch(self, quota_uid: str, event: asyncio.Event) -> None:
        """Ends a watch."""
        watchers = self._watchers.get(quota_uid, set())
        watchers.discard(event)
        if not watchers:
            self._watchers.pop(quota_uid, None)

    # --- what a commit means -----------------------------------------------------------------------------------------

    def dispatch(self, effects: Effects) -> None:
        """Sends what a committed transaction calls for, and tells those who wait for it."""
        for agent in effects.updates.keys() | effects.overrides.keys():
            if connection := self._connections.get(agent):
                connection.session.post(effects.updates.get(agent, ()), effects.overrides.get(agent, ()))
                connection.wake.set()
        self._rounds.dispatched(effects)
        for plan in effects.rounds:
            round_ = self._rounds.open(plan.quota_uid, plan.participants)
            self._rounds.close_later(plan.quota_uid, plan.round_id, round_, DEFAULT_WAIT_MS)
        for agent in effects.ended:
            if connection := self._connections.get(agent):
                connection.session.fence(FenceKind.ENDED)
                connection.wake.set()
        if effects.stale:
            self._stale |= effects.stale
            self._stale_event.set()
        for quota_uid in effects.touched | effects.stale:
            for watcher in self._watchers.get(quota_uid, ()):
                watcher.set()

    async def look(self, read: Callable[[], Awaitable[Effects]]) -> None:
        """See `others.Host`."""
        async with self._step:
            self.dispatch(await read())

    def moved(self, agent: AgentKey, dial: int) -> None:
        """See `others.Host`. Whoever waits for the agent goes on waiting: it is only elsewhere."""
        connection = self._connections.get(agent)
        if connection is not None and connection.session.dial < dial:
            del self._connections[agent]
            connection.session.supersede()
            connection.wake.set()

    def hello_again(self) -> None:
        """See `others.Host`."""
        for connection in self._connections.values():
            connection.session.supersede()
            connection.wake.set()

    async def _on_store(self, use_case: Callable[[], Awaitable[T]]) -> T:
        try:
            return await again(use_case)
        except StoreUnavailable as refusal:
            self.store_failed(refusal)
            raise

    def store_failed(self, refusal: StoreUnavailable) -> None:
        """The database did not take a change, or did not answer."""
        # Once, however many agents try: their number is that of the fleet.
        _log.log(logging.ERROR if self.store_ok else logging.DEBUG, _STORE_FAILED, refusal.message)
        self.store_ok = False
        if refusal.unclear:
            # It may have decided something that no stream was told: every agent says hello again, and is told all.
            self.hello_again()

    def store_recovered(self) -> None:
        """The store takes changes: what it did not take before is said again."""
        if not self.store_ok:
            _log.info("the database takes changes")
        self.store_ok = True
        unsaved, self._unsaved = self._unsaved, []
        for event in unsaved:
            self._leave_for_later(event)

    # --- work --------------------------------------------------------------------------------------------------------

    async def _handle_events(self) -> None:
        while True:
            await self._queued.wait()
            batch, self._queue = self._queue[:MAX_BATCH], self._queue[MAX_BATCH:]
            if not self._queue:
                self._queued.clear()
            async with self._step:
                await self._handle_batch(batch)
            for waiting in batch:
                if not waiting.handled.done():
                    waiting.handled.set_result(None)
            if self._gather_ms:  # the next ones meanwhile, so that writes do not grow with messages
                await asyncio.sleep(self._gather_ms / 1000)

    async def _handle_batch(self, batch: list[_Waiting]) -> None:
        try:
            events = [waiting.event for waiting in batch]
            result = await again(lambda: self._batches.handle(events, self._clock.wall_ms()))
        except StoreUnavailable as refusal:
            self.store_failed(refusal)
            self._refuse(batch, refusal)
            # An agent that is gone stays gone: that is said again when the database takes changes.
            self._unsaved += [waiting.event for waiting in batch if isinstance(waiting.event, GoneEvent)]
        except Exception:
            if len(batch) > 1:  # one bad event must not take the others with it
                for waiting in batch:
                    await self._handle_batch([waiting])
                return
            _log.exception("a link event was refused by the ledger")
            self._refuse(batch, LedgerRefusal("STORE_UNAVAILABLE", "the ledger refused this message"))
        else:
            self.store_recovered()
            for waiting, reply in zip(batch, result.replies, strict=True):
                self._reply(waiting, reply)
            self.dispatch(result.effects)
            await self._answer_asks(batch)

    def _reply(self, waiting: _Waiting, reply: Reply) -> None:
        connection, event = waiting.connection, waiting.event
        if connection is None:
            return
        if reply.welcome and isinstance(event, HelloEvent):
            connection.welcomed = True
            if connection.session.ending is None:
                self._register(event.agent, connection)
            else:  # its stream broke while the ledger decided
                self._leave_for_later(self._end_of(connection))
        connection.session.replied(reply, self._clock.monotonic_ms())
        connection.wake.set()
        if connection.session.phase in (Phase.FENCING, Phase.OVER):
            self._forget(connection)
        if isinstance(event, ReportEvent) and not reply.superseded and reply.refusal is None:
            self._rounds.answered(event.agent, event.report.answers)

    def _register(self, agent: AgentKey, connection: Connection) -> None:
        older = self._connections.get(agent)
        self._connections[agent] = connection
        if older is not None:
            older.session.supersede()
            older.wake.set()
        self._rounds.welcomed(agent, connection)
        _log.info("agent linked agent_uid=%s epoch=%d", *agent)

    def _forget(self, connection: Connection) -> None:
        """Nothing is sent on this stream any more, and nobody waits for it."""
        agent = connection.session.agent
        if agent is not None and self._connections.get(agent) is connection:
            del self._connections[agent]
            self._rounds.gone(agent)
            _log.info("agent unlinked agent_uid=%s epoch=%d", *agent)

    @staticmethod
    def _end_of(connection: Connection) -> GoneEvent:
        assert connection.session.agent is not None, "a welcome answers a hello"
        return GoneEvent(connection.session.agent, connection.session.dial)

    def _leave_for_later(self, event: LinkEvent) -> None:
        """Queues an event that nobody waits for."""
        self._queue.append(_Waiting(None, event, asyncio.get_running_loop().create_future()))
        self._queued.set()

    def _refuse(self, batch: list[_Waiting], refusal: LedgerRefusal) -> None:
        for waiting in batch:
            if waiting.connection is not None:
                if isinstance(refusal, StoreUnavailable) and refusal.unclear:
                    waiting.connection.welcomed = True  # perhaps; then the ledger has to learn of its end
                waiting.connection.session.replied(Reply(refusal=refusal), self._clock.monotonic_ms())
                waiting.connection.wake.set()

    async def _answer_asks(self, batch: list[_Waiting]) -> None:
        asks = []
        for waiting in batch:
            match waiting.event:
                case HelloEvent(agent=agent, hello=hello) if self.is_connected(agent):
                    asks += [(agent, ask) for ask in hello.asks]
                case ReportEvent(agent=agent, report=report) if self.is_connected(agent):
                    asks += [(agent, ask) for ask in report.asks]
        if asks:
            await self._answer(asks)

    async def _answer(self, asks: list[tuple[AgentKey, OverrideAsk]]) -> None:
        try:
            answers, effects = await again(lambda: self._asks.answer_asks(asks, self._clock.wall_ms()))
        except StoreUnavailable as refusal:
            self.store_failed(refusal)
            return  # they are asked again
        except Exception:
            if len(asks) > 1:  # one bad ask must not take the others with it
                for ask in asks:
                    await self._answer([ask])
                return
            _log.exception("an ask for an override could not be answered")
            return
        effects.overrides.update(answers)
        self.dispatch(effects)

    async def _follow_demand(self) -> None:
        """Shares out quotas anew, each at most every so often; longer apart while that moves nothing."""
        while True:
            await self._stale_event.wait()
            await asyncio.sleep(self._heartbeat_ms / 1000 / REDISTRIBUTIONS_PER_HEARTBEAT)
            now_ms = self._clock.monotonic_ms()
            due = sorted(uid for uid in self._stale if self._pauses.due(uid, now_ms))
            self._stale -= set(due)
            if not self._stale:
                self._stale_event.clear()
            for quota_uid in due:
                try:
                    moved = await self._redistribute(quota_uid)
                    self._pauses.done(quota_uid, self._clock.monotonic_ms(), moved=moved)
                except StoreUnavailable as refusal:
                    self.store_failed(refusal)
                    self._stale.add(quota_uid)
                    self._stale_event.set()
                except Exception:  # nothing was changed, and the other quotas go on
                    _log.exception("quota_uid=%s could not be shared out anew", quota_uid)

    async def _redistribute(self, quota_uid: str) -> bool:
        async with self._step:
            change = await again(lambda: self._demand.follow_demand(quota_uid, self._clock.wall_ms()))
            if change is None:
                return False
            self.dispatch(change.effects)
            if not change.round_id:
                return bool(change.effects.updates)
            told = [p for p in change.participants if p.agent in change.effects.updates]
            round_ = self._rounds.open(quota_uid, told)
            self._rounds.close_later(quota_uid, change.round_id, round_, 2 * self._heartbeat_ms)
        return True
