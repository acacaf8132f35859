"""`quota-server`: run the controller, and declare that its database was restored."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import time
from importlib.metadata import version as version_of
from typing import Annotated, Final

import typer

# gRPC's own chatter would stand between the log's lines.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from quota_server.cli import database as database_commands
from quota_server.cli.server_options import (
    BAD_USAGE,
    DEFAULT_DATA_DIR,
    FAILED,
    DatabaseOption,
    DataDirOption,
    config_of,
    fail,
)
from quota_server.config import DEFAULT_HEARTBEAT_MS, DEFAULT_LISTEN, ConfigInvalid
from quota_server.errors import QuotaServerError

LEVELS: Final = ("debug", "info", "warning", "error")

app = typer.Typer(
    name="quota-server",
    help="The controller of a Quotafleet: holds quotas, shares them out over agents, and serves operators.",
    epilog="Exit codes: 0 done, 1 cannot serve or has failed, 2 bad usage.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(database_commands.app, name="database")


class _OneLine(logging.Formatter):
    """Time in UTC, level, logger, message; a traceback is folded into the line."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).replace("\n", "\\n")


@app.command()
def serve(
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    database: DatabaseOption = None,
    listen: Annotated[
        str,
        typer.Option(
            "--listen", metavar="HOST:PORT", help="On the loopback interface; port 0 lets the system choose."
        ),
    ] = DEFAULT_LISTEN,
    heartbeat: Annotated[
        float,
        typer.Option(
            "--heartbeat",
            metavar="SECONDS",
            help="Agents report at least this often; silent for two, they are gone.",
        ),
    ] = DEFAULT_HEARTBEAT_MS / 1000,
    gather: Annotated[
        float | None,
        typer.Option(
            "--gather",
            metavar="SECONDS",
            help="What agents say within this time is written together; 0.02 on PostgreSQL, 0 on SQLite.",
            show_default=False,
        ),
    ] = None,
    log_level: Annotated[str, typer.Option("--log-level", help=f"One of {', '.join(LEVELS)}.")] = "info",
) -> None:
    """Serve until SIGTERM or SIGINT; logs to stderr, one event a line, and says when it is ready."""
    if log_level not in LEVELS:
        raise typer.BadParameter(f"must be one of {', '.join(LEVELS)}", param_hint="--log-level")
    config = config_of(
        data_dir,
        database=database,
        listen=listen,
        heartbeat_ms=_milliseconds("--heartbeat", heartbeat),
        gather_ms=None if gather is None else _milliseconds("--gather", gather),
    )
    _refuse_taken(listen)
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine())
    logging.basicConfig(level=log_level.upper(), handlers=[handler], force=True)
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it logs every step of opening a database
    from quota_server import app as controller  # the other commands start without it

    try:
        asyncio.run(controller.serve(config))
    except ConfigInvalid as invalid:
        fail(str(invalid), BAD_USAGE)
    except QuotaServerError as error:
        fail(str(error), FAILED)
    except OSError as error:
        fail(f"cannot use the data folder {data_dir}: {error.strerror or error}", FAILED)


@app.command()
def recover(
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    database: DatabaseOption = None,
    yes: Annotated[
        bool, typer.Option("--yes", metavar="", help="The database was put back to an older state.")
    ] = False,
) -> None:
    """Declare, with every controller stopped, that the database was restored from a backup, or is a promoted replica.

    Every quota then recovers: no limit grows until all agents are heard and an operator has finished the recovery.
    """
    config = config_of(data_dir, database=database)
    if not database and not config.database_file.is_file():
        fail(f"there is no database in {data_dir}: name its folder with --data-dir", BAD_USAGE)
    what = "the database that --database names" if database else f"the database in {data_dir}"
    if not yes:
        fail(
            f"this declares that {what} was put back to an older state, and stops the growth of every limit until "
            "all agents are heard; if so, say --yes",
            BAD_USAGE,
        )
    from quota_server import app as controller

    try:
        generation = asyncio.run(controller.declare_restored(config))
    except QuotaServerError as error:
        fail(str(error), FAILED)
    typer.echo(f"{what} is declared restored: generation {generation}, every quota recovers")
    typer.echo("next:")
    typer.echo(f"  quota-server serve --data-dir {data_dir}" + (" --database URL" if database else ""))
    typer.echo("  quotactl recovery status            who has yet to be heard; settle those that are lost")
    typer.echo("  make again every agent, quota and assignment made since the backup")
    typer.echo("  quotactl recovery finish --confirm  limits grow again")


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(version_of("quotafleet"))


def _milliseconds(option: str, seconds: float) -> int:
    try:
        return round(seconds * 1000)
    except (OverflowError, ValueError):
        fail(f"{option}: must be a number of seconds", BAD_USAGE)


def _refuse_taken(listen: str) -> None:
    """Before a data folder is made: leaves if another program listens there."""
    host, _, port = listen.rpartition(":")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), int(port)))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                fail(f"--listen {listen}: the port cannot be had; is it in use?", BAD_USAGE)


if __name__ == "__main__":
    app()
