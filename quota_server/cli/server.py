"""`quota-server`: run the controller, and declare that its database was restored."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import time
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer
from rich.console import Console
from rich.text import Text

# gRPC's own chatter would stand between the log's lines.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from quota_server.config import DEFAULT_HEARTBEAT_MS, DEFAULT_LISTEN, ConfigInvalid, ServerConfig
from quota_server.errors import QuotaServerError

DATA_DIR_VARIABLE: Final = "QUOTAFLEET_DATA_DIR"
LEVELS: Final = ("debug", "info", "warning", "error")
_FAILED: Final = 1
_BAD_USAGE: Final = 2

app = typer.Typer(
    name="quota-server",
    help="The controller of a Quotafleet: holds quotas, shares them out over agents, and serves operators.",
    epilog="Exit codes: 0 done, 1 cannot serve or has failed, 2 bad usage.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

DataDirOption = Annotated[
    Path,
    typer.Option(
        "--data-dir", metavar="DIR", envvar=DATA_DIR_VARIABLE, help="Where database and master key are."
    ),
]
DEFAULT_DATA_DIR: Final = Path("quotafleet-data")

_errors = Console(stderr=True, highlight=False, soft_wrap=True)


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
    log_level: Annotated[str, typer.Option("--log-level", help=f"One of {', '.join(LEVELS)}.")] = "info",
) -> None:
    """Serve until SIGTERM or SIGINT; logs to stderr, one event a line, and says when it is ready."""
    if log_level not in LEVELS:
        raise typer.BadParameter(f"must be one of {', '.join(LEVELS)}", param_hint="--log-level")
    config = _config(data_dir, listen, heartbeat)
    _refuse_taken(listen)
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine())
    logging.basicConfig(level=log_level.upper(), handlers=[handler], force=True)
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it logs every step of opening a database
    from quota_server import app as controller  # the other commands start without it

    try:
        asyncio.run(controller.serve(config))
    except ConfigInvalid as invalid:
        _fail(str(invalid), _BAD_USAGE)
    except QuotaServerError as error:
        _fail(str(error), _FAILED)
    except OSError as error:
        _fail(f"cannot use the data folder {data_dir}: {error.strerror or error}", _FAILED)


@app.command()
def recover(
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    yes: Annotated[
        bool,
        typer.Option("--yes", metavar="", help="The database in this folder was put back to an older state."),
    ] = False,
) -> None:
    """Declare, with the controller stopped, that its database was restored from a backup.

    Every quota then recovers: no limit grows until all agents are heard and an operator has finished the recovery.
    """
    config = _config(data_dir, DEFAULT_LISTEN, DEFAULT_HEARTBEAT_MS / 1000)
    if not config.database_file.is_file():
        _fail(f"there is no database in {data_dir}: name its folder with --data-dir", _BAD_USAGE)
    if not yes:
        _fail(
            f"this declares that the database in {data_dir} was put back to an older state, and stops the growth of "
            "every limit until all agents are heard; if so, say --yes",
            _BAD_USAGE,
        )
    from quota_server import app as controller

    try:
        generation = asyncio.run(controller.declare_restored(config))
    except QuotaServerError as error:
        _fail(str(error), _FAILED)
    typer.echo(
        f"the database in {data_dir} is declared restored: generation {generation}, every quota recovers"
    )
    typer.echo("next:")
    typer.echo(f"  quota-server serve --data-dir {data_dir}")
    typer.echo("  quotactl recovery status            who has yet to be heard; settle those that are lost")
    typer.echo("  make again every agent, quota and assignment made since the backup")
    typer.echo("  quotactl recovery finish --confirm  limits grow again")


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(version_of("quotafleet"))


def _config(data_dir: Path, listen: str, heartbeat: float) -> ServerConfig:
    try:
        return ServerConfig(data_dir, listen, round(heartbeat * 1000))
    except (ConfigInvalid, OverflowError, ValueError) as invalid:
        _fail(str(invalid), _BAD_USAGE)


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
                _fail(f"--listen {listen}: the port cannot be had; is it in use?", _BAD_USAGE)


def _fail(message: str, code: int) -> NoReturn:
    _errors.print(Text.assemble(("error: ", "bold red"), message))
    raise typer.Exit(code)


if __name__ == "__main__":
    app()
