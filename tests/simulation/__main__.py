"""`python -m tests.simulation`: simulate seeds; show, shrink and replay what does not hold."""

from __future__ import annotations

import argparse
import collections
import json
import math
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.pool import Pool

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tests.interrupts import interrupt_once
from tests.simulation import shrink
from tests.simulation.faults import FAULTS
from tests.simulation.plan import Plan, draw_plan
from tests.simulation.run import EVENTS, Outcome, run_seed

#: How long a failure is shrunk unless another time is asked for.
SHRINK_SECONDS = 60
HELD, BROKEN, INTERRUPTED = 0, 1, 130
#: Without a terminal, how far it has come is said after so many seeds or seconds.
_SAY_SEEDS, _SAY_SECONDS = 100, 30
_ENDING = (signal.SIGINT, signal.SIGTERM)


def main() -> int:
    """Run what the command line asks for; answers the exit code."""
    options = _options()
    interrupt_once()
    out = Console(stderr=options.json, highlight=False)
    try:
        return _simulate(options, out) if options.keep is None else _replay(options, out)
    except KeyboardInterrupt:
        out.print("interrupted")
        return INTERRUPTED


def _simulate(options: argparse.Namespace, out: Console) -> int:
    outcomes: list[Outcome] = []
    began = time.monotonic()
    interrupted = _run_all(options, out, outcomes)
    violations = [outcome for outcome in outcomes if outcome.violation]
    if violations:
        interrupted = _show_failure(violations[0], options, out) or interrupted
    summary = summarise(outcomes, time.monotonic() - began)
    if options.digest:
        summary["digests"] = {outcome.seed: f"{outcome.digest:08x}" for outcome in outcomes}
    if options.json:
        print(json.dumps(summary | {"interrupted": interrupted}))
    elif not options.digest and outcomes:
        _show(summary, out)
    if interrupted:
        held = len(outcomes) - len(violations)
        out.print(f"interrupted: {held:,} of {options.seeds:,} seeds have held so far")
        return INTERRUPTED
    return BROKEN if violations else HELD


def summarise(outcomes: list[Outcome], seconds: float) -> dict[str, object]:
    """What many seeds come to."""
    done: collections.Counter[str] = collections.Counter()
    asked: collections.Counter[str] = collections.Counter()
    for outcome in outcomes:
        done.update(outcome.done)
        asked.update(outcome.asked)
    busy = sum(outcome.took_s for outcome in outcomes)
    events = sum(outcome.events for outcome in outcomes)
    return {
        "seeds": len(outcomes),
        "events": events,
        "simulated_hours": round(sum(outcome.simulated_s for outcome in outcomes) / 3600, 1),
        "quiet_points": sum(outcome.quiet_points for outcome in outcomes),
        "violations": [outcome.violation for outcome in outcomes if outcome.violation],
        "events_per_second_and_core": round(events / busy) if busy else 0,
        "seconds": round(seconds, 1),
        "faults": {kind: done[kind] for kind in sorted(done) if kind in FAULTS},
        "actions": {kind: done[kind] for kind in sorted(done) if kind not in FAULTS},
        "answers": dict(sorted(asked.items())),
    }


def _options() -> argparse.Namespace:
    """What was asked for; ends the process with 2 if it makes no sense."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation",
        description=__doc__,
        epilog="Exit codes: 0 every guarantee held, 1 one did not, 2 bad usage, 130 interrupted.",
    )
    parser.add_argument("--seed", type=int, default=1, help="the first seed (default 1)")
    parser.add_argument(
        "--seeds", type=_at_least_one, default=1, help="how many seeds, one after the other (default 1)"
    )
    parser.add_argument(
        "--steps", type=_at_least_one, default=EVENTS, help=f"events of each seed (default {EVENTS:,})"
    )
    parser.add_argument(
        "--jobs", type=_at_least_one, default=os.cpu_count() or 1, help="processes (default: one a core)"
    )
    parser.add_argument(
        "--keep", type=_numbers, help="replay only these actions of the seed's plan, by number, or none"
    )
    parser.add_argument("--trace", action="store_true", help="with --keep: print what led to the failure")
    parser.add_argument(
        "--shrink-seconds", type=_seconds, default=SHRINK_SECONDS, help="0: do not shrink a failure"
    )
    parser.add_argument(
        "--digest", action="store_true", help="print the digest of each seed: the same for the same"
    )
    parser.add_argument(
        "--json", action="store_true", help="print the result as JSON on stdout, all else on stderr"
    )
    options = parser.parse_args()
    if options.keep is None and options.trace:
        parser.error("--trace goes with --keep only")
    if options.keep is not None:
        if options.seeds != 1:
            parser.error("--keep replays one seed: leave --seeds out")
        numbers = draw_plan(options.seed).numbers
        unknown = options.keep.difference(numbers)
        if unknown:
            parser.error(
                f"--keep: the plan of seed {options.seed} has no action {min(unknown)}; "
                f"its actions are {min(numbers)} to {max(numbers)}"
            )
    return options


def _at_least_one(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed: a whole number from 1 on")
    return number


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed: a number of seconds from 0 on")
    return seconds


def _numbers(text: str) -> frozenset[int]:
    try:
        return frozenset() if text == "none" else frozenset(int(number) for number in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not allowed: numbers with commas between them, or none"
        ) from None


@contextmanager
def _workers(count: int) -> Iterator[Pool]:
    """Processes that simulate. They never hear Ctrl-C, which would break programs off in the middle; this one does.

    A process keeps what it once took; a fresh one now and then keeps the whole small.
    """
    # What is blocked here stays so in all that is forked from here, and from the pool's own threads.
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        pool = multiprocessing.get_context("fork").Pool(count, _begin_worker, maxtasksperchild=50)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
    with pool:
        yield pool


def _begin_worker() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # so the pool ends it
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])


def _run_one(task: tuple[int, int]) -> Outcome:
    return run_seed(*task)


def _run_all(options: argparse.Namespace, out: Console, outcomes: list[Outcome]) -> bool:
    """Add the outcomes in the order of the seeds, up to the first failure; whether it was interrupted."""
    tasks = [(seed, options.steps) for seed in range(options.seed, options.seed + options.seeds)]
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    said, said_at = 0, time.monotonic()
    with Progress(*columns, console=out, disable=not out.is_terminal) as progress:
        bar = progress.add_task("seeds", total=len(tasks))
        try:
            with _workers(min(options.jobs, len(tasks))) as pool:
                for done, outcome in enumerate(pool.imap(_run_one, tasks), 1):
                    outcomes.append(outcome)
                    text = f"{done:,} of {len(tasks):,} seeds"
                    progress.update(bar, completed=done, description=text)
                    late = done - said >= _SAY_SEEDS or time.monotonic() - said_at >= _SAY_SECONDS
                    if options.digest and not options.json:
                        print(
                            f"seed {outcome.seed}: digest {outcome.digest:08x} after {outcome.events} events"
                        )
                    elif late and not outcome.violation and not out.is_terminal:
                        out.print(f"{text} have held")
                        said, said_at = done, time.monotonic()
                    if outcome.violation:
                        break
        except KeyboardInterrupt:
            return True
    return False


def _show_failure(outcome: Outcome, options: argparse.Namespace, out: Console) -> bool:
    """Say what does not hold and how to see it again, shrunk; whether that was interrupted."""
    out.print(f"seed {outcome.seed}, event {outcome.events}: ", style="red", end="")
    out.print(outcome.violation, markup=False, soft_wrap=True)
    plainly = f"again: make simulate SEED={outcome.seed} STEPS={options.steps}"
    if not options.shrink_seconds:
        out.print(plainly)
        return False
    plan = draw_plan(outcome.seed)
    if not out.is_terminal:
        out.print(f"shrinking for at most {options.shrink_seconds:g} s")
    with out.status("shrinking") as status, _workers(1) as pool:

        def run(seed: int, events: int, candidate: Plan) -> Outcome:
            return pool.apply(run_seed, (seed, events, candidate))

        def progress(left: int, tries: int) -> None:
            status.update(f"shrinking: {left} actions left after {tries} tries")

        shrunk = shrink.shrink(plan, outcome, seconds=options.shrink_seconds, progress=progress, run=run)
    _print_trace(shrunk.outcome, out)
    out.print(f"{len(shrunk.keep)} of {len(plan.numbers)} actions are left after {shrunk.tries} tries")
    if len(shrunk.keep) == len(plan.numbers):
        out.print(plainly)
    else:
        again = shrink.replay(outcome.seed, shrunk.outcome.events + 1, shrunk.keep)
        out.print(f"again: {again}", soft_wrap=True)
    return shrunk.interrupted


def _replay(options: argparse.Namespace, out: Console) -> int:
    plan = draw_plan(options.seed).keeping(options.keep)
    with _workers(1) as pool:
        outcome = pool.apply(run_seed, (options.seed, options.steps, plan))
    if options.trace:
        _print_trace(outcome, out)
    found = f"event {outcome.events}: {outcome.violation}" if outcome.violation else "everything holds"
    out.print(
        f"seed {outcome.seed}, {len(options.keep)} actions, digest {outcome.digest:08x}: {found}",
        markup=False,
        soft_wrap=True,
    )
    if options.json:
        fields = {
            "seed": outcome.seed,
            "keep": sorted(options.keep),
            "events": outcome.events,
            "digest": f"{outcome.digest:08x}",
            "guarantee": outcome.guarantee,
            "violation": outcome.violation,
        }
        print(json.dumps(fields))
    return BROKEN if outcome.violation else HELD


def _print_trace(outcome: Outcome, out: Console) -> None:
    for line in outcome.trace:
        out.print(line, markup=False, soft_wrap=True)
    out.print(outcome.violation, style="red", markup=False, soft_wrap=True)


def _show(summary: dict[str, object], out: Console) -> None:
    table = Table(show_header=False)
    for name in (
        "seeds",
        "events",
        "simulated_hours",
        "quiet_points",
        "events_per_second_and_core",
        "seconds",
    ):
        table.add_row(name.replace("_", " "), f"{summary[name]:,}")
    for kind in ("faults", "actions"):
        counts = summary[kind]
        assert isinstance(counts, dict)
        table.add_row(kind, ", ".join(f"{name} {count:,}" for name, count in counts.items()))
    violations = summary["violations"]
    table.add_row("violations", f"[red]{len(violations)}[/]" if violations else "[green]none[/]")  # type: ignore[arg-type]
    out.print(table)


if __name__ == "__main__":
    sys.exit(main())
