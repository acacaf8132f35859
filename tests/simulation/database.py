"""The controllers' database, and the ledger's store on it: a transaction is there whole, or not at all.

Several controllers share it as they share a PostgreSQL: of their transactions one has its turn at a time, which is
what locks on rows come to where all change the same few. A turn ends with its commit, or with whoever has it.
"""

from __future__ import annotations

import asyncio
import copy
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Protocol

from quota_server.errors import StoreConflict, StoreUnavailable
from quota_server.fleet.payloads import payloads_of
from quota_server.ledger.book import Book
from quota_server.ledger.events import HelloEvent, LinkEvent
from quota_server.ledger.model import AgentKey
from quotafleet.link.messages import Hello
from tests.memory_store import MemoryLedgerStore, MemoryTransaction, Tables
from tests.simulation.disk import Trouble
from tests.simulation.loop import Process, SimLoop, current_process
from tests.simulation.notices import Channel

#: As in `quota_server.storage.postgres`: how long a transaction waits for another's locks, and how long the server
#: waits for a client that does nothing.
LOCK_SECONDS = 10
IDLE_SECONDS = 30


@dataclass(slots=True, eq=False)
class Turn:
    """One transaction's turn."""

    process: Process | None
    granted: asyncio.Future[None]
    #: The server has ended it, for its client did nothing: whatever it does now is refused.
    lost: bool = False
    #: What is being written; it may still be lost.
    writing: MemoryTransaction | None = None
    #: Of which controller, in which of its lives.
    controller: str = ""
    #: The messages of agents that it is about.
    events: Sequence[LinkEvent] = ()

    def hello(self, agent: AgentKey, dial: int) -> Hello | None:
        """The hello that it decides on, the first with this dial."""
        hellos = (each for each in self.events if isinstance(each, HelloEvent) and each.agent == agent)
        return next((each.hello for each in hellos if each.hello.dial == dial), None)

    def is_about(self, agent: AgentKey, dial: int) -> bool:
        """Whether it is about a message of the stream that this dial opened."""
        return any(each.agent == agent and _dial_of(each) == dial for each in self.events)


def _dial_of(event: LinkEvent) -> int:
    return event.hello.dial if isinstance(event, HelloEvent) else event.dial


class LedgerWatcher(Protocol):
    """Who is told of every transaction that becomes durable."""

    def ledger_will_write(self, book: Book, turn: Turn) -> None:
        """The tables are about to hold what is in `book`."""

    def ledger_wrote(self, book: Book) -> None:
        """They do now."""


class Database:
    """What is durable of the ledger, and its backup. `channel` carries what commits announce; None: nobody listens."""

    def __init__(self, watcher: LedgerWatcher, loop: SimLoop, channel: Channel | None = None) -> None:
        self.tables = Tables()
        self.full = False
        self.channel = channel
        #: How often a backup took its place under controllers that went on.
        self.put_backs = 0
        #: Called once, when a commit of some process is being written.
        self.when_written: Callable[[Process], object] | None = None
        self._watcher = watcher
        self._loop = loop
        self._holder: Turn | None = None
        self._waiting: deque[Turn] = deque()

    @property
    def now_ms(self) -> int:
        """Its own time, which no controller's clock moves."""
        return int(self._loop.time() * 1000)

    def backup(self) -> Tables:
        """A copy of everything, as of one moment; the records themselves never change."""
        return Tables(**{name: copy.copy(value) for name, value in vars(self.tables).items()})

    def put_back(self, backup: Tables) -> None:
        """The backup takes its place while controllers go on; what is being written is lost, and they do not know."""
        vars(self.tables).update(vars(backup))
        self.put_backs += 1
        turn = self._holder
        if turn is not None and turn.writing is not None:
            turn.lost = True
            self.finish(turn, written=False)

    def power_loss(self, process: Process, *, written: bool) -> None:
        """A controller is gone: what it was writing turns out to be there, or not."""
        turn = self._holder
        if turn is not None and turn.process is process:
            self.finish(turn, written=written)

    def begin(self, turn: Turn, transaction: MemoryTransaction) -> None:
        """Its commit is being written from now on."""
        turn.writing = transaction
        then, self.when_written = self.when_written, None
        if then is not None and turn.process is not None:
            then(turn.process)

    def finish(self, turn: Turn, *, written: bool) -> None:
        """What was being written is durable, or will never be."""
        transaction, turn.writing = turn.writing, None
        if transaction is not None and written:
            self._watcher.ledger_will_write(transaction.book, turn)
            transaction.commit()
            if self.channel is not None:  # a notice goes out with its commit, whoever is gone by now
                for payload in payloads_of(transaction.book):
                    self.channel.say(turn.controller, payload)
            self._watcher.ledger_wrote(transaction.book)
        self._end(turn)

    # --- turns -------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[Turn]:
        """A turn of the process that runs now."""
        turn = Turn(current_process(), self._loop.create_future())
        self._waiting.append(turn)
        self._next()
        try:
            if not turn.granted.done():
                await self._wait(turn)
            if turn.lost:
                raise StoreConflict("the connection to the database was lost")
            yield turn
        finally:
            if turn.writing is None:
                self._end(turn)

    async def _wait(self, turn: Turn) -> None:
        if self.channel is None:  # nobody else has it open, and its own transactions do not give up
            await turn.granted
            return
        try:
            async with asyncio.timeout(LOCK_SECONDS):
                await turn.granted
        except TimeoutError:
            raise StoreUnavailable("another transaction is in the way for too long") from None

    def _end(self, turn: Turn) -> None:
        if self._holder is turn:
            self._holder = None
        elif turn in self._waiting:
            self._waiting.remove(turn)
        self._next()

    def _next(self) -> None:
        while self._holder is None and self._waiting:
            turn = self._waiting.popleft()
            process = turn.process
            if turn.granted.done() or (process is not None and not process.alive):
                continue
            self._holder = turn
            turn.granted.set_result(None)
            if process is not None and process.paused and self.channel is not None:
                self._loop.at(self._loop.time() + IDLE_SECONDS, "database", self._lose, turn)

    def _lose(self, turn: Turn) -> None:
        if self._holder is turn and turn.writing is None:
            turn.lost = True
            self._end(turn)


class SimLedgerStore(MemoryLedgerStore):
    """`LedgerStore` for one life of a controller."""

    def __init__(
        self, database: Database, loop: SimLoop, chance: Random, trouble: Trouble, controller: str = ""
    ) -> None:
        super().__init__()
        self.tables = database.tables
        #: The messages of agents that the next transaction is about.
        self.events: Sequence[LinkEvent] = ()
        self._database = database
        self._loop = loop
        self._chance = chance
        self._trouble = trouble
        self._controller = controller

    def _turn(self) -> AbstractAsyncContextManager[object]:
        return self._database.turn()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[MemoryTransaction]:
        events = self.events
        async with self._database.turn() as turn:
            turn.controller, turn.events = self._controller, events
            transaction = MemoryTransaction(self.tables)
            yield transaction
            if transaction.writes:
                await self._write(turn, transaction)

    async def probe(self) -> None:
        """See `SqlLedgerStore.probe`."""
        await asyncio.sleep(0.001)
        if self._database.full:
            raise StoreUnavailable("the disk is full")

    async def _write(self, turn: Turn, transaction: MemoryTransaction) -> None:
        chance, trouble = self._chance, self._trouble
        if self._database.full:
            raise StoreUnavailable("the disk is full")
        if trouble.conflict_rate and chance.random() < trouble.conflict_rate:
            raise StoreConflict("another transaction was in the way", certain=True)
        self._database.begin(turn, transaction)
        done = self._loop.create_future()
        unclear = chance.random() < trouble.unclear_rate
        at = self._loop.time() + 0.0005 + 0.003 * chance.random()
        self._loop.at(at, "database", self._settle, turn, done, not unclear or chance.random() < 0.5)
        await done
        if unclear:
            raise StoreUnavailable("the disk failed while it wrote", unclear=True)

    def _settle(self, turn: Turn, done: asyncio.Future[None], written: bool) -> None:
        if turn.lost and not done.done():
            done.set_exception(StoreUnavailable("the connection was lost in the commit", unclear=True))
        if turn.writing is None:
            return  # the controller was switched off meanwhile, or the database put back
        if not done.done():
            done.set_result(None)
        self._database.finish(turn, written=written)
