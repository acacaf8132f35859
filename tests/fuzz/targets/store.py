"""The agent's saved state: a store whose rows or bytes are not as they were written is refused, or keeps the cap."""

from __future__ import annotations

import asyncio
import itertools
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, Final

from quota_agent.errors import Refusal, StoreUnavailable, StoreUnusable
from quota_agent.gate.gate import Gate
from quota_agent.gate.model import AcquireRequest, GateSettings
from quota_agent.store import files
from tests.fuzz.controller_kit import nothing_fails
from tests.fuzz.memory_store import MemoryStore
from tests.fuzz.mutate import frames, json_values, text
from tests.fuzz.mutate.frames import Frame
from tests.fuzz.target import Target
from tests.fuzz.targets.gate import begun
from tests.gate_kit import START_MS, FakeClock, ids

_BYTES, _CELL = range(2)
_TABLES: Final = ("agent", "quota", "entry", "override", "ask", "audit")
_PATH: Final = Path("memory.sqlite")


def check(data: bytes) -> None:
    """Refused as unusable or unavailable; or opened, and then no application gets more than the limit."""
    image = damaged(begun(), frames.unpack(data))
    with nothing_fails("quota_agent"):
        asyncio.run(_open(image))


def damaged(image: bytes, steps: list[Frame]) -> bytes:
    """The image after the steps: cells that hold something else, then bytes that do."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.deserialize(image)
    connection.execute("PRAGMA ignore_check_constraints = ON")
    for step in steps:
        if step.operation % 2 == _CELL:
            _change_cell(connection, step.body)
    changed = bytearray(connection.serialize())
    connection.close()
    for step in steps:
        if step.operation % 2 == _BYTES:
            for at in range(0, len(step.body) - 4, 5):
                changed[int.from_bytes(step.body[at : at + 4], "little") % len(changed)] = step.body[at + 4]
    return bytes(changed)


def _change_cell(connection: sqlite3.Connection, body: bytes) -> None:
    """A body is [table, column, row, value], counted from 0."""
    try:
        table, column, row, value = json.loads(body)
        name = _TABLES[table % len(_TABLES)]
        columns = [each[1] for each in connection.execute(f"PRAGMA table_info({name})")]
        rows = connection.execute(f"SELECT * FROM {name}").fetchall()
        old = rows[row % len(rows)]
        new = list(old)
        new[column % len(columns)] = value
        connection.execute(f"DELETE FROM {name} WHERE {_is(columns[0])} AND {_is(columns[1])}", (*old[:2],))
        connection.execute(f"INSERT INTO {name} VALUES ({', '.join('?' * len(new))})", new)
    except (ValueError, TypeError, RecursionError, ZeroDivisionError, OverflowError, sqlite3.Error):
        return  # no such place, or nothing that a cell can hold


def _is(column: str) -> str:
    return f'"{column}" IS ?'


async def _open(image: bytes) -> None:
    try:
        store = MemoryStore(image)
        async with store:
            await store._run(None, lambda connection: files.prepare(connection, _PATH))
            async with Gate.open(store, FakeClock(START_MS + 1_000), GateSettings(), ids("other")) as gate:
                await _spend(gate)
    except (StoreUnusable, StoreUnavailable) as error:
        assert str(error), "the refusal says nothing"


async def _spend(gate: Gate) -> None:
    """Uses it as applications and the uplink do."""
    numbers = itertools.count()
    for view in gate.status().quotas:
        for _ in range(3):
            try:
                await gate.acquire(AcquireRequest(view.quota, f"x-{next(numbers)}", 1 + next(numbers)))
                await gate.release(view.quota, "e-1")
                await gate.commit(view.quota, "h-1")
            except StoreUnavailable:
                raise
            except Refusal:
                pass
        balance, _ = gate.balance(view.quota)
        assert balance.count + balance.held <= balance.limit, f"S1 is broken: {balance}"
        await gate.entries(view.quota, 0, 100, ())
    await gate.touch()
    await gate.hello()


def mutate(data: bytes, other: bytes, random: Random) -> bytes:
    """Cells and bytes."""
    return frames.mutate(data, other, random, _body, operations=2)


def _body(frame: Frame, random: Random) -> bytes:
    if frame.operation % 2 == _CELL:
        if random.random() < 0.3:
            return json_values.mutate(frame.body or b"[0,0,0,0]", b'[1,"",null,-1]', random)
        place = [random.randrange(6), random.randrange(30), random.randrange(4)]
        value: Any = random.choice(
            (None, text.number(random), text.change("q", random), "APPROVED", "COPY", "[[1]]")
        )
        return json.dumps([*place, value]).encode()
    patch = random.randrange(random.choice((100, 40_960))).to_bytes(4, "little") + random.randbytes(1)
    return random.choice((b"", frame.body)) + patch


def seeds() -> Iterator[bytes]:
    """The store as it was, and a few places that are not."""
    yield b""
    for body in (b"[1, 14, 0, 1]", b"[2, 6, 0, 9]", b'[3, 4, 0, "LOST"]', b"[0, 5, 0, -1]"):
        yield frames.pack([Frame(_CELL, body)])
    yield frames.pack([Frame(_BYTES, (100).to_bytes(4, "little") + b"\xff")])


TARGET: Final = Target("store", check, mutate, seeds, max_bytes=2 * 1024)
