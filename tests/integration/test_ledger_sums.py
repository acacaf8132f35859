"""The sums in a quota's row are those of the rows they sum up, whatever happened, in whatever order."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from hypothesis import given, note, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text

from quota_server.ledger import escrow
from quota_server.ledger.book import Book
from quota_server.ledger.model import (
    Agent,
    AgentKey,
    Allocation,
    AllocationKey,
    Assignment,
    Assume,
    Epoch,
    Override,
    Quota,
    Sums,
)
from quota_server.ledger.store import LedgerStore
from quota_server.storage.database import open_database
from quota_server.storage.ledger_store import SqlLedgerStore
from quotafleet.link.messages import FinalStanding, OverrideState, Standing, Totals
from tests import databases
from tests.databases import on_both

pytestmark = on_both

AGENTS = [AgentKey("a", 1), AgentKey("b", 1), AgentKey("b", 2)]
QUOTAS = ["q", "r"]
TARGET = 1000

#: Every sum once more, asked of the rows.
AGAIN = """
SELECT
  (SELECT coalesce(sum(exposure), 0) FROM allocations WHERE quota_uid = :q) AS exposure,
  (SELECT coalesce(sum(charge + copies), 0) FROM allocations WHERE quota_uid = :q)
    + (SELECT coalesce(sum(initial_count), 0) FROM assignments WHERE quota_uid = :q) AS charge,
  (SELECT coalesce(sum(totals_consumed - totals_released), 0) FROM allocations
    WHERE quota_uid = :q AND NOT settled) AS count,
  (SELECT coalesce(sum(held), 0) FROM allocations WHERE quota_uid = :q) AS held,
  (SELECT coalesce(sum(totals_override_consumed - totals_override_released), 0) FROM allocations
    WHERE quota_uid = :q)
    + (SELECT coalesce(sum(amount), 0) FROM overrides
      WHERE quota_uid = :q AND state = 'APPROVED' AND settled AND NOT at_risk) AS overridden,
  (SELECT coalesce(sum(at_risk), 0) FROM allocations WHERE quota_uid = :q)
    + (SELECT coalesce(sum(amount), 0) FROM overrides
      WHERE quota_uid = :q AND state = 'APPROVED' AND at_risk) AS at_risk,
  (SELECT coalesce(sum(overage), 0) FROM allocations WHERE quota_uid = :q) AS overage,
  (SELECT coalesce(sum(wanted - exposure), 0) FROM allocations
    WHERE quota_uid = :q AND NOT settled AND wanted > exposure) AS aside,
  (SELECT coalesce(sum(CASE state WHEN 'USED' THEN spent ELSE amount END), 0) FROM overrides
    WHERE quota_uid = :q AND (state = 'USED' OR state = 'APPROVED' AND NOT at_risk)) AS overrides
"""

ACTIONS = (
    "assign want offer acknowledge count settle last_reported finalise copy adopt "
    "approve use close settle_override risk_override"
)
operations = st.tuples(
    st.sampled_from(ACTIONS.split()),
    st.sampled_from(QUOTAS),
    st.sampled_from(AGENTS),
    st.integers(0, 300),
    st.integers(0, 100),
)


@settings(max_examples=25, deadline=None, print_blob=True)
@given(batches=st.lists(st.lists(operations, min_size=1, max_size=8), min_size=1, max_size=8))
def test_sums_are_those_of_the_rows(batches: list[list[Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(batches, Path(folder)))


async def run(batches: list[list[Any]], folder: Path) -> None:
    async with open_database(await databases.put(folder / "ledger.db")) as database:
        store = SqlLedgerStore(database)
        await set_up(store)
        for batch in batches:
            note(f"batch {batch}")
            async with store.transaction() as transaction:
                await transaction.load_allocations_of_agents(AGENTS)
                await transaction.load_overrides(
                    ["o-q-a-1", "o-q-b-1", "o-q-b-2", "o-r-a-1", "o-r-b-1", "o-r-b-2"]
                )
                for action, quota_uid, agent, large, small in batch:
                    apply(transaction.book, action, AllocationKey(quota_uid, *agent), large, small)
                expected = {uid: transaction.book.quotas[uid].sums for uid in QUOTAS}
            stored = await database.read(sums_by, "SELECT * FROM quotas WHERE uid = :q")
            again = await database.read(sums_by, AGAIN)
            assert stored == expected
            assert again == expected


async def set_up(store: LedgerStore) -> None:
    async with store.transaction() as transaction:
        for uid in QUOTAS:
            transaction.book.decide(Quota(uid, uid, TARGET))
        for agent in AGENTS:
            transaction.book.decide(Agent(agent.agent_uid, agent.agent_uid, agent.epoch))
            transaction.book.decide(Epoch(*agent))
            for uid in QUOTAS:
                transaction.book.decide(Assignment(uid, agent.agent_uid))
                transaction.book.decide(Allocation(uid, *agent))


def sums_by(connection: Connection, query: str) -> dict[str, Sums]:
    """The sums that a query finds for each quota, the columns with or without their prefix."""
    found = {}
    for uid in QUOTAS:
        row = connection.execute(text(query), {"q": uid}).mappings().one()
        found[uid] = Sums(*(row[f"sum_{name}" if f"sum_{name}" in row else name] for name in asdict(Sums())))
    return found


def apply(book: Book, action: str, key: AllocationKey, large: int, small: int) -> None:
    """One thing that happens to an allocation or its override; what cannot happen to it changes nothing."""
    before = book.allocations[key]
    standing = Standing(
        key.quota_uid,
        before.revision,
        limit=large,
        totals=replace(before.totals, consumed=before.totals.consumed + small, override_consumed=small),
        held=large // 2,
        sequence=before.sequence + 1,
    )
    match action:
        case "assign":
            assignment = book.assignments[key.quota_uid, key.agent_uid]
            book.note_fact(replace(assignment, initial_count=small))
        case "want":
            book.decide(before if before.settled else replace(before, wanted=large))
        case "offer" if not before.settled:
            quota = book.quotas[key.quota_uid]
            highest = before.exposure + max(0, quota.target - quota.escrowed)
            book.decide(escrow.offer(before, min(large, highest), 1))
        case "acknowledge":
            book.note_fact(escrow.acknowledge(before, standing))
        case "count":
            book.note_fact(escrow.count(before, standing, 1, large))
        case "settle" | "last_reported":
            how = Assume.SPENT_LIMIT if action == "settle" else Assume.LAST_REPORTED
            book.note_fact(escrow.settle(before, how))
        case "finalise":
            book.note_fact(
                escrow.finalise(before, FinalStanding("", Totals(large + small, small), Totals()), 1)
            )
        case "copy":
            book.note_fact(escrow.charge_copy(before, small))
        case "adopt" if not before.settled:
            book.note_fact(escrow.adopt(before, standing, 1, large))
        case _:
            apply_to_override(book, action, key, large, small)


def apply_to_override(book: Book, action: str, key: AllocationKey, large: int, small: int) -> None:
    override_id = f"o-{key.quota_uid}-{key.agent_uid}-{key.epoch}"
    fresh = Override(override_id, "", *key, amount=large, reason="", state=OverrideState.PENDING)
    before = book.overrides.get(override_id, fresh)
    match action:
        case "approve" if before.state is OverrideState.PENDING:
            book.decide(replace(before, state=OverrideState.APPROVED))
        case "use" if before.state is OverrideState.APPROVED:
            used = replace(before, state=OverrideState.USED, spent=min(small, before.amount), at_risk=False)
            book.note_fact(used)
        case "close":
            book.note_fact(replace(before, state=OverrideState.DEAD, at_risk=False))
        case "settle_override" if before.live:
            book.note_fact(escrow.settle_override(before, Assume.SPENT_LIMIT))
        case "risk_override" if before.live:
            book.note_fact(escrow.settle_override(before, Assume.LAST_REPORTED))
