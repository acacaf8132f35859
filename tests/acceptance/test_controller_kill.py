"""The controller is killed over and over while agents report and targets change: its sums equal the agents'."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import grpc

from quotafleet.agent.v1 import gate_service_pb2 as gate_pb
from quotafleet.v1 import quota_service_pb2 as pb
from tests.pair_kit import ControllerProcess, ServedElsewhere
from tests.server_kit import Agent, Fleet, until

KILLS = 10
AGENTS = ("a", "b", "c", "d")
TARGETS = (400, 1_500, 900, 2_000, 1_200)


@asynccontextmanager
async def killable_fleet(tmp_path: Path) -> AsyncIterator[tuple[ControllerProcess, Fleet]]:
    controller = ControllerProcess(tmp_path / "controller")
    await controller.start()
    async with grpc.aio.insecure_channel(controller.address) as channel, AsyncExitStack() as stack:
        stack.push_async_callback(controller.kill)
        served = ServedElsewhere(controller.address, channel)
        yield controller, Fleet(tmp_path, served, stack)


async def retarget(fleet: Fleet, targets: Iterator[int], reached: list[int]) -> None:
    """Changes the target for ever, whether or not anybody answers; notes every target that may be in force."""
    while True:
        target = next(targets)
        reached.append(target)
        request = pb.SetTargetRequest(quota="q", target=target)
        request.wait.SetInParent()
        with suppress(grpc.aio.AioRpcError):  # it is being killed, or the target is below the count
            await fleet.served.quotas.SetTarget(request, wait_for_ready=True, timeout=2)


async def consume(agent: Agent, granted: list[str]) -> None:
    """Acquires for ever, one by one; a refusal waits for more limit."""
    for number in itertools.count():
        request_id = f"{agent.name}-{number}"
        with suppress(grpc.aio.AioRpcError):
            await agent.stub.Acquire(_request(request_id))
            granted.append(request_id)


def _request(request_id: str) -> gate_pb.AcquireRequest:
    request = gate_pb.AcquireRequest(quota="q", request_id=request_id)
    request.max_wait.FromMilliseconds(100)
    return request


def _something_happened(
    reached: list[int], before: int, granted: dict[str, list[str]], progress: int
) -> bool:
    return len(reached) >= before + 2 or sum(map(len, granted.values())) >= progress


async def test_a_controller_killed_during_reports_and_set_targets_agrees_with_the_agents(
    tmp_path: Path,
) -> None:
    seed = random.randrange(2**32)
    print(f"seed={seed}")
    chance = random.Random(seed)
    async with killable_fleet(tmp_path) as (controller, fleet):
        await fleet.quota(target=TARGETS[0], policy=pb.POLICY_MAX_MIN)
        agents = [await fleet.agent(name) for name in AGENTS]
        granted: dict[str, list[str]] = {name: [] for name in AGENTS}
        reached = [TARGETS[0]]
        tasks = [asyncio.create_task(retarget(fleet, itertools.cycle(TARGETS), reached))]
        tasks += [asyncio.create_task(consume(agent, granted[agent.name])) for agent in agents]
        for _ in range(KILLS):
            progress = sum(map(len, granted.values())) + chance.randrange(1, 60)
            before = len(reached)
            # Killed in the middle of traffic, not between two moments of rest.
            await until(partial(_something_happened, reached, before, granted, progress), "traffic")
            await controller.kill()
            await controller.start()
            for agent in agents:
                await agent.linked()
            assert await fleet.true_total() <= max(reached)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for agent in agents:
            await agent.linked()
        await fleet.served.channel.channel_ready()  # after a kill it waits a while before it dials again
        count = await fleet.count()
        stores = [agent.gate.balance("q")[0].count for agent in agents]
        assert count.count == sum(stores) >= sum(map(len, granted.values())) > 0
        assert count.escrowed >= count.count
        assert not count.recovering
        listed = await fleet.served.quotas.GetCount(pb.GetCountRequest(quota="q", page_size=10))
        assert {a.agent: a.count for a in listed.agents} == dict(zip(AGENTS, stores, strict=True))
