"""`python -m tests.simulation`: simulate seeds; show, shrink and replay what does not hold."""

from __future__ import annotations

import argparse
import collections
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tests.simulation import shrink
from tests.simulation.faults import FAULTS
from tests.simulation.plan import draw_plan
from tests.simulation.run import EVENTS, Outcome, run_seed

#: How long a failure is shrunk unless another time is asked for.
SHRINK_SECONDS = 60


def main() -> int:
    """Run what the command line asks for; 1 if a guarantee was broken."""
    options = _parser().parse_args()
    out = Console(stderr=options.json, highlight=False)
    if options.keep is not None:
        return _replay(options, out)
    outcomes: list[Outcome] = []
    began = time.monotonic()
    for outcome in _run_all(options, out):
        outcomes.append(outcome)
        if options.digest:
            print(f"seed {outcome.seed}: digest {outcome.digest:08x} after {outcome.events} events")
        if outcome.violation:
            _show_failure(outcome, options, out)
            break
    summary = summarise(outcomes, time.monotonic() - began)
    if options.json:
        print(json.dumps(summary))
    elif not options.digest:
        _show(summary, out)
    return 1 if summary["violations"] else 0


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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first seed (default 1)")
    parser.add_argument(
        "--seeds", type=int, default=1, help="how many seeds, one after the other (default 1)"
    )
    parser.add_argument("--steps", type=int, default=EVENTS, help=f"events of each seed (default {EVENTS:,})")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)"
    )
    parser.add_argument("--keep", help="replay only these actions of the seed's plan, by number")
    parser.add_argument("--trace", action="store_true", help="with --keep: print what led to the failure")
    parser.add_argument(
        "--shrink-seconds", type=float, default=SHRINK_SECONDS, help="0: do not shrink a failure"
    )
    parser.add_argument(
        "--digest", action="store_true", help="print the digest of each seed: the same for the same"
    )
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    return parser


def _run_one(task: tuple[int, int]) -> Outcome:
    return run_seed(*task)


def _run_all(options: argparse.Namespace, out: Console) -> Iterator[Outcome]:
    """Every outcome in the order of the seeds, with a progress bar on a terminal."""
    tasks = [(seed, options.steps) for seed in range(options.seed, options.seed + options.seeds)]
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=out, disable=not out.is_terminal) as progress:
        bar = progress.add_task("seeds", total=len(tasks))
        jobs = min(options.jobs, len(tasks))
        if jobs == 1:
            for task in tasks:
                yield _run_one(task)
                progress.advance(bar)
            return
        # A process keeps what it once took; a fresh one now and then keeps the whole small.
        with multiprocessing.get_context("fork").Pool(jobs, maxtasksperchild=50) as pool:
            for done, outcome in enumerate(pool.imap(_run_one, tasks), 1):
                progress.update(bar, completed=done, description=f"{done:,} of {len(tasks):,} seeds")
                yield outcome


def _show_failure(outcome: Outcome, options: argparse.Namespace, out: Console) -> None:
    out.print(f"[red]seed {outcome.seed}, event {outcome.events}[/]: {outcome.violation}", markup=True)
    if not options.shrink_seconds:
        out.print(f"again: make simulate SEED={outcome.seed} STEPS={options.steps}")
        return
    plan = draw_plan(outcome.seed)
    with out.status("shrinking") as status:
        shrunk = shrink.shrink(
            plan,
            outcome,
            seconds=options.shrink_seconds,
            progress=lambda left, tries: status.update(f"shrinking: {left} actions left after {tries} tries"),
        )
    _print_trace(shrunk.outcome, out)
    out.print(f"{len(shrunk.keep)} of {len(plan.numbers)} actions are left after {shrunk.tries} tries")
    out.print(f"again: {shrink.replay(outcome.seed, shrunk.outcome.events + 1, shrunk.keep)}", soft_wrap=True)


def _replay(options: argparse.Namespace, out: Console) -> int:
    numbers = [] if options.keep == "none" else [int(number) for number in options.keep.split(",")]
    plan = draw_plan(options.seed).keeping(frozenset(numbers))
    outcome = run_seed(options.seed, options.steps, plan)
    if options.trace:
        _print_trace(outcome, out)
    found = f"event {outcome.events}: {outcome.violation}" if outcome.violation else "everything holds"
    out.print(
        f"seed {outcome.seed}, {len(numbers)} actions, digest {outcome.digest:08x}: {found}", markup=False
    )
    return 1 if outcome.violation else 0


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
