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

from quota_server.fleet import again
from tests.simulation.loop import current_process
from tests.simulation.plan import ROUND_MS, Plan, draw_plan
from tests.simulation.quiet import become_quiet, mend
from tests.simulation.trials import check_demand, check_lost, check_restart
from tests.simulation.truth import Violation
from tests.simulation.world import World

#: Events of one seed unless another number is asked for.
EVENTS = 10_000
#: How often a controller restarts at a quiet point, and how often one of several is lost.
RESTARTS, LOSSES = 0.3, 0.3


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
    with undisturbed() as logged, repeatable(seed):
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
        outcome.asked = {**world.clients.outcomes, **world.operators.outcomes, **world.counts.outcomes}
        outcome.took_s = time.perf_counter() - began
    return outcome


def _rounds(world: World, events: int, logged: list[str]) -> int:
    quiet_points = 0
    world.begin()
    while world.loop.events < events:
        for actions in world.plan.rounds:
            world.refresh(Random(f"{world.plan.seed} refresh {quiet_points}"), events)
            world.schedule(list(actions))
            world.run_for(ROUND_MS, events)
            _check_log(logged)
            if world.loop.events >= events or not become_quiet(world, events):
                return quiet_points
            quiet_points += 1
            _try(world, quiet_points, events)
            _check_log(logged)
            if world.loop.events >= events:
                return quiet_points
    return quiet_points


def _try(world: World, quiet_points: int, events: int) -> None:
    restart = Random(f"{world.plan.seed} restart {quiet_points}")
    if restart.random() < RESTARTS:
        check_restart(world, restart, events)
    lost = len(world.controllers) > 1 and restart.random() < LOSSES
    if lost:
        check_lost(world, restart, events)
    check_demand(world, Random(f"{world.plan.seed} {quiet_points}"), events)
    if lost:
        mend(world)


def _check_log(logged: list[str]) -> None:
    if logged:
        raise Violation("CRASH", logged[0])


#: An agent says this of what a controller of the same version said.
_NOT_UNDERSTOOD = "FieldError"


class _Errors(logging.Handler):
    """Collects what the programs log of errors in themselves and each other: they go on, but it should not happen."""

    def __init__(self, into: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._into = into

    def emit(self, record: logging.LogRecord) -> None:
        process = current_process()
        if process is not None and not process.alive:
            return  # it is being taken apart
        if record.levelno < logging.ERROR:
            said = record.getMessage()
            if _NOT_UNDERSTOOD in said:
                self._into.append(said)
            return
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            self._into.append(f"{record.getMessage()}: {type(error).__name__}: {error}\n{_where(record)}")


def _where(record: logging.LogRecord) -> str:
    return logging.Formatter().formatException(record.exc_info) if record.exc_info else ""


@contextmanager
def repeatable(seed: int) -> Iterator[None]:
    """What the programs draw by themselves is drawn from the seed."""
    kept, again.chance = again.chance, Random(f"{seed}/again")
    try:
        yield
    finally:
        again.chance = kept


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
