"""The tariff data in memory, and its changes: judged on what is stored, stored as a whole, and only then seen."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from quota_server.ledger.calls import Call, record, refuse_repeat
from quota_server.tariff.judging import Summary
from quota_server.tariff.refusals import data_changed
from quota_server.tariff.store import Batch, TariffStore
from quota_server.tariff.workers import Workers
from rules.dataset import Dataset
from rules.json_form import read_record
from rules.records import Change, Record

_log = logging.getLogger(__name__)

#: Versions that are read from the store at a time.
_PAGE: Final = 20_000


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a commit is to store: transactions that were judged one after the other, from `judged_on` on."""

    judged_on: Dataset
    transactions: Sequence[Sequence[Change]]
    summary: Summary


@dataclass(frozen=True, slots=True)
class Committed:
    """What was stored."""

    number: int
    summary: Summary


#: Turns a tariff transaction into rows of the store.
ToBatch = Callable[[int, Sequence[Change]], Batch]


class TariffData:
    """The stored data, in memory. Use `open`, which loads it."""

    def __init__(self, store: TariffStore, to_batch: ToBatch, workers: Workers) -> None:
        self._store = store
        self._to_batch = to_batch
        self._workers = workers
        self._data = Dataset.empty()
        self._turn = asyncio.Lock()
        #: The outcome of a commit is not known: what is in memory may lack it.
        self._doubtful = False

    @classmethod
    async def open(cls, store: TariffStore, to_batch: ToBatch, workers: Workers) -> TariffData:
        """Loads what is stored."""
        found = cls(store, to_batch, workers)
        await found._catch_up()
        _log.info("tariff data loaded version=%d records=%d", found._data.number, len(found._data))
        return found

    async def current(self) -> Dataset:
        """The stored data; it never changes."""
        if self._doubtful:
            async with self._turn:
                await self._catch_up()
        return self._data

    async def commit(
        self,
        call: Call,
        expected: int | None,
        prepare: Callable[[Dataset], Awaitable[Prepared]],
    ) -> Committed:
        """Stores what `prepare` makes of the stored data; it judges, and raises what refuses the commit.

        Raises AlreadyAnswered for a repeat, DATA_CHANGED if the data is not at the version expected, or not at that
        which was judged: then the commit can be tried again.
        """
        async with self._turn:
            async with self._store.transaction() as transaction:
                await refuse_repeat(transaction, call)
            await self._catch_up()
            if expected is not None and expected != self._data.number:
                raise data_changed(expected, self._data.number)
            prepared = await prepare(self._data)
            return await self._store_all(call, prepared)

    async def _store_all(self, call: Call, prepared: Prepared) -> Committed:
        base, kept = prepared.judged_on, [changes for changes in prepared.transactions if changes]

        def make(go_on: Callable[[], None]) -> tuple[Dataset, list[Batch]]:
            after, batches = base, []
            for changes in kept:
                go_on()
                after = after.apply(changes)
                batches.append(self._to_batch(after.number, changes))
            return after, batches

        after, batches = await self._workers.do(make)
        committed = Committed(after.number, prepared.summary)
        try:
            async with self._store.transaction() as transaction:
                await refuse_repeat(transaction, call)
                newest = await transaction.newest()
                if newest != base.number:
                    raise data_changed(base.number, newest)
                for batch in batches:
                    await transaction.append(batch, call.now_ms, call.actor, call.reason)
                await record(transaction, call, committed)
        except BaseException:
            self._doubtful = True
            raise
        self._data = after
        return committed

    async def _catch_up(self) -> None:
        """Reads what is stored and not in memory."""
        if await self._store.newest() == self._data.number:
            self._doubtful = False
            return
        data, after = self._data, (self._data.number + 1, -1)
        while True:
            rows, after = await self._store.versions_after(after, _PAGE)
            if not rows:
                break
            data = await self._workers.do(partial(_with_rows, data, rows))
        self._data = data
        self._doubtful = False


def _with_rows(data: Dataset, rows: Sequence[tuple[str, bool, int]], go_on: Callable[[], None]) -> Dataset:
    def versions() -> Iterator[tuple[Record, bool, int]]:
        for content, deleted, number in rows:
            yield read_record(json.loads(content)), deleted, number

    go_on()
    return data.with_versions(versions())
