"""The four stories in which a fleet without escrow overshoots or gets stuck; each ends at exactly 100 of 100."""

from pathlib import Path

import pytest

from quotafleet.v1 import quota_service_pb2 as pb
from tests.databases import on_both
from tests.server_kit import Fleet, open_fleet

pytestmark = on_both

FLEXIBLE = (pb.POLICY_EQUAL, pb.POLICY_WEIGHTED, pb.POLICY_PROPORTIONAL, pb.POLICY_MAX_MIN)


async def exactly_the_target(fleet: Fleet) -> None:
    count = await fleet.count()
    assert await fleet.true_total() == count.count == count.target == 100
    assert (count.upper_bound, count.escrowed, count.exhausted) == (100, 100, True)


async def test_one_offline_while_the_others_are_redistributed_and_then_all_come_back_hungry(
    tmp_path: Path,
) -> None:
    async with open_fleet(tmp_path) as fleet:
        await fleet.quota(target=100, policy=pb.POLICY_EQUAL)
        a, b, c = [await fleet.agent(name) for name in ("a", "b", "c")]
        await c.cut()
        assert [await site.spend("q", 10) for site in (a, b)] == [10, 10]
        await fleet.count()
        await fleet.rebalance()
        assert await c.spend("q") == 33  # it is cut off, and spends all it was given
        c.connect()
        await c.linked()
        await fleet.hungry(a, b, c, total=100)
        await exactly_the_target(fleet)


async def test_agents_that_only_ever_come_online_one_at_a_time(tmp_path: Path) -> None:
    async with open_fleet(tmp_path) as fleet:
        await fleet.quota(target=100, policy=pb.POLICY_EQUAL)
        sites = [await fleet.agent(name, connect=False) for name in ("a", "b", "c")]
        for site, total in zip(sites, (34, 67, 100), strict=True):
            site.connect()
            await site.linked()
            await fleet.hungry(site, total=total)
            await site.cut()
        assert await fleet.true_total() == 100
        for site in sites:
            site.connect()
            await site.linked()
        await exactly_the_target(fleet)


@pytest.mark.parametrize("policy", FLEXIBLE, ids=pb.Policy.Name)
async def test_all_online_at_ten_each_and_then_hungry(tmp_path: Path, policy: pb.Policy) -> None:
    async with open_fleet(tmp_path) as fleet:
        await fleet.quota(target=100, policy=policy)
        sites = [await fleet.agent(name) for name in ("a", "b", "c")]
        for site in sites:
            assert await site.spend("q", 10) == 10
        await fleet.count()
        await fleet.rebalance()
        await fleet.hungry(*sites, total=100)
        await exactly_the_target(fleet)


async def test_all_online_one_hungry_and_the_others_idle(tmp_path: Path) -> None:
    async with open_fleet(tmp_path) as fleet:
        await fleet.quota(target=100, policy=pb.POLICY_MAX_MIN)
        hungry, *_ = [await fleet.agent(name) for name in ("a", "b", "c", "d", "e")]
        assert await fleet.hungry(hungry, total=100) == 100
        await exactly_the_target(fleet)
