"""The controller's database: who owns it, what becomes of a transaction, what is refused."""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Connection, Executable, create_engine, exc, text

from quota_server.errors import DatabaseUnusable, StoreUnavailable
from quota_server.ledger.model import Epoch, Mark, Quota
from quota_server.ledger.store import LedgerStore
from quota_server.storage.connected import Database
from quota_server.storage.controllers import SqlControllers
from quota_server.storage.database import open_database
from quota_server.storage.ledger_store import SqlLedgerStore
from quota_server.storage.migrating import migrate
from quota_server.storage.tables import metadata
from tests.databases import on_both
from tests.ledger_kit import ANNE, BILL, CLEO, fill, open_migrated_store, open_store

ROOT = Path(__file__).resolve().parents[2]


async def target_of(store: LedgerStore) -> int:
    async with store.transaction() as transaction:
        await transaction.load_quotas(["q-one"])
        return transaction.book.quotas["q-one"].target


async def set_target(store: LedgerStore, target: int) -> None:
    async with store.transaction() as transaction:
        await transaction.load_quotas(["q-one"])
        transaction.book.decide(replace(transaction.book.quotas["q-one"], target=target))


def execute(connection: Connection, statement: Executable) -> None:
    connection.execute(statement)


# --- transactions ----------------------------------------------------------------------------------------------------


@on_both
async def test_a_restart_keeps_everything(tmp_path: Path) -> None:
    async with open_migrated_store(tmp_path) as (store, _):
        await fill(store)
        async with store.transaction() as transaction:
            transaction.book.fence_mark(ANNE, Mark(1, 1))
            await transaction.load_whole_quota("q-one")
            before = transaction.book
    async with open_migrated_store(tmp_path) as (store, _), store.transaction() as transaction:
        await transaction.load_whole_quota("q-one")
        await transaction.load_epochs([ANNE])
        for kind in ("quotas", "agents", "epochs", "assignments", "allocations", "fenced_marks"):
            assert getattr(transaction.book, kind) == getattr(before, kind)


@on_both
async def test_a_transaction_cancelled_in_its_body_is_rolled_back(tmp_path: Path) -> None:
    async with open_migrated_store(tmp_path) as (store, _):
        await fill(store)
        inside = asyncio.Event()

        async def hang() -> None:
            async with store.transaction() as transaction:
                await transaction.load_quotas(["q-one"])
                transaction.book.decide(replace(transaction.book.quotas["q-one"], target=7777))
                inside.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(hang())
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await target_of(store) == 1000


@on_both
async def test_a_transaction_cancelled_in_its_commit_is_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, under_way = Connection.commit, asyncio.Event()

    def announced(connection: Connection) -> None:
        under_way.set()
        commit(connection)

    async with open_migrated_store(tmp_path) as (store, _):
        await fill(store)
        monkeypatch.setattr(Connection, "commit", announced)
        task = asyncio.create_task(set_target(store, 2000))
        await under_way.wait()
        task.cancel()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await target_of(store) == 2000


@on_both
async def test_a_cancellation_at_any_moment_leaves_all_or_nothing_and_a_store_that_works(
    tmp_path: Path,
) -> None:
    async with open_migrated_store(tmp_path) as (store, _):
        await fill(store)
        ends = set()
        for turn in range(120):
            before = await target_of(store)
            task = asyncio.create_task(set_target(store, before + 1))
            waiting = asyncio.create_task(set_target(store, before + 1))
            for _ in range(turn):
                await asyncio.sleep(0)
            task.cancel()
            [end] = await asyncio.gather(task, return_exceptions=True)
            ends.add(type(end))
            await waiting
            assert await target_of(store) == before + 1
        assert ends <= {asyncio.CancelledError, type(None)}
        assert asyncio.CancelledError in ends


@on_both
async def test_readers_see_what_is_committed_while_somebody_writes(tmp_path: Path) -> None:
    async with open_migrated_store(tmp_path) as (store, views):
        await fill(store)
        async with store.transaction() as transaction:
            await transaction.load_quotas(["q-one"])
            transaction.book.decide(replace(transaction.book.quotas["q-one"], target=2000))
            seen = await views.quota("one")
            assert seen is not None
            assert seen.target == 1000
        seen = await views.quota("one")
        assert seen is not None
        assert seen.target == 2000


async def test_readers_cannot_write(tmp_path: Path) -> None:
    async with open_database(tmp_path / "ledger.db") as database:
        with pytest.raises(StoreUnavailable, match="readonly"):
            await database.read(execute, text("DELETE FROM quotas"))


async def test_a_full_disk_takes_the_change_back_and_nothing_else(tmp_path: Path) -> None:
    async with open_database(tmp_path / "ledger.db") as database:
        store = SqlLedgerStore(database)
        await fill(store)
        await limit_pages(database, 1)  # SQLite takes the present size for the least possible

        async def add_many() -> None:
            async with store.transaction() as transaction:
                for number in range(2000):
                    transaction.book.decide(Quota(f"q{number}", f"n{number}", 1))

        with pytest.raises(StoreUnavailable, match="full"):
            await add_many()
        assert await target_of(store) == 1000
        with pytest.raises(StoreUnavailable, match="full"):
            await store.probe()
        await limit_pages(database, 1_000_000)
        await store.probe()
        async with store.transaction() as transaction:
            assert await transaction.recorded("") is None
        await add_many()
        await set_target(store, 3000)
        assert await target_of(store) == 3000


async def limit_pages(database: Database, pages: int) -> None:
    async with database.writing() as connected:
        await connected.run(execute, text(f"PRAGMA max_page_count={pages}"))


async def test_a_mistake_of_the_program_stays_an_error_of_its_own(tmp_path: Path) -> None:
    async with open_store(tmp_path) as (store, _):

        async def add_epoch_of_nobody() -> None:
            async with store.transaction() as transaction:
                transaction.book.decide(Epoch("nobody", 1))

        with pytest.raises(exc.IntegrityError):
            await add_epoch_of_nobody()
        await fill(store)
        assert await target_of(store) == 1000


async def test_a_locked_file_is_a_store_that_is_unavailable_for_the_moment(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    async with open_database(path, busy_seconds=0.05) as database:
        store = SqlLedgerStore(database)
        await fill(store)
        with closing(sqlite3.connect(path, isolation_level=None)) as tool:
            tool.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailable, match="locked"):
                await set_target(store, 2000)
        await set_target(store, 2000)


async def test_a_controller_that_begins_alone_finds_no_stream_up_and_no_other_controller(
    tmp_path: Path,
) -> None:
    async with open_database(tmp_path / "ledger.db") as database:
        store = SqlLedgerStore(database)
        await fill(store)
        for uid in ("killed", "now"):
            await SqlControllers(database, uid, alone=True).begin()
        async with store.transaction() as transaction:
            await transaction.load_epochs([ANNE, BILL, CLEO])
            assert not any(epoch.online for epoch in transaction.book.epochs.values())
        assert await database.read(uids) == ["now"]


def uids(connection: Connection) -> list[str]:
    return list(connection.execute(text("SELECT uid FROM controllers")).scalars())


# --- ownership -------------------------------------------------------------------------------------------------------


async def test_a_second_opening_is_refused_and_names_the_owner(tmp_path: Path) -> None:
    async with open_store(tmp_path) as (store, _):
        with pytest.raises(DatabaseUnusable, match=f"another running controller \\(pid {os.getpid()}\\)"):
            async with open_store(tmp_path):
                pass
        await fill(store)
    async with open_store(tmp_path) as (store, _):
        assert await target_of(store) == 1000


async def test_another_process_is_refused_until_the_owner_is_gone(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys; from pathlib import Path; from quota_server.storage.database import open_database\n"
        "async def main():\n"
        "    async with open_database(Path(sys.argv[1])):\n"
        "        print('open', flush=True); sys.stdin.read()\n"
        "asyncio.run(main())"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "ledger.db")]
    owner = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert owner.stdout is not None
    assert await owner.stdout.readline() == b"open\n"
    with pytest.raises(DatabaseUnusable, match=f"pid {owner.pid}"):
        async with open_store(tmp_path):
            pass
    owner.kill()
    await owner.wait()
    async with open_store(tmp_path) as (store, _):
        await fill(store)


async def test_only_the_owner_of_the_process_can_read_the_files(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    async with open_store(folder) as (store, _):
        await fill(store)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}
    assert modes == dict.fromkeys(("ledger.db", "ledger.db-wal", "ledger.db-shm", "ledger.db.lock"), 0o600)


async def test_a_database_can_be_given_as_a_url(tmp_path: Path) -> None:
    async with open_database(f"sqlite:///{tmp_path}/by url.db"):
        assert (tmp_path / "by url.db").exists()


@pytest.mark.parametrize(
    "where",
    ["postgresql://user:secret@host/db", "sqlite://", "sqlite:///:memory:", "sqlite:///x?mode=ro", "://"],
)
async def test_what_cannot_be_served_from_is_refused_without_saying_a_secret(where: str) -> None:
    with pytest.raises(DatabaseUnusable) as refused:
        async with open_database(where):
            pass
    assert "secret" not in str(refused.value)


async def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DatabaseUnusable, match="cannot be opened"):
        async with open_store(tmp_path / "file"):
            pass


# --- schema ----------------------------------------------------------------------------------------------------------


async def test_a_database_that_a_newer_version_has_changed_is_refused(tmp_path: Path) -> None:
    async with open_store(tmp_path) as (store, _):
        await fill(store)
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as tool, tool:
        tool.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(DatabaseUnusable, match="newer version has changed this database \\(schema 9999\\)"):
        async with open_store(tmp_path):
            pass


async def test_a_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as tool, tool:
        tool.execute("CREATE TABLE songs (title)")
    with pytest.raises(DatabaseUnusable, match="another program"):
        async with open_store(tmp_path):
            pass


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"no database at all, but long enough" * 100)
    with pytest.raises(DatabaseUnusable, match="not a database"):
        async with open_store(tmp_path):
            pass


def schema(path: Path) -> dict[str, list[str]]:
    """The text of every table and index, without the migrations' own; of a table line by line, in any order."""
    with closing(sqlite3.connect(path)) as tool:
        rows = tool.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    found = {name: re.split(r",(?![^(]*\))", " ".join(sql.split())) for name, sql in rows}
    return {name: sorted(map(_bare, parts)) for name, parts in found.items() if name != "alembic_version"}


def _bare(part: str) -> str:
    """A column or constraint without what stands around it: a column that was added later is the last of its table."""
    return re.sub(r"^CREATE TABLE \w+ \( ?", "", part.strip()).removesuffix(" )").removesuffix(")")


def test_the_migrations_lead_to_the_tables(tmp_path: Path) -> None:
    for name, work in (("migrated", migrate), ("made", metadata.create_all)):
        engine = create_engine(f"sqlite:///{tmp_path}/{name}")
        with engine.begin() as connection:
            work(connection)
        engine.dispose()
    assert schema(tmp_path / "migrated") == schema(tmp_path / "made")
