"""Every schema that was ever released is brought to the newest, and nothing that was in it is lost."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any, Final

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, inspect, text

from quota_server.errors import DatabaseUnusable
from quota_server.ledger.administration import Administration
from quota_server.ledger.calls import Call
from quota_server.ledger.model import AgentKey
from quota_server.ledger.policies import Policy
from quota_server.storage.database import open_database
from quota_server.storage.ledger_store import SqlLedgerStore
from quota_server.storage.migrating import MIGRATING, migrate, newest_schema, schema_of, schemas
from quota_server.storage.tables import metadata
from quota_server.storage.tariff_store import SqlTariffStore
from quota_server.storage.upkeep import look_at_database, migrate_database
from quota_server.storage.views import SqlLedgerViews
from quota_server.tariff.data import TariffData
from quota_server.tariff.workers import Workers
from quotafleet.link.messages import OverrideState, Totals
from rules.records import GeographicalArea
from tests import databases
from tests.databases import on_both, on_postgres, run_on
from tests.postgres_kit import shared_server
from tests.schema_rows import Rows, rows_of

#: What refers to others comes after them.
_IN_ORDER: Final = [table.name for table in metadata.sorted_tables]


def fill(connection: Connection, rows: Rows) -> None:
    for table in sorted(rows, key=_IN_ORDER.index):
        for row in rows[table]:
            names = ", ".join(row)
            values = ", ".join(f":{name}" for name in row)
            connection.execute(text(f"INSERT INTO {table} ({names}) VALUES ({values})"), row)
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT setval('history_number_seq', (SELECT max(number) FROM history))"))


def read(connection: Connection, rows: Rows) -> Rows:
    """The same columns of the same tables, as they are now."""
    found: Rows = {}
    for table, (first, *_) in rows.items():
        chosen = connection.execute(text(f"SELECT {', '.join(first)} FROM {table}")).mappings()
        found[table] = [dict(row) for row in chosen]
    return found


def columns(connection: Connection) -> dict[str, set[str]]:
    looking = inspect(connection)
    tables = set(looking.get_table_names()) - {"alembic_version"}
    return {table: {column["name"] for column in looking.get_columns(table)} for table in tables}


def in_some_order(rows: Rows) -> dict[str, list[str]]:
    """Comparable, whatever the order: databases have their own, and SQLite has no booleans."""
    plain = {table: [{k: _plain(v) for k, v in row.items()} for row in each] for table, each in rows.items()}
    return {table: sorted(str(sorted(row.items())) for row in each) for table, each in plain.items()}


def _plain(value: object) -> object:
    return int(value) if isinstance(value, bool) else value


# --- from every schema to the newest ---------------------------------------------------------------------------------


@on_both
@pytest.mark.parametrize("version", schemas())
async def test_every_row_of_a_schema_is_there_after_the_migration(tmp_path: Path, version: str) -> None:
    where = await databases.put_empty(tmp_path / "ledger.db")
    await run_on(where, migrate, version)
    rows = rows_of(version)
    assert await run_on(where, columns) == {table: set(each[0]) for table, each in rows.items()}
    await run_on(where, fill, rows)
    if isinstance(where, str):
        assert (await migrate_database(where)).stored == version
    else:
        async with open_database(where):  # migrates by itself
            pass
    assert await run_on(where, schema_of) == newest_schema()
    assert in_some_order(await run_on(where, read, rows)) == in_some_order(rows)
    now = rows_of(newest_schema())
    assert in_some_order(await run_on(where, read, {t: now[t] for t in rows})) == in_some_order(
        {t: now[t] for t in rows}
    )


@on_both
@pytest.mark.parametrize("version", schemas())
async def test_the_ledger_serves_from_what_was_migrated(tmp_path: Path, version: str) -> None:
    where = await databases.put_empty(tmp_path / "ledger.db")
    await run_on(where, migrate, version)
    await run_on(where, fill, rows_of(version))
    if isinstance(where, str):
        await migrate_database(where)
    async with open_database(where) as database:
        store, views = SqlLedgerStore(database), SqlLedgerViews(database)
        async with store.transaction() as transaction:
            await transaction.load_whole_quota("q-1")
            await transaction.load_epochs([AgentKey("a-1", 1)])
            await transaction.load_live_overrides([AgentKey("a-1", 2)])
            book = transaction.book
            assert book.meta.generation == 2
            assert (book.quotas["q-1"].policy, book.quotas["q-1"].target) == (Policy.WEIGHTED, 2**62)
            newest = next(a for a in book.allocations.values() if a.epoch == 2)
            assert (newest.totals, newest.open_requests[0].amount) == (Totals(30, 5, 2), 5)
            assert book.fenced_marks == {AgentKey("a-1", 1): {(1, 4)}}
            assert book.overrides["o-1"].state is OverrideState.APPROVED
            answer = await transaction.recorded("r-1")
            assert answer is not None
            assert answer.fingerprint == b"\x00\xff"
        ids = iter(("round-9", "q-2"))
        administration = Administration(store, lambda: next(ids))
        await administration.set_target(Call("carl", 10), "visits", 1_000, None)
        (entry, *older) = await views.history("q-1", None, 10)
        assert (entry.note.actor, entry.number) == ("carl", 6)
        assert [each.number for each in older] == [5, 3]
        assert [agent.name for agent, _ in await views.agents(None, 10, include_retired=True)] == [
            "anne",
            "anne",
        ]


@on_both
@pytest.mark.parametrize("version", schemas()[schemas().index("0002") :])
async def test_the_tariff_data_is_read_from_what_was_migrated(tmp_path: Path, version: str) -> None:
    where = await databases.put_empty(tmp_path / "ledger.db")
    await run_on(where, migrate, version)
    await run_on(where, fill, rows_of(version))
    if isinstance(where, str):
        await migrate_database(where)
    workers = Workers()
    try:
        async with open_database(where) as database:
            data = await (await TariffData.open(SqlTariffStore(database), workers)).current()
            assert data.number == 1
            assert data.live(GeographicalArea, 11) is not None
    finally:
        workers.close()


@on_both
async def test_a_database_that_is_new_has_every_table_and_nothing_in_it(tmp_path: Path) -> None:
    where = await databases.put_empty(tmp_path / "ledger.db")
    migrated = await migrate_database(where)
    assert (migrated.stored, migrated.newest) == (None, newest_schema())
    newest = rows_of(newest_schema())
    assert await run_on(where, columns) == {table: set(each[0]) for table, each in newest.items()}
    assert in_some_order(await run_on(where, read, newest)) == {table: [] for table in newest}
    assert (await migrate_database(where)).stored == newest_schema()
    assert (await look_at_database(where)).problem == ""


# --- the same as the tables ------------------------------------------------------------------------------------------

_INDEXES = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'"
_CONSTRAINTS = (
    "SELECT conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint"
    " WHERE connamespace = 'public'::regnamespace"
)
_COLUMNS = (
    "SELECT attrelid::regclass || ' ' || attname || ' ' || format_type(atttypid, atttypmod) || ' ' || attnotnull"
    " || ' ' || coalesce((SELECT collname FROM pg_collation WHERE pg_collation.oid = attcollation), '')"
    " || ' ' || coalesce(pg_get_expr(adbin, adrelid), '') FROM pg_attribute"
    " JOIN pg_class ON pg_class.oid = attrelid LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum"
    " WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND attnum > 0"
)


def catalogue(connection: Connection) -> list[str]:
    """Everything that PostgreSQL knows of the schema, as text, without the migrations' own table."""
    found = [line for query in (_INDEXES, _CONSTRAINTS, _COLUMNS) for line in _lines(connection, query)]
    ours = [line for line in found if "alembic_version" not in line]
    # PostgreSQL itself makes no difference between a flag and its being true.
    return sorted(re.sub(r"\((\w+) = true\)", r"\1", line) for line in ours)


def _lines(connection: Connection, query: str) -> list[str]:
    return [str(line) for line in connection.execute(text(query)).scalars()]


def differences(connection: Connection) -> list[Any]:
    options = {"compare_type": True, "compare_server_default": True}
    found: list[Any] = compare_metadata(MigrationContext.configure(connection, opts=options), metadata)
    return found


@on_postgres
async def test_the_migrations_lead_to_the_tables_on_postgresql_too(tmp_path: Path) -> None:
    migrated = await databases.put(tmp_path / "migrated")
    made = await databases.put_empty(tmp_path / "made")
    await run_on(made, metadata.create_all)
    assert await run_on(migrated, differences) == []
    lines = await run_on(migrated, catalogue)
    assert lines == await run_on(made, catalogue)
    assert len([line for line in lines if " WHERE " in line]) > 10
    assert all(" C " in line for line in lines if " text " in line)


# --- what is refused -------------------------------------------------------------------------------------------------


async def refusal(where: str | Path) -> str:
    with pytest.raises(DatabaseUnusable) as refused:
        async with open_database(where):
            pass
    return str(refused.value)


@on_postgres
async def test_a_database_without_a_schema_is_refused_and_the_command_is_named(tmp_path: Path) -> None:
    where = await databases.put_empty(tmp_path / "ledger.db")
    said = await refusal(where)
    assert "there is no schema in it" in said
    assert "quota-server database migrate" in said


@on_postgres
async def test_an_older_schema_is_refused_and_the_command_is_named(tmp_path: Path) -> None:
    where = await databases.put_empty(tmp_path / "ledger.db")
    await run_on(where, migrate, "0001")
    said = await refusal(where)
    assert f"its schema is 0001, and {newest_schema()} is needed" in said
    assert "quota-server database migrate" in said
    await migrate_database(where)
    async with open_database(where):
        pass


def change_version(connection: Connection, version: str) -> None:
    connection.execute(text("UPDATE alembic_version SET version_num = :version"), {"version": version})


@on_both
async def test_a_newer_schema_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    where = await databases.put(tmp_path / "ledger.db")
    await run_on(where, change_version, "9999")
    said = await refusal(where)
    assert "a newer version has changed this database (schema 9999)" in said
    assert "migrate" not in said
    with pytest.raises(DatabaseUnusable, match="install that version"):
        await migrate_database(where)
    assert await run_on(where, schema_of) == "9999"


def make_songs(connection: Connection, version: str) -> None:
    """Another program's database, which may have migrations by the same tool."""
    connection.execute(text("CREATE TABLE songs (title text)"))
    if version:
        connection.execute(text("CREATE TABLE alembic_version (version_num varchar(32) NOT NULL)"))
        connection.execute(text("INSERT INTO alembic_version VALUES (:version)"), {"version": version})


@on_both
@pytest.mark.parametrize("version", ["", "3f2a9c", "0001"])
async def test_the_database_of_another_program_is_refused_and_left_alone(
    tmp_path: Path, version: str
) -> None:
    where = await databases.put_empty(tmp_path / "ledger.db")
    await run_on(where, make_songs, version)
    assert await refusal(where) == "this is the database of another program"
    with pytest.raises(DatabaseUnusable, match="another program"):
        await migrate_database(where)
    assert (await look_at_database(where)).problem == "this is the database of another program"
    assert await run_on(where, columns) == {"songs": {"title"}}


# --- at once ---------------------------------------------------------------------------------------------------------

_WAITING: Final = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"


@on_postgres
@pytest.mark.parametrize("version", ["", "0001"])
async def test_of_migrations_at_once_one_goes_first_and_all_succeed(tmp_path: Path, version: str) -> None:
    where = str(await databases.put_empty(tmp_path / "ledger.db"))
    if version:
        await run_on(where, migrate, version)
        await run_on(where, fill, rows_of(version))
    server, name = shared_server(), where.rpartition("/")[2]
    async with server.connected(name) as first:
        await first.execute(f"SELECT pg_advisory_lock({MIGRATING})")
        tasks = [asyncio.create_task(migrate_database(where, "pg_monitor")) for _ in range(3)]
        while (await server.fetch(name, _WAITING))[0][0] < len(tasks):
            assert not any(task.done() for task in tasks)
        await first.execute(f"SELECT pg_advisory_unlock({MIGRATING})")
        migrated = await asyncio.gather(*tasks)
    assert {schema.newest for schema in migrated} == {newest_schema()}
    async with open_database(where):
        pass
    if version:
        rows = rows_of(version)
        assert in_some_order(await run_on(where, read, rows)) == in_some_order(rows)


async def test_a_sqlite_database_that_is_served_from_is_not_migrated_beside_that(tmp_path: Path) -> None:
    async with open_database(tmp_path / "ledger.db"):
        with pytest.raises(DatabaseUnusable, match="belongs to another running controller"):
            await migrate_database(tmp_path / "ledger.db")


@on_both
async def test_a_migration_that_fails_half_way_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = await databases.put_empty(tmp_path / "ledger.db")
    await run_on(where, migrate, "0001")
    before = await run_on(where, columns)
    upgrade = command.upgrade

    def stumble(config: Config, revision: str) -> None:
        upgrade(config, revision)
        raise DatabaseUnusable("out of room")

    monkeypatch.setattr(command, "upgrade", stumble)
    with pytest.raises(DatabaseUnusable, match="out of room"):
        await migrate_database(where)
    assert await run_on(where, columns) == before
    assert await run_on(where, schema_of) == "0001"
