"""The tariff data on a real database: what is stored is what is in memory, whatever happens to a commit."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from quota_server.errors import AlreadyAnswered, LedgerRefusal, StoreUnavailable
from quota_server.storage.connected import Database
from quota_server.storage.tariff_store import SqlTariffStore, SqlTariffTransaction
from quota_server.storage.tariff_views import SqlTariffViews
from quota_server.tariff import data as tariff_data
from quota_server.tariff.data import TariffData
from quota_server.tariff.judging import Prepared
from quota_server.tariff.workers import GivenUp, Workers
from rules.dataset import Dataset
from rules.records import RecordRef
from tests.rules_kit import create, delete, update
from tests.tariff_kit import BASE, contents, country, definitions, many, open_data, store, stored, year


async def same_as_stored(data: TariffData, database: Database) -> bool:
    """Whether what is in memory is what another controller would load."""
    workers = Workers()
    try:
        other = await TariffData.open(SqlTariffStore(database), workers)
        one, two = await data.current(), await other.current()
    finally:
        workers.close()
    return one.number == two.number and contents(one) == contents(two)


# --- restarts --------------------------------------------------------------------------------------------------------


async def test_a_restart_loads_every_version_that_there_was(tmp_path: Path) -> None:
    async with open_data(tmp_path) as (data, _):
        await store(data, BASE)
        await store(data, definitions(50, 3))
        await store(data, [update(year(50, description="new")), delete(year(51))])
        await store(data, [create(year(51, volume="7"))])
        before = await data.current()
    async with open_data(tmp_path) as (data, _):
        after = await data.current()
        assert after.number == before.number == 4
        assert contents(after) == contents(before)
        assert [each[1:] for each in contents(after)[RecordRef("quota_definition", 51)]] == [
            (False, 2),
            (True, 3),
            (False, 4),
        ]
        # And the next one goes on from there.
        assert await store(data, definitions(60, 1)) == 5


async def test_a_page_that_ends_inside_a_transaction_is_not_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tariff_data, "_PAGE", 3)
    async with open_data(tmp_path) as (data, _):
        for number in range(1, 5):
            await store(data, many(number * 100, number))
        before = await data.current()
    async with open_data(tmp_path) as (data, database):
        assert contents(await data.current()) == contents(before)
        assert len(await data.current()) == 10
        assert await same_as_stored(data, database)


async def test_times_never_go_back_with_the_clock(tmp_path: Path) -> None:
    """Otherwise the data as of a day would hold what came later."""
    async with open_data(tmp_path) as (data, database):
        views = SqlTariffViews(database)
        await store(data, many(1, 1), now_ms=1_000)
        await store(data, many(2, 1), now_ms=500)
        await store(data, many(3, 1), now_ms=2_000)
        assert [await views.number_before(ms) for ms in (999, 1_000, 1_001, 2_000, 2_001)] == [0, 0, 2, 2, 3]


# --- races -----------------------------------------------------------------------------------------------------------


async def test_commits_at_once_are_stored_one_after_the_other(tmp_path: Path) -> None:
    async with open_data(tmp_path) as (data, database):
        numbers = await asyncio.gather(*(store(data, many(sid, 1)) for sid in range(1, 21)))
        assert sorted(numbers) == list(range(1, 21))
        assert await same_as_stored(data, database)


async def test_of_commits_of_the_same_record_at_once_one_is_stored(tmp_path: Path) -> None:
    async with open_data(tmp_path) as (data, database):
        ends = await asyncio.gather(*(store(data, many(1, 1)) for _ in range(5)), return_exceptions=True)
        assert [each for each in ends if not isinstance(each, BaseException)] == [1]
        refused = [each.reason for each in ends if isinstance(each, LedgerRefusal)]
        assert refused == ["RULES_VIOLATED"] * 4
        assert await same_as_stored(data, database)


async def test_of_repeats_at_once_one_is_stored(tmp_path: Path) -> None:
    async with open_data(tmp_path) as (data, database):
        ends = await asyncio.gather(
            *(store(data, many(1, 1), request_id="r") for _ in range(5)), return_exceptions=True
        )
        assert [each for each in ends if not isinstance(each, BaseException)] == [1]
        assert [each.answer for each in ends if isinstance(each, AlreadyAnswered)] == [b"done"] * 4
        assert len(await stored(database)) == 1


async def test_what_another_controller_has_stored_is_loaded_and_judged_on(tmp_path: Path) -> None:
    async with open_data(tmp_path) as (one, database):
        workers = Workers()
        other = await TariffData.open(SqlTariffStore(database), workers)
        await store(one, BASE)
        assert (await other.current()).number == 0
        assert (await other.current(expected=1)).number == 1
        await store(other, definitions(50, 1))
        # It finds the definition of the other when it comes to store its own.
        with pytest.raises(LedgerRefusal, match="UniqueIdentifyingFields of quota_definition 50"):
            await store(one, definitions(50, 1))
        assert await store(one, definitions(51, 1)) == 3
        await store(other, definitions(52, 1))
        assert (await one.current(expected=4)).number == 4
        for data in (one, other):
            assert await same_as_stored(data, database)
        workers.close()


async def test_a_commit_that_is_overtaken_all_the_time_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another controller stores something between every judgement and its commit."""
    async with open_data(tmp_path) as (one, database):
        workers = Workers()
        other = await TariffData.open(SqlTariffStore(database), workers)
        pack, sids = TariffData._pack, iter(range(100, 200))

        async def overtaken(data: TariffData, prepared: Prepared) -> Any:
            if data is one:
                await store(other, many(next(sids), 1))
            return await pack(data, prepared)

        monkeypatch.setattr(TariffData, "_pack", overtaken)
        with pytest.raises(LedgerRefusal) as refused:
            await store(one, many(1, 1))
        assert refused.value.reason == "DATA_CHANGED"
        assert await same_as_stored(one, database)
        monkeypatch.undo()
        assert await store(one, many(1, 1)) == (await one.current()).number
        workers.close()


# --- cancellations and failures --------------------------------------------------------------------------------------


async def test_a_cancellation_at_any_moment_leaves_all_or_nothing_and_memory_as_stored(
    tmp_path: Path,
) -> None:
    async with open_data(tmp_path) as (data, database):
        ends = set()
        for turn in range(80):
            sids = range(turn * 10 + 1, turn * 10 + 6)
            before = (await data.current()).number
            task = asyncio.create_task(store(data, many(sids[0], len(sids)), request_id=f"r{turn}"))
            waiting = asyncio.create_task(store(data, many(10_000 + turn, 1)))
            for _ in range(turn):
                await asyncio.sleep(0)
            task.cancel()
            [end] = await asyncio.gather(task, return_exceptions=True)
            ends.add(type(end))
            await waiting
            now = await data.current()
            live = [sid for sid in sids if now.live(type(country(sid)), sid) is not None]
            assert live in ([], list(sids))
            assert now.number - before == 1 + bool(live)
            assert live or not isinstance(end, int)
        assert asyncio.CancelledError in ends
        assert await same_as_stored(data, database)
        assert sum(map(len, (await stored(database)).values())) == len(await data.current())


async def limit_pages(database: Database, pages: int) -> None:
    async with database.writing() as connected:
        await connected.run(lambda connection: connection.execute(text(f"PRAGMA max_page_count={pages}")))


async def test_a_full_disk_stores_nothing_and_memory_stays_as_stored(tmp_path: Path) -> None:
    async with open_data(tmp_path) as (data, database):
        await store(data, BASE)
        before = await data.current()
        await limit_pages(database, 1)  # SQLite takes the present size for the least possible
        with pytest.raises(StoreUnavailable, match="full"):
            await store(data, many(1_000, 3_000), request_id="r")
        assert contents(await data.current()) == contents(before)
        assert list(await stored(database)) == [1]
        assert await same_as_stored(data, database)
        await limit_pages(database, 1_000_000)
        assert await store(data, many(1_000, 3_000), request_id="r") == 2
        assert await same_as_stored(data, database)


async def test_a_commit_whose_outcome_is_unknown_is_looked_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database has stored it, and the answer was lost on the way."""
    async with open_data(tmp_path) as (data, database):
        transaction = SqlTariffStore.transaction

        @asynccontextmanager
        async def lossy(of: SqlTariffStore) -> AsyncIterator[SqlTariffTransaction]:
            async with transaction(of) as inside:
                yield inside
            raise StoreUnavailable("the connection broke")

        monkeypatch.setattr(SqlTariffStore, "transaction", lossy)
        with pytest.raises(StoreUnavailable):
            await store(data, BASE, request_id="r")
        monkeypatch.undo()
        assert (await data.current()).number == 1
        assert await same_as_stored(data, database)
        with pytest.raises(AlreadyAnswered):
            await store(data, BASE, request_id="r")


async def test_what_is_loaded_is_spared_by_the_garbage_collector(tmp_path: Path) -> None:
    """Half a second a time, in which nothing else would go on."""
    async with open_data(tmp_path) as (data, _):
        await store(data, many(1, 6_000))
    gc.unfreeze()
    try:
        async with open_data(tmp_path) as (data, _):
            spared = gc.get_freeze_count()
            assert spared > 6_000
            await store(data, many(10_000, 6_000))
            assert gc.get_freeze_count() > spared + 6_000
            assert gc.isenabled()
    finally:
        gc.unfreeze()


# --- long work -------------------------------------------------------------------------------------------------------


async def test_work_ends_when_nobody_waits_for_it_any_more() -> None:
    workers = Workers()
    begun, ended = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def endless(go_on: Callable[[], None]) -> None:
        loop.call_soon_threadsafe(begun.set)
        try:
            while True:
                go_on()
        except GivenUp:
            loop.call_soon_threadsafe(ended.set)
            raise

    task = asyncio.create_task(workers.do(endless))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await ended.wait()
    workers.close()


async def test_what_is_short_does_not_wait_for_what_is_long() -> None:
    workers, release = Workers(), threading.Event()

    def wait(_: Callable[[], None]) -> None:
        release.wait()

    long = [asyncio.create_task(workers.do(wait)) for _ in range(10)]
    assert await workers.do(lambda _: 1, short=True) == 1
    release.set()
    await asyncio.gather(*long)
    workers.close()


async def test_closed_workers_let_go_of_what_they_do() -> None:
    workers, begun = Workers(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def endless(go_on: Callable[[], None]) -> None:
        loop.call_soon_threadsafe(begun.set)
        while True:
            go_on()

    task = asyncio.create_task(workers.do(endless))
    await begun.wait()
    workers.close()
    with pytest.raises(GivenUp):
        await task


async def test_a_judgement_on_a_snapshot_does_not_see_later_commits(tmp_path: Path) -> None:
    async with open_data(tmp_path) as (data, _):
        await store(data, BASE)
        snapshot: Dataset = await data.current()
        await store(data, definitions(50, 1))
        assert len(snapshot) == len(BASE)
        assert len(await data.current()) == len(BASE) + 1
