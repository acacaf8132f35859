"""An agent's store in memory: the real statements and rows on one connection, without files, threads or syncs."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TypeVar

from quota_agent.errors import StoreUnavailable
from quota_agent.store import files
from quota_agent.store.sqlite import SqliteStore

T = TypeVar("T")

_PATH: Final = Path("memory.sqlite")
#: What an application can change; the rest is the gate's own.
TABLES: Final = ("quota", "entry", "override", "ask")


class MemoryStore(SqliteStore):
    """A GateStore that begins with an image of a database, or empty."""

    def __init__(self, image: bytes = b"") -> None:
        super().__init__(_PATH)
        self.connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        if image:
            self.connection.deserialize(image)
        else:
            files.prepare(self.connection, _PATH)

    async def __aenter__(self) -> MemoryStore:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.connection.close()

    async def _run(self, connection: object, unit: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return unit(self.connection)
        except sqlite3.Error as error:
            raise StoreUnavailable(f"the store cannot be read: {error}") from error

    async def _connect(self) -> None:
        """What is in memory is all there is."""

    async def _disconnect(self) -> None:
        """It is not given up before the end."""

    def _check_identity(self) -> None:
        """There are no files."""

    def image(self) -> bytes:
        """The database as a file would hold it."""
        return self.connection.serialize()

    def contents(self) -> dict[str, list[tuple[Any, ...]]]:
        """All rows that an application can change."""
        return {name: self.connection.execute(f"SELECT * FROM {name}").fetchall() for name in TABLES}
