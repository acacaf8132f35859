"""One seed from beginning to end, and what came of it."""

from __future__ import annotations

import gc
import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random

from tests.simulation.loop import current_process
from tests.simulation.plan import ROUND_MS, Plan, draw_plan
from tests.simulation.quiet import become_quiet, check_demand, check_restart
from tests.simulation.truth import Violation
from tests.simulation.world import World

#: Events of one seed unless another number is asked for.
EVENTS = 10_000
#: How often the controller restarts at a quiet point.
RESTARTS = 0.3


@dataclass(slots=True)
class Outcome:
    """What a seed came to."""

    seed: int
    events: int
    simulated_s: float
    took_s: float
    digest: int
    quiet_points: int
    done: dict[str, int] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)
    #: What does not hold, and the guarantee that it belongs to; empty if everything does.
    violation: str = ""
    guarantee: str = ""
    trace: list[str] = field(default_factory=list)


def run_seed(seed: int, events: int = EVENTS, plan: Plan | None = None) -> Outcome:
    """Simulate until so many events have happened, or something does not hold."""
    with undisturbed() as logged:
        began = time.perf_counter()
        world = World(plan or draw_plan(seed))
        outcome = Outcome(seed, 0, 0.0, 0.0, 0, 0)
        with world.loop.running():
            try:
                outcome.quiet_points = _rounds(world, events, logged)
            except Violation as violation:
                outcome.violation, outcome.guarantee = str(violation), violation.guarantee
                outcome.trace = [f"{at:10.4f}  {who}: {what}" for at, who, what in world.trace]
            outcome.events, outcome.simulated_s = world.loop.events, world.loop.time()
            outcome.digest = world.finish()
        outcome.done = world.done
        outcome.asked = {**world.clients.outcomes, **world.operators.outcomes}
        outcome.took_s = time.perf_counter() - began
    return outcome


def _rounds(world: World, events: int, logged: list[str]) -> int:
    quiet_points = 0
    world.begin()
    while world.loop.events < events:
        for actions in world.plan.rounds:
            world.refresh(Random(f"{world.plan.seed} refresh {quiet_points}"))
            world.schedule(list(actions))
            world.run_for(ROUND_MS, events)
            _check_log(logged)
            if world.loop.events >= events or not become_quiet(world, events):
                return quiet_points
            quiet_points += 1
            if Random(f"{world.plan.seed} restart {quiet_points}").random() < RESTARTS:
                check_restart(world, events)
            check_demand(world, Random(f"{world.plan.seed} {quiet_points}"), events)
            _check_log(logged)
    return quiet_points


def _check_log(logged: list[str]) -> None:
    if logged:
        raise Violation("CRASH", logged[0])


class _Errors(logging.Handler):
    """Collects what the programs log of errors in themselves: they go on, but it should not happen."""

    def __init__(self, into: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._into = into

    def emit(self, record: logging.LogRecord) -> None:
        process = current_process()
        if process is not None and not process.alive:
            return  # it is being taken apart
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            self._into.append(f"{record.getMessage()}: {type(error).__name__}: {error}\n{_where(record)}")


def _where(record: logging.LogRecord) -> str:
    return logging.Formatter().formatException(record.exc_info) if record.exc_info else ""


@contextmanager
def undisturbed() -> Iterator[list[str]]:
    """No garbage collection meanwhile, for it runs finalizers at odd moments; and nothing on the terminal."""
    logged: list[str] = []
    names = ("quota_server", "quota_agent")
    handler = _Errors(logged)
    kept = [(logging.getLogger(name), logging.getLogger(name).propagate) for name in names]
    for logger, _ in kept:
        logger.addHandler(handler)
        logger.propagate = False
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # dead programs await nothing
            yield logged
            gc.collect()
    finally:
        for logger, propagate in kept:
            logger.removeHandler(handler)
            logger.propagate = propagate
        if was_enabled:
            gc.enable()
