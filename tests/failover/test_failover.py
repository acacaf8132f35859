"""A controller that is killed takes nothing with it: its agents go on, dial the other one, and all of it is counted."""

from pathlib import Path

from tests.failover.__main__ import run

AGENTS = 12


async def test_controllers_killed_in_turn_under_load_lose_nothing_and_overspend_nothing(
    tmp_path: Path,
) -> None:
    outcome = await run(tmp_path, controllers=2, agents=AGENTS, seconds=12, every=4, heartbeat_ms=1_000)
    assert len(outcome.back_seconds) == 3
    assert outcome.acquisitions > 10 * AGENTS
    assert outcome.set_targets > 0
