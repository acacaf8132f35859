"""The database of one controller: opened, migrated and owned; one writer at a time, readers beside it."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, event, exc
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from quota_server.errors import DatabaseUnusable, StoreUnavailable
from quota_server.storage.migrating import migrate

P = ParamSpec("P")
T = TypeVar("T")

#: How long a statement waits for a lock that somebody else's tool holds on the file.
BUSY_SECONDS = 5.0
_READERS = 4

_DURABLE = ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", "PRAGMA foreign_keys=ON")


class Connected:
    """A connection in a transaction: runs functions on it, each to its end even if the task is cancelled."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def run(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Calls `work(connection, ...)`. Raises StoreUnavailable for what is the database's fault."""
        return await _to_the_end(self._run(work, *args, **kwargs))

    async def _run(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        with _translated():
            return await self._connection.run_sync(work, *args, **kwargs)


class Database:
    """An open database; see `open_database`."""

    def __init__(self, writer: AsyncConnection, readers: AsyncEngine) -> None:
        self._writer = writer
        self._readers = readers
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[Connected]:
        """A transaction that may write, after all others. It commits on leaving, or rolls back if an exception leaves.

        A cancellation rolls back too, unless the commit is under way: that is carried to its end before the
        cancellation goes on.
        """
        async with self._turn:
            connected = Connected(self._writer)
            try:
                await connected.run(_begin)
                yield connected
                await self._commit(connected)
            except BaseException:
                await _to_the_end(self._writer.run_sync(_roll_back))
                raise

    @staticmethod
    async def _commit(connected: Connected) -> None:
        try:
            await connected.run(Connection.commit)
        except StoreUnavailable as unavailable:
            raise StoreUnavailable(unavailable.message, unclear=True) from unavailable

    async def read(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Calls `work(connection, ...)`, which sees one moment of the database and cannot write."""
        return await _to_the_end(self._read(work, *args, **kwargs))

    async def _read(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        with _translated():
            async with self._readers.connect() as connection:
                return await connection.run_sync(work, *args, **kwargs)


@asynccontextmanager
async def open_database(where: str | Path, *, busy_seconds: float = BUSY_SECONDS) -> AsyncIterator[Database]:
    """Opens, creates or migrates the database at a path or `sqlite:///` URL, owned by this process until it is closed.

    Raises DatabaseUnusable if another process owns it, if a newer version has changed it, or if it cannot be used.
    """
    path = _path(where)
    with _owned(path):
        writers = _engine(path, busy_seconds, "BEGIN IMMEDIATE", _DURABLE, connections=1)
        readers = _engine(path, busy_seconds, "BEGIN", ("PRAGMA query_only=ON",), connections=_READERS)
        try:
            writer = await _to_the_end(_open_writer(writers))
            try:
                yield Database(writer, readers)
            finally:
                await _to_the_end(writer.close())
        finally:
            await _to_the_end(readers.dispose())
            await _to_the_end(writers.dispose())


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


def _path(where: str | Path) -> Path:
    if isinstance(where, Path) or "://" not in where:
        return Path(where).absolute()
    try:
        url = make_url(where)
    except exc.ArgumentError as error:
        raise DatabaseUnusable("the database is given as a path or as sqlite:///path") from error
    if url.drivername not in ("sqlite", "sqlite+aiosqlite"):
        raise DatabaseUnusable(f"this version keeps its data in SQLite, not in {url.drivername!r}")
    if url.database in (None, "", ":memory:") or url.query:
        raise DatabaseUnusable("a database needs a file: give a path or sqlite:///path, without options")
    return Path(str(url.database)).absolute()


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


def _begin(connection: Connection) -> None:
    connection.begin()


def _roll_back(connection: Connection) -> None:
    try:
        connection.rollback()
    except exc.SQLAlchemyError:
        # Whatever state it is in, it is not used again: the next transaction gets a new connection.
        connection.invalidate()
        connection.rollback()


@contextmanager
def _translated() -> Iterator[None]:
    """Turns what is the database's fault into StoreUnavailable; mistakes of the program stay what they are."""
    try:
        yield
    except exc.TimeoutError as error:
        raise StoreUnavailable("the database is too busy") from error
    except (exc.OperationalError, exc.InternalError) as error:
        if getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR:
            raise  # the statement is wrong, not the database
        raise StoreUnavailable(f"the database does not work: {error.orig}") from error
    except exc.DatabaseError as error:
        if type(error) is not exc.DatabaseError:
            raise
        raise StoreUnavailable(f"the database is damaged: {error.orig}") from error


async def _to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Awaits `work`, also if this task is cancelled meanwhile; the cancellation goes on when the work is done.

    A cancelled driver call would go on in its thread, and leave the connection in a state that nobody knows.
    """
    task = asyncio.get_running_loop().create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # looked at, so that nobody complains that it was not
        raise cancelled
    return task.result()
