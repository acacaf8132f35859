"""What a controller knows of the others from their database: whose streams are where, and who still serves."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import replace
from random import Random
from typing import TypeVar

from quota_server.errors import StoreUnavailable
from quota_server.ledger.book import Book
from quota_server.ledger.effects import Participant, override_update, participants_of
from quota_server.ledger.model import AgentKey, Allocation
from quotafleet.link.messages import AllocationUpdate, OverrideState, OverrideUpdate
from tests.memory_store import MemoryTransaction
from tests.simulation.database import Database
from tests.simulation.disk import Trouble

T = TypeVar("T")

#: So many reads are answered late, with what was there when they were asked.
LATE_READS = 0.2
#: As in `storage.controllers`: a lease until the first renewal.
FIRST_LEASE_MS = 10_000


class Access:
    """One controller's way to the database, which fails now and then."""

    def __init__(self, database: Database, chance: Random, trouble: Trouble) -> None:
        self.database = database
        self._chance = chance
        self._trouble = trouble

    async def read(self, found: T) -> T:
        """What was found, now or a little later."""
        if self._chance.random() < self._trouble.unclear_rate:
            raise StoreUnavailable("the database did not answer")
        if self._chance.random() < LATE_READS:
            await asyncio.sleep(0.003 * self._chance.random())
        return found

    def check(self) -> None:
        """Before something small is written."""
        if self.database.full:
            raise StoreUnavailable("the disk is full")

    def check_unclear(self) -> None:
        """After it was written: nobody may know."""
        if self._chance.random() < self._trouble.unclear_rate:
            raise StoreUnavailable("the disk failed while it wrote", unclear=True)


class SimSessions:
    """See `fleet.others.Sessions`; what is asked is what `storage.sessions` asks."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def unacknowledged(
        self, owner: str, quota_uids: Collection[str] | None
    ) -> dict[AgentKey, list[AllocationUpdate]]:
        found = [
            allocation
            for allocation in self._access.database.tables.allocations.values()
            if not allocation.settled
            and allocation.revision != allocation.acknowledged
            and (quota_uids is None or allocation.quota_uid in quota_uids)
            and self._is_on(owner, allocation.key.agent)
        ]
        return await self._access.read(self._updates_of(found))

    async def overrides(
        self, owner: str, override_ids: Collection[str] | None
    ) -> dict[AgentKey, list[OverrideUpdate]]:
        found: dict[AgentKey, list[OverrideUpdate]] = {}
        for override in self._access.database.tables.overrides.values():
            asked = override.state is OverrideState.APPROVED and not override.settled
            if override_ids is not None:
                asked = override.override_id in override_ids
            if asked and self._is_on(owner, override.agent):
                found.setdefault(override.agent, []).append(override_update(override))
        return await self._access.read(found)

    async def to_be_fenced(self, owner: str) -> set[AgentKey]:
        epochs = self._access.database.tables.epochs
        ended = {key for key, epoch in epochs.items() if epoch.ended and self._is_on(owner, key)}
        return await self._access.read(ended)

    async def participants(self, quota_uid: str) -> list[Participant]:
        transaction = MemoryTransaction(self._access.database.tables)
        await transaction.load_whole_quota(quota_uid)
        return await self._access.read(list(participants_of(transaction.book, quota_uid)))

    def _updates_of(self, allocations: list[Allocation]) -> dict[AgentKey, list[AllocationUpdate]]:
        tables = self._access.database.tables
        book = Book(tables.meta)
        updates: dict[AgentKey, list[AllocationUpdate]] = {}
        for allocation in sorted(allocations, key=lambda each: each.key):
            part = tables.assignments[allocation.quota_uid, allocation.agent_uid]
            quota, agent = tables.quotas[allocation.quota_uid], tables.agents[allocation.agent_uid]
            book.load([quota, agent, part, allocation])
            updates.setdefault(allocation.key.agent, []).append(book.update_of(allocation.key))
        return updates

    def _is_on(self, owner: str, agent: AgentKey) -> bool:
        epoch = self._access.database.tables.epochs[agent]
        return epoch.online and epoch.owner == owner


class SimLeases:
    """See `fleet.others.Leases`; what is done is what `storage.controllers` does."""

    def __init__(self, access: Access, controller: str) -> None:
        self._access = access
        self._controller = controller

    async def begin(self) -> None:
        self._access.check()
        database = self._access.database
        database.tables.controllers[self._controller] = database.now_ms + FIRST_LEASE_MS

    async def renew(self, lease_ms: int) -> bool:
        self._access.check()
        database = self._access.database
        if self._gone():
            async with database.turn():  # the epochs of those that are gone are locked
                self._end(self._gone())
        controllers = database.tables.controllers
        if self._controller not in controllers:
            return False
        controllers[self._controller] = database.now_ms + lease_ms
        self._access.check_unclear()
        return True

    async def end(self) -> None:
        self._access.check()
        async with self._access.database.turn():
            self._end([self._controller])

    def _gone(self) -> list[str]:
        """Whose time is over; nobody's, if this one's is over too: then the database was away."""
        leases, now_ms = self._access.database.tables.controllers, self._access.database.now_ms
        if leases.get(self._controller, 0) < now_ms:
            return []
        return [uid for uid, until_ms in leases.items() if until_ms < now_ms]

    def _end(self, gone: Collection[str]) -> None:
        tables = self._access.database.tables
        serving = tables.controllers.keys() - set(gone)
        for key, epoch in tables.epochs.items():
            if epoch.online and epoch.owner not in serving:
                tables.epochs[key] = replace(epoch, online=False)
        for uid in gone:
            del tables.controllers[uid]
