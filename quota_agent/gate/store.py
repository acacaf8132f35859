"""The store as the gate sees it: a handful of verbs, each one unit."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Protocol, TypeVar

from quota_agent.gate.draft import Changes, Known
from quota_agent.gate.model import Entry, EntryState
from quota_agent.gate.records import State
from quota_agent.gate.state import Lookup


class Decided(Protocol):
    """What a group's decision has for the store."""

    @property
    def changes(self) -> Changes:
        """What to write."""


DecidedT = TypeVar("DecidedT", bound=Decided)


class GateStore(Protocol):
    """A durable store that belongs to one gate.

    A verb that has returned is durable. Every verb may raise StoreUnavailable; then it left nothing, unless the error
    says that it is not `clean`.
    """

    async def load(self) -> State:
        """Everything but the entries. Raises StoreUnusable if there is anything that no agent writes."""

    async def transact(self, lookup: Lookup, decide: Callable[[Known], DecidedT]) -> DecidedT:
        """Look entries up, decide, and write what was decided in one transaction, with nothing in between.

        `decide` runs on the store's own thread. Where it needs nothing written there is no transaction.
        """

    async def find(self, uids: Sequence[str], request_id: str) -> Entry | None:
        """The entry with this request_id in the first of these quotas that has one."""

    async def entries(
        self, uid: str, after_number: int, limit: int, states: Collection[EntryState]
    ) -> list[Entry]:
        """At most `limit` entries of a quota numbered above `after_number`, in order; no states: in all of them."""

    async def probe(self) -> None:
        """Prove that there is room for a group again."""

    async def reopen(self) -> None:
        """Give up what is open and start from what the disk holds; never begins a new store."""

    async def archive(self, label: str) -> None:
        """Put the present store aside under a name with `label` in it, and begin an empty one."""
