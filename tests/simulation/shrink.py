"""From a failure to the fewest actions that still cause it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.simulation.plan import Plan
from tests.simulation.run import Outcome, run_seed


@dataclass(frozen=True, slots=True)
class Shrunk:
    """What is left of a failure."""

    keep: tuple[int, ...]
    outcome: Outcome
    tries: int
    #: Ctrl-C ended it early.
    interrupted: bool = False


def shrink(
    plan: Plan,
    failed: Outcome,
    *,
    seconds: float,
    progress: Callable[[int, int], None],
    run: Callable[[int, int, Plan], Outcome] = run_seed,
) -> Shrunk:
    """Leave out ever smaller parts of the plan for as long as the same guarantee is broken, at most so long.

    `progress` is told how many actions are left, and how many tries it took. `run` simulates a seed, so many events
    and a plan; if it raises KeyboardInterrupt, the answer is the best that was found by then.
    """
    until = time.monotonic() + seconds
    kept, best, tries = plan.numbers, failed, 0
    size = max(1, len(kept) // 2)
    try:
        while kept and time.monotonic() < until:
            at, left_out = 0, False
            while at < len(kept) and time.monotonic() < until:
                candidate = kept[:at] + kept[at + size :]
                outcome = run(failed.seed, _most_events(best), plan.keeping(frozenset(candidate)))
                tries += 1
                if outcome.guarantee == failed.guarantee:
                    kept, best, left_out = candidate, outcome, True
                    progress(len(kept), tries)
                else:
                    at += size
            if size == 1 and not left_out:
                break
            size = max(1, size // 2)
    except KeyboardInterrupt:
        return Shrunk(tuple(kept), best, tries, interrupted=True)
    return Shrunk(tuple(kept), best, tries)


def _most_events(outcome: Outcome) -> int:
    """With less going on the same thing may take a little longer."""
    return outcome.events + outcome.events // 2 + 500


def replay(seed: int, events: int, keep: tuple[int, ...]) -> str:
    """The command that shows a failure again."""
    numbers = ",".join(map(str, keep))
    return f".venv/bin/python -m tests.simulation --seed {seed} --steps {events} --keep {numbers or 'none'} --trace"
