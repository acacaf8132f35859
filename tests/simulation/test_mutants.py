"""Every program that is broken on purpose is caught by the guarantee that it breaks, or the simulation is too weak.

A crash is never enough: it is the program's own doing.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.mutants import MUTANTS, Mutant
from tests.simulation.mutate import EVENTS, MOST_SEEDS

ROOT = Path(__file__).parents[2]


def test_a_crash_is_not_enough() -> None:
    assert [mutant.name for mutant in MUTANTS if not mutant.breaks or "CRASH" in mutant.breaks] == []


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_is_caught(mutant: Mutant) -> None:
    command = [sys.executable, "-O", "-m", "tests.simulation.mutate", mutant.name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    caught = json.loads(done.stdout)
    missed = f"{mutant.what}: {mutant.breaks} not broken within {MOST_SEEDS} seeds of {EVENTS} events"
    assert caught["guarantee"] in mutant.breaks, f"{missed}, but {caught['violation'] or 'nothing'}"
    assert done.returncode == 0
