"""`make chaos`, which is `python -m tests.chaos`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
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
from tests.chaos.verdict import CannotRun, Violation
from tests.chaos.world import QUOTAS, Slot, World

HELD, BROKEN, BAD_USAGE, FAILED, INTERRUPTED = 0, 1, 2, 3, 130
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
    keep = options.keep
    run = Run(folder, options, reporter, mounts=mounts)
    broken, code = None, HELD
    try:
        asyncio.run(run.play())
    except* Violation as group:
        broken = "; ".join(dict.fromkeys(map(str, _leaves(group))))
        reporter.say(f"VIOLATION at seed {options.seed}, step {run.step}: {broken}", "bold red")
        keep, code = True, BROKEN
    except* CannotRun as group:
        reporter.say(f"cannot be run: {'; '.join(map(str, _leaves(group)))}", "bold red")
        code = code or FAILED
    except* DemoFailed as group:  # a program did not start, or not again
        said = "; ".join(map(str, _leaves(group)))
        reporter.say(f"FAILED at seed {options.seed}, step {run.step}: {said}", "bold red")
        broken, keep, code = broken or said, True, code or (BROKEN if run.step else FAILED)
    except* Exception:
        console.print_exception()
        keep, code = True, code or FAILED
    except* (KeyboardInterrupt, asyncio.CancelledError):
        reporter.say("interrupted: everything is stopped")
        code = INTERRUPTED
    if run.world is not None:
        run.world.disk.close(keep=keep)
    if keep:
        reporter.say(f"logs and databases are in {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    if run.world is not None:
        for table in report.tables(run.world.tally):
            console.print(table)
        if options.json:
            print(report.as_json(options.seed, reporter.seconds, run.world.tally, broken))
    if code == HELD:
        reporter.say(f"every guarantee held (seed {options.seed})", "bold green")
    return code


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__, epilog=EPILOG)
    parser.add_argument(
        "--minutes", type=float, default=10.0, help="no wave begins later than this; at least one is played"
    )
    parser.add_argument(
        "--seed", type=int, default=random.randrange(2**32), help="of the schedule; default: any"
    )
    parser.add_argument("--agents", type=int, default=3, help="from 2 to 8; default 3")
    parser.add_argument(
        "--json", action="store_true", help="the counts as JSON on stdout; events go to stderr"
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
    return options


def _kinds(text: str) -> frozenset[Kind]:
    try:
        return frozenset(Kind[name.upper()] for name in text.split(","))
    except KeyError as unknown:
        known = ", ".join(kind.name.lower() for kind in Kind)
        raise argparse.ArgumentTypeError(f"{unknown} is no fault; there are {known}") from None


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
        wanted = self._options.faults or frozenset(Kind)
        kinds = wanted - (CLOCKS if self._options.without_clock else frozenset())
        if not self._mounts:
            kinds -= {Kind.NO_SPACE}
        left_out = sorted(wanted - kinds)
        if left_out:
            why = "as told, or because no file system may be mounted here"
            self._reporter.say(f"WITHOUT these faults, {why}: {', '.join(left_out)}", "bold yellow")
        library = find_library() if kinds & CLOCKS else None
        world = World(self._folder, self._options.seed, library)
        world.tally.left_out = [str(kind) for kind in left_out]
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


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


if __name__ == "__main__":
    sys.exit(main())
