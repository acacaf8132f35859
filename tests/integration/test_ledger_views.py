"""What the ledger's views answer, on a real SQLite database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from quota_server.ledger.model import Agent, AgentKey, AllocationKey, Epoch, Meta, Override, Quota
from quota_server.ledger.store import LedgerStore, LedgerViews
from quotafleet.link.messages import OverrideState
from tests.databases import on_both
from tests.ledger_kit import ANNE, BILL, CLEO, fill, open_migrated_store

pytestmark = on_both


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[tuple[LedgerStore, LedgerViews]]:
    async with open_migrated_store(tmp_path) as (store, views):
        await fill(store)
        yield store, views


async def report(store: LedgerStore, agent: AgentKey, report_ms: int) -> None:
    async with store.transaction() as transaction:
        key = AllocationKey("q-one", *agent)
        await transaction.load_allocations([key])
        transaction.book.note_fact(replace(transaction.book.allocations[key], report_ms=report_ms))


async def test_the_database_row(ledger: tuple[LedgerStore, LedgerViews]) -> None:
    store, views = ledger
    assert await views.meta() == Meta()
    async with store.transaction() as transaction:
        transaction.book.begin_recovery(1, "restored")
    assert await views.meta() == Meta(1, recovering=True)


async def test_a_quota_by_open_name_or_uid(ledger: tuple[LedgerStore, LedgerViews]) -> None:
    store, views = ledger
    async with store.transaction() as transaction:
        transaction.book.decide(Quota("q-odd", "q-one", target=1))
    found = [await views.quota(wanted) for wanted in ("one", "q-old", "q-two", "q-one", "none")]
    uids = [quota.uid if quota else None for quota in found]
    assert uids == ["q-one", "q-old", "q-two", "q-odd", None], "a name goes before a uid spelt alike"


async def test_quotas_come_in_pages_by_name(ledger: tuple[LedgerStore, LedgerViews]) -> None:
    _, views = ledger
    everything = await views.quotas(None, 10, include_closed=True)
    assert [quota.uid for quota in everything] == ["q-old", "q-one", "q-two"]
    assert [quota.uid for quota in await views.quotas(None, 10, include_closed=False)] == ["q-one", "q-two"]
    assert await views.quotas(None, 2, include_closed=True) == everything[:2]
    assert await views.quotas(("one", "q-old"), 2, include_closed=True) == everything[1:]
    assert await views.quotas(("two", "q-two"), 2, include_closed=True) == []


async def test_numbers_count_agents_and_know_the_oldest_report(
    ledger: tuple[LedgerStore, LedgerViews],
) -> None:
    store, views = ledger
    assert await views.numbers("q-none") is None
    for agent, report_ms, oldest in ((ANNE, 30, None), (BILL, 20, None), (CLEO, 40, 20)):
        await report(store, agent, report_ms)
        numbers = await views.numbers("q-one")
        assert numbers is not None
        assert (numbers.agents, numbers.connected_agents, numbers.oldest_report_ms) == (3, 2, oldest)
        assert numbers.quota == await views.quota("q-one")


async def test_numbers_leave_out_who_has_no_part_any_more(ledger: tuple[LedgerStore, LedgerViews]) -> None:
    store, views = ledger
    async with store.transaction() as transaction:
        await transaction.load_whole_quota("q-one")
        book = transaction.book
        book.decide(replace(book.assignments["q-one", "a-bill"], assigned=False))
        book.decide(replace(book.agents["a-anne"], retired=True))
        for allocation in book.allocations_of("q-one"):
            book.note_fact(replace(allocation, settled=True, exposure=0, offered=0, wanted=0))
    numbers = await views.numbers("q-one")
    assert numbers is not None
    assert (numbers.agents, numbers.connected_agents, numbers.oldest_report_ms) == (1, 0, None)


async def test_allocations_come_in_pages_with_all_that_belongs_to_them(
    ledger: tuple[LedgerStore, LedgerViews],
) -> None:
    _, views = ledger
    everything = await views.allocations("q-one", None, 10)
    keys = [view.allocation.key.agent for view in everything]
    assert keys == [AgentKey("a-anne", 1), ANNE, BILL, CLEO]
    for view in everything:
        assert view.epoch.key == view.allocation.key.agent
        assert view.agent.uid == view.assignment.agent_uid == view.allocation.agent_uid
        assert view.assignment.quota_uid == "q-one"
    assert await views.allocations("q-one", None, 1) == everything[:1]
    assert await views.allocations("q-one", ("anne", 1, "a-anne"), 2) == everything[1:3]


async def test_an_agent_with_its_newest_epoch_and_its_quotas(ledger: tuple[LedgerStore, LedgerViews]) -> None:
    store, views = ledger
    async with store.transaction() as transaction:
        await transaction.load_agent("a-bill")
        expected = transaction.book
    found = await views.agent("bill")
    assert found == await views.agent("a-bill")
    assert found is not None
    agent, epoch, parts = found
    assert (agent, epoch) == (expected.agents["a-bill"], expected.epochs[BILL])
    assert [(a, q) for a, q in parts] == [
        (expected.assignments[uid, "a-bill"], expected.quotas[uid]) for uid in ("q-one", "q-two")
    ]
    assert await views.agent("nobody") is None


async def test_agents_come_in_pages_by_name(ledger: tuple[LedgerStore, LedgerViews]) -> None:
    store, views = ledger
    async with store.transaction() as transaction:
        await transaction.load_agent("a-bill")
        transaction.book.decide(replace(transaction.book.agents["a-bill"], retired=True))
        transaction.book.decide(Agent("a-bill-2", "bill", 1))
        transaction.book.decide(Epoch("a-bill-2", 1))
    everything = await views.agents(None, 10, include_retired=True)
    assert [agent.uid for agent, _ in everything] == ["a-anne", "a-bill", "a-bill-2", "a-cleo"]
    assert all(agent.key == epoch.key for agent, epoch in everything)
    enrolled = await views.agents(None, 10, include_retired=False)
    assert [agent.uid for agent, _ in enrolled] == ["a-anne", "a-bill-2", "a-cleo"]
    assert await views.agents(("bill", "a-bill"), 1, include_retired=True) == everything[2:3]


async def test_overrides_come_newest_first_by_quota_agent_and_state(
    ledger: tuple[LedgerStore, LedgerViews],
) -> None:
    store, views = ledger
    states = (OverrideState.PENDING, OverrideState.APPROVED, OverrideState.DEAD)
    async with store.transaction() as transaction:
        await transaction.load_quotas(["q-one", "q-two"])
        for number, state in enumerate(states):
            for quota_uid, agent in (("q-one", ANNE), ("q-two", BILL)):
                override_id = f"{quota_uid}-{number}"
                override = Override(
                    override_id, "", quota_uid, *agent, 5, "why", state, create_ms=number // 2
                )
                transaction.book.decide(override)

    async def ids(*query: object) -> list[str]:
        found = await views.overrides(*query)  # type: ignore[arg-type]
        return [view.override.override_id for view in found]

    assert await ids(None, 10, None, None, ()) == [
        "q-two-2",
        "q-one-2",
        "q-two-1",
        "q-two-0",
        "q-one-1",
        "q-one-0",
    ]
    assert await ids((1, "q-one-2"), 2, None, None, ()) == ["q-two-1", "q-two-0"]
    assert await ids(None, 10, "q-one", None, ()) == ["q-one-2", "q-one-1", "q-one-0"]
    assert await ids(None, 10, None, "a-bill", states[:2]) == ["q-two-1", "q-two-0"]
    assert await ids(None, 10, "q-one", "a-bill", ()) == []
    one = await views.override("q-two-1")
    assert one is not None
    assert (one.override.state, one.quota, one.agent) == (OverrideState.APPROVED, "two", "bill")
    assert await views.override("none") is None


async def test_unheard_epochs_come_with_what_they_may_spend(ledger: tuple[LedgerStore, LedgerViews]) -> None:
    store, views = ledger
    everything = await views.unheard(1, None, 10)
    assert [(agent.name, epoch.key, exposure) for agent, epoch, exposure in everything] == [
        ("anne", ANNE, 20),
        ("bill", BILL, 40),
        ("cleo", CLEO, 20),
    ]
    assert await views.unheard(1, ("anne", 2), 1) == everything[1:2]
    async with store.transaction() as transaction:
        await transaction.load_epochs([BILL])
        transaction.book.decide(replace(transaction.book.epochs[BILL], heard_generation=1))
    assert await views.unheard(1, None, 10) == [everything[0], everything[2]]
    assert await views.unheard(0, None, 10) == []
