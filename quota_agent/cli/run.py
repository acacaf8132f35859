"""`quota-agent run`."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import re
from pathlib import Path
from typing import Annotated, Final

import typer

from quota_agent.cli import exits, logs
from quota_agent.config import SOCKET_NAME, SOCKET_VARIABLE, Config, default_data_dir, read_credential
from quota_agent.errors import AgentError

_target: Final = re.compile(r"(?P<host>[A-Za-z0-9._-]+|\[[0-9a-fA-F:.]+\]):(?P<port>[0-9]{1,5})").fullmatch


def run(
    credential: Annotated[
        Path,
        typer.Option(
            metavar="FILE", help="Credential that `quotactl agent add` wrote; only its owner may read it."
        ),
    ],
    controller: Annotated[
        list[str],
        typer.Option(metavar="HOST:PORT", help="A controller. Repeat it for others: they are tried in turn."),
    ],
    data_dir: Annotated[
        Path,
        typer.Option(
            default_factory=default_data_dir,
            show_default="for this user",
            help="Folder of the durable store.",
        ),
    ],
    socket: Annotated[
        Path | None,
        typer.Option(
            envvar=SOCKET_VARIABLE,
            help=f"Unix socket to serve on. Default: {SOCKET_NAME} in the data folder.",
        ),
    ] = None,
    listen: Annotated[
        str | None,
        typer.Option(metavar="127.0.0.1:PORT", help="Serve on loopback too: to every user of this machine."),
    ] = None,
    reset_clock: Annotated[
        bool,
        typer.Option(
            "--reset-clock",
            metavar="",
            help="The clock is right now, although the store has seen a later time. For one run.",
        ),
    ] = False,
    insecure: Annotated[
        bool,
        typer.Option(
            "--insecure",
            metavar="",
            help="Send the token in the clear to controllers that are not on this machine.",
        ),
    ] = False,
    grace: Annotated[
        float, typer.Option(min=0, max=600, help="Seconds that calls have to finish at the end.")
    ] = 15.0,
    log_level: Annotated[str, typer.Option(help=f"One of {', '.join(logs.LEVELS)}.")] = "info",
) -> None:
    """Run the agent until SIGTERM; it logs to stderr, one event a line, and says when it is ready."""
    if log_level not in logs.LEVELS:
        raise typer.BadParameter(f"must be one of {', '.join(logs.LEVELS)}", param_hint="--log-level")
    for target in controller:
        _check_controller(target, insecure)
    logs.begin(log_level)
    try:
        config = Config(
            data_dir=data_dir,
            credential=read_credential(credential),
            controllers=tuple(controller),
            socket=socket or data_dir / SOCKET_NAME,
            listen=listen,
            reset_clock=f"quota-agent run --reset-clock, by uid {os.getuid()}" if reset_clock else None,
            grace_seconds=grace,
        )
        _run(config)
    except AgentError as error:
        exits.fail(str(error), "", exits.REFUSED)


def _run(config: Config) -> None:
    from quota_agent import app  # the other commands need none of it

    try:
        asyncio.run(app.run(config))
    except OSError as error:
        problem = f"cannot use the data folder {config.data_dir}: {error.strerror or error}"
        exits.fail(problem, "", exits.REFUSED)


def _check_controller(target: str, insecure: bool) -> None:
    match = _target(target)
    if match is None or not 0 < int(match["port"]) <= 65_535:
        raise typer.BadParameter(f"{target!r} is no HOST:PORT", param_hint="--controller")
    if not insecure and not _on_this_machine(match["host"].strip("[]")):
        raise typer.BadParameter(
            f"{target!r} is not on this machine, and the token would travel in the clear: use a tunnel, or --insecure",
            param_hint="--controller",
        )


def _on_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
