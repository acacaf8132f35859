"""The ledger's views port on a database: every answer is of one moment, every list is read by key, never by offset."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, case, func, or_, select, tuple_
from sqlalchemy.sql import ColumnElement

from quota_server.ledger.model import Agent, Assignment, Epoch, Meta, Quota
from quota_server.ledger.store import AllocationView, HistoryView, OverrideView, QuotaNumbers
from quota_server.storage import loading
from quota_server.storage.connected import Database
from quota_server.storage.mapping import (
    AGENTS,
    ALLOCATIONS,
    ASSIGNMENTS,
    EPOCHS,
    NOTES,
    OVERRIDES,
    QUOTAS,
    RecordMapping,
)
from quota_server.storage.tables import (
    agent_is_enrolled,
    agents,
    allocation_is_unsettled,
    allocations,
    assignments,
    epoch_is_unsettled,
    epochs,
    history,
    overrides,
    quota_is_open,
    quotas,
)
from quotafleet.link.messages import OverrideState

_newest_epoch = and_(epochs.c.agent_uid == agents.c.uid, epochs.c.epoch == agents.c.epoch)


class SqlLedgerViews:
    """The ledger in an open database, to read; its docstrings are those of `quota_server.ledger.store.LedgerViews`."""

    def __init__(self, database: Database) -> None:
        self._read = database.read

    async def meta(self) -> Meta:
        return await self._read(loading.read_meta)

    async def quota(self, name_or_uid: str) -> Quota | None:
        return await self._read(_quota, name_or_uid)

    async def quotas(self, after: tuple[str, str] | None, limit: int, include_closed: bool) -> list[Quota]:
        return await self._read(_quotas, after, limit, include_closed)

    async def numbers(self, quota_uid: str) -> QuotaNumbers | None:
        return await self._read(_numbers, quota_uid)

    async def allocations(
        self, quota_uid: str, after: tuple[str, int, str] | None, limit: int
    ) -> list[AllocationView]:
        return await self._read(_allocations, quota_uid, after, limit)

    async def agent(self, name_or_uid: str) -> tuple[Agent, Epoch, list[tuple[Assignment, Quota]]] | None:
        return await self._read(_agent, name_or_uid)

    async def agents(
        self, after: tuple[str, str] | None, limit: int, include_retired: bool
    ) -> list[tuple[Agent, Epoch]]:
        return await self._read(_agents, after, limit, include_retired)

    async def overrides(
        self,
        before: tuple[int, str] | None,
        limit: int,
        quota_uid: str | None,
        agent_uid: str | None,
        states: Collection[OverrideState],
    ) -> list[OverrideView]:
        conditions = [
            overrides.c.quota_uid == quota_uid if quota_uid is not None else None,
            overrides.c.agent_uid == agent_uid if agent_uid is not None else None,
            overrides.c.state.in_([state.value for state in states]) if states else None,
            _key(overrides.c.create_ms, overrides.c.override_id) < _key(*before) if before else None,
        ]
        return await self._read(_overrides, [c for c in conditions if c is not None], limit)

    async def override(self, override_id: str) -> OverrideView | None:
        found = await self._read(_overrides, [overrides.c.override_id == override_id], 1)
        return found[0] if found else None

    async def history(self, quota_uid: str, before: int | None, limit: int) -> list[HistoryView]:
        return await self._read(_history, quota_uid, before, limit)

    async def unheard(
        self, generation: int, after: tuple[str, int] | None, limit: int
    ) -> list[tuple[Agent, Epoch, int]]:
        return await self._read(_unheard, generation, after, limit)


# --- quotas ----------------------------------------------------------------------------------------------------------


def _quota(connection: Connection, name_or_uid: str) -> Quota | None:
    named = (quotas.c.name == name_or_uid) & quota_is_open
    statement = select(*QUOTAS.columns).where(or_(named, quotas.c.uid == name_or_uid))
    row = connection.execute(_name_first(statement, named)).first()
    return None if row is None else QUOTAS.read(row)


def _quotas(
    connection: Connection, after: tuple[str, str] | None, limit: int, include_closed: bool
) -> list[Quota]:
    order = (quotas.c.name, quotas.c.uid)
    statement = select(*QUOTAS.columns).order_by(*order).limit(limit)
    if not include_closed:
        statement = statement.where(quota_is_open)
    if after is not None:
        statement = statement.where(_key(*order) > _key(*after))
    return QUOTAS.read_all(connection.execute(statement))


def _numbers(connection: Connection, quota_uid: str) -> QuotaNumbers | None:
    quota = connection.execute(select(*QUOTAS.columns).where(quotas.c.uid == quota_uid)).one_or_none()
    if quota is None:
        return None
    assigned = (
        select(func.count(), func.count(case((epochs.c.online, 1))))
        .select_from(assignments)
        .join(agents, agents.c.uid == assignments.c.agent_uid)
        .join(epochs, _newest_epoch)
        .where(assignments.c.quota_uid == quota_uid, assignments.c.assigned, agent_is_enrolled)
    )
    # Whatever an agent says, its quotas that did not change stand as they were last reported: they are as old as its
    # last word. One that has never reported comes first, and its NULL is the answer.
    reported, heard = allocations.c.report_ms, epochs.c.contact_ms
    age = case((reported.is_(None), None), (heard > reported, heard), else_=reported)
    oldest = (
        select(age)
        .select_from(allocations)
        .join(epochs, _same(allocations, epochs, "agent_uid", "epoch"))
        .where(allocations.c.quota_uid == quota_uid, allocation_is_unsettled)
        .order_by(age.asc().nulls_first())
        .limit(1)
    )
    total, connected = connection.execute(assigned).one()
    return QuotaNumbers(QUOTAS.read(quota), total, connected, connection.execute(oldest).scalar())


def _allocations(
    connection: Connection, quota_uid: str, after: tuple[str, int, str] | None, limit: int
) -> list[AllocationView]:
    parts: tuple[RecordMapping[Any], ...] = (ALLOCATIONS, AGENTS, EPOCHS, ASSIGNMENTS)
    order = (agents.c.name, allocations.c.epoch, agents.c.uid)
    statement = (
        _select(parts)
        .select_from(allocations)
        .join(agents, agents.c.uid == allocations.c.agent_uid)
        .join(epochs, and_(epochs.c.agent_uid == agents.c.uid, epochs.c.epoch == allocations.c.epoch))
        .join(assignments, _same(assignments, allocations, "quota_uid", "agent_uid"))
        .where(allocations.c.quota_uid == quota_uid)
        .order_by(*order)
        .limit(limit)
    )
    if after is not None:
        statement = statement.where(_key(*order) > _key(*after))
    return [AllocationView(*_split(row, parts)) for row in connection.execute(statement)]


def _history(connection: Connection, quota_uid: str, before: int | None, limit: int) -> list[HistoryView]:
    statement = (
        select(*NOTES.columns, history.c.number, history.c.reached)
        .where(history.c.quota_uid == quota_uid)
        .order_by(history.c.number.desc())
        .limit(limit)
    )
    if before is not None:
        statement = statement.where(history.c.number < before)
    return [
        HistoryView(row.number, NOTES.read(row), json.loads(row.reached))
        for row in connection.execute(statement)
    ]


# --- agents ----------------------------------------------------------------------------------------------------------


def _agent(
    connection: Connection, name_or_uid: str
) -> tuple[Agent, Epoch, list[tuple[Assignment, Quota]]] | None:
    named = (agents.c.name == name_or_uid) & agent_is_enrolled
    statement = _select((AGENTS, EPOCHS)).select_from(agents).join(epochs, _newest_epoch)
    statement = statement.where(or_(named, agents.c.uid == name_or_uid))
    row = connection.execute(_name_first(statement, named)).first()
    if row is None:
        return None
    agent, epoch = _split(row, (AGENTS, EPOCHS))
    assigned = (
        _select((ASSIGNMENTS, QUOTAS))
        .select_from(assignments)
        .join(quotas, quotas.c.uid == assignments.c.quota_uid)
        .where(assignments.c.agent_uid == agent.uid)
        .order_by(quotas.c.name, quotas.c.uid)
    )
    pairs = [_split(row, (ASSIGNMENTS, QUOTAS)) for row in connection.execute(assigned)]
    return agent, epoch, [(assignment, quota) for assignment, quota in pairs]


def _agents(
    connection: Connection, after: tuple[str, str] | None, limit: int, include_retired: bool
) -> list[tuple[Agent, Epoch]]:
    order = (agents.c.name, agents.c.uid)
    statement = _select((AGENTS, EPOCHS)).select_from(agents).join(epochs, _newest_epoch)
    statement = statement.order_by(*order).limit(limit)
    if not include_retired:
        statement = statement.where(agent_is_enrolled)
    if after is not None:
        statement = statement.where(_key(*order) > _key(*after))
    pairs = [_split(row, (AGENTS, EPOCHS)) for row in connection.execute(statement)]
    return [(agent, epoch) for agent, epoch in pairs]


def _unheard(
    connection: Connection, generation: int, after: tuple[str, int] | None, limit: int
) -> list[tuple[Agent, Epoch, int]]:
    order = (agents.c.name, epochs.c.epoch)
    exposure = (
        select(func.coalesce(func.sum(allocations.c.exposure), 0))
        .where(_same(allocations, epochs, "agent_uid", "epoch"))
        .scalar_subquery()
    )
    statement = (
        _select((AGENTS, EPOCHS))
        .add_columns(exposure)
        .select_from(epochs)
        .join(agents, agents.c.uid == epochs.c.agent_uid)
        .where(epoch_is_unsettled, epochs.c.heard_generation < generation)
        .order_by(*order)
        .limit(limit)
    )
    if after is not None:
        statement = statement.where(_key(*order) > _key(*after))
    found = []
    for row in connection.execute(statement):
        agent, epoch = _split(row, (AGENTS, EPOCHS))
        found.append((agent, epoch, int(row[-1])))
    return found


# --- overrides -------------------------------------------------------------------------------------------------------


def _overrides(
    connection: Connection, conditions: list[ColumnElement[bool]], limit: int
) -> list[OverrideView]:
    statement = (
        select(*OVERRIDES.columns, quotas.c.name, agents.c.name)
        .join(quotas, quotas.c.uid == overrides.c.quota_uid)
        .join(agents, agents.c.uid == overrides.c.agent_uid)
        .where(*conditions)
        .order_by(overrides.c.create_ms.desc(), overrides.c.override_id.desc())
        .limit(limit)
    )
    return [OverrideView(OVERRIDES.read(row), row[-2], row[-1]) for row in connection.execute(statement)]


# --- shared ----------------------------------------------------------------------------------------------------------


def _select(parts: tuple[RecordMapping[Any], ...]) -> Select[Any]:
    return select(*(column for part in parts for column in part.columns))


def _split(row: Row[Any], parts: tuple[RecordMapping[Any], ...]) -> list[Any]:
    """The records of a row that begins with the columns of these mappings, side by side."""
    records, start = [], 0
    for part in parts:
        records.append(part.read(row[start : start + len(part.columns)]))
        start += len(part.columns)
    return records


def _key(*parts: Any) -> Any:
    return tuple_(*parts)


def _same(one: Any, other: Any, *columns: str) -> ColumnElement[bool]:
    return and_(*(one.c[column] == other.c[column] for column in columns))


def _name_first(statement: Select[Any], named: ColumnElement[bool]) -> Select[Any]:
    """A name goes before a uid that happens to be spelt alike."""
    return statement.order_by(case((named, 0), else_=1)).limit(1)
