"""The ledger's store in dictionaries: one transaction at a time, for fast tests and the simulator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from quota_server.ledger.book import Book, Record
from quota_server.ledger.model import (
    Agent,
    AgentKey,
    Allocation,
    AllocationKey,
    Assignment,
    Epoch,
    Mark,
    Meta,
    Note,
    Override,
    Quota,
    QuotaState,
)
from quota_server.ledger.store import RecordedAnswer
from quotafleet.link.messages import OverrideState


@dataclass
class Tables:
    """What is stored."""

    meta: Meta = field(default_factory=Meta)
    quotas: dict[str, Quota] = field(default_factory=dict)
    agents: dict[str, Agent] = field(default_factory=dict)
    epochs: dict[AgentKey, Epoch] = field(default_factory=dict)
    assignments: dict[tuple[str, str], Assignment] = field(default_factory=dict)
    allocations: dict[AllocationKey, Allocation] = field(default_factory=dict)
    overrides: dict[str, Override] = field(default_factory=dict)
    fenced_marks: set[tuple[AgentKey, Mark]] = field(default_factory=set)
    charged_copies: set[tuple[AgentKey, str]] = field(default_factory=set)
    answers: dict[str, RecordedAnswer] = field(default_factory=dict)
    #: In order; the number of an entry is its place, counted from 1.
    history: list[Note] = field(default_factory=list)
    reached: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    #: Controllers that serve, each until its lease ends, in the database's own time.
    controllers: dict[str, int] = field(default_factory=dict)


class MemoryTransaction:
    """A transaction on dictionaries; nothing is stored before `commit`."""

    def __init__(self, tables: Tables) -> None:
        self.book = Book(tables.meta)
        self._tables = tables
        self._answers: dict[str, RecordedAnswer] = {}

    async def load_epochs(self, agents: Collection[AgentKey]) -> None:
        self._load(self._tables.epochs, agents)
        self._load(self._tables.agents, {agent.agent_uid for agent in agents})
        for agent, mark in self._tables.fenced_marks:
            if agent in agents:
                self.book.fenced_marks.setdefault(agent, set()).add(mark)
        self.book.charged_copies |= {copy for copy in self._tables.charged_copies if copy[0] in agents}

    async def load_allocations(self, keys: Collection[AllocationKey]) -> None:
        self._load(self._tables.quotas, {key.quota_uid for key in keys})
        self._load(self._tables.agents, {key.agent_uid for key in keys})
        self._load(self._tables.epochs, {key.agent for key in keys})
        self._load(self._tables.assignments, {(key.quota_uid, key.agent_uid) for key in keys})
        self._load(self._tables.allocations, keys)

    async def load_allocations_of_agents(self, agents: Collection[AgentKey]) -> None:
        self._load(self._tables.agents, {agent.agent_uid for agent in agents})
        self._load(self._tables.epochs, agents)
        await self._load_allocations_where(lambda allocation: allocation.key.agent in agents)

    async def load_short_allocations(self, quota_uids: Collection[str]) -> None:
        epochs = self._tables.epochs
        self._load(self._tables.quotas, quota_uids)
        await self._load_allocations_where(
            lambda a: a.quota_uid in quota_uids and a.short and epochs[a.key.agent].online
        )

    async def load_quotas(self, quota_uids: Collection[str]) -> None:
        self._load(self._tables.quotas, quota_uids)

    async def load_whole_quota(self, quota_uid: str) -> None:
        self._load(self._tables.quotas, [quota_uid])
        assigned = [key for key in self._tables.assignments if key[0] == quota_uid]
        self._load(self._tables.assignments, assigned)
        self._load(self._tables.agents, [agent_uid for _, agent_uid in assigned])
        await self._load_allocations_where(lambda a: a.quota_uid == quota_uid and not a.final)

    async def load_agent(self, agent_uid: str) -> None:
        self._load(self._tables.agents, [agent_uid])
        self._load(self._tables.epochs, [key for key in self._tables.epochs if key.agent_uid == agent_uid])
        assigned = [key for key in self._tables.assignments if key[1] == agent_uid]
        self._load(self._tables.assignments, assigned)
        self._load(self._tables.quotas, [quota_uid for quota_uid, _ in assigned])

    async def load_live_overrides(self, agents: Collection[AgentKey]) -> None:
        live = (OverrideState.PENDING, OverrideState.APPROVED)
        self._load_overrides_where(lambda override: override.agent in agents and override.state in live)

    async def load_overrides(self, override_ids: Collection[str]) -> None:
        self._load_overrides_where(lambda override: override.override_id in override_ids)

    async def load_override_of_ask(self, agent: AgentKey, quota_uid: str, ask_id: str) -> Override | None:
        def is_it(o: Override) -> bool:
            return bool(ask_id) and (o.agent, o.quota_uid, o.ask_id) == (agent, quota_uid, ask_id)

        self._load_overrides_where(is_it)
        return next(filter(is_it, self.book.overrides.values()), None)

    async def load_recovering_quotas(self) -> None:
        self.book.load(quota for quota in self._tables.quotas.values() if quota.recovering)

    async def find_quota(self, name_or_uid: str) -> Quota | None:
        def is_it(quota: Quota) -> bool:
            return quota.name == name_or_uid and quota.state is not QuotaState.CLOSED

        self._load(self._tables.quotas, [name_or_uid])
        self.book.load(quota for quota in self._tables.quotas.values() if is_it(quota))
        return next(filter(is_it, self.book.quotas.values()), None) or self.book.quotas.get(name_or_uid)

    async def find_agent(self, name_or_uid: str) -> Agent | None:
        def is_it(agent: Agent) -> bool:
            return agent.name == name_or_uid and not agent.retired

        self._load(self._tables.agents, [name_or_uid])
        self.book.load(agent for agent in self._tables.agents.values() if is_it(agent))
        return next(filter(is_it, self.book.agents.values()), None) or self.book.agents.get(name_or_uid)

    async def count_unheard(self, generation: int) -> int:
        now = {**self._tables.epochs, **self.book.epochs}
        return sum(not epoch.settled and epoch.heard_generation < generation for epoch in now.values())

    async def recorded(self, request_id: str) -> RecordedAnswer | None:
        return self._answers.get(request_id) or self._tables.answers.get(request_id)

    async def record(self, answer: RecordedAnswer) -> None:
        self._answers[answer.request_id] = answer

    @property
    def writes(self) -> bool:
        """Whether there is anything to store."""
        book = self.book
        marks = book.new_fenced_marks or book.new_charged_copies
        return bool(self._answers or book.changes() or book.notes or book.meta_changed or marks)

    def commit(self) -> None:
        """Stores what has changed."""
        tables, book = self._tables, self.book
        tables.meta = book.meta
        for mine, theirs in self._pairs():
            mine.update({key: record for key, record in theirs.items() if mine.get(key) is not record})
        if book.everything_recovers:
            tables.quotas = {uid: replace(quota, recovering=True) for uid, quota in tables.quotas.items()}
        tables.fenced_marks.update(book.new_fenced_marks)
        tables.charged_copies.update(book.new_charged_copies)
        tables.answers.update(self._answers)
        tables.history.extend(book.notes)
        if book.recovery_note is not None:
            tables.history.extend(replace(book.recovery_note, quota_uid=uid) for uid in sorted(tables.quotas))

    def _pairs(self) -> list[tuple[dict[Any, Any], dict[Any, Any]]]:
        names = ("quotas", "agents", "epochs", "assignments", "allocations", "overrides")
        return [(getattr(self._tables, name), getattr(self.book, name)) for name in names]

    def _load(self, table: dict[Any, Any], keys: Iterable[object]) -> None:
        self.book.load(table[key] for key in keys if key in table)

    async def _load_allocations_where(self, condition: Callable[[Allocation], bool]) -> None:
        await self.load_allocations([a.key for a in self._tables.allocations.values() if condition(a)])

    def _load_overrides_where(self, condition: Callable[[Override], bool]) -> None:
        found: list[Record] = [each for each in self._tables.overrides.values() if condition(each)]
        self._load(self._tables.quotas, {each.quota_uid for each in found if isinstance(each, Override)})
        self.book.load(found)


class MemoryLedgerStore:
    """`LedgerStore` without a disk: a crash is a new controller on the same store."""

    def __init__(self) -> None:
        self.tables = Tables()
        self._lock = asyncio.Lock()

    def _turn(self) -> AbstractAsyncContextManager[object]:
        """Of all who write only one is within it."""
        return self._lock

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[MemoryTransaction]:
        async with self._turn():
            transaction = MemoryTransaction(self.tables)
            yield transaction
            transaction.commit()

    async def put_back_online_flags(self) -> None:
        async with self._turn():
            epochs = self.tables.epochs
            self.tables.epochs = {key: replace(epoch, online=False) for key, epoch in epochs.items()}

    async def record_round(self, round_id: str, reached: Sequence[dict[str, Any]]) -> None:
        async with self._turn():
            self.tables.reached[round_id] = list(reached)

    async def replace_answer(self, request_id: str, answer: bytes) -> None:
        async with self._turn():
            if request_id in self.tables.answers:
                before = self.tables.answers[request_id]
                self.tables.answers[request_id] = replace(before, answer=answer)
