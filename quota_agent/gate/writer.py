"""The only writer: whatever has arrived is decided and written as one group, while the next one gathers."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, Protocol

from quota_agent.clock import Clock
from quota_agent.errors import AgentError, StoreUnavailable, StoreUnusable
from quota_agent.gate.continuity import missing
from quota_agent.gate.draft import Moment
from quota_agent.gate.model import GateSettings
from quota_agent.gate.moments import moment
from quota_agent.gate.operations import EXCLUSIVE, Batch, Contact, Exclusive, Operation
from quota_agent.gate.records import State
from quota_agent.gate.state import Decision, Group, decide, lookup
from quota_agent.gate.store import GateStore

log = logging.getLogger(__name__)

_EXCLUSIVE = frozenset(EXCLUSIVE)


class Action(NamedTuple):
    """Something to be done on the store while no group is under way."""

    run: Callable[[], Awaitable[object]]


class Pending(NamedTuple):
    """What was asked, and where the answer goes: a value, or an AgentError as a value."""

    operation: Operation | Action
    future: asyncio.Future[Any]


class Listener(Protocol):
    """Who is told what became of a group, before the next one is begun."""

    def settled(self, group: Sequence[Pending], decision: Decision) -> None:
        """The group is durable: answer it."""

    def failed(self, group: Sequence[Pending], error: AgentError) -> None:
        """Nothing of the group was ever there: say so."""

    def waited(self) -> frozenset[str]:
        """Uids of the quotas in which requests wait."""


class Writer:
    """Owns the state. `state` is what the store durably holds: it changes only after a group is on disk.

    A group that fails is refused as a whole, and the next one is decided on the state before it. After anything but a
    clean rollback the state is read back from disk first.
    """

    def __init__(self, store: GateStore, clock: Clock, settings: GateSettings) -> None:
        self.state = State()
        self._store = store
        self._clock = clock
        self._settings = settings
        self._queue: deque[Pending] = deque()
        self._taken: list[Pending] = []
        self._wake = asyncio.Event()
        self._contact: Contact | None = None
        self._closing = False
        self._ended = False
        self._stale = False
        self._healthy = True
        self._watchers: list[Callable[[bool], None]] = []

    @property
    def healthy(self) -> bool:
        """Whether the store took the last thing that was to be written."""
        return self._healthy

    def moment(self) -> Moment:
        """The present, by the clock and what is known of it."""
        return moment(self.state.agent, self._clock.wall_ms(), self._contact)

    def watch_health(self, watcher: Callable[[bool], None]) -> None:
        """Call `watcher` whenever the health changes."""
        self._watchers.append(watcher)

    def note(self, contact: Contact) -> None:
        """Remember when the controller spoke; the next group that writes takes it along."""
        self._contact = contact

    def submit(self, operation: Operation | Action) -> asyncio.Future[Any]:
        """Queue an operation. Raises StoreUnavailable if it cannot be queued."""
        if self._closing:
            raise StoreUnavailable("the agent is stopping", clean=True)
        if len(self._queue) >= self._settings.max_queue:
            raise StoreUnavailable("the store is too far behind", clean=True)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._queue.append(Pending(operation, future))
        self._wake.set()
        return future

    def requeue(self, pending: Sequence[Pending]) -> None:
        """Queue operations, in their order, before everything else."""
        self._queue.extendleft(reversed(pending))
        self._wake.set()
        if self._ended:
            self._answer_rest()

    async def load(self) -> None:
        """Begin with what the disk holds."""
        self.state = await self._store.load()

    def close(self) -> None:
        """Take nothing more; `run` ends when the queue is empty."""
        self._closing = True
        self._wake.set()

    async def run(self, listener: Listener) -> None:
        """Write groups until closed, and tell `listener` of each."""
        try:
            while self._queue or not self._closing:
                if not self._queue:
                    self._wake.clear()
                    await self._wake.wait()
                elif isinstance(self._queue[0].operation, Action):
                    await self._act(self._queue.popleft())
                else:
                    self._taken = self._take()
                    await self._write(self._taken, listener)
        except BaseException:
            self._set_healthy(False)
            raise
        finally:
            self.close()
            self._ended = True
            self._answer_rest()

    async def write_alone(self, operation: Exclusive) -> None:
        """Decide and write one operation; for actions, which run while no group is under way."""
        await self._commit(Group((operation,), self._clock.wall_ms(), self._contact))

    async def recover(self) -> None:
        """Find out whether the store takes groups again. An action."""
        try:
            await self._refresh()
            await self._store.probe()
        except StoreUnavailable as error:
            self._stale = self._stale or not error.clean
            raise
        self._set_healthy(True)

    async def replace_store(self, label: str) -> None:
        """Put the store aside and begin an empty one. An action."""
        self._stale = True
        await self._store.archive(label)
        self.state = await self._store.load()
        self._stale = False

    def _take(self) -> list[Pending]:
        """The next group: ordinary operations up to the first exclusive one, or that one alone."""
        queue = self._queue
        group = [queue.popleft()]
        if type(group[0].operation) in _EXCLUSIVE:
            return group
        room = self._settings.max_group
        while queue and room > 0:
            operation = queue[0].operation
            kind = type(operation)
            if kind is Action or kind in _EXCLUSIVE:
                break
            room -= len(operation.items) if isinstance(operation, Batch) else 1
            group.append(queue.popleft())
        return group

    async def _write(self, pending: list[Pending], listener: Listener) -> None:
        operations: list[Any] = [each.operation for each in pending]
        try:
            group = Group(operations, self._clock.wall_ms(), self._contact, listener.waited())
            decision = await self._commit(group)
        except AgentError as error:
            listener.failed(pending, error)
        except Exception:
            # A broken invariant. Nothing was written, and the state is what it was.
            if len(pending) > 1:  # one bad operation must not take the others with it
                for each in pending:
                    await self._write([each], listener)
                return
            log.exception("an operation could not be decided")
            listener.failed(pending, StoreUnavailable("the gate could not decide this; nothing was counted"))
        else:
            listener.settled(pending, decision)

    async def _commit(self, group: Group) -> Decision:
        """Make a group durable, then visible."""
        try:
            await self._refresh()
            state = self.state
            decision = await self._store.transact(
                lookup(state, group), lambda known: decide(state, group, known, self._settings)
            )
        except StoreUnavailable as error:
            self._stale = self._stale or not error.clean
            self._set_healthy(False)
            raise
        self.state = decision.state
        if decision.changes.needed and self._contact is group.contact:
            self._contact = None
        if decision.changes.created:
            # Other writes may still find room where a new entry does not.
            self._set_healthy(True)
        return decision

    async def _refresh(self) -> None:
        """Read the state back from disk if nobody knows what is there."""
        if not self._stale:
            return
        try:
            await self._store.reopen()
            state = await self._store.load()
        except StoreUnusable as error:
            raise StoreUnavailable(str(error)) from error
        lost = missing(self.state, state)
        if lost is not None:
            # It stays so until the agent starts again, or its own store is back.
            raise StoreUnavailable(f"this is not the store as it was: {lost}; was a copy put in its place?")
        self.state = state
        self._stale = False

    async def _act(self, pending: Pending) -> None:
        assert isinstance(pending.operation, Action)
        answer: object
        try:
            answer = await pending.operation.run()
        except AgentError as error:
            answer = error
        except Exception as error:
            log.exception("an action on the store failed")
            answer = AgentError(f"the gate failed: {error!r}")
        if not pending.future.done():
            pending.future.set_result(answer)

    def _answer_rest(self) -> None:
        """Refuse what nobody will write any more; there is nothing left unless the end was not as it should be."""
        for _, future in (*self._taken, *self._queue):
            if not future.done():
                future.set_result(StoreUnavailable("the agent has stopped"))
        self._queue.clear()

    def _set_healthy(self, healthy: bool) -> None:
        if healthy != self._healthy:
            self._healthy = healthy
            log.log(logging.INFO if healthy else logging.ERROR, "store healthy=%s", healthy)
            for watcher in self._watchers:
                watcher(healthy)
