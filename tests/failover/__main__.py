"""`make failover`: two controllers, many agents, constant load, a controller killed every few seconds."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

from tests.failover.load import Outcome, check_everything_counted, kill_in_turn, under_load
from tests.pair_kit import open_pair
from tests.postgres_kit import PostgresServer


async def run(
    folder: Path, *, controllers: int, agents: int, seconds: float, every: float, heartbeat_ms: int
) -> Outcome:
    """One run, which fails if anything was lost or overspent."""
    with PostgresServer() as server:
        async with open_pair(folder, server, heartbeat_ms=heartbeat_ms, controllers=controllers) as fleet:
            await fleet.quota(target=agents)
            begun = time.monotonic()
            for number in range(agents):
                await fleet.agent(f"a{number:02}")
            _tell(f"{agents} agents linked in {time.monotonic() - begun:.1f} s")
            async with under_load(fleet) as outcome:
                await kill_in_turn(fleet, outcome, seconds=seconds, every=every, tell=_tell)
            count = await check_everything_counted(fleet, outcome)
            _tell(
                f"{count.count} counted of {count.target}, {outcome.acquisitions} answered, {outcome.looks} looks"
            )
            return outcome


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Runs once and prints what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.failover", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--every", type=float, default=10, help="seconds between two kills")
    parser.add_argument("--agents", type=int, default=50)
    parser.add_argument("--controllers", type=int, default=2)
    parser.add_argument("--heartbeat", type=float, default=5, help="seconds")
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # each agent says that its link is gone
    with tempfile.TemporaryDirectory(prefix="failover-") as folder:
        outcome = asyncio.run(
            run(
                Path(folder),
                controllers=options.controllers,
                agents=options.agents,
                seconds=options.seconds,
                every=options.every,
                heartbeat_ms=round(options.heartbeat * 1000),
            )
        )
    back = " ".join(f"{seconds:.2f}" for seconds in outcome.back_seconds)
    print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}")
    print(
        f"acquisitions answered: {outcome.acquisitions}, all counted; SetTargets answered: {outcome.set_targets}"
    )
    print(f"the true total was never above the target, at {outcome.looks} looks")
    print(f"seconds until all agents were back: {back} (goal 5)")


if __name__ == "__main__":
    main()
