"""Brings a database to the newest schema that this version knows, and refuses what it does not know."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from quota_server.errors import DatabaseUnusable

_MIGRATIONS = Path(__file__).parent / "migrations"
#: Advisory lock of a PostgreSQL database that each controller shares while it listens.
SERVING = 0x51_75_6F_74_62
#: Another: whoever migrates is alone.
MIGRATING = 0x51_75_6F_74_61
#: A table that every schema has.
_OURS = "allocations"


def migrate(connection: Connection, revision: str = "head") -> None:
    """Upgrades in the transaction of `connection`; raises DatabaseUnusable for a database that is not ours."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATING})
    config = _config(connection)
    stored, newest = _stored(connection), newest_schema()
    if stored == newest:
        return
    _refuse_strange(connection, stored)
    command.upgrade(config, revision)


def check_schema(connection: Connection) -> None:
    """Raises DatabaseUnusable unless the schema is the newest that this version knows; says what to do."""
    stored, newest = _stored(connection), newest_schema()
    if stored == newest:
        return
    _refuse_strange(connection, stored)
    found = f"its schema is {stored}, and {newest} is needed" if stored else "there is no schema in it"
    raise DatabaseUnusable(
        f"this database is not migrated ({found}): run `quota-server database migrate` as its owner"
    )


def schema_of(connection: Connection) -> str | None:
    """The schema that is stored; None if there is none."""
    return _stored(connection)


def newest_schema() -> str:
    """The newest schema that this version knows."""
    head = _scripts().get_current_head()
    assert head is not None, "there are migrations"
    return head


def schemas() -> list[str]:
    """Every schema that this version knows, oldest first."""
    return [revision.revision for revision in _scripts().walk_revisions()][::-1]


def _stored(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _refuse_strange(connection: Connection, stored: str | None) -> None:
    tables = set(inspect(connection).get_table_names()) - {"alembic_version"}
    # Another program may have migrations by the same tool.
    if tables if stored is None else _OURS not in tables:
        raise DatabaseUnusable("this is the database of another program")
    if stored is not None and stored not in schemas():
        raise DatabaseUnusable(
            f"a newer version has changed this database (schema {stored}); install that version"
        )


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _scripts() -> ScriptDirectory:
    return ScriptDirectory(str(_MIGRATIONS))
