"""Rules of fences, members that leave, quotas that close, and demand; one test each, on the real ledger."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from quota_server.errors import LedgerRefusal
from quota_server.ledger.events import FenceAckEvent
from quota_server.ledger.model import AgentKey, Assume, OverridePolicy
from quota_server.ledger.policies import Policy
from quotafleet.link.messages import (
    AllocationUpdate,
    Fence,
    FenceDone,
    FenceKind,
    OpenRequest,
    OverrideState,
    Revision,
    Terms,
)
from tests.link_kit import HEARTBEAT_MS, Ledger, Part, Site, open_ledger


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    async with open_ledger(tmp_path) as opened:
        yield opened


# --- fences: retire, settle, epochs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("assume", ["SPENT_LIMIT", "LAST_REPORTED"])
async def test_retire_charges_as_assumed_and_the_store_that_turns_up_replaces_the_charge(
    ledger: Ledger, assume: str
) -> None:
    await ledger.quota(target=100)
    a, b = await ledger.sites_of("a", "b")
    a.spend(20)
    await a.report()
    await a.hang_up()
    a.spend(15)  # unseen
    enrolment = await ledger.enrolments.retire_agent(ledger.call(), "a", Assume(assume), confirm=True)
    ledger.keep(enrolment.effects)
    await ledger.settle_down(b)
    expected = {"SPENT_LIMIT": (50, 0), "LAST_REPORTED": (20, 30)}[assume]
    quota = await ledger.get_quota()
    assert (quota.sums.charge, quota.sums.at_risk) == expected
    assert b.part.limit == 100 - expected[0]
    assert quota.upper_bound == 100 + expected[1]
    fence = await a.hello()
    assert fence == Fence(FenceKind.ENDED)
    assert (await a.fenced(fence)).messages == (FenceDone(),)
    after = await ledger.get_quota()
    assert (after.sums.charge, after.sums.at_risk) == (35, 0)
    over = max(0, 35 + b.part.limit - 100)
    assert after.sums.overage == (over if assume == "LAST_REPORTED" else 0)


async def test_last_reported_needs_to_be_confirmed(ledger: Ledger) -> None:
    await ledger.quota()
    await ledger.sites_of("a")
    with pytest.raises(LedgerRefusal) as refused:
        await ledger.enrolments.retire_agent(ledger.call(), "a", Assume.LAST_REPORTED, confirm=False)
    assert refused.value.reason == "CONFIRMATION_NEEDED"


async def test_a_settled_agent_goes_on_under_a_higher_epoch_and_the_old_one_is_fenced(ledger: Ledger) -> None:
    await ledger.quota(target=100)
    (lost,) = await ledger.sites_of("a")
    lost.spend(40)
    await lost.report()
    await lost.hang_up()
    enrolment = await ledger.enrolments.settle_agent(
        ledger.call(), "a", 0, Assume.LAST_REPORTED, confirm=True
    )
    assert enrolment.agent.epoch == 2
    fresh = Site(ledger, AgentKey(lost.key.agent_uid, 2), "a")
    ledger.sites[fresh.key] = fresh
    await fresh.hello()
    await ledger.settle_down(fresh)
    assert fresh.part.limit == 60
    fence = await lost.hello()
    assert fence == Fence(FenceKind.ENDED)
    await lost.fenced(fence)
    assert (await ledger.get_quota()).known_count == 40


async def test_a_fence_that_is_acknowledged_twice_is_charged_once(ledger: Ledger) -> None:
    await ledger.quota(target=100)
    (site,) = await ledger.sites_of("a")
    site.spend(40)
    await ledger.enrolments.retire_agent(ledger.call(), "a", Assume.SPENT_LIMIT, confirm=False)
    for _ in range(2):
        fence = await site.hello()
        await site.fenced(fence)
    assert (await ledger.get_quota()).sums.charge == 40


async def test_a_fence_ack_of_an_epoch_that_has_not_ended_is_refused(ledger: Ledger) -> None:
    await ledger.quota()
    (site,) = await ledger.sites_of("a")
    reply = await ledger.send(FenceAckEvent(site.key, site.dial, site.fence_ack(FenceKind.ENDED)))
    assert reply.refusal is not None
    assert reply.refusal.reason == "FIELD_INVALID"


# --- members that leave, quotas that close ---------------------------------------------------------------------------


async def test_a_member_that_leaves_while_offline_keeps_its_escrow_until_it_acknowledges(
    ledger: Ledger,
) -> None:
    await ledger.quota(target=100)
    a, b = await ledger.sites_of("a", "b")
    a.spend(10)
    await a.report()
    await a.hang_up()
    ledger.keep((await ledger.enrolments.unassign_quota(ledger.call(), "q", "a")).effects)
    await ledger.settle_down(b)
    assert b.part.limit == 50  # nobody can be given what a may be spending
    a.spend(5)
    await a.hello()
    assert a.part.limit == 15  # it applies what it was sent in the welcome
    await a.report()
    await ledger.rebalance()
    await ledger.settle_down(b)
    assert b.part.limit == 85


async def test_a_name_closed_and_created_again_is_another_quota(ledger: Ledger) -> None:
    old_uid = await ledger.quota("q", target=100)
    (site,) = await ledger.sites_of("a")
    site.spend(10)
    await site.report()
    ledger.keep((await ledger.administration.close_quota(ledger.call(), "q")).effects)
    new_uid = await ledger.quota("q", target=50)
    await ledger.assign(site)
    ledger.deliver()
    assert new_uid != old_uid
    site.parts[old_uid].consumed += 0
    await site.report()
    assert site.parts[old_uid].limit == 10
    assert site.parts[new_uid].limit == 50
    assert (await ledger.get_quota(old_uid)).known_count == 10  # the closed uid goes on counting
    assert (await ledger.get_quota(new_uid)).known_count == 0


async def test_what_is_set_aside_for_a_member_that_never_called_funds_nobody_else(ledger: Ledger) -> None:
    await ledger.quota(target=100)
    a = await ledger.site("a")
    await ledger.site("b")
    await a.hello()
    await ledger.settle_down(a)
    a.spend(50)
    a.part.open_requests = (OpenRequest(10),)
    await a.report()
    await ledger.settle_down(a)
    assert a.part.limit == 50
    assert (await ledger.get_quota()).sums.aside == 50


async def test_a_min_that_does_not_grow_is_taken_although_the_target_has_fallen_below_all_of_them(
    ledger: Ledger,
) -> None:
    await ledger.quota(target=100)
    a = await ledger.site("a", min=60)
    b = await ledger.site("b", min=40)
    await ledger.set_target(50)
    await ledger.assign(a, min=60, weight=2)
    await ledger.assign(a, min=55)
    c = await ledger.site("c")
    with pytest.raises(LedgerRefusal) as refused:
        await ledger.assign(a, min=56)
    assert refused.value.reason == "TARGET_EXCEEDED"
    with pytest.raises(LedgerRefusal) as refused:
        await ledger.assign(c, min=1)
    assert refused.value.reason == "TARGET_EXCEEDED"
    ledger.keep((await ledger.enrolments.unassign_quota(ledger.call(), "q", "b")).effects)
    with pytest.raises(LedgerRefusal) as refused:
        await ledger.assign(b, min=40)  # given again, it is promised anew
    assert refused.value.reason == "TARGET_EXCEEDED"


# --- demand ----------------------------------------------------------------------------------------------------------


async def with_half_free(ledger: Ledger) -> tuple[Site, Site]:
    """Two sites of weight 1 and 4 at limits 10 and 40 of 100; the other 50 have just come free."""
    await ledger.quota(target=100, policy=Policy.WEIGHTED)
    a, b, c = [await ledger.site(name, weight=weight) for name, weight in (("a", 1), ("b", 5), ("c", 4))]
    for site in (a, b, c):
        await site.hello()
    await ledger.settle_down(a, b, c)
    await ledger.enrolments.retire_agent(ledger.call(), "b", Assume.SPENT_LIMIT, confirm=False)
    await b.fenced(await b.hello())
    assert (a.part.limit, c.part.limit) == (10, 40)
    assert (await ledger.get_quota()).escrowed == 50
    return a, c


async def test_a_top_up_is_granted_in_the_transaction_of_the_report_that_asks_for_it(ledger: Ledger) -> None:
    a, _ = await with_half_free(ledger)
    a.part.open_requests = (OpenRequest(25), OpenRequest(5))
    await a.report()
    assert [update.limit for _, update in ledger.outgoing] == [30]
    assert (await ledger.get_quota()).escrowed == 70


async def test_a_top_up_takes_nothing_that_is_set_aside_and_nothing_beyond_the_target(ledger: Ledger) -> None:
    a, _ = await with_half_free(ledger)
    await ledger.site("d", weight=5)  # has never called: 50 are set aside for it
    a.part.open_requests = (OpenRequest(1_000),)
    await a.report()
    quota = await ledger.get_quota()
    assert quota.sums.aside > 0
    assert quota.escrowed + quota.sums.aside <= 100


async def test_a_top_up_is_not_taken_back_for_a_heartbeat_while_there_is_demand(ledger: Ledger) -> None:
    a, c = await with_half_free(ledger)
    a.part.open_requests = (OpenRequest(40),)
    await a.report()
    await ledger.rebalance()
    await ledger.settle_down(a, c)
    assert (a.part.limit, c.part.limit) == (40, 60)
    ledger.now_ms += HEARTBEAT_MS
    await ledger.rebalance()
    await ledger.settle_down(a, c)
    assert (a.part.limit, c.part.limit) == (20, 80)


async def test_a_top_up_is_taken_back_at_once_if_its_holder_reports_no_demand(ledger: Ledger) -> None:
    a, c = await with_half_free(ledger)
    a.part.open_requests = (OpenRequest(40),)
    await a.report()
    a.part.open_requests = ()
    await ledger.settle_down(a, c)
    await ledger.rebalance()
    await ledger.settle_down(a, c)
    assert (a.part.limit, c.part.limit) == (20, 80)


async def test_demand_moves_idle_headroom_under_max_min(ledger: Ledger) -> None:
    await ledger.quota(target=100, policy=Policy.MAX_MIN)
    sites = await ledger.sites_of("a", "b", "c", "d")
    hungry = sites[0]
    hungry.part.open_requests = (OpenRequest(1),)
    while hungry.spend(1_000):
        await ledger.settle_down(*sites)
    assert hungry.part.consumed == 100


# --- the ledger itself -----------------------------------------------------------------------------------------------


async def test_sums_are_the_sums_of_the_parts_after_concurrent_batches(ledger: Ledger) -> None:
    await ledger.quota(target=1_000)
    sites = await ledger.sites_of(*(f"s{n:02}" for n in range(10)))
    for site in sites:
        site.spend(7)
    await asyncio.gather(*(site.report() for site in sites), ledger.set_target(800), ledger.rebalance())
    await ledger.settle_down(*sites)
    quota = await ledger.get_quota()
    allocations = [await ledger.allocation(site) for site in sites]
    assert quota.sums.count == sum(a.totals.count for a in allocations) == 70
    assert quota.sums.exposure == sum(a.exposure for a in allocations)
    assert quota.escrowed <= 800


async def test_lowering_the_target_below_the_known_count_is_refused_and_changes_nothing(
    ledger: Ledger,
) -> None:
    await ledger.quota(target=100)
    (site,) = await ledger.sites_of("a")
    site.spend(60)
    await site.report()
    before = await ledger.get_quota()
    with pytest.raises(LedgerRefusal) as refused:
        await ledger.set_target(59)
    assert refused.value.reason == "TARGET_BELOW_COUNT"
    assert refused.value.metadata["known_count"] == "60"
    assert await ledger.get_quota() == before
    await ledger.set_target(60)
    await ledger.settle_down(site)
    assert site.part.limit == 60
    assert site.part.revision > Revision(0, 1)


def test_a_part_applies_only_newer_revisions() -> None:
    """The site of these tests is itself honest: an update that is not newer changes nothing."""
    part = Part()
    part.apply(AllocationUpdate("q", Revision(0, 2), 10, Terms("q")))
    part.apply(AllocationUpdate("q", Revision(0, 1), 99, Terms("q")))
    part.apply(AllocationUpdate("q", Revision(0, 2), 99, Terms("q")))
    assert part.limit == 10


# --- facts above the target, and what they call for -----------------------------------------------------------------


async def test_e_falls_to_the_target_after_a_fact_has_raised_it_above(ledger: Ledger) -> None:
    await ledger.quota(target=100)
    a, b = await ledger.sites_of("a", "b")
    twin = a.copy()
    await a.report()
    await a.report()
    twin.spend(40)
    twin.dial = a.dial
    await twin.fenced(await twin.hello())
    assert (await ledger.get_quota()).escrowed == 140
    a.dial = twin.dial
    await a.hello()
    await ledger.settle_down(a, b)
    quota = await ledger.get_quota()
    assert (quota.escrowed, quota.sums.overage) == (100, 40)
    assert a.part.limit + b.part.limit == 60


async def test_what_a_final_report_leaves_of_a_charge_is_shared_out_again(ledger: Ledger) -> None:
    await ledger.quota(target=100)
    a, b = await ledger.sites_of("a", "b")
    a.spend(10)
    await ledger.enrolments.retire_agent(ledger.call(), "a", Assume.SPENT_LIMIT, confirm=False)
    await a.fenced(await a.hello())
    await ledger.settle_down(b)
    assert b.part.limit == 90


async def test_a_store_whose_holds_went_back_is_a_fork_and_no_sign_of_a_restore(ledger: Ledger) -> None:
    await ledger.quota(target=100)
    (a,) = await ledger.sites_of("a")
    a.part.held, a.part.sequence = 60, a.part.sequence + 1
    await a.report()
    await ledger.set_target(60)
    await ledger.settle_down(a)
    older = a.copy()
    a.part.held, a.part.sequence = 0, a.part.sequence + 1
    a.part.limit = a.part.wanted
    await a.report()
    older.dial, older.mark = a.dial, a.mark
    assert isinstance(await older.hello(), Fence)
    assert not (await ledger.get_quota()).recovering


async def test_a_fenced_store_shows_as_fenced_until_another_is_welcomed(ledger: Ledger) -> None:
    await ledger.quota(target=100)
    (a,) = await ledger.sites_of("a")
    twin = a.copy()
    await a.report()
    await a.report()
    twin.dial = a.dial
    await twin.hello()
    change = await ledger.administration.rebalance(ledger.call(), "q")
    assert [participant.fenced for participant in change.participants] == [True]
    a.dial = twin.dial
    await a.hello()
    change = await ledger.administration.rebalance(ledger.call(), "q")
    assert [participant.fenced for participant in change.participants] == [False]


async def test_a_limit_from_the_reserve_is_kept_for_whoever_asked(ledger: Ledger) -> None:
    await ledger.quota(target=100, reserve_percent=20, override_policy=OverridePolicy.FROM_RESERVE)
    a, b = await ledger.sites_of("a", "b")
    decided = await ledger.overrides.request(ledger.call(), "q", "a", 15)
    ledger.keep(decided.effects)
    assert decided.override.state is OverrideState.FROM_RESERVE
    await ledger.rebalance()
    await ledger.settle_down(a, b)
    assert (a.part.limit, b.part.limit) == (55, 25)  # the reserve is whole again: 80 are shared out
    ledger.now_ms += HEARTBEAT_MS
    await ledger.rebalance()
    await ledger.settle_down(a, b)
    assert (a.part.limit, b.part.limit) == (40, 40)


async def test_an_override_that_nobody_could_spend_is_not_approved(ledger: Ledger) -> None:
    await ledger.quota(target=100)
    await ledger.sites_of("a")
    decided = await ledger.overrides.request(ledger.call(), "q", "a", 15)
    ledger.keep((await ledger.enrolments.unassign_quota(ledger.call(), "q", "a")).effects)
    with pytest.raises(LedgerRefusal) as refused:
        await ledger.overrides.decide(ledger.call(), decided.override.override_id, approve=True)
    assert refused.value.reason == "NOT_ASSIGNED"
    assert (await ledger.get_quota()).sums.overrides == 0
