"""Fuzzing in short: the corpus, a run of all targets, and faults that it has to find. docs/fuzzing.md tells more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from typing import Any, Final

import pytest

from tests.fuzz import campaign, command, corpus, engine, targets
from tests.fuzz.engine import Run
from tests.fuzz.plants import PLANTS, Plant

#: Of all targets together.
SECONDS: Final = 25.0
SEED: Final = 1
#: Of the whole corpus, which is kept in git.
MAX_CORPUS_BYTES: Final = 2_000_000

needs_engine = pytest.mark.skipif(
    find_spec("atheris") is None, reason="the engine, atheris, has wheels for x86-64 Linux only"
)


@pytest.mark.parametrize("name", targets.NAMES)
def test_no_input_of_the_corpus_finds_anything(name: str) -> None:
    """The seeds, and every file in tests/data/fuzz: what was found once does not come back."""
    target = targets.load(name)
    inputs = [*target.seeds(), *(path.read_bytes() for path in corpus.kept(name))]
    assert inputs
    for data in inputs:
        try:
            target.check(data)
        except Exception as error:
            pytest.fail(engine.report(name, data, error))


def test_the_corpus_is_small() -> None:
    """Small enough for everybody's clone."""
    sizes = {name: sum(path.stat().st_size for path in corpus.kept(name)) for name in targets.NAMES}
    assert sum(sizes.values()) <= MAX_CORPUS_BYTES, sizes
    assert {path.name for path in corpus.KEPT.iterdir()} <= set(targets.NAMES)


@needs_engine
@pytest.mark.timeout(300)
def test_fuzzing_all_targets_finds_nothing() -> None:
    """The seed is the same each time; `make fuzz` takes others, and looks for longer."""
    outcomes = campaign.campaign(targets.NAMES, SECONDS, SEED)
    assert [each.finding for each in outcomes if each.finding] == []
    assert all(each.inputs > len(corpus.kept(each.target)) for each in outcomes), "a target was not fuzzed"


@needs_engine
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("target", "plant"),
    [(target, plant) for target, found in PLANTS.items() for plant in found],
    ids=[f"{target}: {plant.name}" for target, found in PLANTS.items() for plant in found],
)
def test_a_planted_fault_is_found(target: str, plant: Plant) -> None:
    """From the seeds alone, within the inputs that are stated for it."""
    outcome = campaign.one(Run(target, seed=1, inputs=plant.within_inputs, only_seeds=True, plant=plant.name))
    print(f"{target}: {plant.name}: found at input {outcome.inputs} of at most {plant.within_inputs}")
    assert outcome.found, f"the fuzzing would not notice: {outcome} {outcome.finding}"


def test_every_target_has_a_planted_fault() -> None:
    """A target that finds nothing proves nothing."""
    assert set(PLANTS) == set(targets.NAMES)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["run", "--seconds", "0"], "--seconds: '0' is not allowed"),
        (["run", "--seconds", "nan"], "--seconds: 'nan' is not allowed"),
        (["run", "--input", "Makefile"], "--input (INPUT) needs its --target"),
        (["run", "--target", "words", "--input", "no-such-file"], "--input (INPUT) has to be a file"),
        (["run", "--target", "words", "--input", "/"], "--input (INPUT) has to be a file"),
        (["one", "gate", "--plant", "rain"], "--plant: gate has no 'rain'; it has 'bad fields pass'"),
        (["one", "gate", "--inputs", "0"], "--inputs: '0' is not allowed"),
    ],
)
def test_what_makes_no_sense_is_refused(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With 2: 1 would mean that something was found."""
    with pytest.raises(SystemExit) as ended:
        command.main(arguments)
    assert ended.value.code == 2
    assert named in capsys.readouterr().err


def test_a_planted_fault_has_no_line_to_replay() -> None:
    """Its input was not saved, and finds nothing in the sound code."""
    assert "replay:" not in engine.report("words", b"x", ValueError(), save=False)


@needs_engine
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_takes_its_child_along(ending: signal.Signals) -> None:
    """The seed was said at the beginning; there is no traceback."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.fuzz", "run", "--target", "words", "--seed", "7"],
        cwd=corpus.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "fuzz: words for 60 s, seed 7\n"
        process.send_signal(ending)
        said, noise = process.communicate(timeout=30)
    assert (process.returncode, said, noise) == (130, "fuzz: interrupted\n", "")
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_an_interrupt_while_the_child_is_started_leaves_none_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits until there is somebody who ends the child."""
    started = []
    start = subprocess.Popen

    def interrupted(*arguments: Any, **options: Any) -> subprocess.Popen[str]:
        started.append(start(*arguments, **options))
        signal.raise_signal(signal.SIGTERM)
        return started[0]

    monkeypatch.setattr(subprocess, "Popen", interrupted)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            campaign.one(Run("words", 7, 1.0))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert started[0].returncode == -signal.SIGKILL
