"""The guarantees hold in it; the same seed is the same run; what it finds is shrunk; the mutants are up to date."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation import doorman
from tests.simulation.faults import FAULTS
from tests.simulation.mutants import MUTANTS
from tests.simulation.mutate import mutated
from tests.simulation.people import ACTS
from tests.simulation.plan import draw_plan
from tests.simulation.run import run_seed

#: 20 seeds of 10,000 events: 200,000.
SEEDS, EVENTS = range(1, 21), 10_000
ROOT = Path(__file__).parents[2]


def simulate(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m tests.simulation`."""
    command = [sys.executable, "-m", "tests.simulation", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False
    )


def digests(seed: str, **environment: str) -> str:
    """What two seeds, one after the other, come to."""
    done = simulate("--seed", seed, "--seeds", "2", "--steps", "4000", "--digest", **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("seed", SEEDS)
def test_no_guarantee_is_broken(seed: int) -> None:
    outcome = run_seed(seed, EVENTS)
    trace = "\n".join(outcome.trace[-30:])
    assert not outcome.violation, f"make simulate SEED={seed} STEPS={EVENTS}\n{trace}\n{outcome.violation}"
    assert outcome.events == EVENTS
    assert outcome.quiet_points > 0


def test_every_kind_of_action_and_fault_happens_in_these_seeds() -> None:
    planned = {action.kind for seed in SEEDS for actions in draw_plan(seed).rounds for action in actions}
    assert planned == FAULTS.keys() | ACTS.keys()


def test_the_same_seed_is_the_same_run_in_any_process() -> None:
    """Down to the digest over every event and all that is durable in the end; the order of sets does not matter."""
    first, again = (digests("3", PYTHONHASHSEED=hash_seed) for hash_seed in ("1", "2"))
    assert first == again
    assert first != digests("4", PYTHONHASHSEED="1")


def test_the_summary_counts_what_happened() -> None:
    done = simulate("--seed", "1", "--seeds", "3", "--steps", "600", "--jobs", "2", "--json")
    summary = json.loads(done.stdout)
    assert (done.returncode, summary["seeds"], summary["events"]) == (0, 3, 1_800)
    assert summary["violations"] == []
    assert summary["actions"]["acquire"] > 0


def test_a_failure_is_shrunk_to_a_few_actions_that_fail_again() -> None:
    """With a planted fault: a request that is repeated counts again."""
    command = [sys.executable, "-O", "-m", "tests.simulation.mutate", "retry-counts-twice", "--shrink"]
    found = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    assert found["guarantee"] == "S4"
    assert 0 < len(found["keep"]) <= 4 < found["actions"]
    assert found["again"] == "S4", "the actions that are left break the same guarantee"


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_what_a_mutant_changes_is_there(mutant: object) -> None:
    from tests.simulation.mutants import Mutant

    assert isinstance(mutant, Mutant)
    for edit in mutant.edits:
        spec = importlib.util.find_spec(edit.module)
        assert spec is not None
        assert spec.origin is not None
        compile(mutated(Path(spec.origin).read_text(), edit), spec.origin, "exec")


def test_the_cap_of_doormans_scenario_is_never_overshot() -> None:
    """A few minutes of it; docs/simulation.md has the whole hour."""
    result = doorman.run(mishaps=True, seconds=120, seed=1)
    assert (result.violation, result.overshoots) == ("", 0)
    assert result.utilisation_percent > 95
    assert sum(result.happened.values()) == 2
