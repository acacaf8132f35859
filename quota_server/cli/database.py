"""`quota-server database`: the schema of the controller's database."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from quota_server.cli.server_options import (
    DEFAULT_DATA_DIR,
    FAILED,
    DatabaseOption,
    DataDirOption,
    config_of,
    fail,
)
from quota_server.errors import QuotaServerError

if TYPE_CHECKING:
    from quota_server.app import Schema

app = typer.Typer(
    help="The schema of the controller's database: migrate it, check it, say which it is.",
    no_args_is_help=True,
)

JsonOption = Annotated[bool, typer.Option("--json", metavar="", help="Print one JSON object instead.")]

_out = Console(highlight=False, soft_wrap=True)


@app.command()
def migrate(
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    database: DatabaseOption = None,
    service_role: Annotated[
        str,
        typer.Option(
            "--service-role",
            metavar="ROLE",
            help="PostgreSQL: grant this role what controllers need, and nothing else.",
        ),
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Bring the database to the schema of this version, as its owner and with no controller running."""
    from quota_server import app as controller

    config = config_of(data_dir, database=database)
    try:
        schema = asyncio.run(controller.migrate_database(config.where, service_role))
    except QuotaServerError as error:
        _fail(str(error), as_json=as_json)
    if as_json:
        typer.echo(json.dumps({"before": schema.stored, "schema": schema.newest}))
        return
    if schema.stored == schema.newest:
        _out.print(Text(f"nothing to do: the schema is {schema.newest}", "green"))
    else:
        _out.print(Text(f"migrated from {schema.stored or 'nothing'} to {schema.newest}", "green"))
    if service_role:
        _out.print(Text(f"{service_role} may do what controllers need", "green"))


@app.command()
def check(
    data_dir: DataDirOption = DEFAULT_DATA_DIR, database: DatabaseOption = None, as_json: JsonOption = False
) -> None:
    """Say whether this version can serve from the database: exit code 0 if so, 1 if not."""
    schema = _look(data_dir, database, as_json=as_json)
    if as_json:
        found = {"ready": not schema.problem, "schema": schema.stored, "newest": schema.newest}
        typer.echo(json.dumps({**found, "problem": schema.problem}))
        raise typer.Exit(FAILED if schema.problem else 0)
    if schema.problem:
        _fail(schema.problem)
    _out.print(Text(f"ready: the schema is {schema.stored}", "green"))


@app.command()
def version(
    data_dir: DataDirOption = DEFAULT_DATA_DIR, database: DatabaseOption = None, as_json: JsonOption = False
) -> None:
    """Print the schema of the database, and the newest that this version knows."""
    schema = _look(data_dir, database, as_json=as_json)
    if as_json:
        typer.echo(json.dumps({"schema": schema.stored, "newest": schema.newest}))
    else:
        typer.echo(f"{schema.stored or 'none'} (newest: {schema.newest})")


def _look(data_dir: Path, database: str | None, *, as_json: bool) -> Schema:
    from quota_server import app as controller

    config = config_of(data_dir, database=database)
    try:
        return asyncio.run(controller.look_at_database(config.where))
    except QuotaServerError as error:
        _fail(str(error), as_json=as_json)


def _fail(problem: str, *, as_json: bool = False) -> NoReturn:
    """Says what is wrong, to programs in the form that they read, and leaves."""
    if as_json:
        typer.echo(json.dumps({"ready": False, "problem": problem}))
        raise typer.Exit(FAILED)
    fail(problem, FAILED)
