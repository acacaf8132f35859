"""What the role of the controllers may do: serve, and neither change the schema nor take anything out of the records.

That it may do all that serving needs is shown by every other test on PostgreSQL: they run as this role.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import Connection, text

from quota_server.errors import DatabaseUnusable
from quota_server.fleet.others import Question
from quota_server.ledger.store import RecordedAnswer
from quota_server.storage.controllers import SqlControllers
from quota_server.storage.database import open_database
from quota_server.storage.ledger_store import SqlLedgerStore
from quota_server.storage.notices import PostgresNotices
from quota_server.storage.postgres import PostgresDatabase
from quota_server.storage.tables import metadata
from quota_server.storage.upkeep import look_at_database, migrate_database
from tests import databases
from tests.databases import SERVICE, as_owner, on_postgres, run_on
from tests.ledger_kit import fill
from tests.postgres_kit import shared_server

pytestmark = on_postgres

FORBIDDEN = (
    "CREATE TABLE songs (title text)",
    "CREATE SCHEMA songs",
    "DROP TABLE charged_copies",
    "DROP INDEX ix_history_quota",
    "ALTER TABLE quotas ADD COLUMN more int",
    "CREATE INDEX ON quotas (target)",
    "CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE TRIGGER t BEFORE UPDATE ON quotas EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "TRUNCATE answers",
    "TRUNCATE history",
    "DELETE FROM history",
    "UPDATE history SET reason = 'another'",
    "UPDATE history SET number = number + 1",
    "DELETE FROM quotas",
    "DELETE FROM agents",
    "DELETE FROM epochs",
    "DELETE FROM allocations",
    "DELETE FROM assignments",
    "DELETE FROM overrides",
    "DELETE FROM meta",
    "DELETE FROM fenced_marks",
    "UPDATE fenced_marks SET mark_number = 0",
    "DELETE FROM charged_copies",
    "UPDATE charged_copies SET store_id = ''",
    "DELETE FROM tariff_transactions",
    "UPDATE tariff_transactions SET actor = ''",
    "DELETE FROM tariff_versions",
    "UPDATE tariff_versions SET content = ''",
    "UPDATE alembic_version SET version_num = '9999'",
    "DELETE FROM alembic_version",
    "SELECT setval('history_number_seq', 1)",
    "SET ROLE postgres",
)


@pytest.mark.parametrize("sql", FORBIDDEN)
async def test_the_role_may_not_do_more_than_serve(tmp_path: Path, sql: str) -> None:
    url = str(await databases.put(tmp_path / "ledger.db"))
    connection = await asyncpg.connect(url)
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(sql)
    finally:
        await connection.close()


async def test_every_table_is_granted_and_no_privilege_besides_the_usual(tmp_path: Path) -> None:
    url = str(await databases.put(tmp_path / "ledger.db"))

    def privileges(connection: Connection) -> dict[str, set[str]]:
        rows = connection.execute(
            text(
                "SELECT table_name, privilege_type FROM information_schema.table_privileges WHERE grantee = :r"
            ),
            {"r": SERVICE},
        )
        found: dict[str, set[str]] = {}
        for table, privilege in rows:
            found.setdefault(table, set()).add(privilege)
        return found

    granted = await run_on(url, privileges)
    assert granted.keys() == {*metadata.tables, "alembic_version"}
    assert {table for table, may in granted.items() if "DELETE" in may} == {"answers", "controllers"}
    assert {privilege for may in granted.values() for privilege in may} == {
        "SELECT",
        "INSERT",
        "UPDATE",
        "DELETE",
    }
    assert granted["alembic_version"] == {"SELECT"}


async def test_what_the_ledger_writes_besides_its_records_is_granted_too(tmp_path: Path) -> None:
    """Rounds, answers, probes, leases and notices."""
    async with open_database(await databases.put(tmp_path / "ledger.db")) as database:
        assert isinstance(database, PostgresDatabase)
        store, leases = SqlLedgerStore(database, "c-1"), SqlControllers(database, "c-1", "here")
        await fill(store)
        async with store.transaction() as transaction:
            await transaction.record(RecordedAnswer("r-1", "method", b"", b"early", 1))
            transaction.book.begin_recovery(1, "restored")
        await store.replace_answer("r-1", b"late")
        await store.record_round("round", [{"agent": "anne"}])
        await store.probe()
        await store.forget_answers(2)
        async with store.transaction() as transaction:
            assert await transaction.recorded("r-1") is None
        await leases.begin()
        assert await leases.renew(-60_000)  # it has run out already
        other = SqlControllers(database, "c-2")
        await other.begin()
        assert await other.renew(60_000)
        assert not await leases.renew(60_000)
        await other.end()
        here, there = PostgresNotices(database, "c-1"), PostgresNotices(database, "c-2")
        listening = asyncio.create_task(here.run())
        assert (await here.next()).everything  # at the start
        assert (await here.next()).everything  # since it listens
        question = Question("c-2", 7, "q-one")
        await there.ask(question)
        heard = await here.next()
        while question not in heard.questions:
            heard = await here.next()
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def test_the_role_can_look_at_the_schema_and_not_migrate(tmp_path: Path) -> None:
    url = str(await databases.put(tmp_path / "ledger.db"))
    assert (await look_at_database(url)).problem == ""
    assert (await migrate_database(url)).stored is not None  # there is nothing to do
    empty = str(await databases.put_empty(tmp_path / "empty.db"))
    as_service = empty.replace("postgres@", f"{SERVICE}@")
    with pytest.raises(DatabaseUnusable, match="permission denied"):
        await migrate_database(as_service)


async def test_a_role_that_has_nothing_is_refused_and_one_that_is_not_there_is_named(tmp_path: Path) -> None:
    url = str(await databases.put(tmp_path / "ledger.db"))
    await shared_server().execute("postgres", "CREATE ROLE stranger LOGIN")
    try:
        with pytest.raises(DatabaseUnusable, match="permission denied"):
            async with open_database(url.replace(f"{SERVICE}@", "stranger@")):
                pass
        with pytest.raises(DatabaseUnusable, match='role "no body" does not exist'):
            await migrate_database(as_owner(url), "no body")
    finally:
        await shared_server().execute("postgres", "DROP ROLE stranger")


async def test_a_role_of_any_name_is_granted_and_again_without_harm(tmp_path: Path) -> None:
    url = str(await databases.put(tmp_path / "ledger.db"))
    await shared_server().execute("postgres", 'CREATE ROLE "Rôle \'of\' ""the"" fleet;--" LOGIN')
    name = "Rôle 'of' \"the\" fleet;--"
    try:
        for _ in range(2):
            await migrate_database(as_owner(url), name)
        may = await shared_server().fetch(
            url.rpartition("/")[2], "SELECT has_table_privilege($1, 'quotas', 'UPDATE')", name
        )
        assert may[0][0] is True
    finally:
        quoted = '"' + name.replace('"', '""') + '"'
        await shared_server().execute(url.rpartition("/")[2], f"DROP OWNED BY {quoted}; DROP ROLE {quoted}")


async def test_sqlite_has_no_roles(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnusable, match="SQLite has no roles"):
        await migrate_database(tmp_path / "ledger.db", SERVICE)
    assert not (tmp_path / "ledger.db").exists()
