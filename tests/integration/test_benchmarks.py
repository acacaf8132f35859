"""What the benchmarks load a controller with: agents that are light, and yet linked, reporting and told of targets."""

import asyncio

import pytest

from benchmarks.fleet import KINDS, open_fleet
from benchmarks.rows import Row


@pytest.mark.parametrize("kind", KINDS)
async def test_light_agents_apply_targets_and_report(kind: str) -> None:
    async with open_fleet(kind, 3, heartbeat_seconds=0.5) as fleet:
        async with fleet.connected(3):
            await fleet.set_target(30_000_000)
            measured = await fleet.report(0.0, 0.5)
        assert measured["reports per_s"] > 0
        assert measured["commits per_s"] > 0 or kind == "PostgreSQL"  # which counts with a delay
        # They dial again, with the marks and counts that they hold, and their heartbeats keep them linked.
        async with fleet.connected(2, own_channels=True):
            await asyncio.sleep(1.5)
            await fleet.set_target(60_000_000)


async def test_a_target_that_is_not_applied_everywhere_is_no_figure() -> None:
    async with open_fleet("SQLite", 2) as fleet, fleet.connected(2):
        fleet.linked = 3
        with pytest.raises(RuntimeError, match="2 of 3 agents"):
            await fleet.set_target(10)


@pytest.mark.parametrize(
    ("sign", "holds"), [(">=", (False, True, True)), ("<=", (True, True, False)), ("<", (True, False, False))]
)
def test_a_row_holds(sign: str, holds: tuple[bool, ...]) -> None:
    assert tuple(Row("", "", figure, sign, 2.0).holds for figure in (1.0, 2.0, 3.0)) == holds
