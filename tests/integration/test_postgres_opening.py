"""What a PostgreSQL URL says, and which servers and databases are not served from."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import Connection, text

from quota_server.errors import DatabaseUnusable
from quota_server.ledger.model import Quota
from quota_server.ledger.recovery import Recovery
from quota_server.storage import postgres
from quota_server.storage.database import open_database
from quota_server.storage.ledger_store import SqlLedgerStore
from quota_server.storage.postgres import PostgresOptions, is_postgres, read_options
from quota_server.storage.upkeep import migrate_database
from tests import databases
from tests.databases import on_postgres
from tests.postgres_kit import PostgresServer, shared_server

SECRET = "hush"


def refusal_of_url(url: str) -> str:
    with pytest.raises(DatabaseUnusable) as refused:
        read_options(url)
    return str(refused.value)


async def refusal(url: str) -> str:
    with pytest.raises(DatabaseUnusable) as refused:
        async with open_database(url):
            pass
    assert SECRET not in str(refused.value)
    return str(refused.value)


async def url_of(folder: Path) -> str:
    return str(await databases.put(folder / "ledger.db"))


def ask(connection: Connection, query: str) -> dict[str, Any]:
    return dict(connection.execute(text(query)).mappings().one())


# --- the URL ---------------------------------------------------------------------------------------------------------


def test_options_are_taken_out_of_the_url_and_the_rest_of_it_is_left() -> None:
    given = "postgres://u:p%40@one:1,two:2/db?pool_size=3&sslmode=require&statement_timeout_ms=0&lock_timeout_ms=7"
    assert read_options(given) == PostgresOptions(
        "postgresql://u:p%40@one:1,two:2/db?sslmode=require",
        pool_size=3,
        statement_timeout_ms=0,
        lock_timeout_ms=7,
    )
    assert read_options("postgresql+asyncpg:///db?host=/run/postgresql") == PostgresOptions(
        "postgresql:///db?host=%2Frun%2Fpostgresql"
    )
    assert read_options("postgresql://[::1]:5432/db").url == "postgresql://[::1]:5432/db"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *[("pool_size", value) for value in ("0", "1001", "-1", "", "two", "1.5", "²", "%00")],
        *[("statement_timeout_ms", value) for value in ("-1", "3600001", "1s")],
        *[("lock_timeout_ms", value) for value in ("-1", "3600001", "1s")],
    ],
)
def test_a_bad_option_is_named_with_its_bounds(option: str, value: str) -> None:
    said = refusal_of_url(f"postgresql://u:{SECRET}@h/db?{option}={value}")
    assert said.startswith(f"the database's {option}: must be a number from ")
    assert SECRET not in said


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("statement_timeout=5", "is called statement_timeout_ms here"),
        ("lock_timeout=5s", "is called lock_timeout_ms here"),
        ("target_session_attrs=primari", "must be one of any, primary, standby, "),
    ],
)
def test_an_option_that_means_something_else_is_refused_by_name(option: str, said: str) -> None:
    found = refusal_of_url(f"postgresql://u:{SECRET}@h/db?{option}")
    assert found.startswith(f"the database's {option.partition('=')[0]}: {said}")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:#hush@h/db",
        "postgresql://u:hush#more@h/db",
        "postgresql://u:/hush@h/db",
        "postgresql://u:7/hush@h/db",
        "postgresql://u:hush/more@h/db",
        "postgresql://u:hush?more@h/db",
        "postgresql://u:hush?more=1@h/db",
        "postgresql://u:hush[@h/db",
        "postgresql://u@h:hush/db",
        "postgresql://u:hush@h:99999/db",
        "postgresql://u:hush@h:²/db",
        "postgresql://u:hush@h/db?pool_size",
    ],
)
def test_a_url_that_cannot_be_read_is_refused_without_a_part_of_the_password(url: str) -> None:
    said = refusal_of_url(url)
    assert "cannot be read" in said
    assert SECRET not in said


def test_what_is_a_url_of_postgresql() -> None:
    for url in ("postgresql://h/d", "postgres://h/d", "postgresql+asyncpg://h/d"):
        assert is_postgres(url)
    for other in ("postgresql", "postgresql:/d", "sqlite:///d", "/postgresql://", Path("postgresql://h/d")):
        assert not is_postgres(other)


@pytest.mark.parametrize(
    "where",
    ["{}/nothing_there", "{}/x?sslmode=hash", "{}/x?no_such_setting=1", "{}/x?synchronous_commit=sometimes"],
)
async def test_what_the_server_or_the_driver_refuses_is_said_without_the_password(where: str) -> None:
    server = await asyncio.to_thread(shared_server)
    assert await refusal(where.format(f"postgresql://postgres:{SECRET}@127.0.0.1:{server.port}"))


async def test_what_to_do_about_it_is_said_too(tmp_path: Path) -> None:
    server = await asyncio.to_thread(shared_server)
    at = f"postgres:{SECRET}@127.0.0.1:{server.port}"
    assert "roles.sql makes it" in await refusal(f"postgresql://{at}/nothing_there")
    stranger = await refusal(f"postgresql://nobody_here@127.0.0.1:{server.port}/postgres")
    assert "the role has to exist" in stranger
    missing = await refusal(f"postgresql://{at}/x?sslmode=verify-ca&sslrootcert={tmp_path}/none")
    assert "certificate that the URL names" in missing


async def test_a_server_that_does_not_answer_is_said(unused_tcp_port: int) -> None:
    assert "cannot be reached" in await refusal(f"postgresql://u:{SECRET}@127.0.0.1:{unused_tcp_port}/db")
    assert "cannot be reached" in await refusal(f"postgresql://u:{SECRET}@/db?host=/no/such/folder")


@on_postgres
async def test_the_first_of_several_hosts_that_answers_is_used(tmp_path: Path, unused_tcp_port: int) -> None:
    url = (await url_of(tmp_path)).replace("@", f"@127.0.0.1:{unused_tcp_port},")
    async with open_database(url) as database:
        assert await database.read(ask, "SELECT 1 AS one") == {"one": 1}


@on_postgres
async def test_the_options_reach_the_connections(tmp_path: Path) -> None:
    options = "?statement_timeout_ms=12000&lock_timeout_ms=3000&pool_size=2"
    async with open_database(await url_of(tmp_path) + options) as database:
        query = ", ".join(
            f"current_setting('{name}') AS {name}"
            for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
        )
        assert await database.read(ask, f"SELECT {query}") == {
            "statement_timeout": "12s",
            "lock_timeout": "3s",
            "idle_in_transaction_session_timeout": "30s",
        }
        named = await database.read(ask, "SELECT current_setting('application_name') AS name")
        assert named["name"].startswith("quota-server ")
        seen = await database.read(ask, "SELECT current_setting('transaction_read_only') AS read_only")
        assert seen == {"read_only": "on"}


# --- what is not served from -----------------------------------------------------------------------------------------


@on_postgres
@pytest.mark.parametrize("setting", ["off", "local"])
async def test_a_database_that_loses_commits_is_refused(tmp_path: Path, setting: str) -> None:
    url = await url_of(tmp_path)
    assert f"synchronous_commit is '{setting}' here" in await refusal(f"{url}?synchronous_commit={setting}")
    name = url.rpartition("/")[2]
    await shared_server().execute("postgres", f"ALTER DATABASE {name} SET synchronous_commit = {setting}")
    assert "loses commits" in await refusal(url)
    async with open_database(f"{url}?synchronous_commit=remote_apply"):
        pass


@on_postgres
async def test_a_database_that_is_read_only_is_refused(tmp_path: Path) -> None:
    url = await url_of(tmp_path)
    name = url.rpartition("/")[2]
    await shared_server().execute("postgres", f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    assert "default_transaction_read_only is on" in await refusal(url)


async def test_a_database_whose_encoding_cannot_hold_every_text_is_refused() -> None:
    server = await asyncio.to_thread(shared_server)
    await server.execute("postgres", "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
    try:
        with pytest.raises(DatabaseUnusable, match="LATIN1"):
            await migrate_database(server.url("latin"))
        assert "ENCODING 'UTF8'" in await refusal(server.url("latin"))
    finally:
        await server.drop_database("latin")


@on_postgres
async def test_a_server_that_is_too_old_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = await url_of(tmp_path)
    monkeypatch.setattr(postgres, "OLDEST_SERVER", 990_000)
    assert "PostgreSQL 99 or newer is needed" in await refusal(url)


@on_postgres
async def test_a_server_that_does_not_write_through_is_named_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_database(await url_of(tmp_path)):
        pass
    assert "fsync=off" in caplog.text


async def test_a_replica_is_refused_until_it_is_promoted() -> None:
    """It answers, so that only the check at the start tells it from the primary."""
    with PostgresServer() as server:
        await server.create_database("fleet")
        await migrate_database(server.url("fleet"))
        async with (
            open_database(server.url("fleet")) as database,
            SqlLedgerStore(database).transaction() as transaction,
        ):
            transaction.book.decide(Quota("q-1", "visits", target=7))
        server.stop()
        (server.folder / "data" / "standby.signal").touch()
        server.start()
        said = await refusal(server.url("fleet"))
        assert "replica" in said
        assert "quota-server recover" in said
        with pytest.raises(DatabaseUnusable, match="replica"):
            await migrate_database(server.url("fleet"))
        await server.execute("postgres", "SELECT pg_promote()")
        async with open_database(server.url("fleet")) as database:
            store = SqlLedgerStore(database)
            assert await Recovery(store).begin(1) == 1
            async with store.transaction() as transaction:
                await transaction.load_quotas(["q-1"])
                assert transaction.book.quotas["q-1"].recovering


# --- encrypted -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PostgresServer, Path]]:
    """A server that takes nothing but TLS over TCP, and the certificate that it shows."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the program openssl to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-nodes", "-days", "2", "-subj", "/CN=ledger.example"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    server = PostgresServer()
    try:
        settings = {"ssl": "on", "ssl_key_file": "key.pem", "ssl_cert_file": "certificate.pem"}
        server.start()
        for file in (key, certificate):
            server.give(file.name, file.read_bytes())
        server.configure(settings)
        rules = "local all all trust\nhostssl all all 127.0.0.1/32 trust\n"
        server.give("pg_hba.conf", rules.encode())
        server.stop()
        server.start()
        yield server, certificate
    finally:
        server.close()


async def test_a_server_without_tls_is_refused_where_the_url_requires_it() -> None:
    server = await asyncio.to_thread(shared_server)
    assert "rejected SSL upgrade" in await refusal(server.url() + "?sslmode=require")


async def test_a_certificate_is_verified_where_the_url_says_so(
    encrypted: tuple[PostgresServer, Path],
) -> None:
    server, certificate = encrypted
    verified = f"?sslmode=verify-full&sslrootcert={quote(str(certificate))}"
    assert (await migrate_database(server.url() + verified)).stored is None
    for options in (verified, "?sslmode=require"):
        async with open_database(server.url() + options) as database:
            query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
            assert await database.read(ask, query) == {"ssl": True}
    assert "cannot be used" in await refusal(server.url() + "?sslmode=disable")
    assert "cannot be reached" in await refusal(f"{server.url()}?sslmode=verify-full&sslrootcert=/no/such")
    named = server.url().replace("127.0.0.1", "localhost") + verified
    assert "cannot be reached" in await refusal(named)
