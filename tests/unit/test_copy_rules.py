"""What copies of one store spent unseen by each other is in the ledger; one rule a test, on a real database."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from quota_server.ledger.events import HelloEvent
from quota_server.ledger.model import Assume
from quotafleet.link.messages import (
    Fence,
    FenceDone,
    FenceKind,
    OverrideStanding,
    OverrideState,
    Totals,
    Welcome,
)
from tests.link_kit import Ledger, Site, open_ledger


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    async with open_ledger(tmp_path) as opened:
        yield opened


async def copied_at(ledger: Ledger, spent: int) -> tuple[Site, Site]:
    """A store that has spent so much and is at rest, and its copy."""
    await ledger.quota(target=100)
    (site,) = await ledger.sites_of("a")
    site.spend(spent)
    for _ in range(3):
        await site.report()  # until both baselines are at what it has spent
    return site, site.copy()


async def test_what_was_spent_before_a_mark_that_was_never_shown_is_charged(ledger: Ledger) -> None:
    first, second = await copied_at(ledger, 10)
    reply = await ledger.send(HelloEvent(first.key, first.hello_message()))
    first.spend(5)
    first.take(reply.messages[0])  # a mark beside 15; the report that would show it is lost
    assert first.part.marking == Totals(consumed=15)
    second.dial = first.dial
    assert isinstance(await second.hello(), Welcome)
    await second.report()
    first.dial = second.dial
    fence = await first.hello()
    assert fence == Fence(FenceKind.COPY)
    await first.fenced(fence, "drawn")
    quota = await ledger.get_quota()
    assert (quota.known_count, quota.sums.overage) == (15, 5)


async def test_a_copy_may_be_charged_too_much_by_what_was_spent_between_two_marks(ledger: Ledger) -> None:
    first, _ = await copied_at(ledger, 10)
    first.spend(3)
    await first.report()  # which stores a mark, beside 13
    second = first.copy()
    await first.report()
    await first.report()
    second.dial = first.dial
    second.spend(5)
    await second.fenced(await second.hello(), "drawn")
    assert (await ledger.get_quota()).sums.overage == 3 + 5


@pytest.mark.parametrize("closed", [OverrideState.DEAD, OverrideState.USED])
async def test_a_copy_that_holds_open_what_its_agent_has_closed_is_fenced(
    ledger: Ledger, closed: OverrideState
) -> None:
    """Its totals and its mark are those of the other; what it may still spend is counted by nobody."""
    await ledger.quota(target=100)
    (site,) = await ledger.sites_of("a")
    override = (await ledger.overrides.request(ledger.call(), "q", "a", 15)).override
    await ledger.overrides.decide(ledger.call(), override.override_id, approve=True)
    held = OverrideStanding(override.override_id, OverrideState.APPROVED, 0, ledger.quota_uid, 15)
    site.overrides = (held,)
    await site.report()
    second = site.copy()
    second.overrides = (held,)
    site.overrides = (replace(held, state=closed),)
    await site.report()
    second.dial = site.dial
    fence = await second.hello()
    assert fence == Fence(FenceKind.COPY)


async def ended_twice(ledger: Ledger) -> tuple[Site, Site]:
    """Two stores of an epoch that has ended: they parted at 10, then one spent 7 and the other 30."""
    first, second = await copied_at(ledger, 10)
    await ledger.enrolments.retire_agent(ledger.call(), "a", Assume.SPENT_LIMIT, confirm=False)
    first.spend(7)
    second.spend(30)
    fence = await first.hello()
    assert fence == Fence(FenceKind.ENDED)
    await first.fenced(fence, "drawn by the first")
    assert (await ledger.get_quota()).known_count == 17
    second.dial = first.dial
    return first, second


async def test_the_second_store_of_an_ended_epoch_is_charged_on_top(ledger: Ledger) -> None:
    _, second = await ended_twice(ledger)
    fence = await second.hello()
    assert fence == Fence(FenceKind.ENDED)
    assert (await second.fenced(fence, "drawn by the second")).messages == (FenceDone(),)
    quota = await ledger.get_quota()
    assert (quota.known_count, quota.sums.overage) == (47, 30)


async def test_two_stores_of_an_ended_epoch_that_speak_twice_count_once(ledger: Ledger) -> None:
    first, second = await ended_twice(ledger)
    for _ in range(2):
        await second.fenced(await second.hello(), "drawn by the second")
        first.dial = second.dial
        await first.fenced(await first.hello(), "drawn by the first")
        second.dial = first.dial
    quota = await ledger.get_quota()
    assert (quota.known_count, quota.sums.overage) == (47, 30)
