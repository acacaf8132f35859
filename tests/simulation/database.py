"""The controller's database, and the ledger's store on it: a transaction is there whole, or not at all."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Protocol

from quota_server.errors import StoreUnavailable
from quota_server.ledger.book import Book
from tests.memory_store import MemoryLedgerStore, MemoryTransaction, Tables
from tests.simulation.disk import Trouble
from tests.simulation.loop import SimLoop


class LedgerWatcher(Protocol):
    """Who is told of every transaction that becomes durable."""

    def ledger_will_write(self, book: Book) -> None:
        """The tables are about to hold what is in `book`."""

    def ledger_wrote(self, book: Book) -> None:
        """They do now."""


class Database:
    """What is durable of the controller, and its backup."""

    def __init__(self, watcher: LedgerWatcher) -> None:
        self.tables = Tables()
        self.watcher = watcher
        self.full = False
        #: A transaction that is being written; it may still be lost.
        self.writing: MemoryTransaction | None = None

    def backup(self) -> Tables:
        """A copy of everything, as of one moment; the records themselves never change."""
        return Tables(**{name: copy.copy(value) for name, value in vars(self.tables).items()})

    def power_loss(self, *, written: bool) -> None:
        """The transaction that was being written turns out to be there, or not."""
        if self.writing is not None and written:
            self.settle()
        self.writing = None

    def settle(self) -> None:
        """The transaction that was being written is durable."""
        assert self.writing is not None
        transaction, self.writing = self.writing, None
        self.watcher.ledger_will_write(transaction.book)
        transaction.commit()
        self.watcher.ledger_wrote(transaction.book)


class SimLedgerStore(MemoryLedgerStore):
    """`LedgerStore` for one life of the controller."""

    def __init__(self, database: Database, loop: SimLoop, chance: Random, trouble: Trouble) -> None:
        super().__init__()
        self.tables = database.tables
        self._database = database
        self._loop = loop
        self._chance = chance
        self._trouble = trouble

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[MemoryTransaction]:
        async with self._turn:
            transaction = MemoryTransaction(self.tables)
            yield transaction
            if transaction.writes:
                await self._write(transaction)

    async def probe(self) -> None:
        """See `SqlLedgerStore.probe`."""
        await asyncio.sleep(0.001)
        if self._database.full:
            raise StoreUnavailable("the disk is full")

    async def _write(self, transaction: MemoryTransaction) -> None:
        chance = self._chance
        if self._database.full:
            raise StoreUnavailable("the disk is full")
        self._database.writing = transaction
        done = self._loop.create_future()
        unclear = chance.random() < self._trouble.unclear_rate
        at = self._loop.time() + 0.0005 + 0.003 * chance.random()
        self._loop.at(at, "database", self._settle, transaction, done, not unclear or chance.random() < 0.5)
        await done
        if unclear:
            raise StoreUnavailable("the disk failed while it wrote", unclear=True)

    def _settle(self, transaction: MemoryTransaction, done: asyncio.Future[None], written: bool) -> None:
        if self._database.writing is not transaction:
            return  # the controller was switched off meanwhile
        self._database.power_loss(written=written)
        if not done.done():
            done.set_result(None)
