"""The tariff data's store and views ports on a database."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import date, datetime
from typing import Any, Final

from sqlalchemy import Connection, Select, and_, exists, func, insert, or_, select, tuple_

from quota_server.ledger.store import RecordedAnswer
from quota_server.storage import loading, saving
from quota_server.storage.database import Connected, Database
from quota_server.storage.mapping import encode_json
from quota_server.storage.tables import tariff_transactions as transactions
from quota_server.storage.tables import tariff_versions as versions
from quota_server.tariff.store import Batch, StoredVersion
from rules.json_form import read_record, write_record
from rules.records import Change, RecordRef, UpdateType

#: Rows in one statement: between statements the event loop goes on.
_ROWS: Final = 1_000
#: Digits of the largest integer that a key may hold.
_DIGITS: Final = 19


def place_of(ref: RecordRef) -> str:
    """A record's key as text that sorts like keys of its kind."""
    return "/".join(map(_sortable, ref.parts()))


def to_batch(number: int, changes: Sequence[Change]) -> Batch:
    """A tariff transaction as rows."""
    return Batch(
        number,
        [{"number": number, "position": position, **_row(change)} for position, change in enumerate(changes)],
    )


def _row(change: Change) -> dict[str, Any]:
    record = change.record
    valid = getattr(record, "valid_between", None)
    return {
        "kind": record.kind,
        "place": place_of(RecordRef.to(record)),
        "deleted": change.update_type is UpdateType.DELETE,
        "valid_start": valid.start.isoformat() if valid else None,
        "valid_end": valid.end.isoformat() if valid and valid.end else None,
        "content": encode_json(write_record(record)),
    }


def _sortable(part: int | str | datetime) -> str:
    if isinstance(part, int):
        return f"{part:0{_DIGITS}}"
    return part.isoformat() if isinstance(part, datetime) else part


class SqlTariffTransaction:
    """One transaction; its docstrings are those of `quota_server.tariff.store.TariffTransaction`."""

    def __init__(self, connected: Connected) -> None:
        self._run = connected.run

    async def recorded(self, request_id: str) -> RecordedAnswer | None:
        return await self._run(loading.read_answer, request_id)

    async def record(self, answer: RecordedAnswer) -> None:
        await self._run(saving.save_answer, answer)

    async def newest(self) -> int:
        return await self._run(_newest)

    async def append(self, batch: Batch, create_ms: int, actor: str, reason: str) -> None:
        row = {"number": batch.number, "create_ms": create_ms, "actor": actor, "reason": reason}
        await self._run(_insert, transactions, [row])
        for begin in range(0, len(batch.rows), _ROWS):
            await self._run(_insert, versions, batch.rows[begin : begin + _ROWS])


class SqlTariffStore:
    """The tariff data in an open database; its docstrings are those of `quota_server.tariff.store.TariffStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[SqlTariffTransaction]:
        async with self._database.writing() as connected:
            yield SqlTariffTransaction(connected)

    async def newest(self) -> int:
        return await self._database.read(_newest)

    async def versions_after(
        self, after: tuple[int, int], limit: int
    ) -> tuple[list[tuple[str, bool, int]], tuple[int, int]]:
        rows = await self._database.read(_versions_after, after, limit)
        last = (rows[-1].number, rows[-1].position) if rows else after
        return [(row.content, row.deleted, row.number) for row in rows], last


class SqlTariffViews:
    """The tariff data in an open database, to read; docstrings as in `quota_server.tariff.store.TariffViews`."""

    def __init__(self, database: Database) -> None:
        self._read = database.read

    async def number_at(self, end_of_day_ms: int) -> int:
        return await self._read(_number_at, end_of_day_ms)

    async def version(self, ref: RecordRef, number: int) -> StoredVersion | None:
        return await self._read(_version, ref, number)

    async def versions(
        self,
        number: int,
        kind: str | None,
        valid_on: date | None,
        after: tuple[str, str] | None,
        limit: int,
        *,
        include_deleted: bool,
    ) -> list[StoredVersion]:
        return await self._read(_versions, number, kind, valid_on, after, limit, include_deleted)


# --- statements ------------------------------------------------------------------------------------------------------


def _insert(connection: Connection, table: Any, rows: Sequence[dict[str, Any]]) -> None:
    connection.execute(insert(table), rows)


def _newest(connection: Connection) -> int:
    return int(connection.execute(select(func.max(transactions.c.number))).scalar() or 0)


def _number_at(connection: Connection, end_of_day_ms: int) -> int:
    before = transactions.c.create_ms < end_of_day_ms
    return int(connection.execute(select(func.max(transactions.c.number)).where(before)).scalar() or 0)


def _versions_after(connection: Connection, after: tuple[int, int], limit: int) -> Sequence[Any]:
    place = tuple_(versions.c.number, versions.c.position)
    statement = (
        select(versions.c.content, versions.c.deleted, versions.c.number, versions.c.position)
        .where(place > after)
        .order_by(versions.c.number, versions.c.position)
        .limit(limit)
    )
    return connection.execute(statement).all()


_with_transaction: Final = select(
    versions.c.content,
    versions.c.deleted,
    versions.c.number,
    transactions.c.create_ms,
    transactions.c.actor,
    transactions.c.reason,
    versions.c.place,
).join(transactions, transactions.c.number == versions.c.number)


def _version(connection: Connection, ref: RecordRef, number: int) -> StoredVersion | None:
    statement = (
        _with_transaction.where(
            versions.c.kind == ref.kind, versions.c.place == place_of(ref), versions.c.number <= number
        )
        .order_by(versions.c.number.desc(), versions.c.position.desc())
        .limit(1)
    )
    row = connection.execute(statement).one_or_none()
    return None if row is None else _stored(row)


def _versions(
    connection: Connection,
    number: int,
    kind: str | None,
    valid_on: date | None,
    after: tuple[str, str] | None,
    limit: int,
    include_deleted: bool,
) -> list[StoredVersion]:
    newer = versions.alias("newer")
    superseded = exists().where(
        newer.c.kind == versions.c.kind,
        newer.c.place == versions.c.place,
        newer.c.number <= number,
        tuple_(newer.c.number, newer.c.position) > tuple_(versions.c.number, versions.c.position),
    )
    statement: Select[Any] = _with_transaction.where(versions.c.number <= number, ~superseded)
    if kind is not None:
        statement = statement.where(versions.c.kind == kind)
    if after is not None:
        statement = statement.where(tuple_(versions.c.kind, versions.c.place) > after)
    if not include_deleted:
        statement = statement.where(versions.c.deleted.is_(False))
    if valid_on is not None:
        day = valid_on.isoformat()
        open_or_later = or_(versions.c.valid_end.is_(None), versions.c.valid_end >= day)
        statement = statement.where(and_(versions.c.valid_start <= day, open_or_later))
    ordered = statement.order_by(versions.c.kind, versions.c.place).limit(limit)
    return [_stored(row) for row in connection.execute(ordered)]


def _stored(row: Any) -> StoredVersion:
    return StoredVersion(
        read_record(json.loads(row.content)),
        row.deleted,
        row.number,
        row.create_ms,
        row.actor,
        row.reason,
        row.place,
    )
