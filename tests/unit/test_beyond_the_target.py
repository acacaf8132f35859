"""What becomes of limits while agents may enforce more than a lowered target, on the real ledger."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from quota_server.ledger.model import Assume, OverridePolicy
from quotafleet.link.messages import OpenRequest
from tests.link_kit import Ledger, Site, open_ledger


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    async with open_ledger(tmp_path) as opened:
        yield opened


async def limits(ledger: Ledger, *sites: Site) -> list[int]:
    """Once all is at rest; what the ledger counts for them is just that."""
    await ledger.settle_down(*sites)
    found = [site.part.limit for site in sites]
    assert (await ledger.get_quota()).sums.exposure == sum(found)
    return found


async def topped_up_to_60(ledger: Ledger) -> tuple[Site, Site]:
    """A site that asked for 60 and got what a third one had, protected for now; and one that did not ask."""
    a, b, c = await ledger.sites_of("a", "b", "c")
    await ledger.enrolments.retire_agent(ledger.call(), "c", Assume.SPENT_LIMIT, confirm=False)
    await c.fenced(await c.hello())
    a.part.open_requests = (OpenRequest(60),)
    await a.report()
    await ledger.rebalance()
    return a, b


async def test_what_comes_back_beyond_a_lowered_target_is_nobodys_to_spend_again(ledger: Ledger) -> None:
    """Limits that could not shrink below what was used shrink as it is given back, until the target is met."""
    await ledger.quota(target=100)
    a, b = await ledger.sites_of("a", "b")
    b.spend(30)
    await b.report()
    a.spend(40)
    await ledger.set_target(60)
    assert await limits(ledger, a, b) == [40, 30]
    b.release(6)
    assert await limits(ledger, a, b) == [40, 24]
    assert b.spend(1) == 0
    b.release(10)
    assert await limits(ledger, a, b) == [43, 17]


async def test_what_one_cannot_give_back_another_does(ledger: Ledger) -> None:
    await ledger.quota(target=100)
    a, b = await ledger.sites_of("a", "b")
    await ledger.set_target(70)
    a.spend(50)
    b.spend(30)
    b.release(20)
    assert await limits(ledger, a, b) == [55, 15]


async def test_a_top_up_is_not_protected_from_a_lowered_target(ledger: Ledger) -> None:
    await ledger.quota(target=99)
    a, b = await topped_up_to_60(ledger)
    assert await limits(ledger, a, b) == [60, 39]
    await ledger.set_target(50)
    assert await limits(ledger, a, b) == [50, 0]


async def test_a_top_up_leaves_the_reserve_alone_when_the_target_falls(ledger: Ledger) -> None:
    await ledger.quota(target=110, reserve_percent=10)
    a, b = await topped_up_to_60(ledger)
    assert await limits(ledger, a, b) == [60, 39]  # 99 are shared out
    await ledger.set_target(60)
    assert await limits(ledger, a, b) == [54, 0]


async def test_a_limit_raised_from_the_reserve_is_kept_but_not_beyond_the_target(ledger: Ledger) -> None:
    await ledger.quota(target=100, reserve_percent=20, override_policy=OverridePolicy.FROM_RESERVE)
    a, b = await ledger.sites_of("a", "b")
    a.spend(40)
    await a.report()
    ledger.keep((await ledger.overrides.request(ledger.call(), "q", "a", 10)).effects)
    await ledger.set_target(70)
    assert await limits(ledger, a, b) == [50, 6]  # 56 are shared out
    await ledger.set_target(45)
    assert await limits(ledger, a, b) == [45, 0]  # beyond the 36 that are shared out, within the target
    b.part.open_requests = (OpenRequest(1),)
    await b.report()
    assert await limits(ledger, a, b) == [45, 0]
    await ledger.set_target(40)
    assert await limits(ledger, a, b) == [40, 0]
