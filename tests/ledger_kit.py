"""A ledger to test with: on a real SQLite database or in memory, empty or with a small fleet in it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from quota_server.ledger.model import Agent, AgentKey, Allocation, Assignment, Epoch, Quota, QuotaState
from quota_server.ledger.store import LedgerStore, LedgerViews
from quota_server.storage.database import open_database
from quota_server.storage.ledger_store import SqlLedgerStore
from quota_server.storage.views import SqlLedgerViews
from tests import databases
from tests.memory_store import MemoryLedgerStore

ANNE, BILL, CLEO = AgentKey("a-anne", 2), AgentKey("a-bill", 1), AgentKey("a-cleo", 1)


@asynccontextmanager
async def open_store(folder: Path) -> AsyncIterator[tuple[LedgerStore, LedgerViews]]:
    """Opens, or opens again, the ledger in a folder."""
    async with open_database(folder / "ledger.db") as database:
        yield SqlLedgerStore(database), SqlLedgerViews(database)


@asynccontextmanager
async def open_migrated_store(folder: Path) -> AsyncIterator[tuple[LedgerStore, LedgerViews]]:
    """The same, for tests that are not about how a database begins: a new one is a copy of a migrated one."""
    async with open_database(await databases.put(folder / "ledger.db")) as database:
        yield SqlLedgerStore(database), SqlLedgerViews(database)


@asynccontextmanager
async def open_either(kind: str, folder: Path) -> AsyncIterator[LedgerStore]:
    """A store of a kind, `sqlite`, `postgresql` or `memory`: what holds of one holds of the others."""
    if kind == "memory":
        yield MemoryLedgerStore()
    else:
        with databases.chosen(kind):
            async with open_migrated_store(folder) as (store, _):
                yield store


async def fill(store: LedgerStore) -> None:
    """Two open quotas and a closed one; three agents, Anne in her second epoch, Cleo offline."""
    async with store.transaction() as transaction:
        book = transaction.book
        for name in ("one", "two"):
            book.decide(Quota(f"q-{name}", name, target=1000))
        book.decide(Quota("q-old", "one", target=5, state=QuotaState.CLOSED))
        for key in (ANNE, BILL, CLEO):
            book.decide(Agent(key.agent_uid, key.agent_uid.removeprefix("a-"), key.epoch))
            book.decide(Epoch(*key, online=key != CLEO))
        book.decide(Epoch("a-anne", 1, ended=True, settled=True, final=True))
        for quota_uid, agent in (("q-one", ANNE), ("q-one", BILL), ("q-one", CLEO), ("q-two", BILL)):
            book.decide(Assignment(quota_uid, agent.agent_uid, min=10))
            book.decide(Allocation(quota_uid, *agent, wanted=20, offered=20, exposure=20))
        book.decide(Allocation("q-one", "a-anne", 1, settled=True, final=True, charge=7))
