"""SetTarget to connected agents that take a while to answer: concurrent, it takes little longer than one of them."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

from quotafleet.v1 import quota_service_pb2 as pb
from tests.scripted_agent import ScriptedAgent, scripted
from tests.server_kit import open_controller

AGENTS = 200
ANSWER_SECONDS = 0.05
ROUNDS = 5


async def run() -> dict[str, float]:
    """Seconds of a SetTarget to all agents: the median of some rounds, and what one by one would take."""
    with tempfile.TemporaryDirectory(prefix="quotafleet-bench-") as folder:
        async with (
            open_controller(Path(folder), heartbeat_ms=60_000) as served,
            scripted(served, AGENTS, AGENTS) as agents,
            asyncio.TaskGroup() as answering,
        ):
            tasks = [answering.create_task(_answer(agent)) for agent in agents]
            times = []
            for number in range(ROUNDS):
                begun = time.perf_counter()
                response = await served.quotas.SetTarget(
                    pb.SetTargetRequest(quota="q", target=AGENTS * (number + 2))
                )
                times.append(time.perf_counter() - begun)
                if any(o.outcome != pb.OUTCOME_APPLIED for o in response.outcomes):
                    raise RuntimeError("an agent did not acknowledge")
            for task in tasks:
                task.cancel()
    return {"fanout_seconds": sorted(times)[ROUNDS // 2], "one_by_one_seconds": AGENTS * ANSWER_SECONDS}


async def _answer(agent: ScriptedAgent) -> None:
    while True:
        message = await agent.told.get()
        await asyncio.sleep(ANSWER_SECONDS)
        await agent.acknowledge(message)
