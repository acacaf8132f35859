"""`make bench`: what the hot paths cost, as ratios to what they stand on, all measured in one run.

Absolute figures depend on the machine and on what else it does; the ratios much less. `--json` prints every figure.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import sqlite3
import sys
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from benchmarks import fanout, gate, rpc, rules, taric

Row = tuple[str, str, float, str, float, bool]


def rows(figures: Mapping[str, float]) -> list[Row]:
    """What was measured, the figure, and what it should reach: (what, absolute, figure, sign, target, holds)."""
    found = []
    for callers in (1, 32, 256):
        rate, ratio = (figures[f"acquire, {callers} callers {name}"] for name in ("gate", "ratio"))
        target = 0.7 if callers == 256 else 0.0
        found.append(
            _row(f"durable Acquire over gRPC, {callers} callers / no-op RPC", f"{rate:,.0f}/s", ratio, target)
        )
    for callers in (1, 16):
        rate, ratio = (figures[f"batch of 100, {callers} callers {name}"] for name in ("gate", "ratio"))
        found.append(
            _row(
                f"AcquireBatch of 100, {callers} callers / no-op RPC",
                f"{100 * rate:,.0f} items/s",
                ratio,
                0.2,
            )
        )
    for callers in (1, 32, 256, 4_096):
        rate, ratio = figures[f"gate_{callers}_per_s"], figures[f"gate_{callers}_ratio"]
        target = 0.15 if callers == 4_096 else 0.0
        found.append(
            _row(f"in-process gate, {callers} waiting / raw sqlite3", f"{rate:,.0f}/s", ratio, target)
        )
    latency = figures["one caller / (noop + 1.5 commits)"]
    found.append(
        (
            "one caller's latency / (no-op RPC + 1.5 durable commits)",
            f"{figures['one caller gate ms']:.2f} ms",
            latency,
            "<=",
            1.0,
            latency <= 1.0,
        )
    )
    seconds = figures["fanout_seconds"]
    one_by_one = f"{figures['one_by_one_seconds']:.0f} s one by one"
    found.append(("SetTarget to 200 agents of 50 ms, seconds", one_by_one, seconds, "<", 1.0, seconds < 1.0))
    return [*found, *_rules_rows(figures), *_taric_rows(figures)]


def _rules_rows(figures: Mapping[str, float]) -> list[Row]:
    """Thousands of records a second, and how much longer the same takes on ten times the data."""
    found = []
    for changes in rules.CHANGES:
        for definitions in rules.DEFINITIONS:
            name = f"rules {changes} of {definitions}"
            rate, milliseconds = figures[f"{name} per_s"], figures[f"{name} ms"]
            what, of = f"rules: {changes:,} changes", f"of {definitions:,} definitions"
            if changes == 1:
                fast = milliseconds < 1
                found.append((f"{what} {of}, ms", f"{rate:,.0f}/s", milliseconds, "<", 1.0, fast))
            else:
                found.append(_row(f"{what} {of}, thousands/s", f"{milliseconds:.0f} ms", rate / 1_000, 20.0))
        growth = figures[f"rules {changes} growth"]
        found.append((f"rules: {changes:,} changes, 50,000 / 5,000", "", growth, "<=", 1.3, growth <= 1.3))
    seconds = figures[f"rules index 100,000 of {rules.DEFINITIONS[-1]} s"]
    found.append(("rules: index 100,000 records, seconds", "", seconds, "<", 3.0, seconds < 3.0))
    return found


def _taric_rows(figures: Mapping[str, float]) -> list[Row]:
    """Megabytes a second, and how memory grows with the file."""
    rate, ratio = (figures[f"taric {taric.TIMES} MB {name}"] for name in ("read MB_per_s", "ratio"))
    growth, peak = figures["taric peak growth"], figures[f"taric peak {taric.TIMES}x MiB"]
    return [
        _row(f"TARIC3 reader, {taric.TIMES} MB, MB/s", f"{ratio:.2f} of lxml", rate, 5.0),
        ("TARIC3 reader, peak memory of 10 MB / 1 MB", f"{peak:.0f} MiB", growth, "<=", 1.1, growth <= 1.1),
    ]


def _row(what: str, absolute: str, ratio: float, target: float) -> Row:
    return what, absolute, ratio, ">=", target, ratio >= target


def show(found: list[Row]) -> None:
    """The table for people."""
    cores, python = os.cpu_count(), platform.python_version()
    title = f"{cores} cores, {platform.machine()}, Python {python}, SQLite {sqlite3.sqlite_version}"
    table = Table(title=title)
    for name in ("what", "absolute", "figure", "to reach", ""):
        table.add_column(name, justify="left" if name == "what" else "right")
    for what, absolute, figure, sign, target, holds in found:
        if target:
            table.add_row(
                what, absolute, f"{figure:.2f}", f"{sign} {target:.2f}", "yes" if holds else "[red]no[/red]"
            )
        else:
            table.add_row(what, absolute, f"{figure:.2f}", "", "")
    Console().print(table)


async def measure() -> dict[str, float]:
    """Every figure, one benchmark after the other."""
    figures: dict[str, float] = {}
    for name, run in (("gate", gate.run), ("rpc", rpc.run), ("fan-out", fanout.run)):
        print(f"measuring: {name} ...", file=sys.stderr, flush=True)
        figures |= await run()
    for name, measured in (("rules", rules.run), ("TARIC3", taric.run)):
        print(f"measuring: {name} ...", file=sys.stderr, flush=True)
        figures |= measured()
    return figures


def main() -> None:
    """Measures, then prints. Exits with 0 whatever the figures are: they are for people to judge."""
    figures = asyncio.run(measure())
    if "--json" in sys.argv[1:]:
        print(json.dumps(figures, indent=2))
    else:
        show(rows(figures))


if __name__ == "__main__":
    main()
