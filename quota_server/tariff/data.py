"""The tariff data in memory, and its changes: judged on what is stored, stored as a whole, and only then seen."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from quota_server.errors import StoreConflict
from quota_server.ledger.calls import Call, record, refuse_repeat
from quota_server.ledger.store import RecordedAnswer
from quota_server.tariff.judged import Summary
from quota_server.tariff.judging import Prepared
from quota_server.tariff.refusals import data_changed
from quota_server.tariff.sparing import Sparing
from quota_server.tariff.store import Batch, TariffStore
from quota_server.tariff.workers import Workers
from rules.dataset import Dataset
from rules.json_form import read_record
from rules.records import Record

_log = logging.getLogger(__name__)

#: Versions that are read from the store at a time.
_PAGE: Final = 10_000
#: How often a commit is judged again because another controller has stored something meanwhile.
_TRIES: Final = 5
#: So many changes need not wait for what takes long.
SHORT: Final = 100


@dataclass(frozen=True, slots=True)
class Committed:
    """What was stored."""

    number: int
    summary: Summary


#: Judges what is to be stored on a data set; raises what refuses it.
Judge = Callable[[Dataset], Awaitable[Prepared]]


class TariffData:
    """The stored data, in memory. Use `open`, which loads it."""

    def __init__(self, store: TariffStore, workers: Workers) -> None:
        self._store = store
        self._workers = workers
        self._data = Dataset.empty()
        self._turn = asyncio.Lock()
        self._sparing = Sparing()
        #: What became of a commit is not known: what is in memory may lack it.
        self._doubtful = False

    @classmethod
    async def open(cls, store: TariffStore, workers: Workers) -> TariffData:
        """Loads what is stored."""
        found = cls(store, workers)
        with found._sparing.loading():
            await found._catch_up()
        _log.info("tariff data loaded version=%d records=%d", found._data.number, len(found._data))
        return found

    async def settle(self) -> None:
        """Waits for the commit that is under way; for when nobody can begin another one."""
        async with self._turn:
            pass

    async def current(self, expected: int | None = None) -> Dataset:
        """The stored data, which never changes; looked at anew if another version is expected than is in memory."""
        if self._is_behind(expected):
            async with self._turn:
                await self._catch_up()
        return self._data

    async def look_again(self) -> None:
        """Takes in what other controllers have stored."""
        async with self._turn:
            await self._catch_up()

    async def recorded(self, request_id: str) -> RecordedAnswer | None:
        """What was answered to a request id."""
        return await self._store.recorded(request_id) if request_id else None

    async def commit(
        self, call: Call, expected: int | None, judge: Judge, ahead: Prepared | None = None
    ) -> Committed:
        """Stores what was judged `ahead`, or judges it now if there is nothing or the data have changed since.

        Raises AlreadyAnswered for a repeat, DATA_CHANGED if the data are not at the version expected.
        """
        async with self._turn:
            await refuse_repeat(self._store, call)
            prepared, judged_on = ahead, self._data.number
            for _ in range(_TRIES):
                if self._is_behind(expected):
                    await self._catch_up()
                if expected is not None and expected != self._data.number:
                    raise data_changed(expected, self._data.number)
                if prepared is None or prepared.judged_on is not self._data:
                    prepared = await judge(self._data)
                judged_on = self._data.number
                try:
                    stored = await self._store_all(call, prepared, await self._pack(prepared))
                except StoreConflict:
                    stored = False  # nothing was; another controller was in the way
                if stored:
                    return Committed(prepared.after.number, prepared.summary)
                await self._catch_up()
            raise data_changed(judged_on, self._data.number)

    def _is_behind(self, expected: int | None) -> bool:
        """Whether what is in memory may not be what is stored."""
        return self._doubtful or (expected is not None and expected != self._data.number)

    async def _pack(self, prepared: Prepared) -> Batch:
        transactions = prepared.transactions
        first = prepared.judged_on.number + 1
        return await self._workers.do(lambda _: self._store.pack(first, transactions), commit=True)

    async def _store_all(self, call: Call, prepared: Prepared, batch: Batch) -> bool:
        """Whether it is stored; if not, somebody else has stored something that it was not judged on."""
        try:
            async with self._store.transaction() as transaction:
                await refuse_repeat(transaction, call)
                newest = await transaction.newest()
                if newest.number != prepared.judged_on.number:
                    return False
                # A clock that went back must not say that later transactions came first.
                await transaction.append(batch, max(call.now_ms, newest.create_ms), call.actor, call.reason)
                await record(transaction, call, Committed(prepared.after.number, prepared.summary))
        except BaseException:
            self._doubtful = True
            raise
        self._data = prepared.after
        self._sparing.note(len(batch.rows))
        return True

    async def _catch_up(self) -> None:
        """Reads what is stored and not in memory."""
        newest = await self._store.newest()
        data, after = self._data, (self._data.number + 1, -1)
        there_is_more = data.number < newest.number
        while there_is_more:
            rows, after = await self._store.versions_after(after, _PAGE)
            data = await self._workers.do(partial(_with_rows, data, rows), commit=True)
            self._sparing.note(len(rows))
            there_is_more = len(rows) == _PAGE  # a page may end inside a transaction
        self._data = data
        self._doubtful = False


def _with_rows(data: Dataset, rows: Sequence[tuple[str, bool, int]], go_on: Callable[[], None]) -> Dataset:
    def versions() -> Iterator[tuple[Record, bool, int]]:
        for content, deleted, number in rows:
            yield read_record(json.loads(content)), deleted, number

    go_on()
    return data.with_versions(versions())
