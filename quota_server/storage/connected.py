"""What both databases have in common: work on a connection, to its end, and whose fault it is when that fails."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeVar

import asyncpg
from sqlalchemy import Connection, exc
from sqlalchemy.ext.asyncio import AsyncConnection

from quota_server.errors import DatabaseUnusable, StoreConflict, StoreUnavailable

P = ParamSpec("P")
T = TypeVar("T")

#: What is raised, as the driver raises it, while a connection is made.
UNREACHABLE: Final = (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError, asyncpg.PostgresError)
#: Classes of SQLSTATE that say the program is wrong, not the database: feature, data, constraint, syntax.
_MISTAKES: Final = ("0A", "21", "22", "23", "42")
#: The connection, the server or the machine is about to go: whether a commit was carried out is not said.
_UNCERTAIN: Final = ("08", "57P", "58", "XX")
#: Another transaction was in the way, and this one is gone: serialization, deadlock, a row that came in meanwhile.
_CONFLICTS: Final = ("40001", "40P01", "23505")


class Database(Protocol):
    """An open database; see `database.open_database`."""

    def writing(self) -> AbstractAsyncContextManager[Connected]:
        """A transaction that may write. It commits on leaving, or rolls back if an exception leaves.

        A cancellation rolls back too, unless the commit is under way: that is carried to its end before the
        cancellation goes on. Raises StoreConflict if nothing was changed and the same may be tried again at once.
        """

    async def read(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Calls `work(connection, ...)`, which sees one moment of the database and cannot write."""


class Connected:
    """A connection in a transaction: runs functions on it, each to its end even if the task is cancelled."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def run(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Calls `work(connection, ...)`. Raises StoreUnavailable for what is the database's fault."""
        return await to_the_end(self._run(work, *args, **kwargs))

    async def _run(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        with translated():
            return await self._connection.run_sync(work, *args, **kwargs)


async def commit(connected: Connected) -> None:
    """Commits; what becomes of one that fails is not known, unless the database says that it took it back."""
    try:
        await connected.run(Connection.commit)
    except StoreUnavailable as unavailable:
        if unavailable.certain:
            raise
        raise StoreUnavailable(unavailable.message, unclear=True) from unavailable


def begin(connection: Connection) -> None:
    """Begins a transaction."""
    connection.begin()


def roll_back(connection: Connection) -> None:
    """Takes back what a transaction did."""
    try:
        connection.rollback()
    except (exc.SQLAlchemyError, OSError):
        # Whatever state it is in, it is not used again: the next transaction gets a new connection.
        connection.invalidate()
        connection.rollback()


@contextmanager
def translated() -> Iterator[None]:
    """Turns what is the database's fault into StoreUnavailable; mistakes of the program stay what they are."""
    try:
        yield
    except exc.TimeoutError as error:
        raise StoreUnavailable("the database is too busy") from error
    except exc.DBAPIError as error:
        sqlstate = getattr(error.orig, "sqlstate", None)
        if sqlstate is not None:
            _raise_state(sqlstate, error)
        if error.connection_invalidated:
            raise StoreConflict(f"the connection to the database was lost: {error.orig}") from error
        _raise_kind(error)
    except DatabaseUnusable as unusable:  # another server than at the start, after a failover
        raise StoreUnavailable(str(unusable)) from unusable
    except UNREACHABLE as error:
        raise StoreUnavailable(
            f"the database cannot be reached: {str(error) or type(error).__name__}"
        ) from error


def _raise_state(sqlstate: str, error: exc.DBAPIError) -> None:
    """What PostgreSQL says; https://www.postgresql.org/docs/current/errcodes-appendix.html."""
    if sqlstate in _CONFLICTS:
        # Not what the server says, which names the rows.
        raise StoreConflict(f"another transaction was in the way ({sqlstate})", certain=True) from error
    if error.connection_invalidated:
        raise StoreConflict(f"the connection to the database was lost: {error.orig}") from error
    if sqlstate.startswith(_MISTAKES):
        raise error
    certain = not sqlstate.startswith(_UNCERTAIN)
    raise StoreUnavailable(f"the database does not work: {error.orig}", certain=certain) from error


def _raise_kind(error: exc.DBAPIError) -> None:
    """What SQLite says, or a driver that was not answered."""
    if isinstance(error, exc.OperationalError | exc.InternalError | exc.InterfaceError):
        if getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR:
            raise error  # the statement is wrong, not the database
        raise StoreUnavailable(f"the database does not work: {error.orig}") from error
    if type(error) is exc.DatabaseError:
        raise StoreUnavailable(f"the database is damaged: {error.orig}") from error
    raise error


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Awaits `work`, also if this task is cancelled meanwhile; the cancellation goes on when the work is done.

    A cancelled driver call would go on by itself, and leave the connection in a state that nobody knows.
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
