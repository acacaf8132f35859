"""How a command ends: its exit code, and what it says to whoever ran it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final, NoReturn

import grpc
import typer
from rich.console import Console
from rich.text import Text

from quotafleet.errors import FIELD_INVALID, QuotafleetError

GRANTED: Final = 0
REFUSED: Final = 1
BAD_USAGE: Final = 2
UNREACHABLE: Final = 3

CODES_HELP: Final = "Exit codes: 0 granted or done, 1 refused, 2 bad usage, 3 the agent cannot be reached."

#: What to do next, by reason.
_HINTS: Final = {
    "QUOTA_REACHED": "release something, wait for more with --max-wait, or ask with `quota-agent override request`",
    "QUOTA_NOT_STARTED": "wait until the period begins",
    "QUOTA_EXPIRED": "the period is over: use the quota of the present one",
    "QUOTA_SUSPENDED": "ask an operator to resume it",
    "QUOTA_CLOSED": "it never opens again: use another quota",
    "OFFLINE_TOO_LONG": "bring the agent back to its controller; `quota-agent status` shows the link",
    "AGENT_FENCED": "enrol this agent again and start it with the new credential",
    "AGENT_INACTIVE": "ask an operator to switch the agent on",
    "CLOCK_WENT_BACK": "set the clock right; if it is right now, restart the agent once with --reset-clock",
    "NOT_ENROLLED": "the agent needs its controller once; `quota-agent status` shows the link",
    "NOT_ASSIGNED": "check the name with `quota-agent status`, or have the quota assigned to this agent",
    "HOLD_EXPIRED": "acquire again under another request id",
    "ENTRY_ENDED": "acquire again under another request id",
    "ENTRY_UNKNOWN": "check quota and request id with `quota-agent entries`",
    "OVERRIDE_UNKNOWN": "`quota-agent status` shows the overrides that can be spent",
    "OVERRIDE_DECIDED": "it pays once and never again: ask for another with `quota-agent override request`",
    "REQUEST_ID_REUSED": "use another request id for another request",
    "STORE_UNAVAILABLE": "make room on the agent's disk, then repeat with the same request id",
}

_errors = Console(stderr=True, highlight=False, soft_wrap=True)


def fail(message: str, hint: str, code: int, *, as_json: bool = False, **details: object) -> NoReturn:
    """Say what is wrong and what to do next, and leave."""
    if as_json:
        print_error(message, hint, **details)
    else:
        _errors.print(Text.assemble(("error: ", "bold red"), message))
        if hint:
            _errors.print(Text(f"  {hint}", "dim"))
    raise typer.Exit(code)


def print_error(message: str, hint: str, **details: object) -> None:
    """Say on stdout, as JSON, what is wrong."""
    typer.echo(json.dumps({"error": {"message": message, "hint": hint, **details}}))


def fail_with(error: QuotafleetError, socket: Path, *, as_json: bool) -> NoReturn:
    """Leave because a call to the agent failed."""
    if not error.reason and error.code in (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
    ):
        fail(
            f"no agent answers at {socket}",
            "start one with `quota-agent run`, or name its socket with --socket or QUOTA_AGENT_SOCKET",
            UNREACHABLE,
            as_json=as_json,
            reason=error.code.name,
        )
    message = error.message
    if error.fields:
        message = "; ".join(f"{path}: {problem}" for path, problem in error.fields)
    fail(
        f"{error.reason or error.code.name}: {message}",
        _HINTS.get(error.reason, ""),
        BAD_USAGE if error.reason == FIELD_INVALID else REFUSED,
        as_json=as_json,
        reason=error.reason or error.code.name,
        metadata=error.metadata,
    )
