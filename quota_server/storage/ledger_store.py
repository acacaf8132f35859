"""The ledger's store port on a database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import Connection, delete, select, update

from quota_server.ledger.book import Book
from quota_server.ledger.model import Agent, AgentKey, AllocationKey, Override, Quota, QuotaState
from quota_server.ledger.store import RecordedAnswer
from quota_server.storage import loading, notices, saving
from quota_server.storage.connected import Connected, Database
from quota_server.storage.mapping import encode_json
from quota_server.storage.tables import answers, history, history_has_round

_PROBE_BYTES = 256 * 1024


class SqlTransaction:
    """One transaction; its docstrings are those of `quota_server.ledger.store.Transaction`."""

    def __init__(self, connected: Connected, book: Book, controller: str) -> None:
        self._run = connected.run
        self._controller = controller
        self._book = book
        self._answers: dict[str, RecordedAnswer] = {}

    @property
    def book(self) -> Book:
        """What was loaded, and what has become of it."""
        return self._book

    async def load_epochs(self, agents: Collection[AgentKey]) -> None:
        await self._run(loading.load_epochs, self._book, agents)

    async def load_allocations(self, keys: Collection[AllocationKey]) -> None:
        await self._run(loading.load_allocations, self._book, keys)

    async def load_allocations_of_agents(self, agents: Collection[AgentKey]) -> None:
        await self._run(loading.load_allocations_of_agents, self._book, agents)

    async def load_short_allocations(self, quota_uids: Collection[str]) -> None:
        await self._run(loading.load_short_allocations, self._book, quota_uids)

    async def load_quotas(self, quota_uids: Collection[str]) -> None:
        await self._run(loading.load_quotas, self._book, quota_uids)

    async def load_whole_quota(self, quota_uid: str) -> None:
        await self._run(loading.load_whole_quota, self._book, quota_uid)

    async def load_agent(self, agent_uid: str) -> None:
        await self._run(loading.load_agent, self._book, agent_uid)

    async def load_live_overrides(self, agents: Collection[AgentKey]) -> None:
        await self._run(loading.load_live_overrides, self._book, agents)

    async def load_overrides(self, override_ids: Collection[str]) -> None:
        await self._run(loading.load_overrides, self._book, override_ids)

    async def load_override_of_ask(self, agent: AgentKey, quota_uid: str, ask_id: str) -> Override | None:
        await self._run(loading.load_override_of_ask, self._book, agent, quota_uid, ask_id)
        ask = (agent, quota_uid, ask_id)
        found = (
            o for o in self._book.overrides.values() if o.ask_id and (o.agent, o.quota_uid, o.ask_id) == ask
        )
        return next(found, None)

    async def load_recovering_quotas(self) -> None:
        await self._run(loading.load_recovering_quotas, self._book)

    async def find_quota(self, name_or_uid: str) -> Quota | None:
        await self._run(loading.load_quota_named, self._book, name_or_uid)
        # Asked of the book: it may have closed or created a quota since it was loaded.
        named = (
            q
            for q in self._book.quotas.values()
            if q.name == name_or_uid and q.state is not QuotaState.CLOSED
        )
        return next(named, None) or self._book.quotas.get(name_or_uid)

    async def find_agent(self, name_or_uid: str) -> Agent | None:
        await self._run(loading.load_agent_named, self._book, name_or_uid)
        named = (a for a in self._book.agents.values() if a.name == name_or_uid and not a.retired)
        return next(named, None) or self._book.agents.get(name_or_uid)

    async def count_unheard(self, generation: int) -> int:
        # Whoever asks is about to end the recovery: alone from here on, before anything of it is locked.
        await self._run(saving.lock_meta)
        stored = await self._run(loading.unheard_epochs, generation)
        here = self._book.epochs
        unheard = [e for e in here.values() if not e.settled and e.heard_generation < generation]
        return len(stored - here.keys()) + len(unheard)

    async def recorded(self, request_id: str) -> RecordedAnswer | None:
        return self._answers.get(request_id) or await self._run(loading.read_answer_alone, request_id)

    async def record(self, answer: RecordedAnswer) -> None:
        self._answers[answer.request_id] = answer

    async def write(self) -> None:
        """Writes what changed, if anything did; the commit is the business of who began the transaction."""
        if self._answers or saving.is_changed(self._book):
            await self._run(saving.save, self._book, list(self._answers.values()))
            await self._run(notices.announce, self._controller, self._book)


class SqlLedgerStore:
    """The ledger in an open database; its docstrings are those of `quota_server.ledger.store.LedgerStore`.

    What it commits is announced to other controllers in the name of `controller`.
    """

    def __init__(self, database: Database, controller: str = "") -> None:
        self._database = database
        self._controller = controller

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[SqlTransaction]:
        """Begins a transaction; it commits on leaving, or rolls back if an exception or a cancellation leaves it."""
        async with self._database.writing() as connected:
            transaction = SqlTransaction(
                connected, Book(await connected.run(loading.share_meta)), self._controller
            )
            yield transaction
            await transaction.write()

    async def record_round(self, round_id: str, reached: Sequence[dict[str, Any]]) -> None:
        named = (history.c.round_id == round_id) & history_has_round
        async with self._database.writing() as connected:
            await connected.run(
                _execute, update(history).where(named).values(reached=encode_json(list(reached)))
            )

    async def forget_answers(self, before_ms: int, limit: int = 1_000) -> int:
        """Forgets what was answered to mutations before a time: a repeat of one is a new request then.

        At most `limit` at a time, the oldest first; how many they were.
        """
        old = select(answers.c.request_id).where(answers.c.create_ms < before_ms)
        some = old.order_by(answers.c.create_ms).limit(limit)
        async with self._database.writing() as connected:
            return await connected.run(_delete, delete(answers).where(answers.c.request_id.in_(some)))

    async def replace_answer(self, request_id: str, answer: bytes) -> None:
        named = answers.c.request_id == request_id
        async with self._database.writing() as connected:
            await connected.run(_execute, update(answers).where(named).values(answer=answer))

    async def probe(self) -> None:
        """Writes as much as a large transaction would, and takes it away again: StoreUnavailable says it cannot."""
        # No caller has an empty request_id; one that a crash leaves behind is replaced by the next probe.
        blank = RecordedAnswer("", "probe", b"", bytes(_PROBE_BYTES), 0)
        async with self._database.writing() as connected:
            await connected.run(saving.save_answer, blank)
        async with self._database.writing() as connected:
            await connected.run(_execute, delete(answers).where(answers.c.request_id == ""))


def _delete(connection: Connection, statement: Any) -> int:
    return int(connection.execute(statement).rowcount)


def _execute(connection: Connection, statement: Any) -> None:
    connection.execute(statement)
