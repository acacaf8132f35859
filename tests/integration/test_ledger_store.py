"""Every verb of the ledger's store, on both databases and in memory: the three must agree."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from quota_server.ledger.book import Book
from quota_server.ledger.model import (
    Agent,
    AgentKey,
    Allocation,
    AllocationKey,
    Assignment,
    Epoch,
    Mark,
    Meta,
    Override,
    OverridePolicy,
    Quota,
    QuotaState,
)
from quota_server.ledger.policies import Policy
from quota_server.ledger.store import LedgerStore
from quotafleet.link.messages import MAX_UNITS, OpenRequest, OverrideState, Revision, Totals
from tests.ledger_kit import ANNE, BILL, CLEO, fill, open_either

LARGEST = 2**63 - 1

AGENT = Agent("ü-😀-'", 'näme "; --', LARGEST, active=False, retired=True, create_ms=LARGEST)
EPOCH = Epoch(
    *AGENT.key,
    online=True,
    last_dial=LARGEST,
    shown=Mark(1, 2),
    offered=Mark(LARGEST, LARGEST),
    store_id="a tab \t, a \n newline",
    ended=True,
    adopted_generation=3,
    heard_generation=4,
    contact_ms=0,
)
ASSIGNMENT = Assignment("q", AGENT.uid, assigned=False, weight=0, min=1, max=LARGEST, static_limit=LARGEST)
ALLOCATION = Allocation(
    "q",
    *AGENT.key,
    wanted=MAX_UNITS,
    offered=MAX_UNITS,
    exposure=MAX_UNITS,
    revision=Revision(LARGEST, LARGEST),
    acknowledged=Revision(1, LARGEST),
    totals=Totals(LARGEST, LARGEST - 1, LARGEST, 1),
    held=3,
    sequence=LARGEST,
    dial=LARGEST,
    report_ms=LARGEST,
    open_requests=(OpenRequest(MAX_UNITS, LARGEST), OpenRequest(1)),
    recent_demand=LARGEST,
    wanted_more=1,
    protected_until_ms=LARGEST,
    copies=5,
    overage=6,
)
OVERRIDE = Override(
    override_id="o",
    ask_id="ask",
    quota_uid="q",
    agent_uid=AGENT.uid,
    epoch=AGENT.epoch,
    amount=MAX_UNITS,
    reason="because",
    state=OverrideState.USED,
    spent=MAX_UNITS,
    revoked=True,
    settled=True,
    at_risk=True,
    decision_reason="so",
    decided_by="me",
    create_ms=1,
    decide_ms=2,
)


@pytest.fixture(params=["sqlite", "postgresql", "memory"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[LedgerStore]:
    async with open_either(request.param, tmp_path) as opened:
        yield opened


@pytest.fixture
async def fleet(store: LedgerStore) -> LedgerStore:
    await fill(store)
    return store


def here(book: Book) -> dict[str, set[object]]:
    """What a book holds, by kind."""
    kinds = ("quotas", "agents", "epochs", "assignments", "allocations", "overrides")
    return {kind: set(getattr(book, kind)) for kind in kinds if getattr(book, kind)}


async def loaded_allocation(store: LedgerStore, key: AllocationKey) -> Allocation:
    async with store.transaction() as transaction:
        await transaction.load_allocations([key])
        return transaction.book.allocations[key]


async def loaded_quota(store: LedgerStore, uid: str) -> Quota:
    async with store.transaction() as transaction:
        await transaction.load_quotas([uid])
        return transaction.book.quotas[uid]


# --- round trips -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "quota",
    [
        Quota("u", "n", 0),
        Quota(
            uid="u" * 128,
            name="tariff/054001/2026",
            target=MAX_UNITS,
            decimals=3,
            start_ms=-1,
            end_ms=LARGEST,
            policy=Policy.STATIC,
            reserve_percent=100,
            critical_percent=90,
            override_policy=OverridePolicy.FROM_RESERVE,
            max_offline_ms=0,
            state=QuotaState.SUSPENDED,
            recovering=True,
            version=LARGEST,
            create_ms=LARGEST,
        ),
    ],
)
async def test_a_quota_comes_back_as_it_went(store: LedgerStore, quota: Quota) -> None:
    async with store.transaction() as transaction:
        transaction.book.decide(quota)
    assert await loaded_quota(store, quota.uid) == quota


async def test_records_with_extreme_values_come_back_as_they_went(store: LedgerStore) -> None:
    async with store.transaction() as transaction:
        transaction.book.decide(Quota("q", "q", target=LARGEST))
        for record in (AGENT, EPOCH, ASSIGNMENT, ALLOCATION, OVERRIDE):
            transaction.book.decide(record)
    async with store.transaction() as transaction:
        await transaction.load_allocations([ALLOCATION.key])
        await transaction.load_overrides(["o"])
        book = transaction.book
        assert book.allocations == {ALLOCATION.key: ALLOCATION}
        assert book.agents == {AGENT.uid: AGENT}
        assert book.epochs == {EPOCH.key: EPOCH}
        assert list(book.assignments.values()) == [ASSIGNMENT]
        assert book.overrides == {"o": OVERRIDE}
        assert isinstance(book.allocations[ALLOCATION.key].revision, Revision)
        assert isinstance(book.epochs[EPOCH.key].offered, Mark)
        assert book.epochs[EPOCH.key].ended is True
        assert book.epochs[EPOCH.key].settled is False


async def test_a_quotas_sums_are_stored_with_what_they_sum_up(fleet: LedgerStore) -> None:
    sums = (await loaded_quota(fleet, "q-one")).sums
    assert (sums.exposure, sums.charge) == (60, 7)


async def test_the_database_row_is_there_from_the_start_and_kept(store: LedgerStore) -> None:
    async with store.transaction() as transaction:
        assert transaction.book.meta == Meta()
        transaction.book.begin_recovery(1, "restored")
    async with store.transaction() as transaction:
        assert transaction.book.meta == Meta(generation=1, recovering=True)
        transaction.book.end_recovery()
    async with store.transaction() as transaction:
        assert transaction.book.meta == Meta(generation=1, recovering=False)


async def test_a_change_replaces_what_was_stored(fleet: LedgerStore) -> None:
    key = AllocationKey("q-one", *ANNE)
    async with fleet.transaction() as transaction:
        await transaction.load_allocations([key])
        transaction.book.note_fact(replace(transaction.book.allocations[key], totals=Totals(5, 1)))
    assert (await loaded_allocation(fleet, key)).totals == Totals(5, 1)
    assert (await loaded_quota(fleet, "q-one")).sums.count == 4


async def test_an_exception_takes_everything_back(fleet: LedgerStore) -> None:
    async def fail() -> None:
        async with fleet.transaction() as transaction:
            await transaction.load_quotas(["q-one"])
            transaction.book.decide(replace(transaction.book.quotas["q-one"], target=2000))
            transaction.book.begin_recovery(1, "restored")
            raise LookupError

    with pytest.raises(LookupError):
        await fail()
    assert (await loaded_quota(fleet, "q-one")).target == 1000


# --- loading ---------------------------------------------------------------------------------------------------------


async def test_epochs_come_with_their_agents_marks_and_copies_and_unknown_ones_are_left_out(
    fleet: LedgerStore,
) -> None:
    async with fleet.transaction() as transaction:
        transaction.book.fence_mark(ANNE, Mark(1, 5))
        transaction.book.fence_mark(BILL, Mark(1, 6))
        transaction.book.charge_copy_once(ANNE, "copy")
    async with fleet.transaction() as transaction:
        await transaction.load_epochs([ANNE, AgentKey("a-anne", 9), AgentKey("nobody", 1)])
        assert here(transaction.book) == {"agents": {"a-anne"}, "epochs": {ANNE}}
        assert transaction.book.fenced_marks == {ANNE: {Mark(1, 5)}}
        assert transaction.book.charged_copies == {(ANNE, "copy")}
        assert transaction.book.charge_copy_once(ANNE, "copy") is False


async def test_allocations_come_with_what_they_stand_on(fleet: LedgerStore) -> None:
    key = AllocationKey("q-one", *ANNE)
    async with fleet.transaction() as transaction:
        await transaction.load_allocations([key, AllocationKey("q-none", *BILL)])
        assert transaction.book.allocations.keys() == {key}
        assert transaction.book.quotas.keys() == {"q-one"}
        assert transaction.book.assignments.keys() == {("q-one", "a-anne")}
        assert transaction.book.is_member(transaction.book.allocations[key])


async def test_where_there_is_no_allocation_yet_its_assignment_is_loaded_all_the_same(
    fleet: LedgerStore,
) -> None:
    """A store may hold what a restored ledger has forgotten: the assignment must not be taken for missing."""
    async with fleet.transaction() as transaction:
        transaction.book.decide(Agent("a-dave", "dave", 1))
        transaction.book.decide(Epoch("a-dave", 1))
        await transaction.load_quotas(["q-two"])
        transaction.book.decide(Assignment("q-two", "a-dave", initial_count=3))
    async with fleet.transaction() as transaction:
        await transaction.load_allocations([AllocationKey("q-two", "a-dave", 1)])
        assert here(transaction.book) == {
            "quotas": {"q-two"},
            "agents": {"a-dave"},
            "epochs": {("a-dave", 1)},
            "assignments": {("q-two", "a-dave")},
        }


async def test_all_allocations_of_some_enrolments(fleet: LedgerStore) -> None:
    async with fleet.transaction() as transaction:
        await transaction.load_allocations_of_agents([BILL, CLEO])
        assert here(transaction.book) == {
            "quotas": {"q-one", "q-two"},
            "agents": {"a-bill", "a-cleo"},
            "epochs": {BILL, CLEO},
            "assignments": {("q-one", "a-bill"), ("q-two", "a-bill"), ("q-one", "a-cleo")},
            "allocations": {("q-one", *BILL), ("q-two", *BILL), ("q-one", *CLEO)},
        }


async def test_short_allocations_are_those_that_wait_and_whose_agent_is_online(fleet: LedgerStore) -> None:
    keys = [AllocationKey("q-one", *BILL), AllocationKey("q-one", *CLEO), AllocationKey("q-two", *BILL)]
    async with fleet.transaction() as transaction:
        await transaction.load_allocations(keys)
        for key in keys:
            transaction.book.decide(replace(transaction.book.allocations[key], wanted=30))
    async with fleet.transaction() as transaction:
        await transaction.load_short_allocations(["q-one"])
        assert here(transaction.book) == {
            "quotas": {"q-one"},
            "agents": {"a-bill"},
            "epochs": {BILL},
            "assignments": {("q-one", "a-bill")},
            "allocations": {("q-one", *BILL)},
        }


async def test_a_whole_quota_leaves_out_what_is_final(fleet: LedgerStore) -> None:
    async with fleet.transaction() as transaction:
        await transaction.load_quotas(["q-one"])
        transaction.book.decide(Agent("a-dave", "dave", 1))
        transaction.book.decide(Assignment("q-one", "a-dave"))
    async with fleet.transaction() as transaction:
        await transaction.load_whole_quota("q-one")
        assert here(transaction.book) == {
            "quotas": {"q-one"},
            "agents": {"a-anne", "a-bill", "a-cleo", "a-dave"},
            "epochs": {ANNE, BILL, CLEO},
            "assignments": {("q-one", uid) for uid in ("a-anne", "a-bill", "a-cleo", "a-dave")},
            "allocations": {("q-one", *agent) for agent in (ANNE, BILL, CLEO)},
        }


async def test_an_agent_comes_with_all_its_epochs_assignments_and_quotas(fleet: LedgerStore) -> None:
    async with fleet.transaction() as transaction:
        await transaction.load_agent("a-anne")
        assert here(transaction.book) == {
            "quotas": {"q-one"},
            "agents": {"a-anne"},
            "epochs": {("a-anne", 1), ANNE},
            "assignments": {("q-one", "a-anne")},
        }


async def test_loading_again_does_not_undo_a_change(fleet: LedgerStore) -> None:
    key = AllocationKey("q-one", *BILL)
    async with fleet.transaction() as transaction:
        await transaction.load_allocations([key])
        changed = replace(transaction.book.allocations[key], wanted=15)
        transaction.book.decide(changed)
        await transaction.load_whole_quota("q-one")
        await transaction.load_allocations_of_agents([BILL])
        await transaction.load_allocations([key])
        assert transaction.book.allocations[key] == changed
    assert await loaded_allocation(fleet, key) == changed


async def test_thousands_of_keys_are_no_more_than_a_few_statements(store: LedgerStore) -> None:
    agents = [AgentKey(f"a{number:05}", 1) for number in range(11_000)]
    async with store.transaction() as transaction:
        transaction.book.decide(Quota("q", "q", 0))
        for agent in agents:
            transaction.book.decide(Agent(agent.agent_uid, agent.agent_uid, 1))
            transaction.book.decide(Epoch(*agent))
            transaction.book.decide(Assignment("q", agent.agent_uid))
            transaction.book.decide(Allocation("q", *agent))
    async with store.transaction() as transaction:
        await transaction.load_epochs(agents)
        await transaction.load_allocations([AllocationKey("q", *agent) for agent in agents])
        assert len(transaction.book.allocations) == len(transaction.book.epochs) == len(agents)
        assert len(transaction.book.allocations_of("q")) == len(agents)
