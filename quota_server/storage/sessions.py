"""What is stored about agents' streams, by the controller that they are on; see `fleet.others.Sessions`."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, Select, bindparam, select
from sqlalchemy.sql import ColumnElement

from quota_server.ledger.book import Book
from quota_server.ledger.effects import Participant, override_update, participants_of
from quota_server.ledger.model import AgentKey, Meta
from quota_server.storage import loading
from quota_server.storage.connected import Database
from quota_server.storage.keyed import among, rows_by_key
from quota_server.storage.mapping import AGENTS, ALLOCATIONS, ASSIGNMENTS, OVERRIDES, QUOTAS
from quota_server.storage.tables import (
    agents,
    allocation_is_unacknowledged,
    allocations,
    assignments,
    epoch_is_online,
    epoch_is_to_be_fenced,
    epochs,
    override_is_open,
    overrides,
    quotas,
)
from quotafleet.link.messages import AllocationUpdate, OverrideUpdate

_here: ColumnElement[bool] = epoch_is_online & (epochs.c.owner == bindparam("owner"))
_PARTS = (ALLOCATIONS, QUOTAS, AGENTS, ASSIGNMENTS)

_UNACKNOWLEDGED = (
    select(*(column for part in _PARTS for column in part.columns))
    .select_from(allocations)
    .join(epochs, (epochs.c.agent_uid == allocations.c.agent_uid) & (epochs.c.epoch == allocations.c.epoch))
    .join(quotas, quotas.c.uid == allocations.c.quota_uid)
    .join(agents, agents.c.uid == allocations.c.agent_uid)
    .join(
        assignments,
        (assignments.c.quota_uid == allocations.c.quota_uid)
        & (assignments.c.agent_uid == allocations.c.agent_uid),
    )
    .where(allocation_is_unacknowledged, _here)
)
_OVERRIDES_OPEN = (
    select(*OVERRIDES.columns)
    .join(epochs, (epochs.c.agent_uid == overrides.c.agent_uid) & (epochs.c.epoch == overrides.c.epoch))
    .where(_here, override_is_open)
)
_OVERRIDES = (
    select(*OVERRIDES.columns)
    .join(epochs, (epochs.c.agent_uid == overrides.c.agent_uid) & (epochs.c.epoch == overrides.c.epoch))
    .where(_here, among(overrides.c.override_id))
)
_UNACKNOWLEDGED_OF = _UNACKNOWLEDGED.where(among(allocations.c.quota_uid))
_TO_BE_FENCED = select(epochs.c.agent_uid, epochs.c.epoch).where(epoch_is_to_be_fenced, _here)


class SqlSessions:
    """Streams in an open database, to read; its docstrings are those of `fleet.others.Sessions`."""

    def __init__(self, database: Database) -> None:
        self._read = database.read

    async def unacknowledged(
        self, owner: str, quota_uids: Collection[str] | None
    ) -> dict[AgentKey, list[AllocationUpdate]]:
        return await self._read(_unacknowledged, owner, quota_uids)

    async def overrides(
        self, owner: str, override_ids: Collection[str] | None
    ) -> dict[AgentKey, list[OverrideUpdate]]:
        return await self._read(_overrides, owner, override_ids)

    async def to_be_fenced(self, owner: str) -> set[AgentKey]:
        return await self._read(_to_be_fenced, owner)

    async def participants(self, quota_uid: str) -> list[Participant]:
        return await self._read(_participants, quota_uid)


def _unacknowledged(
    connection: Connection, owner: str, quota_uids: Collection[str] | None
) -> dict[AgentKey, list[AllocationUpdate]]:
    book = Book(Meta())
    for row in _rows(connection, _UNACKNOWLEDGED, _UNACKNOWLEDGED_OF, owner, quota_uids):
        start = 0
        for part in _PARTS:
            book.load([part.read(row[start : start + len(part.columns)])])
            start += len(part.columns)
    updates: dict[AgentKey, list[AllocationUpdate]] = {}
    for key in sorted(book.allocations):
        updates.setdefault(key.agent, []).append(book.update_of(key))
    return updates


def _overrides(
    connection: Connection, owner: str, override_ids: Collection[str] | None
) -> dict[AgentKey, list[OverrideUpdate]]:
    rows = _rows(connection, _OVERRIDES_OPEN, _OVERRIDES, owner, override_ids)
    updates: dict[AgentKey, list[OverrideUpdate]] = {}
    for override in OVERRIDES.read_all(rows):
        updates.setdefault(override.agent, []).append(override_update(override))
    return updates


def _to_be_fenced(connection: Connection, owner: str) -> set[AgentKey]:
    return {AgentKey(*row) for row in connection.execute(_TO_BE_FENCED, {"owner": owner})}


def _participants(connection: Connection, quota_uid: str) -> list[Participant]:
    book = Book(Meta())
    loading.read_whole_quota(connection, book, quota_uid)
    return list(participants_of(book, quota_uid))


def _rows(
    connection: Connection,
    of_all: Select[Any],
    of_some: Select[Any],
    owner: str,
    keys: Collection[str] | None,
) -> list[Any]:
    """The rows about the streams on `owner`, of everything or of these keys."""
    if keys is None:
        return list(connection.execute(of_all, {"owner": owner}))
    return rows_by_key(connection, of_some, keys, owner=owner)
