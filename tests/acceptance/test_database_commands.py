"""`quota-server database`: what it says, to people and to programs, of both kinds of database."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from quota_server.cli.server import app
from quota_server.storage.migrating import migrate, newest_schema, schemas
from tests.databases import run_on
from tests.postgres_kit import shared_server
from tests.shell_kit import QUOTA_SERVER, Ran, run, serving

NEWEST = newest_schema()
OLDER = schemas()[0]
FSYNC = "this PostgreSQL server runs with fsync=off"
_numbers = itertools.count(1)


class Kind:
    """A database that the commands are pointed at."""

    def __init__(self, folder: Path, where: str | Path) -> None:
        self.folder = folder
        self.where = where

    def run(self, *arguments: str, database: str = "") -> Ran:
        """In this process: there are many of them, and a start takes longer than what they do."""
        options = ["--data-dir", str(self.folder / "data")]
        if database or isinstance(self.where, str):
            options += ["--database", database or str(self.where)]
        done = CliRunner().invoke(app, ["database", *arguments, *options])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return Ran(done.exit_code, done.stdout, done.stderr)

    def change(self, sql: str) -> None:
        """By somebody else's tool."""
        if isinstance(self.where, str):
            asyncio.run(shared_server().execute(self.where.rpartition("/")[2], sql))
        else:
            self.where.parent.mkdir(exist_ok=True)
            with closing(sqlite3.connect(self.where)) as tool, tool:
                tool.execute(sql)

    def migrate_to(self, version: str) -> None:
        if not isinstance(self.where, str):
            self.where.parent.mkdir(exist_ok=True)
        asyncio.run(run_on(self.where, migrate, version))


@contextmanager
def new_database() -> Iterator[str]:
    """An empty one of the PostgreSQL server: its URL."""
    name = f"commands_{next(_numbers)}"
    asyncio.run(shared_server().create_database(name))
    yield shared_server().url(name)
    asyncio.run(shared_server().drop_database(name))


@pytest.fixture(params=["sqlite", "postgresql"])
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kind]:
    """Nothing is there yet."""
    if request.param == "sqlite":
        yield Kind(tmp_path, tmp_path / "data" / "quotafleet.db")
    else:
        with new_database() as url:
            yield Kind(tmp_path, url)


def failure(ran: Ran, code: int = 1) -> str:
    """The one line that a command failed with; what the server is warned of may stand above it."""
    assert (ran.code, ran.out) == (code, "")
    said = [line for line in ran.err.splitlines() if FSYNC not in line]
    assert len(said) == 1, ran.err
    assert said[0].startswith("error: ")
    return said[0].removeprefix("error: ")


def checked(kind: Kind) -> dict[str, Any]:
    ran = kind.run("check", "--json")
    found: dict[str, Any] = ran.json
    assert ran.code == (0 if found["ready"] else 1)
    assert (found["problem"] == "") == found["ready"]
    return found


def test_a_database_is_made_checked_and_left_alone_by_the_next_migration(kind: Kind) -> None:
    assert kind.run("version").out == f"none (newest: {NEWEST})\n"
    assert kind.run("version", "--json").json == {"schema": None, "newest": NEWEST}
    missing = failure(kind.run("check"))
    assert (
        f"there is no {kind.where} yet" if isinstance(kind.where, Path) else "there is no schema in it"
    ) in missing
    assert "quota-server " in missing
    assert (checked(kind)["ready"], checked(kind)["schema"]) == (False, None)
    made = kind.run("migrate")
    assert (made.code, made.out) == (0, f"migrated from nothing to {NEWEST}\n")
    again = kind.run("migrate")
    assert (again.code, again.out) == (0, f"nothing to do: the schema is {NEWEST}\n")
    assert kind.run("migrate", "--json").json == {"before": NEWEST, "schema": NEWEST}
    ready = kind.run("check")
    assert (ready.code, ready.out) == (0, f"ready: the schema is {NEWEST}\n")
    assert checked(kind) == {"ready": True, "schema": NEWEST, "newest": NEWEST, "problem": ""}
    assert kind.run("version").out == f"{NEWEST} (newest: {NEWEST})\n"


def test_an_older_schema_is_named_with_what_to_do_and_migrated(kind: Kind) -> None:
    kind.migrate_to(OLDER)
    said = failure(kind.run("check"))
    assert f"its schema is {OLDER}, and {NEWEST} is needed" in said
    assert "run `quota-server database migrate`" in said
    assert checked(kind)["schema"] == OLDER
    assert kind.run("version", "--json").json == {"schema": OLDER, "newest": NEWEST}
    assert kind.run("migrate", "--json").json == {"before": OLDER, "schema": NEWEST}
    assert checked(kind)["ready"]


def test_a_newer_schema_is_left_alone(kind: Kind) -> None:
    kind.migrate_to("head")
    kind.change("UPDATE alembic_version SET version_num = '9999'")
    for command in ("check", "migrate"):
        assert failure(kind.run(command)) == (
            "a newer version has changed this database (schema 9999); install that version"
        )
    assert kind.run("version").out == f"9999 (newest: {NEWEST})\n"


def test_the_database_of_another_program_is_left_alone(kind: Kind) -> None:
    kind.change("CREATE TABLE songs (title text)")
    for command in ("check", "migrate"):
        assert failure(kind.run(command)) == "this is the database of another program"


# --- SQLite ----------------------------------------------------------------------------------------------------------


def test_looking_at_a_file_that_is_not_there_makes_nothing(tmp_path: Path) -> None:
    for command, code in (("version", 0), ("check", 1)):
        ran = run(*QUOTA_SERVER, "database", command, "--data-dir", "data", folder=tmp_path)
        assert ran.code == code
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_said(tmp_path: Path) -> None:
    kind = Kind(tmp_path, tmp_path / "data" / "quotafleet.db")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "quotafleet.db").write_bytes(b"no database at all, but long enough" * 100)
    for command in ("check", "migrate", "version"):
        assert "not a database" in failure(kind.run(command))


def test_what_a_controller_serves_from_is_looked_at_and_not_migrated(tmp_path: Path) -> None:
    kind = Kind(tmp_path, tmp_path / "data" / "quotafleet.db")
    with serving(tmp_path):
        assert checked(kind)["ready"]
        assert "belongs to another running controller" in failure(kind.run("migrate"))


def test_sqlite_has_no_roles_to_grant_to(tmp_path: Path) -> None:
    kind = Kind(tmp_path, tmp_path / "data" / "quotafleet.db")
    assert "SQLite has no roles" in failure(kind.run("migrate", "--service-role", "fleet"))


def test_a_database_is_named_by_path_or_url_too(tmp_path: Path) -> None:
    kind = Kind(tmp_path, tmp_path / "data" / "quotafleet.db")
    for where in (f"{tmp_path}/other.db", f"sqlite:///{tmp_path}/third.db"):
        assert kind.run("migrate", database=where).code == 0
    assert {"other.db", "third.db"} <= {file.name for file in tmp_path.iterdir()}


# --- PostgreSQL ------------------------------------------------------------------------------------------------------


def test_a_controller_serves_postgresql_as_the_role_that_was_granted(tmp_path: Path) -> None:
    with new_database() as url:
        asyncio.run(shared_server().execute("postgres", "CREATE ROLE fleet LOGIN"))
        kind = Kind(tmp_path, url)
        as_service = url.replace("postgres@", "fleet@")
        refused = run(
            *QUOTA_SERVER, "serve", "--listen", "127.0.0.1:0", folder=tmp_path, QUOTAFLEET_DATABASE=as_service
        )
        assert "run `quota-server database migrate`" in failure(refused)
        assert kind.run("migrate").code == 0
        for command in ("check", "migrate"):  # nobody has granted anything to it
            assert "--service-role ROLE" in failure(kind.run(command, database=as_service))
        assert kind.run("migrate", "--service-role", "fleet").code == 0
        assert kind.run("check", database=as_service).code == 0
        assert "the tables belong to 'postgres', who alone can grant" in failure(
            kind.run("migrate", "--service-role", "fleet", database=as_service)
        )
        with serving(tmp_path, QUOTAFLEET_DATABASE=as_service):
            assert checked(kind)["ready"]
        asyncio.run(shared_server().execute(url.rpartition("/")[2], "DROP OWNED BY fleet; DROP ROLE fleet"))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://fleet:hush@127.0.0.1:1/db", "cannot be reached"),
        ("postgresql://fleet:hush@127.0.0.1:1/db?pool_size=0", "pool_size: must be a number from 2 to 1000"),
        ("postgresql://fleet:hu#sh@127.0.0.1/db", "cannot be read"),
        ("mysql://fleet:hush@127.0.0.1/db", "SQLite or PostgreSQL, not in 'mysql'"),
    ],
)
def test_what_cannot_be_connected_to_is_said_in_a_line_without_the_password(
    tmp_path: Path, url: str, said: str
) -> None:
    for command in ("migrate", "check", "version"):
        ran = Kind(tmp_path, url).run(command)
        assert said in failure(ran)
        assert "hu" not in ran.err.replace("must", "")
        told = Kind(tmp_path, url).run(command, "--json")
        assert told.code == ran.code
        assert not told.json["ready"]
        assert said in told.json["problem"]
        assert "hu" not in told.out.replace("must", "")


def test_the_commands_say_what_they_do(tmp_path: Path) -> None:
    shown = run(*QUOTA_SERVER, "database", "--help", folder=tmp_path)
    assert shown.code == 0
    for command in ("migrate", "check", "version"):
        assert command in shown.out
    assert Kind(tmp_path, "").run("destroy").code == 2
