"""The simulated disks promise what SQLite keeps: killed at any moment, what was answered is there, nothing is torn."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from quota_agent.store.sqlite import SqliteStore
from tests.ledger_kit import open_store
from tests.memory_store import MemoryLedgerStore
from tests.simulation.durability import (
    STEPS,
    gate_model,
    gate_on_disk,
    ledger_records,
    run_gate,
    run_ledger,
)


def killed_while_writing(what: str, path: Path, seed: int, after: int) -> int:
    """Starts writing and kills that with -9 once so many steps are durable; the last number that was said."""
    command = [sys.executable, "-m", "tests.simulation.durability", what, str(path), str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        said = 0
        for line in child.stdout:
            said = int(line)
            if said >= after:
                child.send_signal(signal.SIGKILL)
                break
        rest = child.stdout.read().split()
        child.wait()
    return int(rest[-1]) if rest else said


@pytest.mark.parametrize("seed", range(1, 4))
async def test_a_killed_store_holds_what_the_simulated_disk_may_hold(tmp_path: Path, seed: int) -> None:
    model = gate_model(seed)
    after = Random(seed).randint(2, STEPS - 2)
    said = killed_while_writing("gate", tmp_path / "agent.db", seed, after)
    found = await gate_on_disk(tmp_path / "agent.db")
    # The group after the last one that was answered may be there, or not; it is never there in part.
    assert found in (model[said], model[min(said + 1, STEPS)]), f"after {said} groups of seed {seed}"
    assert said >= after


async def test_without_a_kill_store_and_simulated_disk_hold_the_same_after_every_group(
    tmp_path: Path,
) -> None:
    model = gate_model(7)
    async with SqliteStore(tmp_path / "agent.db") as store:
        async for durable in run_gate(store, 7):
            if durable % 20 == 0 or durable == STEPS:
                state = await store.load()
                assert state == model[durable][0], f"after {durable} groups"
    assert await gate_on_disk(tmp_path / "agent.db") == model[-1]


@pytest.mark.parametrize("seed", range(1, 4))
async def test_a_killed_database_holds_what_the_simulated_one_may_hold(tmp_path: Path, seed: int) -> None:
    said = killed_while_writing("ledger", tmp_path, seed, Random(seed).randint(5, STEPS // 4 - 2))
    async with open_store(tmp_path) as (store, _):
        found = await ledger_records(store)
    memory, allowed = MemoryLedgerStore(), []
    async for durable in run_ledger(memory, seed):
        if durable >= said:
            allowed.append(await ledger_records(memory))
        if durable > said:
            break
    assert any(found == each for each in allowed), f"after {said} steps of seed {seed}"
