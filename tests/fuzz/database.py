"""A database in memory for one input after the other: real tables and statements, no thread; put back after each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.pool import StaticPool

from quota_server.storage.migrating import migrate
from quota_server.storage.tables import metadata

P = ParamSpec("P")
T = TypeVar("T")

_TABLES: Final = tuple(table.name for table in metadata.sorted_tables)
#: Every row of every table.
Contents = dict[str, list[tuple[Any, ...]]]


class MemoryDatabase:
    """What the stores and views need of `quota_server.storage.connected.Database`, on one connection."""

    def __init__(self) -> None:
        engine = create_engine("sqlite://", poolclass=StaticPool)
        event.listen(engine, "connect", _by_hand)
        self._connection = engine.connect()
        self._connection.exec_driver_sql("BEGIN")
        migrate(self._connection)
        self._turn: asyncio.Lock

    async def read(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Calls `work(connection, ...)`."""
        return work(self._connection, *args, **kwargs)

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[_Writing]:
        """A transaction, after all others; rolled back if an exception leaves it."""
        async with self._turn:
            self._connection.exec_driver_sql("SAVEPOINT writing")
            try:
                yield _Writing(self._connection)
            except BaseException:
                self._connection.exec_driver_sql("ROLLBACK TO writing")
                raise
            finally:
                self._connection.exec_driver_sql("RELEASE writing")

    @contextmanager
    def put_back(self) -> Iterator[None]:
        """What is written meanwhile is undone; for use on one event loop."""
        self._turn = asyncio.Lock()
        self._connection.exec_driver_sql("SAVEPOINT input")
        try:
            yield
        finally:
            self._connection.exec_driver_sql("ROLLBACK TO input")
            self._connection.exec_driver_sql("RELEASE input")

    @contextmanager
    def kept(self) -> Iterator[None]:
        """What is written meanwhile stays; for use on one event loop."""
        self._turn = asyncio.Lock()
        yield

    def contents(self) -> Contents:
        """All that is stored now."""
        driver: Any = self._connection.connection.driver_connection
        return {name: driver.execute(f"SELECT * FROM {name}").fetchall() for name in _TABLES}


class _Writing:
    """As `quota_server.storage.connected.Connected`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def run(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        return work(self._connection, *args, **kwargs)


def _by_hand(connection: Any, _: object) -> None:
    """The driver begins nothing by itself."""
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys=ON")
