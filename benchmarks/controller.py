"""The controller under many agents: reports that it absorbs, targets that it sets, memory that it needs for each.

All of it on SQLite and on PostgreSQL, in processes of their own. `python -m benchmarks.controller` prints the figures
alone.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Final

from benchmarks.fleet import KINDS, Fleet, open_fleet
from benchmarks.progress import say

REPORTERS: Final = (200, 1_000)
TARGETED: Final = (500, 1_000)
LINKED: Final = (10, 500, 1_000)
#: Enough for every agent to use as much as it can.
_UNITS_EACH: Final = 1_000_000
_WARM_UP_SECONDS: Final = 2.0
_REPORT_SECONDS: Final = 5.0
_ROUNDS: Final = 20
_WARM_UP_ROUNDS: Final = 4
#: While memory is measured: heartbeats are short, so that it is soon quiet.
_HEARTBEAT_SECONDS: Final = 2.0
_QUIET_SECONDS: Final = 5.0
_SAMPLES: Final = 5


async def run_reports() -> dict[str, float]:
    """Reports and commits a second by number of agents that report as fast as they are acknowledged."""
    figures: dict[str, float] = {}
    for kind in KINDS:
        for agents in REPORTERS:
            say(f"reports of {agents:,} agents, {kind}")
            async with open_fleet(kind, agents) as fleet, fleet.connected(agents):
                await fleet.set_target(agents * _UNITS_EACH)
                measured = await fleet.report(_WARM_UP_SECONDS, _REPORT_SECONDS)
            figures |= {f"reports {kind} {agents} {name}": value for name, value in measured.items()}
    return figures


async def run_targets() -> dict[str, float]:
    """Seconds of a SetTarget by number of linked agents, the controller's own time in it, and how often it commits."""
    figures: dict[str, float] = {}
    for kind in KINDS:
        for agents in TARGETED:
            say(f"SetTarget to {agents:,} agents, {kind}")
            async with open_fleet(kind, agents) as fleet, fleet.connected(agents):
                measured = await _set_targets(fleet, agents)
            figures |= {f"targets {kind} {agents} {name}": value for name, value in measured.items()}
        few, many = (figures[f"targets {kind} {agents} p50 s"] for agents in TARGETED)
        figures[f"targets {kind} growth"] = many / few
    return figures


async def _set_targets(fleet: Fleet, agents: int) -> dict[str, float]:
    """Targets take turns, so that every agent's limit changes each time."""
    targets = [agents * _UNITS_EACH * times for times in (1, 2)]
    for number in range(_WARM_UP_ROUNDS):
        await fleet.set_target(targets[number % 2])
    seconds = []
    cpu_before, before = fleet.controller.cpu_seconds(), await fleet.written()
    for number in range(_ROUNDS):
        begun = time.perf_counter()
        await fleet.set_target(targets[number % 2])
        seconds.append(time.perf_counter() - begun)
    cpu_after, after = fleet.controller.cpu_seconds(), await fleet.written()
    return {
        "p50 s": statistics.median(seconds),
        "p95 s": statistics.quantiles(seconds, n=20)[-1],
        "cpu s": (cpu_after - cpu_before) / _ROUNDS,
        "commits": (after["commits"] - before["commits"]) / _ROUNDS,
    }


async def run_memory() -> dict[str, float]:
    """KiB of memory that is the controller's own, by number of linked agents; and per agent.

    Each has a connection of its own, as agents have, and was told of a new target.
    """
    figures: dict[str, float] = {}
    for kind in KINDS:
        say(f"memory of {LINKED[-1]:,} agents, {kind}")
        async with open_fleet(kind, LINKED[-1], heartbeat_seconds=_HEARTBEAT_SECONDS) as fleet:
            await _quiet_kib(
                fleet, LINKED[0]
            )  # what is loaded and set up with the first agents is not theirs
            for agents in LINKED:
                figures[f"memory {kind} {agents} KiB"] = await _quiet_kib(fleet, agents)
        few, *_, many = (figures[f"memory {kind} {agents} KiB"] for agents in LINKED)
        figures[f"memory {kind} KiB per agent"] = (many - few) / (LINKED[-1] - LINKED[0])
    return figures


async def _quiet_kib(fleet: Fleet, agents: int) -> float:
    async with fleet.connected(agents, own_channels=True):
        await fleet.set_target((LINKED[-1] + agents) * _UNITS_EACH)
        await asyncio.sleep(_QUIET_SECONDS)
        samples = []
        for _ in range(_SAMPLES):
            samples.append(fleet.controller.own_kib())
            await asyncio.sleep(0.2)
    return statistics.median(samples)


async def run() -> dict[str, float]:
    """All of it."""
    return {**await run_reports(), **await run_targets(), **await run_memory()}


if __name__ == "__main__":
    for name, value in asyncio.run(run()).items():
        print(f"{name:48} {value:12,.3f}")
