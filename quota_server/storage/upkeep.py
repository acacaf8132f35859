"""What is done to a database while nobody has to serve from it: migrating, granting, looking at its schema."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from sqlalchemy import Connection, create_engine, exc, text

from quota_server.errors import DatabaseUnusable
from quota_server.storage.database import sqlite_path
from quota_server.storage.migrating import MIGRATING, SERVING, check_schema, migrate, newest_schema, schema_of
from quota_server.storage.postgres import check_server, engine_of, is_postgres, read_options, usable
from quota_server.storage.sqlite import open_sqlite
from quota_server.storage.tables import metadata

_USUAL: Final = "SELECT, INSERT, UPDATE"
_ADD: Final = "SELECT, INSERT"
#: What the service may do to a table where that is not the usual: it changes no schema, and deletes no record.
_GRANTS: Final[Mapping[str, str]] = {
    "answers": "SELECT, INSERT, UPDATE, DELETE",
    "controllers": "SELECT, INSERT, UPDATE, DELETE",
    "history": "SELECT, INSERT, UPDATE (reached)",
    "fenced_marks": _ADD,
    "charged_copies": _ADD,
    "tariff_transactions": _ADD,
    "tariff_versions": _ADD,
}
_OWNED_BY_OTHERS: Final = text(
    "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = 'alembic_version'::regclass"
    " AND NOT pg_has_role(relowner, 'USAGE')"
)


@dataclass(frozen=True, slots=True)
class Schema:
    """The schema that is stored, None for none, and the newest that this version knows."""

    stored: str | None
    newest: str
    #: Why the database cannot be served from, and what to do; empty if it can.
    problem: str = ""


async def migrate_database(where: str | Path, service_role: str = "") -> Schema:
    """Brings a database to the newest schema, all of it or nothing; what it was before.

    A PostgreSQL role that is named is granted what serving needs, and nothing else. Raises DatabaseUnusable.
    """
    if not is_postgres(where):
        if service_role:
            raise DatabaseUnusable("SQLite has no roles: whoever may read the file may do everything with it")
        before = (await look_at_database(where)).stored
        async with open_sqlite(sqlite_path(where)):
            return Schema(before, newest_schema())
    options = replace(read_options(str(where)), statement_timeout_ms=0, lock_timeout_ms=0)
    async with engine_of(options) as engine, usable(engine) as connection:
        await connection.run_sync(check_server)
        before = await connection.run_sync(schema_of)
        await connection.run_sync(_migrate_alone)
        if service_role:
            await connection.run_sync(_grant, service_role)
        await connection.commit()
    return Schema(before, newest_schema())


async def look_at_database(where: str | Path) -> Schema:
    """The schema of a database, and whether it can be served from. Raises DatabaseUnusable if nobody answers."""
    if is_postgres(where):
        async with engine_of(read_options(str(where))) as engine, usable(engine) as connection:
            return await connection.run_sync(_look)
    path = sqlite_path(where)
    if not path.exists():
        return Schema(None, newest_schema(), f"there is no {path} yet: `quota-server serve` makes it")
    reading = create_engine(
        "sqlite://", creator=lambda: sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    )
    try:
        with reading.connect() as connection:
            return _look(connection)
    except exc.DBAPIError as error:
        raise DatabaseUnusable(f"the database cannot be read: {error.orig}") from error
    finally:
        reading.dispose()


async def refuse_while_served(where: str | Path) -> None:
    """Raises DatabaseUnusable while a controller serves from a PostgreSQL database; SQLite has its own lock."""
    if is_postgres(where):
        async with engine_of(read_options(str(where))) as engine, usable(engine) as connection:
            await connection.run_sync(_refuse_while_served)


def _refuse_while_served(connection: Connection) -> None:
    """Until the transaction ends no controller begins to listen."""
    if not connection.execute(text(f"SELECT pg_try_advisory_xact_lock({SERVING})")).scalar_one():
        raise DatabaseUnusable("a controller serves from this database: stop them all first")


def _migrate_alone(connection: Connection) -> None:
    """A controller that serves would go on with the schema that it knows."""
    connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATING})"))
    if schema_of(connection) != newest_schema():
        _refuse_while_served(connection)
    migrate(connection)


def _look(connection: Connection) -> Schema:
    stored, problem = schema_of(connection), ""
    try:
        if connection.dialect.name == "postgresql":
            check_server(connection)
        check_schema(connection)
    except DatabaseUnusable as unusable:
        problem = str(unusable)
    return Schema(stored, newest_schema(), problem)


def _grant(connection: Connection, role: str) -> None:
    # PostgreSQL itself only warns whoever grants what he may not grant.
    if owner := connection.execute(_OWNED_BY_OTHERS).scalar():
        raise DatabaseUnusable(f"the tables belong to {owner!r}, who alone can grant: migrate as that role")
    if role.lower() == "public":
        raise DatabaseUnusable("public is everybody: name the role that controllers log in with")
    to = connection.dialect.identifier_preparer.quote_identifier(role)
    schema = _schema(connection)
    grants = [
        # Before version 15 everybody might make tables in it.
        f"REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC",
        f"GRANT USAGE ON SCHEMA {schema} TO {to}",
        *(f"GRANT {_GRANTS.get(table, _USUAL)} ON {table} TO {to}" for table in metadata.tables),
        f"GRANT SELECT ON alembic_version TO {to}",
        f"GRANT USAGE ON SEQUENCE history_number_seq TO {to}",
    ]
    for grant in grants:
        connection.exec_driver_sql(grant)


def _schema(connection: Connection) -> str:
    name = connection.execute(text("SELECT current_schema()")).scalar_one()
    return connection.dialect.identifier_preparer.quote_identifier(name)


def named(where: str | Path) -> str:
    """A database as logs name it: without a password, and without options."""
    if not is_postgres(where):
        return str(where)
    parts = urlsplit(str(where))
    user, at, hosts = parts.netloc.rpartition("@")
    return f"postgresql://{user.partition(':')[0]}{at}{hosts}{parts.path}"
