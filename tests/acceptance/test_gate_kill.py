"""An agent that is killed at any moment keeps every acquisition that it answered, once."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from quota_agent.clock import SystemClock
from quota_agent.gate.gate import Gate
from quota_agent.gate.model import GateSettings
from quota_agent.store.sqlite import SqliteStore
from tests.gate_kit import grant, ids, open_gate, want

ROUNDS = 10
ACQUISITIONS = 2_000
LIMIT = 10**9


async def acquire_and_tell(path: Path, prefix: str) -> None:
    """The child: acquires concurrently and writes each id to stdout as soon as it is answered."""
    async with (
        SqliteStore(path) as store,
        Gate.open(store, SystemClock(), GateSettings(max_group=50), ids("store")) as gate,
    ):

        async def one(number: int) -> None:
            request_id = f"{prefix}-{number}"
            await gate.acquire(want("q", request_id, 2))
            os.write(1, f"{request_id}\n".encode())

        await asyncio.gather(*(one(number) for number in range(ACQUISITIONS)))


def kill_midway(path: Path, prefix: str, after: int) -> list[str]:
    """Run the child, kill it once `after` ids were answered, and say which."""
    command = [sys.executable, "-m", "tests.acceptance.test_gate_kill", str(path), prefix]
    child = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert child.stdout is not None
    answered = [child.stdout.readline() for _ in range(after)]
    child.send_signal(signal.SIGKILL)
    answered += child.stdout.readlines()
    child.stdout.close()
    assert child.wait() == -signal.SIGKILL
    # A write to a pipe of less than a page is whole or not there.
    return [line.decode().strip() for line in answered]


@pytest.mark.timeout(300)
async def test_what_was_answered_survives_a_kill_and_counts_once(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed={seed}")
    chance = random.Random(seed)
    path = tmp_path / "agent.db"
    async with open_gate(tmp_path) as gate:
        await grant(gate, "q", LIMIT)
    answered: set[str] = set()
    for number in range(ROUNDS):
        after = chance.randrange(1, ACQUISITIONS - 100)
        ids_now = await asyncio.to_thread(kill_midway, path, f"round-{number}", after)
        assert after <= len(ids_now) == len(set(ids_now)), "none is answered twice"
        answered.update(ids_now)
        async with open_gate(tmp_path) as gate:
            entries = await gate.entries("q", limit=ROUNDS * ACQUISITIONS)
            kept = [entry.request_id for entry in entries]
            assert len(kept) == len(set(kept))
            assert answered <= set(kept), "every answered one is there"
            assert gate.balance("q")[0].count == sum(entry.granted for entry in entries)
            again = next(iter(sorted(answered)))
            assert (await gate.acquire(want("q", again, 2))).balance.count == 2 * len(kept)


if __name__ == "__main__":
    asyncio.run(acquire_and_tell(Path(sys.argv[1]), sys.argv[2]))
