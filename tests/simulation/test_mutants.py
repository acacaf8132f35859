"""Every program that is broken on purpose is caught; one that survives means that the simulation proves too little."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.mutants import MUTANTS, Mutant
from tests.simulation.mutate import EVENTS, MOST_SEEDS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_is_caught(mutant: Mutant) -> None:
    command = [sys.executable, "-O", "-m", "tests.simulation.mutate", mutant.name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    caught = json.loads(done.stdout)
    assert caught["guarantee"], f"{mutant.what}: not noticed within {MOST_SEEDS} seeds of {EVENTS} events"
    assert done.returncode == 0
