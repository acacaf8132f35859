"""The files of a store: who owns them, and what has to be so before SQLite opens them."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from importlib import resources
from pathlib import Path

from quota_agent.errors import StoreUnavailable, StoreUnusable

#: "QFag": says in the file's header whose it is.
APPLICATION_ID = 0x51466167
SCHEMA_VERSION = 1
#: The first with STRICT tables.
OLDEST_SQLITE = (3, 37, 0)


def claim(path: Path) -> int:
    """Become the only owner of the store at `path`, until the answered descriptor is closed or the process ends.

    A lock file, because the store itself is opened twice in this process, and SQLite's locks part connections, not
    processes. Raises StoreUnusable if another process has it.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise StoreUnusable(f"SQLite {sqlite3.sqlite_version} is too old; 3.37 is the oldest that will do")
    try:
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreUnusable(f"cannot open the store's lock {path}.lock: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise StoreUnusable(f"the store {path} is in use by another process") from error
    return lock


def create(path: Path) -> None:
    """Make an empty file, readable by its owner only, if there is none."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        _sync_folder(path)
    except OSError as error:
        raise StoreUnusable(f"cannot create the store {path}: {error.strerror}") from error


def put_aside(path: Path, label: str) -> None:
    """Rename a closed store so that `label` is in its name. Raises StoreUnusable if that name is taken."""
    target = path.with_name(f"{path.stem}.{label}{path.suffix}")
    if target.exists():
        raise StoreUnusable(f"cannot put the store aside: {target} exists; move it away")
    # Closing folds the log into the file. Parted from a log that is still there, the file would be an older store,
    # and the log would be taken for that of the store to come.
    if Path(f"{path}-wal").exists():
        raise StoreUnusable(
            f"cannot put the store aside: {path}-wal could not be folded into it; start again"
        )
    os.rename(path, target)
    _sync_folder(path)


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Create the tables in an empty file, or make sure that they are ours and not newer than this program."""
    try:
        application = _pragma(connection, "application_id")
        version = _pragma(connection, "user_version")
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_NOTADB:
            raise StoreUnusable(f"{path} is not an agent's store") from error
        raise
    except UnicodeDecodeError as error:  # SQLite's own message: it quotes the schema
        raise StoreUnusable(f"the store {path} was damaged or changed: its schema is not text") from error
    is_empty = application == 0 and version == 0 and tables == 0
    if not is_empty and application != APPLICATION_ID:
        raise StoreUnusable(f"{path} is not an agent's store")
    if version > SCHEMA_VERSION:
        raise StoreUnusable(
            f"{path} was made by a newer version (schema {version}; this one knows {SCHEMA_VERSION})"
        )
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA cache_size = -16384")
    if is_empty:
        schema = resources.files(__package__).joinpath("schema.sql").read_text()
        marks = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION};"
        connection.executescript(f"BEGIN IMMEDIATE; {schema} {marks} COMMIT;")


def settle(connection: sqlite3.Connection) -> None:
    """Make durable whatever the log holds, or raise: what a store shows has to have been synced once.

    After a sync that failed, or a process that ended before it, the log may hold a group of which only the kernel's
    cache knows; SQLite reads it as if it were durable. Syncing the log again proves nothing, for the kernel may have
    marked the lost pages clean. A checkpoint writes each page of the log into the main file, which makes them dirty
    again, and reports success only after the main file was synced (synchronous = FULL); TRUNCATE then empties the log.
    """
    busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    if busy:
        raise StoreUnavailable("the store's log cannot be folded into it: another program reads the store")


def identity(path: Path) -> tuple[tuple[int, int], ...]:
    """Which files the names of an open store and of its log stand for.

    They are not opened: closing a second descriptor would drop SQLite's locks.
    """
    found = (os.stat(path), os.stat(f"{path}-wal"))
    return tuple((each.st_dev, each.st_ino) for each in found)


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    value = connection.execute(f"PRAGMA {name}").fetchone()[0]
    assert isinstance(value, int)
    return value


def _sync_folder(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
