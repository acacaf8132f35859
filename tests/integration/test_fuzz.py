"""Fuzzing in short: the corpus, a run of all targets, and faults that it has to find. docs/fuzzing.md tells more."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

import pytest

from tests.fuzz import campaign, corpus, engine, targets
from tests.fuzz.engine import Run
from tests.fuzz.plants import PLANTS, Plant

#: Of all targets together.
SECONDS: Final = 45.0
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
    """The seed is the same each time, so that a run can be repeated; `make fuzz` takes others, and looks for longer."""
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
