"""The tariff data's views port on a database: every answer is of one moment, lists are read by key, never by offset."""

from __future__ import annotations

import json
from datetime import date
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, exists, or_, select, tuple_

from quota_server.storage.connected import Database
from quota_server.storage.tables import tariff_transactions as transactions
from quota_server.storage.tables import tariff_versions as versions
from quota_server.storage.tariff_store import NEWEST, place_of
from quota_server.tariff.store import StoredVersion
from rules.json_form import read_record
from rules.records import RecordRef


class SqlTariffViews:
    """The tariff data in an open database, to read; docstrings as in `quota_server.tariff.store.TariffViews`."""

    def __init__(self, database: Database) -> None:
        self._read = database.read

    async def newest_number(self) -> int:
        return await self._read(_number, NEWEST)

    async def number_before(self, moment_ms: int) -> int:
        return await self._read(_number, before(moment_ms))

    async def version(self, ref: RecordRef, number: int) -> StoredVersion | None:
        found = await self._read(_stored, one(ref, number))
        return found[0] if found else None

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
        return await self._read(_stored, page(number, kind, valid_on, after, limit, include_deleted))


_with_transaction: Final = select(
    versions.c.content,
    versions.c.deleted,
    versions.c.number,
    transactions.c.create_ms,
    transactions.c.actor,
    transactions.c.reason,
    versions.c.place,
).join(transactions, transactions.c.number == versions.c.number)


def before(moment_ms: int) -> Select[Any]:
    """The last transaction before a moment: later ones have later times, or the same."""
    return (
        select(transactions.c.number)
        .where(transactions.c.create_ms < moment_ms)
        .order_by(transactions.c.create_ms.desc(), transactions.c.number.desc())
        .limit(1)
    )


def one(ref: RecordRef, number: int) -> Select[Any]:
    """A record's newest version as of a transaction."""
    named = (versions.c.kind == ref.kind, versions.c.place == place_of(ref), versions.c.number <= number)
    return _with_transaction.where(*named).order_by(versions.c.number.desc()).limit(1)


def page(
    number: int,
    kind: str | None,
    valid_on: date | None,
    after: tuple[str, str] | None,
    limit: int,
    include_deleted: bool,
) -> Select[Any]:
    """The newest version of each record as of a transaction; `after` is the kind and place of the last one seen."""
    newer = versions.alias("newer")
    superseded = exists().where(
        newer.c.kind == versions.c.kind,
        newer.c.place == versions.c.place,
        newer.c.number > versions.c.number,
        newer.c.number <= number,
    )
    statement: Select[Any] = _with_transaction.where(versions.c.number <= number, ~superseded)
    if kind is not None:
        statement = statement.where(versions.c.kind == kind)
    if after is not None and kind is not None:
        statement = statement.where(versions.c.place > after[1])
    elif after is not None:
        statement = statement.where(tuple_(versions.c.kind, versions.c.place) > after)
    if not include_deleted:
        statement = statement.where(versions.c.deleted.is_(False))
    if valid_on is not None:
        day = valid_on.isoformat()
        ends = or_(versions.c.valid_end.is_(None), versions.c.valid_end >= day)
        statement = statement.where(versions.c.valid_start <= day, ends)
    return statement.order_by(versions.c.kind, versions.c.place).limit(limit)


def _number(connection: Connection, statement: Select[Any]) -> int:
    row = connection.execute(statement).first()
    return 0 if row is None else int(row.number)


def _stored(connection: Connection, statement: Select[Any]) -> list[StoredVersion]:
    return list(map(_version, connection.execute(statement)))


def _version(row: Row[Any]) -> StoredVersion:
    content, *others = tuple(row)
    return StoredVersion(read_record(json.loads(content)), *others)
