"""Which database a test runs on: SQLite, or a database of a PostgreSQL server of this process.

A module whose tests are to run on both says `pytestmark = on_both`; what it opens by folder is then on each in turn.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import pytest
from sqlalchemy import Connection, create_engine

from quota_server.storage.postgres import engine_of, read_options
from quota_server.storage.upkeep import migrate_database
from tests.migrated import put_database
from tests.postgres_kit import shared_server

P = ParamSpec("P")
T = TypeVar("T")

on_both = pytest.mark.usefixtures("each_database")
on_postgres = pytest.mark.usefixtures("postgres_database")

#: The role of the controllers.
SERVICE = "service"
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
    """A migrated database for what would be kept in `file`: an empty one if it is new. Its path, or its URL.

    The URL is that of a role which has what `database migrate` grants, and nothing else: so every test that runs on
    PostgreSQL shows that this is enough.
    """
    if _opened is None:
        put_database(file)
        return file
    return _as(SERVICE, await _postgres(_opened, file, await migrated()))


def as_owner(url: str) -> str:
    """The URL for whoever may do everything with the database."""
    return _as("postgres", url)


async def put_empty(file: Path) -> str | Path:
    """An empty database without a schema for what would be kept in `file`: its path, or the URL of its owner."""
    return file if _opened is None else await _postgres(_opened, file, None)


async def run_on(
    where: str | Path, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Calls `work(connection, ...)` in a transaction of its own, past everything that the program does."""
    if isinstance(where, str):
        async with engine_of(read_options(as_owner(where))) as engine, engine.begin() as connection:
            return await connection.run_sync(work, *args, **kwargs)
    file_engine = create_engine(f"sqlite:///{where}")
    try:
        with file_engine.begin() as file_connection:
            return work(file_connection, *args, **kwargs)
    finally:
        file_engine.dispose()


async def _postgres(opened: dict[Path, str], file: Path, template: str | None) -> str:
    server = await asyncio.to_thread(shared_server)
    if file not in opened:
        while len(_done) > _MOST_DONE:
            await server.drop_database(_done.pop(0))
        name = f"test_{next(_numbers)}"
        await server.create_database(name, template)
        opened[file] = name
    return server.url(opened[file])


async def migrated() -> str:
    """A database that is migrated and empty, to be copied."""
    server = await asyncio.to_thread(shared_server)
    if not _made:
        await server.create_database(_TEMPLATE)
        await server.execute("postgres", f"CREATE ROLE {SERVICE} LOGIN")
        await migrate_database(server.url(_TEMPLATE), SERVICE)
        _made.append(_TEMPLATE)
    return _TEMPLATE


def _as(role: str, url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{role}@{rest.rpartition('@')[2]}"
