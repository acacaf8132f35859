"""`make bench`: what the hot paths cost, as ratios to what they stand on, all measured in one run.

Absolute figures depend on the machine and on what else it does; the ratios much less. `--json` prints every figure,
`--only NAME` measures one group.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sqlite3
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any

# gRPC's own chatter would stand between the lines; it looks when it is imported.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

from rich.console import Console
from rich.table import Table

from benchmarks import controller, fanout, gate, rows, rpc, rules, taric
from benchmarks.progress import say
from benchmarks.rows import Figures, Row


@dataclass(frozen=True)
class Group:
    """What is measured together."""

    run: Callable[[], Coroutine[Any, Any, dict[str, float]] | dict[str, float]]
    rows: Callable[[Figures], list[Row]]


GROUPS = {
    "rpc": Group(rpc.run, rows.of_rpc),
    "gate": Group(gate.run, rows.of_gate),
    "fan-out": Group(fanout.run, rows.of_fan_out),
    "reports": Group(controller.run_reports, rows.of_reports),
    "targets": Group(controller.run_targets, rows.of_targets),
    "memory": Group(controller.run_memory, rows.of_memory),
    "rules": Group(rules.run, rows.of_rules),
    "taric": Group(taric.run, rows.of_taric),
}


def show(found: Iterable[Row]) -> None:
    """The table for people."""
    cores, python = os.cpu_count(), platform.python_version()
    title = f"{cores} cores, {platform.machine()}, Python {python}, SQLite {sqlite3.sqlite_version}"
    table = Table(title=title)
    for name in ("what", "absolute", "figure", "to reach", ""):
        table.add_column(name, justify="left" if name == "what" else "right")
    for row in found:
        figure = f"{row.figure:,.2f}"
        if row.target:
            holds = "yes" if row.holds else "[red]no[/red]"
            table.add_row(row.what, row.absolute, figure, f"{row.sign} {row.target:.2f}", holds)
        else:
            table.add_row(row.what, row.absolute, figure, "", "")
    Console().print(table)


def measure(names: Iterable[str]) -> dict[str, float]:
    """Every figure of these groups, one group after the other."""
    figures: dict[str, float] = {}
    for name in names:
        say(name)
        measured = GROUPS[name].run()
        figures |= measured if isinstance(measured, dict) else asyncio.run(measured)
    return figures


def main() -> None:
    """Measures, then prints. Exits with 0 whatever the figures are: they are for people to judge."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measures the speed.")
    parser.add_argument("--json", action="store_true", help="every figure, for programs")
    parser.add_argument("--only", metavar="NAME", choices=GROUPS, help=f"one group of {', '.join(GROUPS)}")
    asked = parser.parse_args()
    names = [asked.only] if asked.only else list(GROUPS)
    figures = measure(names)
    if asked.json:
        print(json.dumps(figures, indent=2))
    else:
        show(row for name in names for row in GROUPS[name].rows(figures))


if __name__ == "__main__":
    main()
