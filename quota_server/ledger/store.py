"""The ledger's port to its store: transactions that fill a book and write it back, and views to read."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from quota_server.ledger.book import Book
from quota_server.ledger.model import (
    Agent,
    AgentKey,
    Allocation,
    AllocationKey,
    Assignment,
    Epoch,
    Meta,
    Note,
    Override,
    Quota,
)
from quotafleet.link.messages import OverrideState


@dataclass(frozen=True, slots=True)
class RecordedAnswer:
    """What a mutation answered to its request_id."""

    request_id: str
    method: str
    #: Digest of the request's content: another content under the same id is refused.
    fingerprint: bytes
    answer: bytes
    create_ms: int


class Transaction(Protocol):
    """One transaction: the verbs load into `book`, and lock what they load; leaving the context writes and commits.

    Lock order: agents, epochs, quotas, each in the order of their keys. Records already in the book are kept.
    """

    @property
    def book(self) -> Book: ...

    async def load_epochs(self, agents: Collection[AgentKey]) -> None:
        """Epochs, with their agents, their fenced marks and the copies charged; unknown ones are left out."""

    async def load_allocations(self, keys: Collection[AllocationKey]) -> None:
        """Allocations, with their quotas, assignments, agents and epochs; unknown ones are left out."""

    async def load_allocations_of_agents(self, agents: Collection[AgentKey]) -> None:
        """All allocations of these enrolments, as load_allocations."""

    async def load_short_allocations(self, quota_uids: Collection[str]) -> None:
        """Allocations that wait for their limit to grow and whose agent is online, as load_allocations."""

    async def load_quotas(self, quota_uids: Collection[str]) -> None:
        """The quotas alone."""

    async def load_whole_quota(self, quota_uid: str) -> None:
        """A quota with all its assignments, and all its allocations whose totals are not final."""

    async def load_agent(self, agent_uid: str) -> None:
        """An agent with all its epochs and assignments, and the quotas of these."""

    async def load_live_overrides(self, agents: Collection[AgentKey]) -> None:
        """Overrides of these enrolments that are PENDING or APPROVED, with their quotas."""

    async def load_overrides(self, override_ids: Collection[str]) -> None:
        """Overrides by id, with their epochs and quotas."""

    async def load_override_of_ask(self, agent: AgentKey, quota_uid: str, ask_id: str) -> Override | None:
        """The override that this ask led to."""

    async def load_recovering_quotas(self) -> None:
        """Every quota that recovers."""

    async def find_quota(self, name_or_uid: str) -> Quota | None:
        """The open quota of that name, else the quota of that uid; loaded and locked."""

    async def find_agent(self, name_or_uid: str) -> Agent | None:
        """The enrolled agent of that name, else the agent of that uid; loaded and locked."""

    async def count_unheard(self, generation: int) -> int:
        """Epochs that are not settled and have not been heard in `generation`; asked by who ends the recovery."""

    async def recorded(self, request_id: str) -> RecordedAnswer | None:
        """What was answered to this request_id before."""

    async def record(self, answer: RecordedAnswer) -> None:
        """Remembers an answer, with everything else in this transaction."""


class LedgerStore(Protocol):
    """Where the ledger lives. Methods raise StoreUnavailable."""

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """Begins a transaction with an empty book. It commits on leaving, or rolls back if an exception leaves it."""

    async def record_round(self, round_id: str, reached: Sequence[dict[str, Any]]) -> None:
        """Adds the outcomes of a fan-out to its history entry."""

    async def replace_answer(self, request_id: str, answer: bytes) -> None:
        """Puts the full answer in the place of the one recorded before the fan-out."""


@dataclass(frozen=True, slots=True)
class QuotaNumbers:
    """A quota with what only its allocations know."""

    quota: Quota
    agents: int
    connected_agents: int
    #: Oldest report among allocations that are not settled; None if one has never reported, or there is none.
    oldest_report_ms: int | None


@dataclass(frozen=True, slots=True)
class AllocationView:
    """An allocation with its agent."""

    allocation: Allocation
    agent: Agent
    epoch: Epoch
    assignment: Assignment


@dataclass(frozen=True, slots=True)
class HistoryView:
    """A numbered entry of a quota's history, with who was reached."""

    number: int
    note: Note
    reached: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class OverrideView:
    """An override with the names it carries only by uid."""

    override: Override
    quota: str
    agent: str


class LedgerViews(Protocol):
    """Reads of one moment each. Pages: `after` is the key of the last row of the page before, None for the first."""

    async def meta(self) -> Meta: ...

    async def quota(self, name_or_uid: str) -> Quota | None: ...

    async def quotas(self, after: tuple[str, str] | None, limit: int, include_closed: bool) -> list[Quota]:
        """By (name, uid)."""

    async def numbers(self, quota_uid: str) -> QuotaNumbers | None: ...

    async def allocations(
        self, quota_uid: str, after: tuple[str, int, str] | None, limit: int
    ) -> list[AllocationView]:
        """By (agent name, epoch, agent uid): a retired agent's name may be in use again."""

    async def agent(self, name_or_uid: str) -> tuple[Agent, Epoch, list[tuple[Assignment, Quota]]] | None: ...

    async def agents(
        self, after: tuple[str, str] | None, limit: int, include_retired: bool
    ) -> list[tuple[Agent, Epoch]]:
        """By (name, uid)."""

    async def overrides(
        self,
        before: tuple[int, str] | None,
        limit: int,
        quota_uid: str | None,
        agent_uid: str | None,
        states: Collection[OverrideState],
    ) -> list[OverrideView]:
        """Newest first, by (create_ms, override_id)."""

    async def override(self, override_id: str) -> OverrideView | None: ...

    async def history(self, quota_uid: str, before: int | None, limit: int) -> list[HistoryView]:
        """Newest first, by number."""

    async def unheard(
        self, generation: int, after: tuple[str, int] | None, limit: int
    ) -> list[tuple[Agent, Epoch, int]]:
        """Epochs neither heard nor settled, with the sum of their exposures, by (agent name, epoch)."""
