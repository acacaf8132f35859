"""PostgreSQL goes away under load and comes back: agents go on, controllers say so, and nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path

import grpc
import pytest

from quotafleet.errors import QuotafleetError, from_rpc_error
from quotafleet.v1 import quota_service_pb2 as pb
from tests.failover.load import Outcome, check_everything_counted, under_load
from tests.pair_kit import PairFleet, open_pair
from tests.postgres_kit import PostgresServer

AGENTS = ("a", "b", "c", "d", "e", "f")
CUTS = 12


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server of its own, that may be stopped."""
    with PostgresServer() as started:
        yield started


@pytest.fixture
async def fleet(tmp_path: Path, server: PostgresServer) -> AsyncIterator[PairFleet]:
    async with open_pair(tmp_path, server) as opened:
        await opened.quota(target=600, policy=pb.POLICY_EQUAL)
        for name in AGENTS:
            await opened.agent(name)
        yield opened


async def holds(condition: Callable[[], Awaitable[bool]], what: str, seconds: float = 30.0) -> None:
    """Waits for something of another process."""
    try:
        async with asyncio.timeout(seconds):
            while not await condition():  # noqa: ASYNC110 - of another process
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"did not come true in {seconds} s: {what}") from None


async def all_serve(fleet: PairFleet) -> bool:
    return all([await served.serving() for served in fleet.every_served])


async def none_serves(fleet: PairFleet) -> bool:
    return not any([await served.serving() for served in fleet.every_served])


async def refusal(fleet: PairFleet, number: int) -> QuotafleetError | None:
    """What a SetTarget through this controller is refused with, if it is."""
    try:
        await fleet.at(number).quotas.SetTarget(pb.SetTargetRequest(quota="q", target=700), timeout=20)
    except grpc.aio.AioRpcError as error:
        return from_rpc_error(error)
    return None


async def test_agents_go_on_and_controllers_recover_when_postgresql_was_away(
    fleet: PairFleet, server: PostgresServer
) -> None:
    assert await all_serve(fleet)
    async with under_load(fleet) as outcome:
        await asyncio.to_thread(server.stop)
        before = outcome.acquisitions
        for number in (0, 1):
            refused = await refusal(fleet, number)
            assert refused is not None
            assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
            with pytest.raises(grpc.aio.AioRpcError) as unread:
                await fleet.at(number).quotas.GetCount(pb.GetCountRequest(quota="q"), timeout=20)
            assert unread.value.code() is grpc.StatusCode.UNAVAILABLE
        await holds(partial(none_serves, fleet), "health says that the store is away")
        for agent in fleet.agents.values():
            limit = agent.gate.balance("q")[0].limit
            assert limit > 0
            await agent.acquire("q", request_id="in the outage")  # enforced as ever, without anybody to ask
        assert outcome.acquisitions >= before
        await asyncio.to_thread(server.start)
        await holds(partial(all_serve, fleet), "health says that the store is back")
        for agent in fleet.agents.values():
            await agent.linked()
    for granted in outcome.granted.values():
        granted.append("in the outage")
    await check_everything_counted(fleet, outcome)
    assert await refusal(fleet, 0) is None
    assert await refusal(fleet, 1) is None


async def test_an_outage_that_nobody_asked_anything_in_shows_in_health_too(
    fleet: PairFleet, server: PostgresServer
) -> None:
    for agent in fleet.agents.values():
        await agent.cut()
    await asyncio.to_thread(server.stop, "immediate")
    await holds(partial(none_serves, fleet), "health says that the store is away")
    await asyncio.to_thread(server.start)
    await holds(partial(all_serve, fleet), "health says that the store is back")


async def test_connections_that_are_cut_in_the_middle_of_transactions_lose_nothing(
    fleet: PairFleet, server: PostgresServer
) -> None:
    async with under_load(fleet) as outcome:
        for _ in range(CUTS):
            progress = outcome.acquisitions
            cut = await server.cut_connections(fleet.database)
            assert cut > 0
            await holds(partial(_moved_on, outcome, progress), "the load goes on")
    await holds(partial(all_serve, fleet), "health is good again")
    for agent in fleet.agents.values():
        await agent.linked()
    count = await check_everything_counted(fleet, outcome)
    listed = await fleet.at(1).quotas.GetCount(pb.GetCountRequest(quota="q", refresh=True))
    assert listed.count.count == count.count


async def _moved_on(outcome: Outcome, progress: int) -> bool:
    return outcome.acquisitions > progress + len(AGENTS)
