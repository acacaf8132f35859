"""Constant load on a fleet of several controllers while one of them at a time is killed, and what came of it."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

import grpc

from quotafleet.agent.v1 import gate_service_pb2 as gate_pb
from quotafleet.v1 import quota_service_pb2 as pb
from tests.pair_kit import ControllerProcess, PairFleet
from tests.server_kit import Agent, until

QUOTA = "q"
#: Between two acquisitions of one agent: 50 agents are 250 acquisitions a second.
_PAUSE_SECONDS = 0.2
_LOOK_SECONDS = 0.05
_STEP = 100
#: Long enough for all to come back, and no longer than anybody would wait.
_BACK_SECONDS = 60.0


@dataclass
class Outcome:
    """What was seen."""

    granted: dict[str, list[str]] = field(default_factory=dict)
    #: Of each kill: until every agent had a stream again.
    back_seconds: list[float] = field(default_factory=list)
    #: How often the true total was looked at, and the highest target that was asked for.
    looks: int = 0
    target: int = 0
    set_targets: int = 0

    @property
    def acquisitions(self) -> int:
        return sum(map(len, self.granted.values()))


@asynccontextmanager
async def under_load(fleet: PairFleet) -> AsyncIterator[Outcome]:
    """Every agent acquires, operators raise the target through either controller, and the total is looked at."""
    outcome = Outcome(target=(await fleet.count(refresh=False)).target)
    tasks = [asyncio.create_task(_acquire(agent, outcome)) for agent in fleet.agents.values()]
    tasks += [asyncio.create_task(_raise(fleet, outcome)), asyncio.create_task(_look(fleet, outcome))]
    try:
        yield outcome
        for task in tasks:
            if task.done():
                task.result()  # which raises
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def kill_in_turn(
    fleet: PairFleet, outcome: Outcome, *, seconds: float, every: float, tell: Callable[[str], None]
) -> None:
    """Kills a controller every so often and starts it again, each in its turn."""
    begun = time.monotonic()
    for turn in itertools.count(1):
        pause = begun + turn * every - time.monotonic()
        if begun + turn * every > begun + seconds:
            return
        await asyncio.sleep(max(0, pause))  # the load goes on for so long
        victim = fleet.controllers[turn % len(fleet.controllers)]
        await victim.kill()
        killed = time.monotonic()
        await _all_moved(fleet, victim)
        outcome.back_seconds.append(time.monotonic() - killed)
        await victim.start()
        tell(f"killed {victim.address}: all agents back after {outcome.back_seconds[-1]:.2f} s")


async def check_everything_counted(fleet: PairFleet, outcome: Outcome) -> pb.Count:
    """What was answered is in the agents' stores, and what is there is counted; the controllers' last word."""
    await until(partial(_all_linked, fleet), "every agent is linked")
    await fleet.served.channel.channel_ready()  # after a kill it waits a while before it dials again
    count = await fleet.count()
    total = 0
    for name, agent in fleet.agents.items():
        balance, overridden = agent.gate.balance(QUOTA)
        assert balance.count >= len(outcome.granted[name]), f"{name} has lost an answered acquisition"
        total += balance.count + overridden
    assert count.count == total, f"the controllers count {count.count}, the agents' stores hold {total}"
    assert total <= outcome.target
    assert count.escrowed <= count.target
    return count


async def _all_moved(fleet: PairFleet, victim: ControllerProcess) -> None:
    """Waits until another controller has welcomed every agent."""
    async with asyncio.timeout(_BACK_SECONDS):
        while await fleet.streams_elsewhere(victim) < len(fleet.agents):  # noqa: ASYNC110 - of another process
            await asyncio.sleep(_LOOK_SECONDS)
    await until(partial(_all_linked, fleet), "every agent knows it")


def _all_linked(fleet: PairFleet) -> bool:
    return all(agent.uplink.connected for agent in fleet.agents.values())


async def _acquire(agent: Agent, outcome: Outcome) -> None:
    granted = outcome.granted.setdefault(agent.name, [])
    for number in itertools.count():
        request_id = f"{agent.name}-{number}"
        with suppress(grpc.aio.AioRpcError):  # at its limit
            await agent.stub.Acquire(gate_pb.AcquireRequest(quota=QUOTA, request_id=request_id))
            granted.append(request_id)
        await asyncio.sleep(_PAUSE_SECONDS)


async def _raise(fleet: PairFleet, outcome: Outcome) -> None:
    """Just ahead of what is used, so that the limits are always short."""
    for turn in itertools.count():
        await asyncio.sleep(0.5)
        outcome.target = max(outcome.target, outcome.acquisitions + _STEP)
        request = pb.SetTargetRequest(quota=QUOTA, target=outcome.target)
        request.wait.SetInParent()
        with suppress(grpc.aio.AioRpcError):  # this one is being killed
            await fleet.at(turn % len(fleet.controllers)).quotas.SetTarget(request, timeout=5)
            outcome.set_targets += 1


async def _look(fleet: PairFleet, outcome: Outcome) -> None:
    while True:
        total = await fleet.true_total(QUOTA)
        assert total <= outcome.target, f"{total} units are spent of {outcome.target}"
        outcome.looks += 1
        await asyncio.sleep(_LOOK_SECONDS)
