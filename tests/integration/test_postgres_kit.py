"""The PostgreSQL that tests run on: copies of databases, cut sessions, and servers that stop, die and come back."""

from __future__ import annotations

import asyncio
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import asyncpg
import pytest

from tests.postgres_kit import PostgresServer, find_binaries, shared_server

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server that may be stopped and killed, unlike the shared one."""
    with PostgresServer() as running:
        yield running


async def committed(server: PostgresServer, database: str) -> list[str]:
    rows = await server.fetch(database, "SELECT word FROM words ORDER BY word")
    return [row["word"] for row in rows]


async def create_words(server: PostgresServer, database: str, *words: str) -> None:
    """A database with a table of words."""
    await server.create_database(database)
    await server.execute(database, "CREATE TABLE words (word text NOT NULL)")
    for word in words:
        await server.execute(database, f"INSERT INTO words VALUES ('{word}')")


async def connect(server: PostgresServer, database: str) -> tuple[asyncpg.Connection, asyncio.Event]:
    """A session, and the event of its end."""
    session, ended = await asyncpg.connect(server.url(database)), asyncio.Event()
    session.add_termination_listener(lambda _: ended.set())
    return session, ended


async def test_a_database_made_from_a_template_holds_its_tables_and_lives_its_own_life() -> None:
    server = await asyncio.to_thread(shared_server)
    await create_words(server, "template", "one")

    await server.create_database("copy", template="template")
    await server.execute("copy", "INSERT INTO words VALUES ('two')")

    assert await committed(server, "copy") == ["one", "two"]
    assert await committed(server, "template") == ["one"]
    await server.drop_database("copy")
    await server.drop_database("template")
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await asyncpg.connect(server.url("copy"))


async def test_cut_connections_end_a_session_amid_its_transaction_and_nothing_of_that_is_kept() -> None:
    server = await asyncio.to_thread(shared_server)
    await create_words(server, "cut", "before")
    session = await asyncpg.connect(server.url("cut"))
    await session.execute("BEGIN; INSERT INTO words VALUES ('amid')")

    assert await server.cut_connections("cut") == 1

    with pytest.raises((asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.AdminShutdownError)):
        await session.execute("COMMIT")
    assert await committed(server, "cut") == ["before"]
    assert await server.cut_connections("cut") == 0
    await server.drop_database("cut")


async def test_a_dropped_database_takes_its_sessions_along() -> None:
    server = await asyncio.to_thread(shared_server)
    await server.create_database("dropped")
    _, ended = await connect(server, "dropped")

    await server.drop_database("dropped")

    await asyncio.wait_for(ended.wait(), 20)


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_a_stopped_server_refuses_and_started_again_holds_what_was_committed(
    server: PostgresServer, mode: Literal["fast", "immediate"]
) -> None:
    await create_words(server, mode, "kept")

    await asyncio.to_thread(server.stop, mode)
    with pytest.raises(ConnectionRefusedError):
        await asyncpg.connect(server.url(mode))

    await asyncio.to_thread(server.start)
    assert await committed(server, mode) == ["kept"]


async def test_a_killed_server_holds_what_was_committed_and_nothing_else(server: PostgresServer) -> None:
    await create_words(server, "killed", "kept")
    session, ended = await connect(server, "killed")
    await session.execute("BEGIN; INSERT INTO words VALUES ('lost')")

    await asyncio.to_thread(server.kill)
    with pytest.raises(ConnectionRefusedError):
        await asyncpg.connect(server.url("killed"))
    await asyncio.wait_for(ended.wait(), 20)

    await asyncio.to_thread(server.start)
    assert await committed(server, "killed") == ["kept"]


async def test_a_server_that_cannot_start_tells_the_end_of_its_log() -> None:
    unwilling = PostgresServer({"no_such_setting": 1})
    try:
        with pytest.raises(RuntimeError, match='unrecognized configuration parameter "no_such_setting"'):
            await asyncio.to_thread(unwilling.start)
    finally:
        await asyncio.to_thread(unwilling.close)
    assert not unwilling.folder.exists()


def test_a_server_does_not_outlive_a_process_that_is_killed() -> None:
    story = (
        "from tests.postgres_kit import shared_server\n"
        "server = shared_server()\n"
        "print(server.folder, server._guard.pid, flush=True)\n"
        "input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", story], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        folder, guard = process.stdout.readline().split()
        postmaster = Path(folder, "data", "postmaster.pid").read_text().splitlines()[0]
        ends = [os.pidfd_open(int(pid)) for pid in (postmaster, guard)]
        process.kill()

    for end in ends:
        assert select.select([end], [], [], 60)[0]
        os.close(end)
    assert not Path(folder).exists()


def test_the_programs_are_found_in_one_folder() -> None:
    assert {"initdb", "postgres", "pg_isready"} <= {file.name for file in find_binaries().iterdir()}
