"""`make chaos`, which is `python -m tests.chaos`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

# gRPC's own chatter about processes that were killed would stand between the lines.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from rich.console import Console

from examples.demo.common import DemoFailed
from tests.chaos import disk, report
from tests.chaos.clients import WORKERS, Worker
from tests.chaos.clock import find_library
from tests.chaos.faults import Faults
from tests.chaos.observer import observe
from tests.chaos.operators import Operator
from tests.chaos.quiet import Quiet
from tests.chaos.schedule import CLOCKS, Kind, waves
from tests.chaos.verdict import CannotRun, Ending, Outcome, Violation
from tests.chaos.world import QUOTAS, Slot, Tally, World

EPILOG = (
    "Exit codes: 0 every guarantee held, 1 one did not, 2 bad usage, 3 it could not be run, 130 interrupted."
)


def main() -> int:
    """Run it; answers its exit code."""
    options = _options()
    mounts = disk.enter()
    console = Console(stderr=options.json, highlight=False)
    reporter = report.Reporter(console)
    reporter.say(f"seed {options.seed}", "bold")
    folder = Path(tempfile.mkdtemp(prefix="qc-", dir="/tmp"))  # short: sockets are to be in it
    run = Run(folder, options, reporter, mounts=mounts)
    ending = _played(run, console)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is over, and soon all is put away
    keep = options.keep or ending.keeps
    tally = Tally() if run.world is None else run.world.tally
    if run.world is not None:
        run.world.disk.close(keep=keep)
        for table in report.tables(tally):
            console.print(table)
    reporter.ending(ending, options.seed, run.step)
    if keep:
        reporter.say(f"logs and databases are in {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    if options.json:
        print(report.as_json(options.seed, reporter.seconds, tally, ending))
    return ending.code


def _played(run: Run, console: Console) -> Ending:
    """Play to the end, whatever that is: of several things the worst counts."""
    ending = Ending()
    try:
        asyncio.run(run.play())
    except* Violation as group:
        ending.add(Outcome.BROKEN, _sentences(group))
    except* CannotRun as group:
        ending.add(Outcome.FAILED, _sentences(group), keeps=False)
    except* DemoFailed as group:  # a program did not start, or not again
        ending.add(Outcome.BROKEN if run.step else Outcome.FAILED, _sentences(group))
    except* Exception as group:
        console.print_exception()
        ending.add(Outcome.FAILED, _sentences(group))
    except* (KeyboardInterrupt, asyncio.CancelledError):
        ending.add(Outcome.INTERRUPTED, "everything is stopped", keeps=False)
    return ending


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__, epilog=EPILOG)
    parser.add_argument(
        "--minutes", type=float, default=10.0, help="no wave begins later than this; one is always played"
    )
    parser.add_argument(
        "--seed", type=int, default=random.randrange(2**32), help="of the schedule; default: any"
    )
    parser.add_argument("--agents", type=int, default=3, help="from 2 to 8; default 3")
    parser.add_argument(
        "--json", action="store_true", help="the result as JSON on stdout; events go to stderr"
    )
    parser.add_argument("--keep", action="store_true", help="keep the folder with databases and logs")
    parser.add_argument(
        "--without-clock", action="store_true", help="leave out the faults that need faketime"
    )
    parser.add_argument(
        "--faults", type=_kinds, help="only these, e.g. agent_killed,store_cloned; default: every kind"
    )
    parser.add_argument(
        "--plant-lie",
        action="store_true",
        help="take an answered entry from the disk of an agent that was killed: the run has to notice (exit code 1)",
    )
    options = parser.parse_args()
    if not 2 <= options.agents <= 8:
        parser.error("--agents must be from 2 to 8")
    if not 0 < options.minutes < math.inf:
        parser.error("--minutes must be a number above 0")
    if options.without_clock and options.faults and options.faults <= CLOCKS:
        parser.error("--faults and --without-clock leave no fault: name one in --faults that needs no clock")
    return options


def _kinds(text: str) -> frozenset[Kind]:
    known = {kind.name.lower(): kind for kind in Kind}
    names = text.lower().split(",")
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(f"{name!r} is no fault; there are {', '.join(known)}")
    return frozenset(known[name] for name in names)


class Run:
    """One run."""

    def __init__(
        self, folder: Path, options: argparse.Namespace, reporter: report.Reporter, *, mounts: bool
    ) -> None:
        """`mounts`: a file system may be mounted that can be filled."""
        self._folder = folder
        self._mounts = mounts
        self._options = options
        self._reporter = reporter
        self._faults: Faults | None = None
        self.world: World | None = None

    @property
    def step(self) -> int:
        """The fault that was begun last."""
        return self._faults.step if self._faults is not None else 0

    async def play(self) -> None:
        """Raises an ExceptionGroup of Violation, CannotRun or DemoFailed; CancelledError at SIGTERM."""
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        kinds, left_out = self._kinds()
        library = find_library() if kinds & CLOCKS else None
        world = World(self._folder, self._options.seed, library)
        world.tally.left_out = left_out
        world.plants_lie = self._options.plant_lie
        self.world = world
        if self._mounts:
            world.disk.mount()
        async with (
            world,
            Operator(world) as operator,
        ):
            await self._enrol(world, operator)
            self._faults = Faults(world, operator, self._reporter.fault)
            with contextlib.suppress(_Over):
                await self._work(world, operator, self._faults, kinds)

    def _kinds(self) -> tuple[frozenset[Kind], list[str]]:
        """The faults to make, and those that are left out, which is said. Raises CannotRun if none are to be made."""
        kinds = self._options.faults or frozenset(Kind)
        left_out: list[str] = []
        for cause, missing in (
            ("--without-clock", CLOCKS if self._options.without_clock else frozenset()),
            (
                "no file system may be mounted here",
                frozenset() if self._mounts else frozenset({Kind.NO_SPACE}),
            ),
        ):
            found = sorted(str(kind) for kind in kinds & missing)
            if found:
                self._reporter.say(f"WITHOUT these faults ({cause}): {', '.join(found)}", "bold yellow")
            kinds, left_out = kinds - missing, [*left_out, *found]
        if not kinds:
            raise CannotRun("none of the faults that were asked for can be made here")
        return kinds, left_out

    async def _enrol(self, world: World, operator: Operator) -> None:
        for quota in QUOTAS:
            await operator.create(quota)
        for number in range(self._options.agents):
            store = await world.add_store(await operator.enrol(f"a{number}"))
            world.slots.append(Slot(number, store))
        await asyncio.gather(*(slot.store.process.start() for slot in world.slots))
        await operator.back_up()
        self._reporter.say(f"a controller and {len(world.slots)} agents run in {self._folder}")

    async def _work(self, world: World, operator: Operator, faults: Faults, kinds: frozenset[Kind]) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(world.watch(), name="watch")
                tasks.create_task(operator.run(), name="operator")
                tasks.create_task(observe(world, operator), name="observer")
                for slot in world.slots:
                    for number in range(WORKERS):
                        name = f"client {slot.number}.{number}"
                        tasks.create_task(Worker(world, slot, number).run(), name=name)
                await self._waves(world, faults, Quiet(world, operator, self._say_quiet), kinds)
                raise _Over
        except* _Over:
            pass

    async def _waves(self, world: World, faults: Faults, quiet: Quiet, kinds: frozenset[Kind]) -> None:
        for wave in waves(self._options.seed, len(world.slots), kinds):
            await faults.wave(wave)
            await quiet.point()
            if self._reporter.seconds > self._options.minutes * 60:
                return

    def _say_quiet(self, sentence: str) -> None:
        self._reporter.say(sentence, "green")


class _Over(Exception):
    """The run is over; ends the tasks that work for ever."""


def _sentences(group: BaseExceptionGroup[BaseException]) -> str:
    return "; ".join(dict.fromkeys(str(each) or type(each).__name__ for each in _leaves(group)))


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


if __name__ == "__main__":
    sys.exit(main())
