"""Options and arguments that several commands share, and how their text is read."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Final

import typer
from google.protobuf.duration_pb2 import Duration

from quota_agent.config import SOCKET_VARIABLE, default_socket

_duration: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)?").fullmatch
_NANOS: Final = {"ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
#: More would not fit a protobuf Duration; the agent refuses far less.
_MOST_NANOS: Final = 10**9 * 3600 * 24 * 365 * 1000

SocketOption = Annotated[
    Path,
    typer.Option(
        "--socket",
        envvar=SOCKET_VARIABLE,
        default_factory=default_socket,
        show_default="in the default data folder",
        help="Unix socket of the agent.",
    ),
]
JsonOption = Annotated[
    bool,
    typer.Option(
        "--json",
        metavar="",
        help="Answer with one line of JSON, errors included. Its amounts are integers of the quota's smallest unit.",
    ),
]
QuotaArgument = Annotated[str, typer.Argument(metavar="QUOTA", help="Name of the quota.")]
RequestIdArgument = Annotated[
    str | None,
    typer.Argument(metavar="REQUEST_ID", help="The id given to acquire; or say it with --request-id."),
]
RequestIdOption = Annotated[
    str | None, typer.Option("--request-id", metavar="ID", help="The same as the argument REQUEST_ID.")
]


def one_request_id(argument: str | None, option: str | None) -> str:
    """The request id, given in either way."""
    if argument is not None and option is not None and argument != option:
        raise typer.BadParameter("is given twice, and not the same", param_hint="REQUEST_ID")
    found = option if argument is None else argument
    if found is None:
        raise typer.BadParameter("is needed, as an argument or with --request-id", param_hint="REQUEST_ID")
    return found


def duration(text: str) -> Duration:
    """A length of time, as in 90, 90s, 1.5m, 2h or 250ms."""
    match = _duration(text)
    if match is None:
        raise typer.BadParameter(f"{text!r} is no length of time; write it as in 90s, 1.5m, 2h or 250ms")
    nanos = int(Decimal(match[1]) * _NANOS[match[2] or "s"])
    if nanos > _MOST_NANOS:
        raise typer.BadParameter("too long")
    return Duration(seconds=nanos // 10**9, nanos=nanos % 10**9)


def labels(pairs: list[str]) -> dict[str, str]:
    """Labels out of KEY=VALUE texts."""
    found: dict[str, str] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise typer.BadParameter(f"{pair!r} is no label; write it as KEY=VALUE")
        if key in found:
            raise typer.BadParameter(f"the label {key!r} is given twice")
        found[key] = value
    return found


def decimal(units: int, decimals: int) -> str:
    """Smallest units as people write them: 12345 with 3 decimals is 12.345."""
    if decimals == 0:
        return str(units)
    sign, digits = "-" if units < 0 else "", str(abs(units)).rjust(decimals + 1, "0")
    return f"{sign}{digits[:-decimals]}.{digits[-decimals:]}"
