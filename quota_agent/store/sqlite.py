"""The gate's store on SQLite: one writer, one reader, one process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sqlite3
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeVar
from urllib.parse import quote

import aiosqlite

from quota_agent.errors import StoreUnavailable
from quota_agent.gate.draft import Changes, Known
from quota_agent.gate.model import Entry, EntryState
from quota_agent.gate.records import Agent, Key, State, index_names
from quota_agent.gate.state import Lookup
from quota_agent.gate.store import DecidedT
from quota_agent.store import files, rows, soundness

T = TypeVar("T")

#: Holds that one group ends at most; the rest follow in the next groups.
MAX_DUE = 1_000
#: Bytes that must fit before a store that failed counts as sound again: about what a large group writes.
PROBE_BYTES = 262_144

_LOOK_UP = """
SELECT entry.* FROM json_each(?) AS quota, json_each(quota.value) AS request
CROSS JOIN entry ON entry.quota = CAST(quota.key AS INTEGER) AND entry.request_id = request.value
"""
_DUE = "SELECT * FROM entry WHERE state = 1 AND expire_ms <= ? ORDER BY expire_ms LIMIT ?"
_NEXT_DUE = "SELECT min(expire_ms) FROM entry WHERE state = 1 AND expire_ms > ?"
_INSERT_ENTRY = f"INSERT INTO entry VALUES ({', '.join('?' * 11)})"
_PUT = {
    table: f"INSERT OR REPLACE INTO {table} VALUES ({', '.join('?' * columns)})"
    for table, columns in {"agent": 13, "quota": 30, "override": 7, "ask": 8, "audit": 6}.items()
}


class _Connection(aiosqlite.Connection):
    """A connection and the thread it lives on."""

    async def run(self, unit: Callable[[sqlite3.Connection], T]) -> T:
        """Run a function on the connection's thread, as one unit. StoreUnavailable if it was closed.

        aiosqlite's public verbs are a statement each, and what others await in between gets in between; a transaction
        made of them could be torn. `_execute` is what they are all made of.
        """
        connection = self._connection
        if connection is None or not self._running:
            raise StoreUnavailable("the store is being opened again")
        result: T = await self._execute(unit, connection)  # type: ignore[no-untyped-call]
        return result


class SqliteStore:
    """A GateStore in a file of its own, which it locks against other processes.

    `max_page_count` bounds the size of the file, in pages of 4 KiB. Opening raises StoreUnusable if the file is not an
    agent's store, is in use, or was made by a newer version.
    """

    def __init__(self, path: Path, *, max_page_count: int | None = None) -> None:
        self._path = path
        self._max_page_count = max_page_count
        self._lock: int | None = None
        #: Which files were opened.
        self._identity: tuple[tuple[int, int], ...] = ()
        self._writer: _Connection | None = None
        self._reader: _Connection | None = None
        #: Numbers of the quotas, by which entries refer to them, and back.
        self._numbers: dict[str, int] = {}
        self._uids: dict[int, str] = {}
        #: Whether its entries were found to be what they can be.
        self._is_sound = False

    async def __aenter__(self) -> SqliteStore:
        self._lock = await asyncio.to_thread(files.claim, self._path)
        try:
            await asyncio.to_thread(files.create, self._path)
            await self._connect()
        except BaseException:
            await self._release()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._release()

    async def load(self) -> State:
        """Everything but the entries, as the disk has it.

        Raises StoreUnusable if a row is none that an agent writes. The entries are looked at once: since then nobody
        else could write.
        """
        state = await self._run(self._writer, self._load)
        self._numbers = {quota.uid: quota.number for quota in state.quotas.values()}
        self._uids = {number: uid for uid, number in self._numbers.items()}
        return state

    async def transact(self, lookup: Lookup, decide: Callable[[Known], DecidedT]) -> DecidedT:
        """Look up, decide and write, as one unit."""

        def unit(connection: sqlite3.Connection) -> DecidedT:
            decided = decide(self._look_up(connection, lookup))
            if decided.changes.needed:
                _in_transaction(connection, lambda: self._write(connection, decided.changes))
            self._check_identity()  # afterwards: what is answered was written into the files that are there
            return decided

        return await self._run(self._writer, unit)

    async def find(self, uids: Sequence[str], request_id: str) -> Entry | None:
        """The entry with this request_id in the first of these quotas that has one."""
        lookup = Lookup({uid: [request_id] for uid in uids})
        known = await self._run(self._reader, lambda connection: self._look_up(connection, lookup))
        return next(
            (known.entries[uid, request_id] for uid in uids if (uid, request_id) in known.entries), None
        )

    async def entries(
        self, uid: str, after_number: int, limit: int, states: Collection[EntryState]
    ) -> list[Entry]:
        """A page of a quota's entries."""
        codes = json.dumps([rows.STATE_CODES[state] for state in states or EntryState])
        statement = (
            "SELECT * FROM entry WHERE quota = ? AND number > ? AND state IN (SELECT value FROM json_each(?))"
            " ORDER BY number LIMIT ?"
        )
        values = (self._numbers.get(uid), after_number, codes, limit)
        found = await self._run(
            self._reader, lambda connection: connection.execute(statement, values).fetchall()
        )
        return [rows.entry_of(row, self._uids) for row in found]

    async def probe(self) -> None:
        """Write as much as a large group would, and take it away again."""

        def unit(connection: sqlite3.Connection) -> None:
            _in_transaction(
                connection,
                lambda: connection.execute("REPLACE INTO probe VALUES (1, zeroblob(?))", (PROBE_BYTES,)),
            )
            _in_transaction(connection, lambda: connection.execute("DELETE FROM probe"))
            self._check_identity()

        await self._run(self._writer, unit)

    async def reopen(self) -> None:
        """Give up both connections and open what the disk holds; a file that is gone is not begun anew."""
        await self._disconnect()
        await self._connect()

    async def archive(self, label: str) -> None:
        """Put the file aside under a name with `label` in it, and begin an empty one."""
        await self._disconnect()
        await asyncio.to_thread(files.put_aside, self._path, label)
        await asyncio.to_thread(files.create, self._path)
        await self._connect()

    async def limit_pages(self, pages: int) -> None:
        """Let the file grow to this many pages from now on."""
        self._max_page_count = pages
        await self._run(self._writer, self._set_page_limit)

    def _load(self, connection: sqlite3.Connection) -> State:
        soundness.check_state(connection, self._path)
        if not self._is_sound:
            soundness.check_entries(connection, self._path)
            self._is_sound = True
        return _load(connection)

    def _look_up(self, connection: sqlite3.Connection, lookup: Lookup) -> Known:
        entries: dict[Key, Entry] = {}
        if lookup.requests:
            # A quota without a number is in no row.
            wanted = {self._numbers.get(uid, 0): named for uid, named in lookup.requests.items()}
            for row in connection.execute(_LOOK_UP, (json.dumps(wanted),)):
                entry = rows.entry_of(row, self._uids)
                entries[entry.quota_uid, entry.request_id] = entry
        if lookup.due_ms is None:
            return Known(entries)
        found = connection.execute(_DUE, (lookup.due_ms, MAX_DUE)).fetchall()
        due = [rows.entry_of(row, self._uids) for row in found]
        if len(due) == MAX_DUE:
            return Known(entries, due, lookup.due_ms)
        return Known(entries, due, connection.execute(_NEXT_DUE, (lookup.due_ms,)).fetchone()[0])

    def _write(self, connection: sqlite3.Connection, changes: Changes) -> None:
        for quota in changes.quotas:
            self._numbers[quota.uid] = quota.number
            self._uids[quota.number] = quota.uid
        put = connection.executemany
        put(_PUT["quota"], map(rows.quota_row, changes.quotas))
        put(_INSERT_ENTRY, rows.entry_rows(changes.created, self._numbers))
        if changes.changed:
            put(
                "UPDATE entry SET state = ? WHERE quota = ? AND number = ?",
                [
                    (rows.STATE_CODES[entry.state], self._numbers[entry.quota_uid], entry.number)
                    for entry in changes.changed
                ],
            )
        if changes.cancels_holds:
            connection.execute(
                "UPDATE entry SET state = ? WHERE state = 1", (rows.STATE_CODES[EntryState.CANCELLED],)
            )
        if changes.agent is not None:
            connection.execute(_PUT["agent"], rows.agent_row(changes.agent))
        if changes.overrides:
            put(_PUT["override"], map(rows.override_row, changes.overrides))
        if changes.asks:
            put(_PUT["ask"], map(rows.ask_row, changes.asks))
        if changes.audits:
            put(_PUT["audit"], map(rows.audit_row, changes.audits))

    async def _run(self, connection: _Connection | None, unit: Callable[[sqlite3.Connection], T]) -> T:
        if connection is None:
            raise StoreUnavailable("the store is not open")
        try:
            return await connection.run(unit)
        except sqlite3.Error as error:
            raise StoreUnavailable(f"the store cannot be read: {error}") from error

    async def _connect(self) -> None:
        try:
            self._writer = await self._opened()
            await self._writer.run(lambda connection: files.prepare(connection, self._path))
            await self._writer.run(self._set_page_limit)
            await self._writer.run(files.settle)
            self._identity = await asyncio.to_thread(files.identity, self._path)
            self._reader = await self._opened()
            await self._reader.run(lambda connection: connection.execute("PRAGMA query_only = ON"))
        except BaseException as error:
            await self._disconnect()
            if isinstance(error, sqlite3.Error | OSError):
                raise StoreUnavailable(f"the store cannot be opened: {error}") from error
            raise

    def _check_identity(self) -> None:
        """Make sure that the open files still have their names: others are lost to whoever opens the store next."""
        try:
            same = files.identity(self._path) == self._identity
        except OSError:
            same = False
        if not same:
            raise StoreUnavailable(
                f"the files of the store {self._path} were removed or replaced while it was open"
            )

    async def _opened(self) -> _Connection:
        # mode=rw: opening never creates a file. A volume that is gone must not pass for an agent without entries.
        uri = f"file:{quote(str(self._path.absolute()))}?mode=rw"
        return await _Connection(
            lambda: sqlite3.connect(uri, uri=True, isolation_level=None), iter_chunk_size=64
        )  # type: ignore[return-value]  # its __await__ says that it answers the base class

    async def _disconnect(self) -> None:
        for connection in (self._reader, self._writer):
            if connection is not None:
                with contextlib.suppress(sqlite3.Error):  # there is nothing more to save
                    await connection.close()
        self._reader = self._writer = None

    async def _release(self) -> None:
        await self._disconnect()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _set_page_limit(self, connection: sqlite3.Connection) -> None:
        if self._max_page_count is not None:
            connection.execute(f"PRAGMA max_page_count = {int(self._max_page_count)}")


def _load(connection: sqlite3.Connection) -> State:
    agent = connection.execute("SELECT * FROM agent").fetchone()
    quotas = [rows.quota_of(row) for row in connection.execute("SELECT * FROM quota ORDER BY number")]
    overrides = [rows.override_of(row) for row in connection.execute("SELECT * FROM override")]
    asks = [rows.ask_of(row) for row in connection.execute("SELECT * FROM ask")]
    for quota in quotas:
        quota.check(None)
    for override in overrides:
        override.check(None)
    return State(
        rows.agent_of(agent) if agent else Agent(),
        {quota.uid: quota for quota in quotas},
        {override.override_id: override for override in overrides},
        {(ask.quota_uid, ask.ask_id): ask for ask in asks},
        connection.execute("SELECT min(expire_ms) FROM entry WHERE state = 1").fetchone()[0],
        index_names(quotas),
    )


def _in_transaction(connection: sqlite3.Connection, write: Callable[[], object]) -> None:
    """Write and commit, or roll back and raise StoreUnavailable."""
    clean = True
    try:
        connection.execute("BEGIN IMMEDIATE")
        write()
        clean = False  # from here on only the disk knows
        connection.execute("COMMIT")
    except BaseException as error:
        try:
            if connection.in_transaction:  # SQLite has rolled back by itself after some errors
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            clean = False
        if isinstance(error, sqlite3.Error):
            clean = clean and isinstance(error, sqlite3.OperationalError)
        elif clean:
            raise  # rolled back, whatever it is
        raise StoreUnavailable(f"the store took nothing: {error!r}", clean=clean) from error
