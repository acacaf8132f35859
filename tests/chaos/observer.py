"""Looks at the controller's numbers all the time: the bound it states (S7), and what it says is allowed (S2)."""

from __future__ import annotations

import asyncio

import grpc

from quotafleet.v1 import quota_service_pb2 as quotas
from tests.chaos.operators import Operator
from tests.chaos.world import CALL_SECONDS, World

_PAUSE_SECONDS = 0.1


async def observe(world: World, operator: Operator) -> None:
    """Look for ever."""
    chance = world.chance("observer")
    while True:
        for uid in (*world.uids.values(), *world.closed[-1:]):
            await look(world, operator, uid, refresh=chance.random() < 0.3)
        await asyncio.sleep(_PAUSE_SECONDS)  # not to be all of the load


async def look(world: World, operator: Operator, uid: str, *, refresh: bool = False) -> quotas.Count | None:
    """Ask once for the numbers of a quota, and hold them to what is certain; None without an answer.

    Raises Violation: S2, S7.
    """
    begun = world.bounds.begin(uid)
    allowance = world.bounds.quotas[uid]
    changes = allowance.changes
    request = quotas.GetCountRequest(quota=uid, refresh=refresh)
    try:
        answer = await operator.quotas.GetCount(request, timeout=CALL_SECONDS)
    except grpc.aio.AioRpcError:
        world.tally.checks["counts without an answer"] += 1
        return None
    count: quotas.Count = answer.count
    world.bounds.check_bound(begun, count.upper_bound if count.HasField("upper_bound") else None)
    allowance.overage = max(allowance.overage, count.overage)
    if count.recovering:
        world.tally.checks["counts while recovering"] += 1
        allowance.targets.add(count.target)
    elif not count.overcommitted and changes == allowance.changes and changes % 2 == 0:
        # Nobody can be enforcing more than this, and nobody has asked for another target since.
        allowance.targets = {count.target}
    world.bounds.check_cap(uid)
    world.tally.checks["upper bounds checked"] += 1
    return count
