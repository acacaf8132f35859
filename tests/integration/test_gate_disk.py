"""The gate and its files: what is shown was synced, and it is the same store as before."""

from __future__ import annotations

import asyncio
import functools
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from quota_agent.errors import StoreUnavailable
from quota_agent.gate.draft import Known
from quota_agent.gate.state import Lookup
from quota_agent.store import sqlite
from quota_agent.store.sqlite import SqliteStore
from tests.gate_kit import FakeClock, grant, open_gate, refused, want

_DIES = """
import asyncio, os, pathlib, sys
from tests.gate_kit import grant, open_gate, want
async def main():
    async with open_gate(pathlib.Path(sys.argv[1])) as gate:
        await grant(gate, "q", 10)
        await gate.acquire(want("q", "a", 3))
        os._exit(9)
asyncio.run(main())
"""


async def test_what_the_log_holds_at_the_start_is_synced_before_it_is_shown(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _DIES, str(tmp_path)]
    done = await asyncio.to_thread(subprocess.run, command, check=False)
    log = tmp_path / "agent.db-wal"
    assert (done.returncode, log.stat().st_size > 0) == (9, True)
    async with SqliteStore(tmp_path / "agent.db") as store:
        assert log.stat().st_size == 0
        assert [quota.consumed for quota in (await store.load()).quotas.values()] == [3]


async def test_a_log_that_cannot_be_synced_makes_the_store_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader from outside stands for a disk that fails: in both cases the checkpoint does not come to its end."""
    monkeypatch.setattr(sqlite3, "connect", functools.partial(sqlite3.connect, timeout=0))
    async with open_gate(tmp_path) as gate:
        await grant(gate, "q", 10)
        reader = sqlite3.connect(tmp_path / "agent.db", isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM quota").fetchone()
        await gate.acquire(want("q", "a"))
        gate._writer._stale = True
        async with refused("STORE_UNAVAILABLE"):
            await gate.acquire(want("q", "a"))
        assert not gate.healthy
        reader.close()
        assert (await gate.acquire(want("q", "a"))).balance.count == 1


async def test_an_older_copy_is_never_taken_for_the_store(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "agent.db")
    async with open_gate(tmp_path, store=store) as gate:
        await grant(gate, "q", 10)
        await store.reopen()  # folds the log in
        shutil.copy(tmp_path / "agent.db", tmp_path / "backup")
        await gate.acquire(want("q", "hold", 4, hold_ms=1_000_000))
        await grant(gate, "q", 6)
        await store._disconnect()
        os.replace(tmp_path / "backup", tmp_path / "agent.db")
        for _ in range(3):
            async with refused("STORE_UNAVAILABLE"):
                await gate.acquire(want("q", "new", 9))
        with pytest.raises(StoreUnavailable, match="not the store as it was"):
            await gate.acquire(want("q", "new", 9))
        assert not gate.healthy


@pytest.mark.parametrize("name", ["agent.db", "agent.db-wal"])
@pytest.mark.parametrize("replaced", [True, False])
async def test_nothing_is_granted_into_files_that_lost_their_names(
    tmp_path: Path, name: str, replaced: bool
) -> None:
    async with open_gate(tmp_path) as gate:
        await grant(gate, "q", 10)
        if replaced:
            shutil.copy(tmp_path / name, tmp_path / "copy")
            os.replace(tmp_path / "copy", tmp_path / name)
        else:
            os.unlink(tmp_path / name)
        with pytest.raises(StoreUnavailable, match="removed or replaced"):
            await gate.acquire(want("q", "a"))
        assert not gate.healthy


async def test_the_passing_of_time_notices_files_that_are_gone(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as gate:
        for suffix in ("", "-wal", "-shm"):
            os.unlink(tmp_path / f"agent.db{suffix}")
        async with refused("STORE_UNAVAILABLE"):
            await gate.touch()
        assert not gate.healthy


async def test_a_read_while_the_store_is_opened_again_is_refused_not_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each step: the read that began before it is answered or refused, the one after it is refused."""
    close, opened = sqlite._Connection.close, SqliteStore._opened
    seen: list[tuple[str, str]] = []

    async with open_gate(tmp_path) as gate:
        await grant(gate, "q", 10)
        await gate.acquire(want("q", "a"))

        async def read() -> str:
            try:
                return (await gate.entry("q", "a")).request_id
            except StoreUnavailable:
                return "refused"

        async def closing(connection: sqlite._Connection) -> None:
            before = asyncio.create_task(read())
            await close(connection)
            seen.append((await before, await read()))

        async def opening(store: SqliteStore) -> sqlite._Connection:
            before = await read()
            connection = await opened(store)
            seen.append((before, await read()))
            return connection

        with monkeypatch.context() as patched:
            patched.setattr(sqlite._Connection, "close", closing)
            patched.setattr(SqliteStore, "_opened", opening)
            gate._writer._stale = True
            await gate.touch()
        first, *others = seen
        assert (first[0] in ("a", "refused"), first[1]) == (True, "refused")
        assert others == [("refused", "refused")] * 3
        assert await read() == "a"


async def test_whatever_breaks_a_commit_makes_the_store_be_read_again(tmp_path: Path) -> None:
    """Nobody knows whether a commit that ran out of memory is on the disk."""
    broken = _Broken(tmp_path / "plain.db")
    with pytest.raises(StoreUnavailable) as raised:
        sqlite._in_transaction(broken, lambda: None)
    assert not raised.value.clean
    with pytest.raises(ZeroDivisionError):
        sqlite._in_transaction(broken, lambda: 1 / 0)
    broken.close()


class _Broken(sqlite3.Connection):
    """Runs out of memory at COMMIT."""

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        """As the real one, but for COMMIT."""
        if statement == "COMMIT":
            raise MemoryError
        return super().execute(statement, *values)


class HeldStore(SqliteStore):
    """A store whose groups are decided only when they are let go."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.go, self.begun = threading.Event(), threading.Event()
        self.go.set()

    async def transact(self, lookup: Lookup, decide: Callable[[Known], Any]) -> Any:
        """As the real one, but held."""

        def held(known: Known) -> Any:
            self.begun.set()
            assert self.go.wait(30)
            return decide(known)

        return await super().transact(lookup, held)


async def test_the_ticker_rests_while_what_is_due_is_being_written(tmp_path: Path) -> None:
    store, clock = HeldStore(tmp_path / "agent.db"), FakeClock()
    async with open_gate(tmp_path, clock, store=store) as gate:
        await grant(gate, "q", 5)
        await gate.acquire(want("q", "a", 5, hold_ms=1_000))
        ticks, tick = [], gate._ticker.tick
        gate._ticker.tick = lambda: (ticks.append(1), tick())  # type: ignore[method-assign, assignment, func-returns-value]
        store.begun.clear()
        store.go.clear()
        clock.pass_time(1_000)
        gate._ticker.look_again()
        assert await asyncio.to_thread(store.begun.wait, 30)
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(ticks) == 1
        store.go.set()
        await gate.touch()
        assert gate.balance("q")[0].held == 0
