"""Writes what changed in a book: one statement per table, whatever the number of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from sqlalchemy import Connection, Table, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.dml import Insert

from quota_server.ledger.book import Book
from quota_server.ledger.store import RecordedAnswer
from quota_server.storage import tables
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
        connection.execute(_upsert(tables.meta, connection.dialect.name), {"id": 1, **META.write(book.meta)})
    _save_records(connection, book)
    if book.everything_recovers:
        # After the records: it holds for quotas that the book has never seen, and for those that came in late.
        connection.execute(update(tables.quotas).values(recovering=True))
    notes = list(book.notes)
    if book.recovery_note is not None:
        uids = connection.execute(select(tables.quotas.c.uid).order_by(tables.quotas.c.uid)).scalars()
        notes += [replace(book.recovery_note, quota_uid=uid) for uid in uids]
    _append(connection, tables.history, [{**NOTES.write(note), "reached": "[]"} for note in notes])
    _append(
        connection,
        tables.fenced_marks,
        [
            {**agent._asdict(), "mark_generation": mark.generation, "mark_number": mark.number}
            for agent, mark in book.new_fenced_marks
        ],
    )
    copies = [{**agent._asdict(), "store_id": store_id} for agent, store_id in book.new_charged_copies]
    _append(connection, tables.charged_copies, copies)
    _append(connection, tables.answers, [ANSWERS.write(answer) for answer in answers])


def save_answer(connection: Connection, answer: RecordedAnswer) -> None:
    """Writes an answer, in the place of one with the same request id if there is one."""
    connection.execute(_upsert(tables.answers, connection.dialect.name), ANSWERS.write(answer))


def _save_records(connection: Connection, book: Book) -> None:
    changed: dict[type, list[Any]] = {}
    for record in book.changes():
        changed.setdefault(type(record), []).append(record)
    for mapping in _IN_ORDER:
        if records := changed.get(mapping.record):
            statement = _upsert(mapping.table, connection.dialect.name)
            connection.execute(statement, list(map(mapping.write, records)))


def _append(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(insert(table), rows)


@cache
def _upsert(table: Table, dialect: str) -> Insert:
    # The two spell it alike, but have no class in common that says so.
    statement = sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)
    keys = list(table.primary_key.columns)
    others = {column.name: statement.excluded[column.name] for column in table.columns if column not in keys}
    return statement.on_conflict_do_update(index_elements=keys, set_=others)
