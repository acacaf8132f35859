"""The tariff data's store port on a database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, func, select, tuple_

from quota_server.ledger.store import RecordedAnswer
from quota_server.storage import loading, saving
from quota_server.storage.connected import Connected, Database
from quota_server.storage.mapping import encode_json
from quota_server.storage.notices import announce_tariff
from quota_server.storage.tables import tariff_transactions as transactions
from quota_server.storage.tables import tariff_versions as versions
from quota_server.tariff.store import Batch, Newest
from rules.json_form import write_record
from rules.records import Change, RecordRef, UpdateType

#: Rows in one statement: between statements the event loop goes on.
_ROWS: Final = 1_000
#: Digits of the largest integer that a key may hold.
_DIGITS: Final = 19

#: Whoever holds this advisory lock numbers transactions.
_ALONE: Final = select(func.pg_advisory_xact_lock(0x74_61_72_69_66_66))
_COLUMNS: Final = tuple(column.name for column in versions.columns)


def place_of(ref: RecordRef) -> str:
    """A record's key as text that sorts like keys of its kind."""
    return "/".join(map(_sortable, ref.parts()))


class SqlTariffTransaction:
    """One transaction; its docstrings are those of `quota_server.tariff.store.TariffTransaction`."""

    def __init__(self, connected: Connected, controller: str) -> None:
        self._run = connected.run
        self._controller = controller

    async def recorded(self, request_id: str) -> RecordedAnswer | None:
        return await self._run(loading.read_answer_alone, request_id)

    async def record(self, answer: RecordedAnswer) -> None:
        await self._run(saving.add_answer, answer)

    async def newest(self) -> Newest:
        return await self._run(_newest_for_this_transaction)

    async def append(self, batch: Batch, create_ms: int, actor: str, reason: str) -> None:
        rows: Sequence[dict[str, Any]]
        for begin in range(0, len(batch.numbers), _ROWS):
            rows = [
                {"number": number, "create_ms": create_ms, "actor": actor, "reason": reason}
                for number in batch.numbers[begin : begin + _ROWS]
            ]
            await self._run(saving.append, transactions, rows)
        for begin in range(0, len(batch.rows), _ROWS):
            rows = [dict(zip(_COLUMNS, row, strict=True)) for row in batch.rows[begin : begin + _ROWS]]
            await self._run(saving.append, versions, rows)
        await self._run(announce_tariff, self._controller)


class SqlTariffStore:
    """The tariff data in an open database; its docstrings are those of `quota_server.tariff.store.TariffStore`."""

    def __init__(self, database: Database, controller: str = "") -> None:
        self._database = database
        self._controller = controller

    def pack(self, first: int, transactions: Sequence[Sequence[Change]]) -> Batch:
        rows = [
            _row(number, position, change)
            for number, changes in enumerate(transactions, first)
            for position, change in enumerate(changes)
        ]
        return Batch(range(first, first + len(transactions)), rows)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[SqlTariffTransaction]:
        async with self._database.writing() as connected:
            yield SqlTariffTransaction(connected, self._controller)

    async def recorded(self, request_id: str) -> RecordedAnswer | None:
        return await self._database.read(loading.read_answer, request_id)

    async def newest(self) -> Newest:
        return await self._database.read(_newest)

    async def versions_after(
        self, after: tuple[int, int], limit: int
    ) -> tuple[list[tuple[str, bool, int]], tuple[int, int]]:
        rows = await self._database.read(_all, versions_after(*after, limit))
        last = (rows[-1].number, rows[-1].position) if rows else after
        return [(row.content, row.deleted, row.number) for row in rows], last


NEWEST: Final[Select[Any]] = (
    select(transactions.c.number, transactions.c.create_ms).order_by(transactions.c.number.desc()).limit(1)
)


def versions_after(number: int, position: int, limit: int) -> Select[Any]:
    """The next versions in the order in which they were stored."""
    return (
        select(versions.c.content, versions.c.deleted, versions.c.number, versions.c.position)
        .where(tuple_(versions.c.number, versions.c.position) > (number, position))
        .order_by(versions.c.number, versions.c.position)
        .limit(limit)
    )


def _row(number: int, position: int, change: Change) -> tuple[Any, ...]:
    """The columns of a version, in the table's order."""
    record = change.record
    valid = getattr(record, "valid_between", None)
    return (
        number,
        position,
        record.kind,
        place_of(RecordRef.to(record)),
        change.update_type is UpdateType.DELETE,
        valid.start.isoformat() if valid else None,
        valid.end.isoformat() if valid and valid.end else None,
        encode_json(write_record(record)),
    )


def _sortable(part: int | str | datetime) -> str:
    if isinstance(part, int):
        return f"{part:0{_DIGITS}}"
    return part.isoformat() if isinstance(part, datetime) else part


def _newest_for_this_transaction(connection: Connection) -> Newest:
    if connection.dialect.name == "postgresql":
        connection.execute(_ALONE)
    return _newest(connection)


def _newest(connection: Connection) -> Newest:
    row = connection.execute(NEWEST).one_or_none()
    return Newest() if row is None else Newest(*row)


def _all(connection: Connection, statement: Select[Any]) -> Sequence[Row[Any]]:
    return connection.execute(statement).all()
