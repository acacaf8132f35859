"""What becomes of a transaction on PostgreSQL whose server, connection or neighbours fail it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Executable, exc, text

from quota_server.errors import StoreConflict, StoreUnavailable
from quota_server.fleet.again import again
from quota_server.ledger.model import Epoch
from quota_server.ledger.store import LedgerStore
from quota_server.storage.connected import Database
from quota_server.storage.database import open_database
from quota_server.storage.ledger_store import SqlLedgerStore
from quota_server.storage.migrating import migrate
from tests import databases
from tests.chaos.proxy import Proxy, tell
from tests.databases import on_postgres
from tests.ledger_kit import fill
from tests.postgres_kit import PostgresServer, shared_server

pytestmark = on_postgres

#: Has a commit that changed a quota wait for whoever holds this advisory lock.
GATE = 4711
SLOW_COMMIT = f"""
CREATE FUNCTION wait_at_the_gate() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_advisory_xact_lock_shared({GATE}); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER slow_commit AFTER UPDATE ON quotas DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION wait_at_the_gate();
"""
WAITING_AT_THE_GATE = (
    f"SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = {GATE} AND NOT granted"
)
WAITING_FOR_A_ROW = (
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
)


@pytest.fixture
async def url(tmp_path: Path) -> str:
    """A small fleet."""
    where = str(await databases.put(tmp_path / "ledger.db"))
    async with open_database(where) as database:
        await fill(SqlLedgerStore(database))
    return where


def name_of(url: str) -> str:
    return url.rpartition("/")[2].partition("?")[0]


@asynccontextmanager
async def opened(url: str, options: str = "") -> AsyncIterator[tuple[Database, LedgerStore]]:
    async with open_database(f"{url}?{options}") as database:
        yield database, SqlLedgerStore(database)


async def set_target(store: LedgerStore, target: int) -> None:
    async with store.transaction() as transaction:
        await transaction.load_quotas(["q-one"])
        transaction.book.decide(replace(transaction.book.quotas["q-one"], target=target))


async def stored_target(url: str) -> int:
    """Asked of the server by a session of its own."""
    rows = await shared_server().fetch(name_of(url), "SELECT target FROM quotas WHERE uid = 'q-one'")
    return int(rows[0][0])


def one(connection: Connection) -> int:
    return int(connection.execute(text("SELECT 1")).scalar_one())


def execute(connection: Connection, statement: Executable) -> None:
    connection.execute(statement)


async def until_found(database: str, query: str) -> list[Any]:
    """Asks the server again and again until it finds something."""
    async with asyncio.timeout(30), shared_server().connected(database) as session:
        while not (rows := await session.fetch(query)):
            pass
        return list(rows)


# --- connections that are cut ----------------------------------------------------------------------------------------


async def test_a_connection_cut_amid_a_transaction_is_a_conflict_and_keeps_nothing(url: str) -> None:
    async with opened(url) as (_, store):

        async def cut_amid() -> None:
            async with store.transaction() as transaction:
                await transaction.load_quotas(["q-one"])
                transaction.book.decide(replace(transaction.book.quotas["q-one"], target=2000))
                await shared_server().cut_connections(name_of(url))
                await transaction.load_quotas(["q-two"])

        with pytest.raises(StoreConflict, match="connection to the database was lost") as conflict:
            await cut_amid()
        assert not conflict.value.certain
        assert not conflict.value.unclear
        assert await stored_target(url) == 1000
        await again(lambda: set_target(store, 3000))
        assert await stored_target(url) == 3000


async def test_connections_cut_in_the_pool_do_not_show_in_the_next_read(url: str) -> None:
    async with opened(url) as (database, store):
        await asyncio.gather(*(database.read(one) for _ in range(20)))
        assert await shared_server().cut_connections(name_of(url)) > 1
        assert await asyncio.gather(*(database.read(one) for _ in range(20))) == [1] * 20
        await shared_server().cut_connections(name_of(url))
        await again(lambda: set_target(store, 3000))
        assert await stored_target(url) == 3000


async def test_a_commit_whose_connection_is_cut_is_unclear(url: str) -> None:
    """It may have been taken: whoever asked has to look, and nobody tries it again by himself."""
    await shared_server().execute(name_of(url), SLOW_COMMIT)
    async with opened(url) as (_, store), shared_server().connected(name_of(url)) as holder:
        await holder.execute(f"SELECT pg_advisory_lock({GATE})")
        tries = 0

        async def counted() -> None:
            nonlocal tries
            tries += 1
            await set_target(store, 2000)

        committing = asyncio.create_task(again(counted))
        ((pid,),) = await until_found(name_of(url), WAITING_AT_THE_GATE)
        await holder.fetch("SELECT pg_terminate_backend($1, 30000)", pid)
        with pytest.raises(StoreUnavailable) as unavailable:
            await committing
        assert unavailable.value.unclear
        assert not isinstance(unavailable.value, StoreConflict)
        assert tries == 1
        assert await stored_target(url) == 1000
        await holder.execute(f"SELECT pg_advisory_unlock({GATE})")
        await set_target(store, 3000)
    assert await stored_target(url) == 3000


async def test_a_commit_that_was_taken_and_whose_answer_is_lost_is_unclear_too(
    url: str, tmp_path: Path
) -> None:
    await shared_server().execute(name_of(url), SLOW_COMMIT)
    proxy = Proxy(shared_server().port)
    async with (
        await asyncio.start_server(proxy.accept, "127.0.0.1", 0) as line,
        await asyncio.start_unix_server(proxy.control, tmp_path / "s"),
        shared_server().connected(name_of(url)) as holder,
    ):
        port = line.sockets[0].getsockname()[1]
        async with opened(url.replace(f":{shared_server().port}/", f":{port}/")) as (_, store):
            await holder.execute(f"SELECT pg_advisory_lock({GATE})")
            committing = asyncio.create_task(set_target(store, 2000))
            await until_found(name_of(url), WAITING_AT_THE_GATE)
            await tell(tmp_path / "s", "down stall")
            await holder.execute(f"SELECT pg_advisory_unlock({GATE})")
            await until_found(name_of(url), "SELECT 1 FROM quotas WHERE target = 2000")
            assert not committing.done()
            await tell(tmp_path / "s", "cut", "down pass")
            with pytest.raises(StoreUnavailable) as unavailable:
                await committing
            assert unavailable.value.unclear
            await again(lambda: set_target(store, 3000))
        assert await stored_target(url) == 3000


# --- waiting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("statement_timeout_ms=50&lock_timeout_ms=0", "statement timeout"),
        ("statement_timeout_ms=0&lock_timeout_ms=50", "lock timeout"),
    ],
)
async def test_who_waits_too_long_for_a_lock_finds_the_store_unavailable(
    url: str, options: str, said: str
) -> None:
    async with opened(url, options) as (_, store), shared_server().connected(name_of(url)) as holder:
        async with holder.transaction():
            await holder.execute("SELECT 1 FROM quotas FOR UPDATE")
            with pytest.raises(StoreUnavailable, match=said) as unavailable:
                await set_target(store, 2000)
            assert not unavailable.value.unclear
            assert not isinstance(unavailable.value, StoreConflict)
        await set_target(store, 3000)
    assert await stored_target(url) == 3000


async def test_a_deadlock_is_a_conflict_of_which_nothing_is_kept(url: str) -> None:
    """Only whoever loads against the order of the keys can come into one."""
    async with opened(databases.as_owner(url), "deadlock_timeout=20ms") as (_, store):
        both_hold = asyncio.Barrier(2)

        async def change(first: str, second: str) -> None:
            async with store.transaction() as transaction:
                await transaction.load_quotas([first])
                await both_hold.wait()
                await transaction.load_quotas([second])
                for uid in (first, second):
                    quota = transaction.book.quotas[uid]
                    transaction.book.decide(replace(quota, target=quota.target + 1))

        ends = await asyncio.gather(
            change("q-one", "q-two"), change("q-two", "q-one"), return_exceptions=True
        )
        (conflict,) = [end for end in ends if end is not None]
        assert isinstance(conflict, StoreConflict)
        assert conflict.certain
        assert "40P01" in conflict.message
        assert await stored_target(url) == 1001


# --- a server that goes away -----------------------------------------------------------------------------------------


async def test_a_server_that_dies_and_comes_back_is_served_from_again() -> None:
    with PostgresServer() as server:
        await server.create_database("fleet", None)
        where = server.url("fleet")
        await databases.run_on(where, migrate)
        async with opened(where) as (database, store):
            await fill(store)
            await set_target(store, 2000)
            await asyncio.to_thread(server.kill)
            with pytest.raises(StoreUnavailable):
                await database.read(one)
            with pytest.raises(StoreUnavailable):
                await set_target(store, 3000)
            await asyncio.to_thread(server.start)
            assert await database.read(one) == 1
            async with store.transaction() as transaction:
                await transaction.load_quotas(["q-one"])
                assert transaction.book.quotas["q-one"].target == 2000


# --- cancellations ---------------------------------------------------------------------------------------------------


async def test_cancelled_transactions_leak_no_connection(url: str) -> None:
    """At every step of one: with a single connection to write nothing would work any more."""
    async with opened(url, "pool_size=2") as (database, store):
        ends = set()
        for turn in range(150):
            task = asyncio.create_task(set_target(store, turn))
            for _ in range(turn):
                await asyncio.sleep(0)
            task.cancel()
            (end,) = await asyncio.gather(task, return_exceptions=True)
            ends.add(type(end))
        assert asyncio.CancelledError in ends
        assert ends <= {asyncio.CancelledError, type(None)}
        assert await database.read(one) == 1
        await set_target(store, 3000)
    assert await stored_target(url) == 3000


async def test_whoever_is_cancelled_while_waiting_for_a_connection_leaves_it_to_the_next(url: str) -> None:
    async with opened(url, "pool_size=2") as (_, store):
        held, leave = asyncio.Event(), asyncio.Event()

        async def hold() -> None:
            async with store.transaction():
                held.set()
                await leave.wait()

        holder = asyncio.create_task(hold())
        await held.wait()
        waiting = [asyncio.create_task(set_target(store, target)) for target in (2000, 3000)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        leave.set()
        await holder
        ends = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(ends[0], asyncio.CancelledError)
        assert ends[1] is None
    assert await stored_target(url) == 3000


async def test_a_transaction_cancelled_while_it_waits_for_a_lock_lets_go_of_what_it_holds(url: str) -> None:
    async with opened(url) as (_, store), shared_server().connected(name_of(url)) as holder:
        async with holder.transaction():
            await holder.execute("SELECT 1 FROM quotas WHERE uid = 'q-two' FOR UPDATE")

            async def want_both() -> None:
                async with store.transaction() as transaction:
                    await transaction.load_quotas(["q-one", "q-two"])

            task = asyncio.create_task(want_both())
            await until_found(name_of(url), WAITING_FOR_A_ROW)
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert task.cancelled()
        await set_target(store, 3000)
    assert await stored_target(url) == 3000


# --- the program's own mistakes --------------------------------------------------------------------------------------


async def test_a_read_cannot_write(url: str) -> None:
    async with opened(url) as (database, _):
        with pytest.raises(StoreUnavailable, match="read-only transaction"):
            await database.read(execute, text("DELETE FROM quotas"))
        assert await stored_target(url) == 1000


async def test_a_mistake_of_the_program_stays_an_error_of_its_own(url: str) -> None:
    async with opened(url, "pool_size=2") as (_, store):

        async def add_epoch_of_nobody() -> None:
            async with store.transaction() as transaction:
                transaction.book.decide(Epoch("nobody", 1))

        with pytest.raises(exc.IntegrityError):
            await add_epoch_of_nobody()
        await set_target(store, 3000)
    assert await stored_target(url) == 3000
