"""A fan-out reaches everybody at once, and nobody's trouble is anybody else's."""

import asyncio
from pathlib import Path

from quotafleet.link.messages import ReportRequest
from quotafleet.v1 import quota_service_pb2 as pb
from tests.databases import on_both
from tests.scripted_agent import ScriptedAgent, scripted
from tests.server_kit import open_controller

pytestmark = on_both

AGENTS = 200


async def test_a_fan_out_to_200_agents_is_concurrent(tmp_path: Path) -> None:
    """No agent answers before all have been asked: one by one, it would never end."""
    async with (
        open_controller(tmp_path, heartbeat_ms=60_000) as served,
        scripted(served, AGENTS, AGENTS) as agents,
    ):
        everybody = asyncio.Barrier(AGENTS)

        async def answer(agent: ScriptedAgent) -> None:
            message = await agent.told.get()
            await everybody.wait()
            await agent.acknowledge(message)

        async with asyncio.TaskGroup() as answering:
            for agent in agents:
                answering.create_task(answer(agent))
            request = pb.SetTargetRequest(quota="q", target=2 * AGENTS)
            request.wait.FromSeconds(50)
            response = await served.quotas.SetTarget(request)
        assert len(response.outcomes) == AGENTS
        assert {o.outcome for o in response.outcomes} == {pb.OUTCOME_APPLIED}
        assert {agent.limit for agent in agents} == {2}


async def test_a_refresh_asks_everybody_at_once_too(tmp_path: Path) -> None:
    async with open_controller(tmp_path, heartbeat_ms=60_000) as served, scripted(served, 20, 100) as agents:
        everybody = asyncio.Barrier(len(agents))

        async def answer(agent: ScriptedAgent) -> None:
            message = await agent.told.get()
            assert isinstance(message, ReportRequest)
            await everybody.wait()
            await agent.acknowledge(message)

        async with asyncio.TaskGroup() as answering:
            for agent in agents:
                answering.create_task(answer(agent))
            request = pb.GetCountRequest(quota="q", refresh=True, page_size=1_000)
            request.wait.FromSeconds(50)
            response = await served.quotas.GetCount(request)
        assert [a.outcome for a in response.agents] == [pb.OUTCOME_APPLIED] * 20


async def test_a_gone_a_hung_and_a_slow_agent_delay_nobody_and_get_their_own_outcome(tmp_path: Path) -> None:
    async with open_controller(tmp_path, heartbeat_ms=60_000) as served, scripted(served, 10, 100) as agents:
        gone, hung, slow, *quick = agents
        gone.hang_up()
        reached = asyncio.Event()

        async def answer(agent: ScriptedAgent) -> None:
            await agent.acknowledge(await agent.told.get())

        async def answer_last() -> None:
            """Slow: answers when the others' answers are known to have arrived."""
            message = await slow.told.get()
            await reached.wait()
            await slow.acknowledge(message)

        async def look() -> None:
            """Watches the controller's own view until all the quick ones have applied the new limit."""
            while True:
                response = await served.quotas.GetCount(pb.GetCountRequest(quota="q", page_size=100))
                exposures = {a.agent: a.exposure for a in response.agents}
                if all(exposures[agent.name] == 5 for agent in quick):
                    reached.set()
                    return
                await asyncio.sleep(0)

        while True:  # the controller has seen that it is gone
            listed = await served.quotas.GetCount(pb.GetCountRequest(quota="q", page_size=100))
            if not next(a for a in listed.agents if a.agent == gone.name).connected:
                break
        async with asyncio.TaskGroup() as answering:
            for agent in quick:
                answering.create_task(answer(agent))
            answering.create_task(answer_last())
            answering.create_task(look())
            request = pb.SetTargetRequest(quota="q", target=55)  # gone keeps its 10: 5 for each other
            request.wait.FromSeconds(3)
            response = await served.quotas.SetTarget(request)
        outcomes = {o.agent: o for o in response.outcomes}
        assert outcomes[gone.name].outcome == pb.OUTCOME_PENDING_OFFLINE
        assert outcomes[hung.name].outcome == pb.OUTCOME_TIMED_OUT
        assert outcomes[slow.name].outcome == pb.OUTCOME_APPLIED
        assert {outcomes[agent.name].outcome for agent in quick} == {pb.OUTCOME_APPLIED}
        assert hung.told.qsize() >= 1
