"""Which database a test runs on: SQLite, or a database of a PostgreSQL server of this process.

A module whose tests are to run on both says `pytestmark = on_both`; what it opens by folder is then on each in turn.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from quota_server.storage.migrating import migrate
from quota_server.storage.postgres import engine_of, read_options
from tests.migrated import put_database
from tests.postgres_kit import shared_server

on_both = pytest.mark.usefixtures("each_database")
on_postgres = pytest.mark.usefixtures("postgres_database")

_TEMPLATE = "migrated"
_made: list[str] = []
_numbers = itertools.count(1)
#: Databases that nobody uses any more; dropped when there are several.
_done: list[str] = []
_MOST_DONE = 20
#: Databases that the running test has opened, by folder; None: it runs on SQLite.
_opened: dict[Path, str] | None = None


@contextmanager
def chosen(kind: str) -> Iterator[None]:
    """Has everything that is opened meanwhile on this kind of database, `sqlite` or `postgresql`."""
    global _opened  # noqa: PLW0603 - what a test opens is opened deep inside of it
    before, _opened = _opened, {} if kind == "postgresql" else None
    try:
        yield
    finally:
        _done.extend((_opened or {}).values())
        _opened = before


async def put(file: Path) -> str | Path:
    """A migrated database for what would be kept in `file`: an empty one if it is new. Its path, or its URL."""
    if _opened is None:
        put_database(file)
        return file
    server = await asyncio.to_thread(shared_server)
    if file not in _opened:
        while len(_done) > _MOST_DONE:
            await server.drop_database(_done.pop(0))
        name = f"test_{next(_numbers)}"
        await server.create_database(name, await migrated())
        _opened[file] = name
    return server.url(_opened[file])


async def migrated() -> str:
    """A database that is migrated and empty, to be copied."""
    server = await asyncio.to_thread(shared_server)
    if not _made:
        await server.create_database(_TEMPLATE)
        async with engine_of(read_options(server.url(_TEMPLATE))) as engine, engine.begin() as connection:
            await connection.run_sync(migrate)
        _made.append(_TEMPLATE)
    return _TEMPLATE
