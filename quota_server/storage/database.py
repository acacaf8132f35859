"""The controller's database, by path or URL: a SQLite file, or a database of a PostgreSQL server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy import exc
from sqlalchemy.engine import make_url

from quota_server.errors import DatabaseUnusable
from quota_server.storage.connected import Database
from quota_server.storage.postgres import is_postgres, open_postgres
from quota_server.storage.sqlite import BUSY_SECONDS, open_sqlite


@asynccontextmanager
async def open_database(where: str | Path, *, busy_seconds: float = BUSY_SECONDS) -> AsyncIterator[Database]:
    """Opens the database at a path, a `sqlite:///` or a `postgresql://` URL until the context is left.

    A SQLite file is created or migrated, and owned by this process meanwhile; `busy_seconds` is how long a statement
    waits for somebody else's tool there. A PostgreSQL database has to be migrated: see `cli.database`. Raises
    DatabaseUnusable if the database cannot be served from.
    """
    if is_postgres(where):
        async with open_postgres(str(where)) as server:
            yield server
    else:
        async with open_sqlite(sqlite_path(where), busy_seconds=busy_seconds) as file:
            yield file


def sqlite_path(where: str | Path) -> Path:
    """The file that a path or a `sqlite:///` URL names. Raises DatabaseUnusable if it names none."""
    if isinstance(where, Path) or "://" not in where:
        return Path(where).absolute()
    try:
        url = make_url(where)
    except exc.ArgumentError as error:
        raise DatabaseUnusable(
            "the database is given as a path, sqlite:///path or postgresql://..."
        ) from error
    if url.drivername not in ("sqlite", "sqlite+aiosqlite"):
        raise DatabaseUnusable(f"the data is kept in SQLite or PostgreSQL, not in {url.drivername!r}")
    if url.database in (None, "", ":memory:") or url.query:
        raise DatabaseUnusable("a database needs a file: give a path or sqlite:///path, without options")
    return Path(str(url.database)).absolute()
