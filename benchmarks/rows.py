"""What the figures mean: rows of a table, each with what it should reach. A group needs its own figures only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from benchmarks import controller, rules, taric
from benchmarks.fleet import KINDS

Figures = Mapping[str, float]


class Row(NamedTuple):
    """One figure beside what it should reach; a target of 0 is none."""

    what: str
    absolute: str
    figure: float
    sign: str = ">="
    target: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether it reaches that."""
        match self.sign:
            case ">=":
                return self.figure >= self.target
            case "<=":
                return self.figure <= self.target
            case _:
                return self.figure < self.target


def of_rpc(figures: Figures) -> list[Row]:
    """The gate over gRPC, as parts of what a no-op does."""
    found = []
    for callers in (1, 32, 256):
        rate, ratio = (figures[f"acquire, {callers} callers {name}"] for name in ("gate", "ratio"))
        what = f"durable Acquire over gRPC, {callers} callers / no-op RPC"
        found.append(Row(what, f"{rate:,.0f}/s", ratio, target=0.7 if callers == 256 else 0.0))
    for callers in (1, 16):
        rate, ratio = (figures[f"batch of 100, {callers} callers {name}"] for name in ("gate", "ratio"))
        what = f"AcquireBatch of 100, {callers} callers / no-op RPC"
        found.append(Row(what, f"{100 * rate:,.0f} items/s", ratio, target=0.2))
    latency = figures["one caller / (noop + 1.5 commits)"]
    what = "one caller's latency / (no-op RPC + 1.5 durable commits)"
    return [*found, Row(what, f"{figures['one caller gate ms']:.2f} ms", latency, "<=", 1.0)]


def of_gate(figures: Figures) -> list[Row]:
    """The gate in its own process, as parts of what SQLite does."""
    found = []
    for callers in (1, 32, 256, 4_096):
        rate, ratio = figures[f"gate_{callers}_per_s"], figures[f"gate_{callers}_ratio"]
        what = f"in-process gate, {callers} waiting / raw sqlite3"
        found.append(Row(what, f"{rate:,.0f}/s", ratio, target=0.15 if callers == 4_096 else 0.0))
    return found


def of_fan_out(figures: Figures) -> list[Row]:
    """Seconds, beside what one by one would take."""
    one_by_one = f"{figures['one_by_one_seconds']:.0f} s one by one"
    return [Row("SetTarget to 200 agents of 50 ms, seconds", one_by_one, figures["fanout_seconds"], "<", 1.0)]


def of_reports(figures: Figures) -> list[Row]:
    """Reports per commit: the more agents report, the more of them share one."""
    found = []
    for kind in KINDS:
        for agents in controller.REPORTERS:
            name = f"reports {kind} {agents}"
            reports, commits = figures[f"{name} reports per_s"], figures[f"{name} commits per_s"]
            what = f"reports of {agents:,} agents, {kind}, per commit"
            found.append(Row(what, f"{reports:,.0f} reports/s", reports / commits, target=agents / 10))
    return found


def of_targets(figures: Figures) -> list[Row]:
    """Seconds of a SetTarget, how they grow with the fleet, and that there is no commit per agent."""
    found = []
    few, many = controller.TARGETED
    for kind in KINDS:
        name = f"targets {kind} {many}"
        slow = f"p95 {figures[f'{name} p95 s']:.2f} s, CPU {figures[f'{name} cpu s']:.2f} s"
        found.append(
            Row(f"SetTarget to {many:,} agents, {kind}, seconds", slow, figures[f"{name} p50 s"], "<", 1.0)
        )
        growth = figures[f"targets {kind} growth"]
        found.append(Row(f"SetTarget to {many:,} / {few:,} agents, {kind}", "", growth, "<=", 2.3))
        commits = figures[f"{name} commits"]
        found.append(Row(f"commits of a SetTarget to {many:,}, {kind}", "", commits, "<", many / 20))
    return found


def of_memory(figures: Figures) -> list[Row]:
    """KiB per linked agent."""
    found = []
    most = controller.LINKED[-1]
    for kind in KINDS:
        whole = f"{figures[f'memory {kind} {most} KiB'] / 1024:.0f} MiB with {most:,}"
        each = figures[f"memory {kind} KiB per agent"]
        found.append(Row(f"memory of the controller per linked agent, {kind}, KiB", whole, each, "<", 100.0))
    return found


def of_rules(figures: Figures) -> list[Row]:
    """Thousands of records a second, and how much longer the same takes on ten times the data."""
    found = []
    for changes in rules.CHANGES:
        for definitions in rules.DEFINITIONS:
            name = f"rules {changes} of {definitions}"
            rate, milliseconds = figures[f"{name} per_s"], figures[f"{name} ms"]
            what, of = f"rules: {changes:,} changes", f"of {definitions:,} definitions"
            if changes == 1:
                found.append(Row(f"{what} {of}, ms", f"{rate:,.0f}/s", milliseconds, "<", 1.0))
            else:
                absolute = f"{milliseconds:.0f} ms"
                found.append(Row(f"{what} {of}, thousands/s", absolute, rate / 1_000, target=20.0))
        growth = figures[f"rules {changes} growth"]
        found.append(Row(f"rules: {changes:,} changes, 50,000 / 5,000", "", growth, "<=", 1.3))
    seconds = figures[f"rules index 100,000 of {rules.DEFINITIONS[-1]} s"]
    return [*found, Row("rules: index 100,000 records, seconds", "", seconds, "<", 3.0)]


def of_taric(figures: Figures) -> list[Row]:
    """Megabytes a second, and how memory grows with the file."""
    rate, ratio = (figures[f"taric {taric.TIMES} MB {name}"] for name in ("read MB_per_s", "ratio"))
    growth, peak = figures["taric peak growth"], figures[f"taric peak {taric.TIMES}x MiB"]
    return [
        Row(f"TARIC3 reader, {taric.TIMES} MB, MB/s", f"{ratio:.2f} of lxml", rate, target=5.0),
        Row("TARIC3 reader, peak memory of 10 MB / 1 MB", f"{peak:.0f} MiB", growth, "<=", 1.1),
    ]
