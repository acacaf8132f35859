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

from benchmarks import fanout, gate, rpc

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
    return found


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
