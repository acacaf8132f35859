"""Whose store it is: one process, one agent, one epoch, one kind of file."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from quota_agent.errors import StoreUnavailable, StoreUnusable
from quota_agent.gate.state import Lookup
from quota_agent.store.sqlite import SqliteStore
from quotafleet.link.messages import FenceKind, OverrideState, OverrideUpdate
from tests.gate_kit import grant, open_gate, refused, uid_of, want


def _modes(folder: Path) -> dict[str, int]:
    """The permissions of each file."""
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


def _unlink(folder: Path) -> None:
    """Take the store's files away."""
    for path in folder.glob("agent.db*"):
        path.unlink()


async def test_a_second_process_is_refused(tmp_path: Path) -> None:
    program = (
        "import asyncio, pathlib, sys\n"
        "from quota_agent.store.sqlite import SqliteStore\n"
        "async def main():\n"
        "    async with SqliteStore(pathlib.Path(sys.argv[1])): pass\n"
        "asyncio.run(main())\n"
    )
    path = tmp_path / "agent.db"
    command = [sys.executable, "-c", program, str(path)]
    async with SqliteStore(path):
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
        assert done.returncode != 0
        assert "in use by another process" in done.stderr
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


async def test_only_the_owner_can_read_the_store(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        async with open_gate(tmp_path) as gate:
            await grant(gate, "q", 1)
            modes = _modes(tmp_path)
    finally:
        os.umask(umask)
    assert set(modes.values()) == {0o600}, modes
    assert "agent.db-wal" in modes


async def test_files_of_others_and_of_newer_versions_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("not a database, but long enough to be looked at\n" * 100)
    for name, pragma in {"foreign.db": "CREATE TABLE t (x)", "newer.db": "PRAGMA user_version = 99"}.items():
        if name == "newer.db":
            async with SqliteStore(tmp_path / name):
                pass
        made = sqlite3.connect(tmp_path / name)
        made.execute(pragma)
        made.commit()
        made.close()
    for name, why in {
        "text.db": "not an agent's store",
        "foreign.db": "not an agent's store",
        "newer.db": "newer version",
    }.items():
        before = (tmp_path / name).read_bytes()
        with pytest.raises(StoreUnusable, match=why):
            async with SqliteStore(tmp_path / name):
                pass
        assert (tmp_path / name).read_bytes() == before, "and left as they are"


async def test_a_store_that_vanishes_is_not_begun_anew(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "agent.db") as store:
        _unlink(tmp_path)
        with pytest.raises(StoreUnavailable):
            await store.reopen()
        with pytest.raises(StoreUnavailable, match="not open"):
            await store.transact(Lookup({}), lambda _: pytest.fail("decided"))
    assert "agent.db" not in _modes(tmp_path)


async def test_a_store_keeps_to_its_agent(tmp_path: Path) -> None:
    async with open_gate(tmp_path, bind=("school-7", "uid-7", 3)) as gate:
        await grant(gate, "q", 10)
        for wrong, why in {
            ("school-8", "uid-8", 3): "belongs to the agent 'school-7'",
            ("school-7", "uid-7", 2): "use the newest credential",
            ("school-7", "uid-7", 4): "has not reported its final totals",
        }.items():
            with pytest.raises(StoreUnusable, match=why):
                await gate.bind(*wrong)
        await gate.fence(FenceKind.ENDED)
        with pytest.raises(StoreUnusable, match="move the store away"):
            await gate.bind("school-7", "uid-7", 4)
        assert (gate.status().agent_uid, gate.status().epoch) == ("uid-7", 3)


async def test_a_store_that_has_said_its_last_word_makes_room_for_the_next_epoch(tmp_path: Path) -> None:
    async with open_gate(tmp_path, bind=("school-7", "uid-7", 3)) as gate:
        await grant(gate, "q", 10)
        await gate.acquire(want("q", "a", 3))
        await gate.fence(FenceKind.ENDED)
        await gate.fence_done()
    async with open_gate(tmp_path, bind=("school-7", "uid-7", 4)) as gate:
        hello = await gate.hello()
        assert (hello.epoch, hello.dial, hello.standings) == (4, 1, ())
        async with refused("NOT_ENROLLED"):
            await gate.acquire(want("q", "a", 3))
    old = sqlite3.connect(tmp_path / "agent.epoch-3.db")
    assert old.execute("SELECT consumed FROM quota").fetchall() == [(3,)]
    old.close()


#: What was changed, and what the refusal names.
NO_AGENT_WRITES = {
    "a state that there is not": (
        "UPDATE override SET state = 'LOST'",
        "state in row 1 of the table override",
    ),
    "an override that is spent and open": ("UPDATE override SET spent = 1", "spent in row 1"),
    "an ask of a quota that is not there": (
        "UPDATE ask SET quota_uid = 'x'",
        "quota_uid in row 1 of the table ask",
    ),
    "a fence of no kind": ("UPDATE agent SET fenced = 'GONE'", "fenced in row 1 of the table agent"),
    "an epoch without an agent": ("UPDATE agent SET agent_uid = ''", "agent_uid in row 1"),
    "a limit below what is in use": ('UPDATE quota SET "limit" = 2', "limit in row 1 of the table quota"),
    "a total below its baseline": ("UPDATE quota SET marking_consumed = 9", "marking_consumed in row 1"),
    "a number that is no number": ("UPDATE quota SET number = 7", "number in row 1 of the table quota"),
    "a name that no quota can have": ("UPDATE quota SET name = 'Q'", "name in row 1"),
    "a mode that there is not": (
        "UPDATE entry SET mode = 3 WHERE number = 2",
        "mode in row 1/2 of the table entry",
    ),
    "a hold without an end": ("UPDATE entry SET expire_ms = NULL", "expire_ms in row 1/2"),
    "labels that are no pairs": ("UPDATE entry SET labels = '[[1]]'", "labels in row 1/1"),
    "labels that are no JSON": ("UPDATE entry SET labels = '[['", "labels in row 1/1"),
    "labels that UTF-8 cannot hold": (
        """UPDATE entry SET labels = '[["a", "\\ud800"]]'""",
        "labels in row 1/1",
    ),
    "an entry of another quota": ("UPDATE entry SET quota = 2", "quota in row 2/1"),
    "an entry that grew": (
        "UPDATE entry SET requested = 4, granted = 4 WHERE number = 1",
        "come to its totals",
    ),
    "an entry that is gone": ("DELETE FROM entry WHERE number = 1", "come to its totals"),
}


@pytest.mark.parametrize(("change", "named"), NO_AGENT_WRITES.values(), ids=NO_AGENT_WRITES)
async def test_a_store_that_holds_what_no_agent_writes_is_refused_at_the_start(
    tmp_path: Path, change: str, named: str
) -> None:
    await _used_store(tmp_path)
    _change(tmp_path, change)
    with pytest.raises(
        StoreUnusable, match=r"agent\.db was damaged or changed.*`quotactl agent settle`"
    ) as refused:
        async with open_gate(tmp_path):
            pass
    assert named in str(refused.value)


async def test_a_store_that_was_changed_while_it_was_open_is_unavailable_when_it_is_read_again(
    tmp_path: Path,
) -> None:
    await _used_store(tmp_path)
    async with open_gate(tmp_path) as gate:
        _change(tmp_path, "UPDATE override SET state = 'LOST'")
        gate._writer._stale = True
        with pytest.raises(StoreUnavailable, match="state in row 1 of the table override"):
            await gate.acquire(want("q", "c"))


async def test_labels_of_every_sort_are_found_to_be_sound(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as gate:
        await grant(gate, "q", 10)
        for number, labels in enumerate([(("a", ""),), (("a", "b"), ("c", '"\\')), (("ü", "\U0001f600\n"),)]):
            await gate.acquire(want("q", f"{number}", labels=labels))
        before = await gate.entries("q")
    async with open_gate(tmp_path) as gate:
        assert await gate.entries("q") == before


async def _used_store(folder: Path) -> None:
    """One with an entry of 3, a hold, an override and an ask."""
    async with open_gate(folder) as gate:
        await grant(gate, "q", 10)
        approval = OverrideUpdate("o-1", "", uid_of("q"), 4, OverrideState.APPROVED)
        await gate.apply([], (approval,))
        await gate.acquire(want("q", "a", 3, labels=(("k", "v"),)))
        await gate.acquire(want("q", "b", 2, hold_ms=60_000))
        await gate.request_override("q", 5, "more", "ask-1")


def _change(folder: Path, statement: str) -> None:
    with closing(sqlite3.connect(folder / "agent.db", isolation_level=None)) as other:
        other.execute("PRAGMA ignore_check_constraints = ON")
        other.execute(statement)
