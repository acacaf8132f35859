"""Calls on agents and their parts where there is no part, more than one epoch, or nothing left to do."""

import pytest

from quota_server.errors import LedgerRefusal
from quota_server.ledger.model import Assume
from quota_server.ledger.policies import Policy
from tests.link_kit import Ledger, memory_ledger


@pytest.fixture
def ledger() -> Ledger:
    return memory_ledger()


async def test_a_limit_is_fixed_only_for_an_agent_with_a_part(ledger: Ledger) -> None:
    """Not for one that never had one, nor for one whose part was taken away."""
    await ledger.quota("other")
    await ledger.site("stranger", quota="other")
    await ledger.quota("q")
    await ledger.site("left")
    await ledger.enrolments.unassign_quota(ledger.call(), "q", "left")
    for name in ("stranger", "left"):
        with pytest.raises(LedgerRefusal) as refused:
            await ledger.administration.set_agent_target(ledger.call(), "q", name, 10)
        assert refused.value.reason == "NOT_ASSIGNED"
    assert (await ledger.get_quota()).escrowed == 0


async def test_under_static_a_fixed_limit_is_the_agents_own_and_all_of_them_fit_the_target(
    ledger: Ledger,
) -> None:
    await ledger.quota(target=100, policy=Policy.STATIC)
    a, b = await ledger.sites_of("a", "b")
    for name, limit in (("a", 60), ("b", 40)):
        change = await ledger.administration.set_agent_target(ledger.call(), "q", name, limit)
        ledger.keep(change.effects)
    await ledger.settle_down(a, b)
    assert (a.part.limit, b.part.limit) == (60, 40)
    with pytest.raises(LedgerRefusal) as refused:
        await ledger.administration.set_agent_target(ledger.call(), "q", "b", 41)
    assert refused.value.reason == "TARGET_EXCEEDED"
    await ledger.rebalance()
    await ledger.settle_down(a, b)
    assert (a.part.limit, b.part.limit) == (60, 40)


async def test_the_demand_of_a_quota_that_is_not_here_changes_nothing(ledger: Ledger) -> None:
    assert await ledger.administration.follow_demand("no such uid", ledger.now_ms) is None


async def test_an_epoch_is_settled_once_and_the_next_one_begins_with_it(ledger: Ledger) -> None:
    await ledger.quota(target=100)
    (first,) = await ledger.sites_of("a")
    ended = await ledger.enrolments.settle_agent(ledger.call(), "a", 0, Assume.SPENT_LIMIT, confirm=False)
    assert (ended.renewed, ended.agent.epoch) == (True, 2)
    with pytest.raises(LedgerRefusal) as refused:
        await ledger.enrolments.settle_agent(ledger.call(), "a", 1, Assume.SPENT_LIMIT, confirm=False)
    assert (refused.value.reason, set(refused.value.fields)) == ("FIELD_INVALID", {"epoch"})
    assert (await ledger.allocation(first)).charge == 100


async def test_retiring_an_agent_leaves_a_part_that_was_taken_away_before_as_it_was(ledger: Ledger) -> None:
    await ledger.quota(target=100)
    (site,) = await ledger.sites_of("a")
    site.spend(10)
    await site.report()
    ledger.keep((await ledger.enrolments.unassign_quota(ledger.call(), "q", "a")).effects)
    await ledger.settle_down(site)
    assert (await ledger.get_quota()).escrowed == 10
    await ledger.enrolments.retire_agent(ledger.call(), "a", Assume.SPENT_LIMIT, confirm=False)
    async with ledger.store.transaction() as transaction:
        await transaction.load_agent(site.key.agent_uid)
        (assignment,) = transaction.book.assignments.values()
        assert not assignment.assigned
        assert transaction.book.agents[site.key.agent_uid].retired
    assert (await ledger.get_quota()).known_count == 10
