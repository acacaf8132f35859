"""`python -O -m tests.simulation.mutate NAME`: the simulation of a program that is broken on purpose.

A mutant is a small change of the source of one production module, made while that is imported. Assertions are off: it
is the checks of the simulation that have to find it, not the program's own.
"""

from __future__ import annotations

import argparse
import importlib.abc
import importlib.machinery
import json
import logging
import os
import signal
import sys
import types
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from tests.simulation.mutants import MUTANTS, SEEDS, Edit, Mutant

#: Events of each seed, and seeds that are tried: the product is the most that a mutant may take to be caught.
EVENTS = 10_000
MOST_SEEDS = 300
#: How long a failure is shrunk.
SHRINK_SECONDS = 30


class MutantStale(Exception):
    """The source has no longer the one place that the mutant changes."""


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads a module with the change made."""

    edits: Sequence[Edit]

    def get_code(self, fullname: str) -> types.CodeType:
        source = self.get_data(self.path).decode()
        for edit in self.edits:
            source = mutated(source, edit)
        return compile(source, self.path, "exec", dont_inherit=True)


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, mutant: Mutant) -> None:
        self._edits = mutant.edits

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        edits = [edit for edit in self._edits if edit.module == fullname]
        if not edits:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is None or spec.origin is None:
            return None
        loader = _Loader(fullname, spec.origin)
        loader.edits = edits
        spec.loader = loader
        return spec


def mutated(source: str, edit: Edit) -> str:
    """The source with the change. Raises MutantStale if it does not have the place exactly once."""
    found = source.count(edit.find)
    if found != 1:
        raise MutantStale(f"{edit.module} has {edit.find!r} {found} times")
    return source.replace(edit.find, edit.put)


@dataclass(frozen=True, slots=True)
class Caught:
    """How a mutant was caught; an empty guarantee if it survived, and then `violation` is what else was found last."""

    name: str
    guarantee: str
    seed: int
    #: Events of that seed, and of all that were tried.
    event: int
    events: int
    violation: str


def hunt(mutant: Mutant) -> Caught:
    """Simulate the broken program, seed by seed, until what it breaks is found; the seed that is known to first.

    Whatever else is found says little, and the next seed follows.
    """
    from tests.simulation.run import run_seed  # only now: it imports what is broken

    total, what = 0, ""
    for seed in dict.fromkeys((SEEDS.get(mutant.name, 1), *range(1, MOST_SEEDS + 1))):
        outcome = run_seed(seed, EVENTS)
        total += outcome.events
        if outcome.violation:
            what = outcome.violation.splitlines()[0]
        if outcome.guarantee in mutant.breaks:
            return Caught(mutant.name, outcome.guarantee, seed, outcome.events, total, what)
    return Caught(mutant.name, "", 0, 0, total, what)


def _shrunk(caught: Caught) -> dict[str, object]:
    """What is left of the plan, and what the rest of it breaks."""
    from tests.simulation.plan import draw_plan
    from tests.simulation.run import run_seed
    from tests.simulation.shrink import shrink

    plan = draw_plan(caught.seed)
    failed = run_seed(caught.seed, caught.event)
    shrunk = shrink(plan, failed, seconds=SHRINK_SECONDS, progress=lambda left, tries: None)
    again = run_seed(caught.seed, shrunk.outcome.events, plan.keeping(frozenset(shrunk.keep)))
    return {"keep": shrunk.keep, "actions": len(plan.numbers), "again": again.guarantee}


def break_program(mutant: Mutant) -> None:
    """Have the mutant's modules changed when they are imported. Once, in a process of its own."""
    for edit in mutant.edits:
        if edit.module in sys.modules:
            raise RuntimeError(f"{edit.module} is there already: a mutant has a process of its own")
    sys.meta_path.insert(0, _Finder(mutant))


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    by_name = {mutant.name: mutant for mutant in MUTANTS}
    parser = argparse.ArgumentParser(
        prog="python -O -m tests.simulation.mutate",
        description="Simulate a program that is broken on purpose, and print what came of it as JSON.",
        epilog="Exit codes: 0 it was caught, 1 it survived, 2 bad usage, 130 interrupted. "
        f"NAME is one of: {', '.join(by_name)}.",
    )
    parser.add_argument("name", metavar="NAME", help="the mutant; all of them are named below")
    parser.add_argument("--shrink", action="store_true", help="also look for the fewest actions that do it")
    options = parser.parse_args(arguments)
    if options.name not in by_name:
        parser.error(f"NAME: there is no mutant {options.name!r}; there are: {', '.join(by_name)}")
    options.mutant = by_name[options.name]
    return options


def main(arguments: Sequence[str]) -> int:
    """Hunt the mutant that is named and print what came of it as JSON; 1 if it survived."""
    options = _options(arguments)
    # At once: an exception would break simulated programs off in the middle.
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    logging.disable(logging.WARNING)
    break_program(options.mutant)
    caught = hunt(options.mutant)
    result: dict[str, object] = asdict(caught)
    if caught.guarantee and options.shrink:
        result |= _shrunk(caught)
    print(json.dumps(result))
    return 0 if caught.guarantee else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
