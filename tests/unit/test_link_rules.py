"""Every rule of the link that a mistake could break, one test each, on the real ledger and a real database."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from quota_server.ledger.events import GoneEvent, HelloEvent, ReportEvent
from quotafleet.link.messages import (
    Fence,
    FenceDone,
    FenceKind,
    ReportAck,
    StaleHello,
    Welcome,
)
from tests.link_kit import Ledger, open_ledger


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    async with open_ledger(tmp_path) as opened:
        yield opened


# --- S3: the order of change -----------------------------------------------------------------------------------------


async def test_exposure_is_durable_before_the_limit_is_sent(ledger: Ledger) -> None:
    await ledger.quota(target=100)
    (site,) = await ledger.sites_of("a")
    await ledger.set_target(150)
    # The new limit has left the ledger (it waits in `outgoing`), the agent has not seen it yet.
    assert ledger.outgoing[0][1].limit == 150
    assert site.part.limit == 100
    assert (await ledger.allocation(site)).exposure == 150


async def test_shrinking_lowers_the_exposure_only_when_it_is_acknowledged(ledger: Ledger) -> None:
    await ledger.quota(target=100)
    (site,) = await ledger.sites_of("a")
    await ledger.set_target(40)
    assert (await ledger.allocation(site)).exposure == 100
    ledger.deliver()
    assert (await ledger.allocation(site)).exposure == 100
    await site.report()
    assert (await ledger.allocation(site)).exposure == 40


async def test_an_acknowledgement_with_an_old_revision_frees_nothing(ledger: Ledger) -> None:
    await ledger.quota(target=100)
    (site,) = await ledger.sites_of("a")
    await ledger.set_target(40)
    ledger.deliver()
    late = ReportEvent(site.key, site.dial, site.report_message())  # says limit 40, and is kept up on the way
    await ledger.set_target(100)
    ledger.deliver()
    assert site.part.limit == 100
    await ledger.send(late)
    assert (await ledger.allocation(site)).exposure == 100


async def test_an_acknowledgement_frees_down_to_the_limit_it_states_and_not_to_the_limit_sent(
    ledger: Ledger,
) -> None:
    await ledger.quota(target=100)
    (site,) = await ledger.sites_of("a")
    await ledger.set_target(40)
    assert site.spend(70) == 70  # before the update arrives
    ledger.deliver()
    assert site.part.limit == 70
    await site.report()
    assert (await ledger.allocation(site)).exposure == 70
    assert (await ledger.get_quota()).overcommitted


async def test_a_late_statement_of_the_same_revision_never_raises_the_exposure(ledger: Ledger) -> None:
    await ledger.quota(target=100)
    (site,) = await ledger.sites_of("a")
    await ledger.set_target(40)
    site.spend(70)
    ledger.deliver()
    early = ReportEvent(site.key, site.dial, site.report_message())
    site.release(20)
    await site.report()
    assert (await ledger.allocation(site)).exposure == 50
    reply = await ledger.send(early)
    assert not reply.superseded, "it is late, and no sign that the ledger was put back"
    allocation = await ledger.allocation(site)
    assert (allocation.exposure, allocation.totals.count) == (50, 50)


async def test_growth_waits_for_the_acknowledgement_that_pays_for_it(ledger: Ledger) -> None:
    await ledger.quota(target=100)
    a, b = await ledger.sites_of("a", "b")
    a.spend(50)
    await a.report()
    await ledger.rebalance()  # headroom: a 50 + 25, b 25
    ledger.deliver()
    assert (a.part.limit, b.part.limit) == (50, 25)
    assert (await ledger.get_quota()).escrowed == 100
    await b.report()
    ledger.deliver()
    assert (a.part.limit, b.part.limit) == (75, 25)
    assert (await ledger.get_quota()).escrowed == 100


async def test_a_limit_lowered_under_count_and_held_becomes_the_floor_and_the_rest_is_recomputed(
    ledger: Ledger,
) -> None:
    await ledger.quota(target=100)
    a, b, c = await ledger.sites_of("a", "b", "c")
    await ledger.set_target(60)  # 20 each
    a.spend(30)
    await ledger.settle_down(a, b, c)
    quota = await ledger.get_quota()
    assert (a.part.limit, b.part.limit, c.part.limit) == (
        40,
        10,
        10,
    )  # 30 are used; the rest is equal headroom
    assert quota.escrowed == 60
    assert not quota.overcommitted


async def test_a_connected_agent_reaches_its_wanted_limit_once_the_donors_have_acknowledged(
    ledger: Ledger,
) -> None:
    await ledger.quota(target=90)
    sites = await ledger.sites_of("a", "b", "c")
    sites[0].spend(30)
    await sites[0].report()
    await ledger.rebalance()
    await ledger.settle_down(*sites)
    assert [site.part.limit for site in sites] == [50, 20, 20]


# --- hello -----------------------------------------------------------------------------------------------------------


async def test_a_late_hello_changes_nothing_and_is_told_the_last_dial(ledger: Ledger) -> None:
    await ledger.quota()
    (site,) = await ledger.sites_of("a")
    late = HelloEvent(site.key, site.hello_message())
    await site.hello()
    before = await ledger.epoch(site)
    reply = await ledger.send(late)
    assert reply.messages == (StaleHello(site.dial),)
    assert await ledger.epoch(site) == before


async def test_a_repeated_hello_is_stale_and_the_redial_is_welcome(ledger: Ledger) -> None:
    await ledger.quota()
    (site,) = await ledger.sites_of("a")
    message = site.hello_message()
    await ledger.send(HelloEvent(site.key, message))
    reply = await ledger.send(HelloEvent(site.key, message))
    assert reply.messages == (StaleHello(message.dial),)
    site.take(reply.messages[0])
    assert isinstance(await site.hello(), Welcome)


async def test_a_store_is_never_fenced_on_a_dial_that_is_not_new(ledger: Ledger) -> None:
    await ledger.quota()
    (site,) = await ledger.sites_of("a")
    twin = site.copy()
    await site.hello()
    await site.report()  # the mark has moved on: the twin's is old
    twin.dial = site.dial - 1
    assert isinstance(await twin.hello(), StaleHello)
    assert isinstance(await twin.hello(), Fence)


async def test_a_lost_welcome_is_healed_by_the_next_hello(ledger: Ledger) -> None:
    await ledger.quota()
    site = await ledger.site("a")
    await ledger.send(HelloEvent(site.key, site.hello_message()))  # its welcome is lost
    assert isinstance(await site.hello(), Welcome)
    await site.report()
    await ledger.send(HelloEvent(site.key, site.hello_message()))
    assert isinstance(await site.hello(), Welcome)


async def test_messages_of_an_older_stream_are_dropped(ledger: Ledger) -> None:
    await ledger.quota()
    (site,) = await ledger.sites_of("a")
    site.spend(5)
    old = ReportEvent(site.key, site.dial, site.report_message())
    await site.hello()
    site.spend(1)
    await site.report()
    assert (await ledger.send(old)).superseded
    assert (await ledger.allocation(site)).totals.count == 6


async def test_the_end_of_an_older_stream_does_not_make_the_agent_unreachable(ledger: Ledger) -> None:
    await ledger.quota()
    (site,) = await ledger.sites_of("a")
    old = GoneEvent(site.key, site.dial)
    await site.hello()
    await ledger.send(old)
    assert (await ledger.epoch(site)).online
    await site.hang_up()
    assert not (await ledger.epoch(site)).online


# --- session marks ---------------------------------------------------------------------------------------------------


async def test_a_hello_with_the_mark_shown_or_the_mark_offered_is_welcome(ledger: Ledger) -> None:
    await ledger.quota()
    (site,) = await ledger.sites_of("a")
    shown = site.mark
    await ledger.send(HelloEvent(site.key, site.hello_message()))  # offers a mark; the welcome is lost
    assert site.mark == shown
    assert isinstance(await site.hello(), Welcome)  # with the one shown
    assert site.mark != shown
    assert isinstance(await site.hello(), Welcome)  # with the one offered


async def test_the_mark_shown_stays_valid_until_the_one_offered_is_presented(ledger: Ledger) -> None:
    await ledger.quota()
    (site,) = await ledger.sites_of("a")
    twin = site.copy()
    await site.hello()  # offered, stored, but not presented
    twin.dial = site.dial
    assert isinstance(await twin.hello(), Welcome)
    await twin.report()  # presents its own: the other's is void now
    site.dial = twin.dial
    assert isinstance(await site.hello(), Fence)


async def test_a_report_that_carries_the_mark_offered_rotates_it_and_any_other_report_leaves_both(
    ledger: Ledger,
) -> None:
    await ledger.quota()
    site = await ledger.site("a")
    await site.hello()
    offered = await ledger.epoch(site)
    first = site.report_message()
    reply = await ledger.send(ReportEvent(site.key, site.dial, first))
    rotated = await ledger.epoch(site)
    assert (rotated.shown, rotated.offered.number) == (offered.offered, offered.offered.number + 1)
    assert isinstance(reply.messages[0], ReportAck)
    assert reply.messages[0].mark
    again = await ledger.send(ReportEvent(site.key, site.dial, first))  # now it carries the mark shown
    assert again.messages == (ReportAck(first.number, ledger.now_ms, None),)
    assert (await ledger.epoch(site)).shown == rotated.shown
    assert (await ledger.epoch(site)).offered == rotated.offered


async def test_a_report_that_crosses_a_marks_rotation_is_taken_and_does_no_harm(ledger: Ledger) -> None:
    await ledger.quota()
    (site,) = await ledger.sites_of("a")
    site.spend(3)
    crossing = ReportEvent(site.key, site.dial, site.report_message())
    await site.report()  # rotates
    await ledger.send(crossing)
    await site.report()
    assert (await ledger.allocation(site)).totals.count == 3
    assert isinstance(await site.hello(), Welcome)


async def test_a_forged_mark_is_fenced_and_the_holder_goes_on(ledger: Ledger) -> None:
    await ledger.quota()
    (site,) = await ledger.sites_of("a")
    forger = site.copy()
    forger.mark = bytes([forger.mark[0], *forger.mark[1:-1], forger.mark[-1] ^ 1])
    assert await forger.hello() == Fence(FenceKind.COPY)
    site.dial = forger.dial
    assert isinstance(await site.hello(), Welcome)


async def test_an_empty_store_in_the_place_of_one_that_was_heard_is_a_copy(ledger: Ledger) -> None:
    await ledger.quota()
    (site,) = await ledger.sites_of("a")
    emptied = site.copy()
    emptied.mark, emptied.parts = b"", {}
    assert await emptied.hello() == Fence(FenceKind.COPY)


# --- copies and forks ------------------------------------------------------------------------------------------------


async def test_a_copied_store_is_fenced_and_what_it_spent_unseen_becomes_overage_once(ledger: Ledger) -> None:
    await ledger.quota(target=100)
    (site,) = await ledger.sites_of("a")
    site.spend(10)
    for _ in range(2):
        await site.report()  # the mark beside 10, and its successor: now it is known to have been shown
    twin = site.copy()
    await site.report()
    site.spend(20)
    await site.report()
    twin.spend(30)
    twin.dial = site.dial
    fence = await twin.hello()
    await twin.fenced(fence, "drawn-anew")
    allocation = await ledger.allocation(site)
    assert (allocation.copies, allocation.overage) == (30, 30)
    again = await twin.hello()
    assert isinstance(again, Fence)
    assert (await twin.fenced(again, "drawn-anew")).messages == (FenceDone(),)
    assert (await ledger.get_quota()).sums.overage == 30
    site.dial = twin.dial
    assert isinstance(await site.hello(), Welcome)
    quota = await ledger.get_quota()
    assert quota.known_count == 60
    assert quota.upper_bound is not None
    assert quota.upper_bound >= 60


async def test_the_fence_is_on_the_mark_and_not_on_the_store_id(ledger: Ledger) -> None:
    await ledger.quota()
    (site,) = await ledger.sites_of("a")
    twin = site.copy()
    await site.report()
    await site.report()
    assert twin.store_id == site.store_id
    twin.dial = site.dial
    assert isinstance(await twin.hello(), Fence)
    site.dial = twin.dial
    assert isinstance(await site.hello(), Welcome)


async def test_totals_that_shrink_on_a_newer_dial_are_a_fork_and_fenced(ledger: Ledger) -> None:
    await ledger.quota()
    (site,) = await ledger.sites_of("a")
    site.spend(10)
    await site.report()
    site.part.consumed = 4
    assert await site.hello() == Fence(FenceKind.COPY)
    assert (await ledger.allocation(site)).totals.count == 10


async def test_lower_totals_on_the_same_dial_are_late_and_ignored(ledger: Ledger) -> None:
    await ledger.quota()
    (site,) = await ledger.sites_of("a")
    site.spend(4)
    late = ReportEvent(site.key, site.dial, site.report_message())
    site.spend(6)
    await site.report()
    reply = await ledger.send(late)
    assert isinstance(reply.messages[0], ReportAck)
    assert (await ledger.allocation(site)).totals.count == 10


async def test_repeated_and_reordered_reports_cannot_change_a_sum(ledger: Ledger) -> None:
    await ledger.quota()
    (site,) = await ledger.sites_of("a")
    reports = []
    for _ in range(5):
        site.spend(2)
        reports.append(ReportEvent(site.key, site.dial, site.report_message()))
    for report in (reports[3], reports[0], reports[4], reports[4], reports[1], reports[2]):
        await ledger.send(report)
    assert (await ledger.get_quota()).sums.count == 10


async def test_a_revision_that_went_back_on_a_newer_dial_is_a_fork(ledger: Ledger) -> None:
    await ledger.quota(target=100)
    (site,) = await ledger.sites_of("a")
    older = site.copy()
    await ledger.set_target(50)
    await ledger.settle_down(site)
    older.mark, older.dial = site.mark, site.dial
    assert isinstance(await older.hello(), Fence)


async def test_a_store_past_its_own_limit_is_refused_and_nothing_is_taken(ledger: Ledger) -> None:
    await ledger.quota(target=10)
    (site,) = await ledger.sites_of("a")
    site.part.consumed = 11
    reply = await site.report()
    assert reply.refusal is not None
    assert reply.refusal.fields == {"report.standings[0].limit": "count + held is above the limit"}
    assert (await ledger.allocation(site)).totals.count == 0
