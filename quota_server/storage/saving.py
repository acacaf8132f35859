"""Writes what changed in a book: one statement per table, whatever the number of rows.

PostgreSQL takes the columns as arrays, so that a thousand rows are one statement for it too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Table,
    bindparam,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.dml import Insert

from quota_server.ledger.book import Book
from quota_server.ledger.store import RecordedAnswer
from quota_server.storage import tables
from quota_server.storage.keyed import array_of
from quota_server.storage.loading import META_LOCK
from quota_server.storage.mapping import (
    AGENTS,
    ALLOCATIONS,
    ANSWERS,
    ASSIGNMENTS,
    EPOCHS,
    META,
    NOTES,
    OVERRIDES,
    QUOTAS,
    RecordMapping,
)

#: What others refer to goes first.
_IN_ORDER: tuple[RecordMapping[Any], ...] = (AGENTS, QUOTAS, EPOCHS, ASSIGNMENTS, ALLOCATIONS, OVERRIDES)


def is_changed(book: Book) -> bool:
    """Whether there is anything to write."""
    return bool(
        book.changes() or book.notes or book.meta_changed or book.new_fenced_marks or book.new_charged_copies
    )


def save(connection: Connection, book: Book, answers: Sequence[RecordedAnswer]) -> None:
    """Writes everything that differs from what is stored."""
    if book.meta_changed:
        lock_meta(connection)
        _write(connection, tables.meta, [{"id": 1, **META.write(book.meta)}], replacing=True)
    _save_records(connection, book)
    if book.everything_recovers:
        # After the records: it holds for quotas that the book has never seen, and for those that came in late.
        connection.execute(update(tables.quotas).values(recovering=True))
    notes = list(book.notes)
    if book.recovery_note is not None:
        uids = connection.execute(select(tables.quotas.c.uid).order_by(tables.quotas.c.uid)).scalars()
        notes += [replace(book.recovery_note, quota_uid=uid) for uid in uids]
    append(connection, tables.history, [{**NOTES.write(note), "reached": "[]"} for note in notes])
    append(
        connection,
        tables.fenced_marks,
        [
            {**agent._asdict(), "mark_generation": mark.generation, "mark_number": mark.number}
            for agent, mark in book.new_fenced_marks
        ],
    )
    copies = [{**agent._asdict(), "store_id": store_id} for agent, store_id in book.new_charged_copies]
    append(connection, tables.charged_copies, copies)
    append(connection, tables.answers, [ANSWERS.write(answer) for answer in answers])


def add_answer(connection: Connection, answer: RecordedAnswer) -> None:
    """Writes an answer to a request id that has none."""
    append(connection, tables.answers, [ANSWERS.write(answer)])


def save_answer(connection: Connection, answer: RecordedAnswer) -> None:
    """Writes an answer, in the place of one with the same request id if there is one."""
    _write(connection, tables.answers, [ANSWERS.write(answer)], replacing=True)


def _save_records(connection: Connection, book: Book) -> None:
    changed: dict[type, list[Any]] = {}
    for record in book.changes():
        changed.setdefault(type(record), []).append(record)
    for mapping in _IN_ORDER:
        if records := changed.get(mapping.record):
            _write(connection, mapping.table, list(map(mapping.write, records)), replacing=True)


def append(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Adds rows, which all have the same columns."""
    if rows:
        _write(connection, table, rows, replacing=False)


def _write(connection: Connection, table: Table, rows: Sequence[dict[str, Any]], *, replacing: bool) -> None:
    names = tuple(rows[0])
    if connection.dialect.name == "sqlite":
        connection.execute(_upsert(table) if replacing else insert(table), rows)
    else:
        columns = {f"all_{name}": [row[name] for row in rows] for name in names}
        connection.execute(_from_arrays(table, names, replacing), columns)


def lock_meta(connection: Connection) -> None:
    """Nobody else's transaction is under way, nor begins, until this one ends; see `loading.share_meta`.

    Of two that want it at once, one is given up, and tried again.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(META_LOCK)))


@cache
def _upsert(table: Table) -> Insert:
    statement = sqlite.insert(table)
    return statement.on_conflict_do_update(index_elements=_keys(table), set_=_others(table, statement))


@cache
def _from_arrays(table: Table, names: tuple[str, ...], replacing: bool) -> Insert:
    arrays = (func.unnest(bindparam(f"all_{name}", type_=array_of(table.c[name]))) for name in names)
    statement = postgresql.insert(table).from_select(names, select(*arrays), include_defaults=False)
    if not replacing:
        return statement
    return statement.on_conflict_do_update(index_elements=_keys(table), set_=_others(table, statement))


def _keys(table: Table) -> list[Column[Any]]:
    return list(table.primary_key.columns)


def _others(table: Table, statement: sqlite.Insert | postgresql.Insert) -> dict[str, Any]:
    keys = _keys(table)
    return {column.name: statement.excluded[column.name] for column in table.columns if column not in keys}
