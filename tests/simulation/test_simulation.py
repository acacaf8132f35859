"""The guarantees hold in it; the same seed is the same run; what it finds is shrunk; the mutants are up to date."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.simulation import __main__ as command
from tests.simulation import doorman, mutants_page, mutate
from tests.simulation.faults import FAULTS
from tests.simulation.mutants import MUTANTS
from tests.simulation.mutate import mutated
from tests.simulation.people import ACTS
from tests.simulation.plan import draw_plan
from tests.simulation.run import Outcome, run_seed
from tests.simulation.shrink import shrink

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


@cache
def outcome_of(seed: int) -> Outcome:
    """What a seed came to; each is simulated once."""
    return run_seed(seed, EVENTS)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_guarantee_is_broken(seed: int) -> None:
    outcome = outcome_of(seed)
    trace = "\n".join(outcome.trace[-30:])
    assert not outcome.violation, f"make simulate SEED={seed} STEPS={EVENTS}\n{trace}\n{outcome.violation}"
    assert outcome.events == EVENTS
    assert outcome.quiet_points > 0


def test_every_kind_of_action_and_fault_happens_in_these_seeds() -> None:
    """Not only planned: something broke or was mended, somebody was asked."""
    happened = {kind for seed in SEEDS for kind in outcome_of(seed).done}
    assert happened == FAULTS.keys() | ACTS.keys()


def test_one_seed_has_one_controller_and_the_next_has_two() -> None:
    assert {draw_plan(seed).controllers for seed in SEEDS[::2]} == {1}
    assert {draw_plan(seed).controllers for seed in SEEDS[1::2]} == {2}


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


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("--steps 0", "--steps: '0' is not allowed: a whole number from 1 on"),
        ("--seeds -1", "--seeds: '-1'"),
        ("--jobs 0", "--jobs: '0'"),
        ("--keep 1,x", "--keep: '1,x' is not allowed: numbers"),
        ("--keep 1,99999", "--keep: the plan of seed 1 has no action 99999; its actions are 1 to"),
        ("--trace", "--trace goes with --keep only"),
        ("--shrink-seconds nan", "--shrink-seconds"),
    ],
)
def test_what_makes_no_sense_is_refused(
    arguments: str, named: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["simulation", *arguments.split()])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 2
    assert named in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["no-such-mutant"]])
def test_a_mutant_has_to_be_named(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        mutate.main(arguments)
    assert ended.value.code == 2
    assert "NAME" in capsys.readouterr().err


def test_help_of_the_mutants_hunts_none(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        mutants_page.main(["--help"])
    assert ended.value.code == 0
    assert "docs/guarantees.md" in capsys.readouterr().out


def test_json_is_alone_on_stdout() -> None:
    both = simulate("--seeds", "2", "--steps", "300", "--json", "--digest")
    digests_of = json.loads(both.stdout)["digests"]
    kept = simulate("--keep", "none", "--steps", "300", "--json")
    assert digests_of.keys() == {"1", "2"}
    assert json.loads(kept.stdout)["keep"] == []


def test_an_interrupted_run_says_how_far_it_came() -> None:
    """Ctrl-C goes to all its processes: no traceback, none is left."""
    command_line = [
        sys.executable,
        "-m",
        "tests.simulation",
        "--seeds",
        "10000",
        "--steps",
        "300",
        "--digest",
    ]
    with subprocess.Popen(
        command_line,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("seed 1: digest")
        os.killpg(process.pid, signal.SIGINT)
        said, noise = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said.splitlines()[-1].endswith("of 10,000 seeds have held so far")
    assert noise == ""
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_an_interrupted_shrinking_answers_the_best_so_far() -> None:
    failed = Outcome(1, 100, 0.0, 0.0, 0, 0, violation="S1: so", guarantee="S1")
    tries = iter([failed, failed])

    def run(*_: object) -> Outcome:
        for outcome in tries:
            return outcome
        raise KeyboardInterrupt

    plan = draw_plan(1)
    shrunk = shrink(plan, failed, seconds=60, progress=lambda left, tried: None, run=run)
    assert shrunk.interrupted
    assert (shrunk.tries, 0 < len(shrunk.keep) < len(plan.numbers) // 2) == (2, True)
