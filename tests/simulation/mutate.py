"""`python -O -m tests.simulation.mutate NAME`: the simulation of a program that is broken on purpose.

A mutant is a small change of the source of one production module, made while that is imported. Assertions are off: it
is the checks of the simulation that have to find it, not the program's own.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import json
import logging
import sys
import types
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tests.simulation.mutants import MUTANTS, Edit, Mutant

#: Events of each seed, and seeds that are tried: the product is the most that a mutant may take to be caught.
EVENTS = 10_000
SEEDS = 12


class MutantStale(Exception):
    """The source has no longer the one place that the mutant changes."""


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads a module with the change made."""

    edit: Edit

    def get_code(self, fullname: str) -> types.CodeType:
        source = self.get_data(self.path).decode()
        return compile(mutated(source, self.edit), self.path, "exec", dont_inherit=True)


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, mutant: Mutant) -> None:
        self._edits = {edit.module: edit for edit in mutant.edits}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        edit = self._edits.get(fullname)
        if edit is None:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is None or spec.origin is None:
            return None
        loader = _Loader(fullname, spec.origin)
        loader.edit = edit
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
    """How a mutant was caught; an empty guarantee if it survived."""

    name: str
    guarantee: str
    seed: int
    #: Events of that seed, and of all that were tried.
    event: int
    events: int
    violation: str


def hunt(mutant: Mutant, seeds: int = SEEDS, events: int = EVENTS) -> Caught:
    """Simulate the broken program, seed by seed, until a check finds it."""
    for edit in mutant.edits:
        if edit.module in sys.modules:
            raise RuntimeError(f"{edit.module} is there already: a mutant has a process of its own")
    sys.meta_path.insert(0, _Finder(mutant))
    from tests.simulation.run import run_seed  # only now: it imports what is broken

    total = 0
    for seed in range(1, seeds + 1):
        outcome = run_seed(seed, events)
        total += outcome.events
        if outcome.violation:
            return Caught(
                mutant.name, outcome.guarantee, seed, outcome.events, total, outcome.violation.splitlines()[0]
            )
    return Caught(mutant.name, "", 0, 0, total, "")


def main(arguments: list[str]) -> int:
    """Hunt the mutant that is named and print what came of it as JSON; 1 if it survived."""
    logging.disable(logging.WARNING)
    by_name: dict[str, Any] = {mutant.name: mutant for mutant in MUTANTS}
    caught = hunt(by_name[arguments[0]])
    print(json.dumps(asdict(caught)))
    return 0 if caught.guarantee else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
