"""Brings a database to the newest schema that this version knows, and refuses what it does not know."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect

from quota_server.errors import DatabaseUnusable

_MIGRATIONS = Path(__file__).parent / "migrations"


def migrate(connection: Connection) -> None:
    """Upgrades to head, in the transaction of `connection`; raises DatabaseUnusable for a database that is not ours."""
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    script = ScriptDirectory.from_config(config)
    stored = set(MigrationContext.configure(connection).get_current_heads())
    if stored == set(script.get_heads()):
        return
    if unknown := stored - {revision.revision for revision in script.walk_revisions()}:
        raise DatabaseUnusable(
            f"a newer version has changed this database (schema {', '.join(sorted(unknown))}); install that version"
        )
    if not stored and inspect(connection).get_table_names():
        raise DatabaseUnusable("this is the database of another program")
    command.upgrade(config, "head")
