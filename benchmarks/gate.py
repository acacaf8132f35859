"""The gate within one process against SQLite itself: the same rows, in groups of the same size, with the same fsync.

What is measured is what the gate adds: queueing, deciding, looking up who asked before, and answering.
"""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from quota_agent.clock import SystemClock
from quota_agent.gate.gate import Gate
from quota_agent.gate.model import AcquireRequest, GateSettings
from quota_agent.store.sqlite import SqliteStore
from quotafleet.link.messages import AllocationUpdate, Revision, Terms

#: Callers that wait at the same time, and how often each acquires.
LOADS = {1: 500, 32: 200, 256: 100, 4_096: 24}
QUOTA = "bench"


async def run() -> dict[str, float]:
    """Acquisitions per second by number of callers, raw rows per second in groups of that size, and the ratios."""
    measured: dict[str, float] = {}
    for callers, rounds in LOADS.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "agent.db"
            gate_rate = await _gate_rate(path, callers, rounds)
            raw_rate = await asyncio.to_thread(_raw_rate, path, callers)
        measured[f"gate_{callers}_per_s"] = gate_rate
        measured[f"raw_{callers}_per_s"] = raw_rate
        measured[f"gate_{callers}_ratio"] = gate_rate / raw_rate
    return measured


async def _gate_rate(path: Path, callers: int, rounds: int) -> float:
    """Durable acquisitions per second."""
    requests = [[AcquireRequest(QUOTA, uuid.uuid4().hex) for _ in range(rounds)] for _ in range(callers)]
    async with (
        SqliteStore(path) as store,
        Gate.open(store, SystemClock(), GateSettings(), lambda: uuid.uuid4().hex) as gate,
    ):
        await gate.bind("bench", "agent-uid", 1)
        limit = AllocationUpdate("quota-uid", Revision(0, 1), 10**12, Terms(QUOTA))
        await gate.apply([limit], [], complete=True)
        begun = time.perf_counter()
        await asyncio.gather(*(_acquire(gate, own) for own in requests))
        return callers * rounds / (time.perf_counter() - begun)


async def _acquire(gate: Gate, requests: Sequence[AcquireRequest]) -> None:
    for request in requests:
        await gate.acquire(request)


def _raw_rate(path: Path, group: int) -> float:
    """Rows per second that `executemany` writes into a copy of the table the gate has just filled."""
    source = sqlite3.connect(path)
    rows = source.execute("SELECT * FROM entry ORDER BY number").fetchall()
    schema = [
        sql
        for (sql,) in source.execute(
            "SELECT sql FROM sqlite_master WHERE tbl_name = 'entry' AND sql NOT NULL"
        )
    ]
    source.close()
    raw = sqlite3.connect(path.with_name("raw.db"), isolation_level=None)
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "cache_size = -16384"):
        raw.execute(f"PRAGMA {pragma}")
    for statement in schema:
        raw.execute(statement)
    insert = f"INSERT INTO entry VALUES ({', '.join('?' * len(rows[0]))})"
    begun = time.perf_counter()
    for first in range(0, len(rows), group):
        raw.execute("BEGIN IMMEDIATE")
        raw.executemany(insert, rows[first : first + group])
        raw.execute("COMMIT")
    rate = len(rows) / (time.perf_counter() - begun)
    raw.close()
    return rate


if __name__ == "__main__":
    for name, value in asyncio.run(run()).items():
        print(f"{name:24} {value:12,.3f}")
