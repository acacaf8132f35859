"""`make demo`, which is `python -m examples.demo`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

# gRPC's own chatter about processes that were killed would stand between the lines.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from rich.console import Console

from examples import enrolments
from examples.demo import report
from examples.demo.common import DemoFailed
from examples.demo.fleet import Fleet
from examples.demo.sites import Site
from examples.demo.story import FIRST_PERCENT, Ending, Story

HELD, BROKEN, FAILED, INTERRUPTED = 0, 1, 3, 130
#: Between these the whole target is asked for in good time before the rows end, with time before it for the story.
TARGETS: Final = (1_200, 1_700)
#: The path of a unix socket has at most 107 characters, and `/cardiff/gate.sock` is to follow.
_MOST_FOLDER_CHARACTERS: Final = 85
DESCRIPTION: Final = (
    "A controller and five agents on this machine enrol participants of a trial while a line is cut, an agent and the "
    "controller are killed, and the target moves. An observer checks all along that the cap is kept."
)
EPILOG: Final = (
    "Exit codes: 0 every guarantee held, 1 one did not, 2 bad usage, "
    "3 the demo could not be played, 130 interrupted."
)


def main(arguments: list[str] | None = None) -> int:
    """Play the demo; answers its exit code."""
    options = _options(arguments)
    # With --json, stdout is for the answer alone.
    console = Console(stderr=options.json, highlight=False)
    began = time.monotonic()
    try:
        with _folder(console, keep=options.keep) as folder, report.reporter(console) as reporter:
            ending, sites = asyncio.run(_play(folder, options.target, reporter))
    except DemoFailed as error:
        console.print(
            f"The demo could not be played: {error}", style="bold red", markup=False, soft_wrap=True
        )
        return FAILED
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("Interrupted: everything is stopped.")
        return INTERRUPTED
    _tell(ending, sites, time.monotonic() - began, console, as_json=options.json)
    return BROKEN if ending.broken else HELD


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=DESCRIPTION, epilog=EPILOG)
    low, high = TARGETS
    parser.add_argument(
        "--target", type=int, default=1_500, help=f"places in all, {low} to {high}; default 1500"
    )
    parser.add_argument(
        "--json", action="store_true", help="the result as JSON on stdout; events go to stderr"
    )
    parser.add_argument("--keep", action="store_true", help="keep the folder with databases, stores and logs")
    options = parser.parse_args(arguments)
    if not low <= options.target <= high:
        parser.error(f"--target must be from {low} to {high}: the story needs rows before and after it")
    return options


@contextlib.contextmanager
def _folder(console: Console, *, keep: bool) -> Iterator[Path]:
    """A folder for everything, gone at the end unless it is kept."""
    folder = Path(tempfile.mkdtemp(prefix="quotafleet-"))
    if len(str(folder)) > _MOST_FOLDER_CHARACTERS:
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix="quotafleet-", dir="/tmp"))
    try:
        yield folder
    finally:
        if keep:
            console.print(f"Kept: {folder}", markup=False, soft_wrap=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)


async def _play(folder: Path, target: int, reporter: report.Lines) -> tuple[Ending, dict[str, Site]]:
    """Raises DemoFailed if it cannot be played, CancelledError at SIGTERM."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        return await _on_fleet(folder, target, reporter)
    except ExceptionGroup as group:
        failed, others = group.split(DemoFailed)
        if failed is None or others is not None:
            raise
        raise DemoFailed("; ".join(dict.fromkeys(map(str, _leaves(failed))))) from None


async def _on_fleet(folder: Path, target: int, reporter: report.Lines) -> tuple[Ending, dict[str, Site]]:
    rows = enrolments.read()
    refused = asyncio.Event()
    async with contextlib.AsyncExitStack() as stack:
        reporter.event("starting a controller and five agents")
        fleet = await stack.enter_async_context(
            Fleet(folder, enrolments.PLANS, target * FIRST_PERCENT // 100)
        )
        sites = {name: Site(name, fleet.socket(name), refused) for name in enrolments.PLANS}
        for site in sites.values():
            await stack.enter_async_context(site)
        story = Story(fleet, sites, rows, target, reporter, refused)
        reporter.follow(story, sites)
        return await story.run(), sites


def _leaves(group: BaseExceptionGroup[DemoFailed]) -> Iterator[DemoFailed]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _tell(ending: Ending, sites: dict[str, Site], seconds: float, console: Console, *, as_json: bool) -> None:
    if as_json:
        print(report.as_json(ending, sites, seconds))
    else:
        console.print(report.table(ending, sites))
    for line in report.summary(ending, sites, seconds):
        console.print(line, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
