"""What the ledger's store finds, counts, remembers and appends, in each database and in memory: all must agree."""

from __future__ import annotations

import asyncio
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
    Note,
    Override,
    Quota,
    QuotaState,
)
from quota_server.ledger.store import LedgerStore, RecordedAnswer
from quota_server.storage.database import open_database
from quota_server.storage.ledger_store import SqlLedgerStore
from quotafleet.link.messages import OverrideState, Totals
from tests.ledger_kit import ANNE, BILL, CLEO, fill, open_either, open_store


@pytest.fixture(params=["sqlite", "postgresql", "memory"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[LedgerStore]:
    async with open_either(request.param, tmp_path) as opened:
        await fill(opened)
        yield opened


def override_of(number: int, state: OverrideState, agent: AgentKey = BILL, ask_id: str = "") -> Override:
    return Override(f"o{number}", ask_id, "q-one", *agent, amount=5, reason="", state=state)


# --- overrides -------------------------------------------------------------------------------------------------------


async def test_live_overrides_are_those_that_are_pending_or_approved(store: LedgerStore) -> None:
    async with store.transaction() as transaction:
        await transaction.load_quotas(["q-one"])
        for number, state in enumerate(OverrideState):
            transaction.book.decide(override_of(number, state))
            transaction.book.decide(override_of(100 + number, state, CLEO))
    async with store.transaction() as transaction:
        await transaction.load_live_overrides([BILL])
        found = {(override.agent, override.state) for override in transaction.book.overrides.values()}
        assert found == {(BILL, OverrideState.PENDING), (BILL, OverrideState.APPROVED)}
        assert transaction.book.quotas.keys() == {"q-one"}


async def test_overrides_by_id_come_with_their_quotas(store: LedgerStore) -> None:
    async with store.transaction() as transaction:
        await transaction.load_quotas(["q-one"])
        transaction.book.decide(override_of(1, OverrideState.DEAD))
        transaction.book.decide(override_of(2, OverrideState.APPROVED))
    async with store.transaction() as transaction:
        await transaction.load_overrides(["o1", "o9"])
        assert transaction.book.overrides.keys() == {"o1"}
        assert transaction.book.quotas["q-one"].sums.overrides == 5


async def test_an_ask_leads_to_its_override_and_to_nobody_elses(store: LedgerStore) -> None:
    async with store.transaction() as transaction:
        await transaction.load_quotas(["q-one"])
        transaction.book.decide(override_of(1, OverrideState.PENDING, BILL, "ask"))
        transaction.book.decide(override_of(2, OverrideState.PENDING, CLEO, "ask"))
        transaction.book.decide(override_of(3, OverrideState.PENDING, BILL))
        transaction.book.decide(override_of(4, OverrideState.PENDING, BILL))
        mine = await transaction.load_override_of_ask(BILL, "q-one", "ask")
        assert mine is not None
        assert mine.override_id == "o1", "an override of this very transaction is found too"
    async with store.transaction() as transaction:
        mine = await transaction.load_override_of_ask(BILL, "q-one", "ask")
        assert mine is not None
        assert mine.override_id == "o1"
        assert transaction.book.quotas.keys() == {"q-one"}
        assert await transaction.load_override_of_ask(BILL, "q-two", "ask") is None
        assert await transaction.load_override_of_ask(BILL, "q-one", "other") is None
        assert await transaction.load_override_of_ask(BILL, "q-one", "") is None


# --- finding ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "uid"),
    [("one", "q-one"), ("q-one", "q-one"), ("q-old", "q-old"), ("ONE", None), ("", None)],
)
async def test_a_quota_is_found_by_open_name_or_by_uid(
    store: LedgerStore, wanted: str, uid: str | None
) -> None:
    async with store.transaction() as transaction:
        found = await transaction.find_quota(wanted)
        assert (found.uid if found else None) == uid


async def test_a_closed_name_is_free_again(store: LedgerStore) -> None:
    async with store.transaction() as transaction:
        quota = await transaction.find_quota("one")
        assert quota is not None
        transaction.book.decide(replace(quota, state=QuotaState.CLOSED))
        assert await transaction.find_quota("one") is None
        transaction.book.decide(Quota("q-new", "one", target=1))
        found = await transaction.find_quota("one")
        assert found is not None
        assert found.uid == "q-new"
    async with store.transaction() as transaction:
        found = await transaction.find_quota("one")
        assert found is not None
        assert found.uid == "q-new"


async def test_an_agent_is_found_by_enrolled_name_or_by_uid(store: LedgerStore) -> None:
    async with store.transaction() as transaction:
        anne = await transaction.find_agent("anne")
        assert anne is not None
        transaction.book.decide(replace(anne, retired=True))
        assert await transaction.find_agent("anne") is None
        transaction.book.decide(Agent("a-anne-2", "anne", 1))
    async with store.transaction() as transaction:
        named, by_uid = await transaction.find_agent("anne"), await transaction.find_agent("a-anne")
        assert named is not None
        assert by_uid is not None
        assert (named.uid, by_uid.uid) == ("a-anne-2", "a-anne")
        assert await transaction.find_agent("nobody") is None


async def test_recovery_takes_in_every_quota_also_those_that_the_book_never_saw(store: LedgerStore) -> None:
    async with store.transaction() as transaction:
        await transaction.load_quotas(["q-one"])
        transaction.book.begin_recovery(1, "restored")
        await transaction.load_quotas(["q-two"])
        assert transaction.book.quotas["q-two"].recovering, "one that comes in later recovers as well"
        transaction.book.decide(replace(transaction.book.quotas["q-two"], target=999))
    async with store.transaction() as transaction:
        await transaction.load_recovering_quotas()
        assert transaction.book.quotas.keys() == {"q-one", "q-two", "q-old"}
        transaction.book.decide(replace(transaction.book.quotas["q-old"], recovering=False))
    async with store.transaction() as transaction:
        await transaction.load_recovering_quotas()
        assert transaction.book.quotas.keys() == {"q-one", "q-two"}


# --- counting --------------------------------------------------------------------------------------------------------


async def test_unheard_epochs_are_counted_with_what_this_transaction_has_changed(store: LedgerStore) -> None:
    async with store.transaction() as transaction:
        assert await transaction.count_unheard(1) == 3
        await transaction.load_epochs([ANNE, BILL])
        transaction.book.decide(replace(transaction.book.epochs[ANNE], heard_generation=1))
        transaction.book.decide(replace(transaction.book.epochs[BILL], settled=True))
        assert await transaction.count_unheard(1) == 1
    async with store.transaction() as transaction:
        assert await transaction.count_unheard(1) == 1
        assert await transaction.count_unheard(0) == 0


# --- answers ---------------------------------------------------------------------------------------------------------


async def test_an_answer_is_remembered_and_can_be_completed(store: LedgerStore) -> None:
    answer = RecordedAnswer("r-1", "SetTarget", b"\x00digest", b"early", 17)
    async with store.transaction() as transaction:
        assert await transaction.recorded("r-1") is None
        await transaction.record(answer)
        assert await transaction.recorded("r-1") == answer
    await store.replace_answer("r-1", b"full\x00")
    await store.replace_answer("r-2", b"of nothing")
    async with store.transaction() as transaction:
        assert await transaction.recorded("r-1") == replace(answer, answer=b"full\x00")
        assert await transaction.recorded("r-2") is None


async def test_old_answers_are_forgotten_and_newer_ones_kept(tmp_path: Path) -> None:
    async with open_database(tmp_path / "ledger.db") as database:
        store = SqlLedgerStore(database)
        async with store.transaction() as transaction:
            await transaction.record(RecordedAnswer("old", "m", b"", b"", 1_000))
            await transaction.record(RecordedAnswer("new", "m", b"", b"", 2_000))
        await store.forget_answers(before_ms=2_000)
        async with store.transaction() as transaction:
            assert await transaction.recorded("old") is None
            assert await transaction.recorded("new") is not None


async def test_an_answer_goes_with_its_transaction(store: LedgerStore) -> None:
    async def fail() -> None:
        async with store.transaction() as transaction:
            await transaction.record(RecordedAnswer("r-1", "SetTarget", b"", b"", 0))
            raise LookupError

    with pytest.raises(LookupError):
        await fail()
    async with store.transaction() as transaction:
        assert await transaction.recorded("r-1") is None


# --- the rest --------------------------------------------------------------------------------------------------------


async def test_transactions_follow_one_another(store: LedgerStore) -> None:
    """Each waits for the one before: none reads what another is about to replace."""
    key = AllocationKey("q-one", *BILL)

    async def count_one_more() -> None:
        async with store.transaction() as transaction:
            await transaction.load_allocations([key])
            await asyncio.sleep(0)
            before: Allocation = transaction.book.allocations[key]
            totals = replace(before.totals, consumed=before.totals.consumed + 1)
            transaction.book.note_fact(replace(before, totals=totals))

    await asyncio.gather(*(count_one_more() for _ in range(20)))
    async with store.transaction() as transaction:
        await transaction.load_allocations([key])
        assert transaction.book.allocations[key].totals == Totals(consumed=20)
        assert transaction.book.quotas["q-one"].sums.count == 20


async def test_history_is_appended_in_order_and_gets_who_was_reached(tmp_path: Path) -> None:
    note = Note(
        "q-one", 5, "me", "set-target", "ünder way", {"target": 1}, {"target": 2, "of": ["ü"]}, "round"
    )
    async with open_store(tmp_path) as (store, views):
        await fill(store)
        async with store.transaction() as transaction:
            transaction.book.note(note)
            transaction.book.note(replace(note, round_id="", action="other"))
        await store.record_round("round", [{"agent": "anne", "outcome": "APPLIED"}])
        await store.record_round("", [{"agent": "nobody"}])
        newest, oldest = await views.history("q-one", None, 10)
        assert newest.number > oldest.number
        assert (oldest.note, oldest.reached) == (note, [{"agent": "anne", "outcome": "APPLIED"}])
        assert (newest.note.action, newest.reached) == ("other", [])
        assert await views.history("q-one", newest.number, 10) == [oldest]


async def test_a_closed_quota_still_takes_facts(store: LedgerStore) -> None:
    def settle(book: Book) -> None:
        book.note_fact(Assignment("q-old", "a-bill", initial_count=9))
        book.note_fact(Allocation("q-old", *BILL, exposure=3))

    async with store.transaction() as transaction:
        await transaction.load_quotas(["q-old"])
        settle(transaction.book)
    async with store.transaction() as transaction:
        await transaction.load_quotas(["q-old"])
        assert transaction.book.quotas["q-old"].escrowed == 12
        assert transaction.book.quotas["q-old"].overcommitted


async def test_a_new_epoch_of_a_new_agent_is_written_in_the_order_of_what_refers_to_what(
    store: LedgerStore,
) -> None:
    async with store.transaction() as transaction:
        book = transaction.book
        await transaction.load_quotas(["q-two"])
        book.decide(Assignment("q-two", "a-new"))
        book.decide(Allocation("q-two", "a-new", 1))
        book.decide(Epoch("a-new", 1))
        book.decide(Agent("a-new", "new", 1))
    async with store.transaction() as transaction:
        await transaction.load_allocations_of_agents([AgentKey("a-new", 1)])
        assert len(transaction.book.allocations) == 1
