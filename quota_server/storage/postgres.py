"""A database of a PostgreSQL server: pooled connections, row locks, any number of controllers beside each other.

Transactions run at READ COMMITTED: each locks what it is about to change, and reads it under its lock, in a statement
of its own; see `loading`. Reads see one moment (REPEATABLE READ).
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit

import asyncpg
from sqlalchemy import Connection, event, exc, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from quota_server.errors import DatabaseUnusable, StoreConflict
from quota_server.storage.connected import (
    UNREACHABLE,
    Connected,
    begin,
    commit,
    roll_back,
    to_the_end,
    translated,
)
from quota_server.storage.migrating import check_schema

_log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

#: PostgreSQL 13, as the number that a server gives.
OLDEST_SERVER: Final = 130_000
#: How long a connection may take to be made, and to be had from the pool.
_CONNECT_SECONDS: Final = 10.0
_POOL_SECONDS: Final = 10.0
_GOOD_BYE_SECONDS: Final = 3.0
#: Added to a statement's own timeout: a server that does not even answer that is taken for gone.
_SILENCE_SECONDS: Final = 5.0
_IDLE_MS: Final = 30_000
#: Statements whose plans a connection keeps.
_STATEMENTS_KEPT: Final = 500
#: Asked on each new connection: after a failover it may be to another server than before.
_WHERE_AM_I: Final = (
    "SELECT pg_is_in_recovery() AS standby, current_setting('synchronous_commit') AS commits,"
    " current_setting('default_transaction_read_only') AS read_only"
)
#: Commits that are durable before they are answered.
_DURABLE: Final = ("on", "remote_write", "remote_apply")

_MAX_PORT: Final = 65_535
_SCHEMES: Final = ("postgresql", "postgres", "postgresql+asyncpg")


@dataclass(frozen=True, slots=True)
class PostgresOptions:
    """What the URL says about the connections; the rest of it is asyncpg's, TLS and several hosts included."""

    #: Without this package's own options.
    url: str
    #: Connections of one controller, besides the one that listens.
    pool_size: int = 10
    #: How long one statement may take, and wait for a lock; 0 is for ever.
    statement_timeout_ms: int = 30_000
    lock_timeout_ms: int = 10_000


_OWN: Final = {
    "pool_size": (2, 1_000),
    "statement_timeout_ms": (0, 3_600_000),
    "lock_timeout_ms": (0, 3_600_000),
}
#: PostgreSQL's own names for what has another name here.
_RENAMED: Final = {"statement_timeout": "statement_timeout_ms", "lock_timeout": "lock_timeout_ms"}
_SERVERS: Final = ("any", "primary", "standby", "prefer-standby", "read-write", "read-only")
#: What to do about an SQLSTATE at the start.
_NEXT_STEPS: Final = {
    "42501": "as the owner of the schema, run `quota-server database migrate --service-role ROLE`, where ROLE is the "
    "role that controllers log in with; deploy/postgres/roles.sql makes both",
    "28P01": "no password was given, or another one; a line of the password file counts only if its host, port, "
    "database and user are those of the URL",
    "28000": "the role has to exist, and pg_hba.conf of the server to let it in to this database, from this machine",
    "3D000": "deploy/postgres/roles.sql makes it",
    "53300": "pool_size in the URL says how many connections each controller holds",
}


_host: Final = re.compile(r"(?:\[[^\[\]]*\]|[^:\[\]]*)(?::([0-9]{1,5}))?").fullmatch
_UNREADABLE: Final = (
    "the URL of the database cannot be read: it is postgresql://USER:PASSWORD@HOST:PORT/NAME, with every character "
    "of the password that is no letter or digit written as % and its two hexadecimal digits; options follow as "
    "?NAME=VALUE&NAME=VALUE"
)


def is_postgres(where: str | Path) -> bool:
    """Whether this is the URL of a PostgreSQL database."""
    return isinstance(where, str) and where.partition("://")[0] in _SCHEMES and "://" in where


def read_options(where: str) -> PostgresOptions:
    """Takes a URL apart. Raises DatabaseUnusable, and says no password, nor what may be a part of one."""
    try:
        parts = urlsplit(where)
        given = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise DatabaseUnusable(_UNREADABLE) from None  # what it says may be a part of the password
    hosts = parts.netloc.rpartition("@")[2].split(",")
    if parts.fragment or "@" in parts.path or not all(map(_is_host, hosts)):
        raise DatabaseUnusable(_UNREADABLE)
    own: dict[str, int] = {}
    for name, value in given:
        if name in _OWN:
            least, most = _OWN[name]
            if not value.isdecimal() or not least <= int(value) <= most:
                raise DatabaseUnusable(f"the database's {name}: must be a number from {least} to {most}")
            own[name] = int(value)
        elif name in _RENAMED:
            raise DatabaseUnusable(f"the database's {name}: is called {_RENAMED[name]} here, in milliseconds")
        elif name == "target_session_attrs" and value not in _SERVERS:
            raise DatabaseUnusable(f"the database's {name}: must be one of {', '.join(_SERVERS)}")
    others = urlencode([(name, value) for name, value in given if name not in _OWN])
    url = f"postgresql://{parts.netloc}{parts.path}"
    return PostgresOptions(f"{url}?{others}" if others else url, **own)


def _is_host(text: str) -> bool:
    found = _host(text)
    return found is not None and int(found[1] or 0) <= _MAX_PORT


class PostgresDatabase:
    """An open database. Its docstrings are those of `connected.Database`."""

    def __init__(self, writes: AsyncEngine, reads: AsyncEngine, options: PostgresOptions) -> None:
        self.options = options
        self._writes = writes
        self._reads = reads.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[Connected]:
        connection = self._writes.connect()
        try:
            await to_the_end(_check_out(connection))
            connected = Connected(connection)
            try:
                await connected.run(begin)
                yield connected
                await commit(connected)
            except BaseException:
                await to_the_end(connection.run_sync(roll_back))
                raise
        finally:
            if connection.sync_connection is not None:
                await to_the_end(connection.close())

    async def read(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        try:
            return await to_the_end(self._read(work, *args, **kwargs))
        except StoreConflict:  # the connection was lost, e.g. while it lay in the pool; the pool is new now
            return await to_the_end(self._read(work, *args, **kwargs))

    async def _read(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        with translated():
            async with self._reads.connect() as connection:
                return await connection.run_sync(work, *args, **kwargs)

    async def connect_to_listen(self) -> asyncpg.Connection[Any]:
        """A connection of its own, outside the pool. Raises StoreUnavailable."""
        with translated():
            return await connect(self.options, "listening")


@asynccontextmanager
async def open_postgres(where: str) -> AsyncIterator[PostgresDatabase]:
    """Opens a database that is migrated. Raises DatabaseUnusable if it is not, or cannot be served from."""
    options = read_options(where)
    # Apart, so that whoever reads much keeps nobody from writing.
    for_writes = max(1, options.pool_size // 3)
    async with (
        engine_of(options, for_writes) as writes,
        engine_of(options, options.pool_size - for_writes) as reads,
    ):
        async with usable(writes) as connection:
            await connection.run_sync(check_server)
            await connection.run_sync(check_schema)
        yield PostgresDatabase(writes, reads, options)


@asynccontextmanager
async def engine_of(options: PostgresOptions, connections: int = 1) -> AsyncIterator[AsyncEngine]:
    """A pool; its connections are closed in the end."""

    async def create(*_: object, **__: object) -> asyncpg.Connection[Any]:
        return await connect(options, "pool")

    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=create,
        connect_args={"prepared_statement_cache_size": _STATEMENTS_KEPT},
        pool_size=connections,
        isolation_level="READ COMMITTED",  # whatever the role has for a default
        max_overflow=0,
        pool_timeout=_POOL_SECONDS,
        hide_parameters=True,
    )
    event.listen(engine.sync_engine, "handle_error", _note_silence)
    try:
        yield engine
    finally:
        await to_the_end(_close(engine))


async def _close(engine: AsyncEngine) -> None:
    """Says good-bye to the server, if it is there to hear it."""
    try:
        async with asyncio.timeout(_GOOD_BYE_SECONDS):
            await engine.dispose()
    except (TimeoutError, exc.SQLAlchemyError):
        await engine.dispose(close=False)


async def connect(options: PostgresOptions, purpose: str) -> asyncpg.Connection[Any]:
    """One connection, its timeouts set on both ends."""
    wait = options.statement_timeout_ms / 1000 + _SILENCE_SECONDS if options.statement_timeout_ms else None
    connection = await asyncpg.connect(
        options.url,
        timeout=_CONNECT_SECONDS,
        command_timeout=wait,
        statement_cache_size=0 if purpose == "pool" else 100,
        server_settings={
            "application_name": f"quota-server {purpose}",
            "statement_timeout": str(options.statement_timeout_ms),
            "lock_timeout": str(options.lock_timeout_ms),
            # So soon the locks of a controller that has vanished, or hangs, are let go.
            "idle_in_transaction_session_timeout": str(_IDLE_MS),
            "tcp_keepalives_idle": "15",
            "tcp_keepalives_interval": "5",
            "tcp_keepalives_count": "3",
        },
    )
    try:
        if problem := _problem_of(await connection.fetchrow(_WHERE_AM_I)):
            raise DatabaseUnusable(problem)
    except BaseException:
        connection.terminate()
        raise
    return connection


def _problem_of(found: Mapping[str, Any]) -> str:
    """Why commits are not taken there, or could be lost; empty if they are safe."""
    if found["standby"]:
        return (
            "this server is a replica and takes no changes: name the primary, or promote this one and then run "
            "`quota-server recover`"
        )
    if found["read_only"] != "off":
        return "default_transaction_read_only is on here: set it to 'off' for this role"
    if found["commits"] not in _DURABLE:
        return f"synchronous_commit is {found['commits']!r} here, which loses commits: set it to 'on' for this role"
    return ""


@asynccontextmanager
async def usable(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection at the start: whatever fails is a reason not to start."""
    try:
        async with engine.connect() as connection:
            yield connection
    except exc.DBAPIError as error:
        raise DatabaseUnusable(
            f"the database cannot be used: {error.orig}{_next_step(error.orig)}"
        ) from error
    except (*UNREACHABLE, ValueError) as error:  # a ValueError is about the URL, or a file that it names
        why = str(error) or type(error).__name__
        raise DatabaseUnusable(f"the database cannot be reached: {why}{_next_step(error)}") from error


def _next_step(error: BaseException | None) -> str:
    if isinstance(error, FileNotFoundError):
        return ": the socket or certificate that the URL names"
    step = _NEXT_STEPS.get(getattr(error, "sqlstate", None) or "")
    return f": {step}" if step else ""


def check_server(connection: Connection) -> None:
    """Refuses a server that is too old, or cannot hold every text; warns of one that can lose everything."""
    row = connection.execute(
        text(
            "SELECT current_setting('server_version_num')::int AS version, current_setting('fsync') AS fsync,"
            " current_setting('server_encoding') AS encoding"
        )
    ).one()
    if row.version < OLDEST_SERVER:
        raise DatabaseUnusable(
            f"PostgreSQL {OLDEST_SERVER // 10_000} or newer is needed, not {row.version // 10_000}"
        )
    if row.encoding != "UTF8":
        raise DatabaseUnusable(
            f"the encoding of this database is {row.encoding}, which has no room for every name and reason: make one "
            "with ENCODING 'UTF8'"
        )
    if row.fsync != "on":
        _log.warning("this PostgreSQL server runs with fsync=off: a power loss can lose or damage everything")


async def _check_out(connection: AsyncConnection) -> None:
    with translated():
        _ = await connection.start()


def _note_silence(context: Any) -> None:
    """A statement that was not answered in time leaves a connection that nobody can use."""
    if isinstance(context.original_exception, TimeoutError):
        context.is_disconnect = True
