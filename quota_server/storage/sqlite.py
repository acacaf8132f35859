"""The SQLite database of one controller: opened, migrated and owned."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, event, exc
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from quota_server.errors import DatabaseUnusable
from quota_server.storage.connected import Connected, begin, commit, roll_back, to_the_end, translated
from quota_server.storage.migrating import migrate

P = ParamSpec("P")
T = TypeVar("T")

#: How long a statement waits for a lock that somebody else's tool holds on the file.
BUSY_SECONDS = 5.0
_READERS = 4

_DURABLE = ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", "PRAGMA foreign_keys=ON")


class SqliteDatabase:
    """An open database: one writer at a time, readers beside it. Its docstrings are those of `connected.Database`."""

    def __init__(self, writer: AsyncConnection, readers: AsyncEngine) -> None:
        self._writer = writer
        self._readers = readers
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[Connected]:
        async with self._turn:
            connected = Connected(self._writer)
            try:
                await connected.run(begin)
                yield connected
                await commit(connected)
            except BaseException:
                await to_the_end(self._writer.run_sync(roll_back))
                raise

    async def read(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        return await to_the_end(self._read(work, *args, **kwargs))

    async def _read(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        with translated():
            async with self._readers.connect() as connection:
                return await connection.run_sync(work, *args, **kwargs)


@asynccontextmanager
async def open_sqlite(path: Path, *, busy_seconds: float = BUSY_SECONDS) -> AsyncIterator[SqliteDatabase]:
    """Opens, creates or migrates the database in a file, owned by this process until it is closed.

    Raises DatabaseUnusable if another process owns it, if a newer version has changed it, or if it cannot be used.
    """
    with _owned(path):
        writers = _engine(path, busy_seconds, "BEGIN IMMEDIATE", _DURABLE, connections=1)
        readers = _engine(path, busy_seconds, "BEGIN", ("PRAGMA query_only=ON",), connections=_READERS)
        try:
            writer = await to_the_end(_open_writer(writers))
            try:
                yield SqliteDatabase(writer, readers)
            finally:
                await to_the_end(writer.close())
        finally:
            await to_the_end(readers.dispose())
            await to_the_end(writers.dispose())


async def _open_writer(engine: AsyncEngine) -> AsyncConnection:
    try:
        connection = await engine.connect()
    except exc.DBAPIError as error:
        raise DatabaseUnusable(f"the database cannot be opened: {error.orig}") from error
    try:
        await connection.run_sync(migrate)
        await connection.commit()
    except BaseException as error:
        await connection.close()
        if isinstance(error, exc.DBAPIError):
            raise DatabaseUnusable(f"the database cannot be migrated: {error.orig}") from error
        raise
    return connection


@contextmanager
def _owned(path: Path) -> Iterator[None]:
    """Holds the lock file beside the database; the file stays, the lock goes with the process however it ends."""
    lock = path.with_name(path.name + ".lock")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DatabaseUnusable(f"the database cannot be opened: {error}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
            raise DatabaseUnusable(f"{path} belongs to another running controller (pid {owner})") from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        # Before SQLite opens it: closing any descriptor of the file later would drop SQLite's own locks.
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        yield
    finally:
        os.close(descriptor)


def _engine(
    path: Path, busy_seconds: float, begin: str, pragmas: tuple[str, ...], *, connections: int
) -> AsyncEngine:
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(path)),
        # No isolation level: the driver begins nothing by itself, `begin` below does.
        connect_args={"timeout": busy_seconds, "isolation_level": None},
        pool_size=connections,
        max_overflow=0,
        hide_parameters=True,
    )

    @event.listens_for(engine.sync_engine, "connect")
    def set_up(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(pragma)
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def start(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine
