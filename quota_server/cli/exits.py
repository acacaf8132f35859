"""How a command of `quotactl` ends: its exit code, and what it says to whoever ran it."""

from __future__ import annotations

import json
from typing import Final, NoReturn

import grpc
import typer
from rich.console import Console
from rich.text import Text

from quotafleet.errors import FIELD_INVALID, QuotafleetError

REFUSED: Final = 1
BAD_USAGE: Final = 2
UNREACHABLE: Final = 3

CODES_HELP: Final = (
    "Exit codes: 0 done, 1 refused by the controller (or failed), 2 bad usage (a bad field included), "
    "3 the controller cannot be reached. `rules validate` and `rules commit`: 1 rules are broken, 2 what was given "
    "is malformed. With --json an error is an object on standard output too."
)

#: The controller refused what it was given, not what it was asked to do.
_BAD_INPUT: Final = frozenset({"ENVELOPE_INVALID", "RECORDS_MALFORMED"})

#: What to do next, by reason.
_HINTS: Final = {
    "QUOTA_UNKNOWN": "check the name with `quotactl quota list`; a closed quota is named by its uid (--all shows it)",
    "QUOTA_EXISTS": "choose another name, or change that one with `quotactl quota update`",
    "QUOTA_CLOSED": "it never opens again: create another one; its name is free",
    "AGENT_UNKNOWN": "check the name with `quotactl agent list`",
    "AGENT_EXISTS": "choose another name; for a new credential of that agent use `quotactl agent settle`",
    "NOT_ASSIGNED": "give the agent a part in the quota with `quotactl agent assign`",
    "TARGET_BELOW_COUNT": "choose a target of at least the known count; `quotactl quota count` shows it",
    "TARGET_EXCEEDED": "choose less, or raise the quota's target first",
    "CONFIRMATION_NEEDED": "if that is what you want, say so with --confirm",
    "OVERRIDE_UNKNOWN": "check the id with `quotactl override list`",
    "OVERRIDE_DECIDED": "look at it with `quotactl override list`",
    "AGENT_FENCED": "the agent has begun a new epoch: let it ask again",
    "RECOVERY_STATE": "`quotactl recovery status` shows who is missing",
    "ETAG_MISMATCH": "look at the quota again, then decide again",
    "REQUEST_ID_REUSED": "run the command again",
    "RULES_VIOLATED": "nothing was stored: `quotactl rules validate` shows what is wrong",
    "DATA_CHANGED": "nothing was stored: somebody else has committed since; run the command again, to judge it anew",
    "ENVELOPE_INVALID": "nothing was stored: repair the envelope, then run the command again",
    "RECORDS_MALFORMED": "nothing was stored: `quotactl rules validate` shows what is malformed",
    "RECORD_UNKNOWN": "check kind and key with `quotactl rules records`; `--deleted` shows deleted ones",
    "STORE_UNAVAILABLE": "nothing was changed: see that the controller's database is up and has room, and try again",
}

_errors = Console(stderr=True, highlight=False, soft_wrap=True)


def tell(message: str, hint: str, *, as_json: bool = False, **details: object) -> None:
    """Says what is wrong and what to do next."""
    if as_json:
        typer.echo(json.dumps({"error": {"message": message, "hint": hint, **details}}))
    else:
        _errors.print(Text.assemble(("error: ", "bold red"), message))
        if hint:
            _errors.print(Text(f"  {hint}", "dim"))


def fail(message: str, hint: str, code: int, *, as_json: bool = False, **details: object) -> NoReturn:
    """Says what is wrong and what to do next, and leaves."""
    tell(message, hint, as_json=as_json, **details)
    raise typer.Exit(code)


def fail_with(error: QuotafleetError, server: str, *, as_json: bool) -> NoReturn:
    """Leaves because a call failed."""
    name = error.reason or error.code.name
    details = {"reason": name, "metadata": error.metadata}
    if not error.reason and error.code is grpc.StatusCode.DEADLINE_EXCEEDED:
        hint = "a change may have been made all the same: look before you run it again"
        fail(
            f"the controller at {server} did not answer in time",
            hint,
            UNREACHABLE,
            as_json=as_json,
            **details,
        )
    if unreachable(error):
        hint = "start it with `quota-server serve`, or name it with --server or QUOTAFLEET_SERVER"
        fail(f"no controller answers at {server}", hint, UNREACHABLE, as_json=as_json, **details)
    if error.reason == FIELD_INVALID:
        text = "; ".join(f"{path}: {problem}" for path, problem in error.fields) or error.message
        fields = [{"field": path, "problem": problem} for path, problem in error.fields]
        fail(f"{name}: {text}", "", BAD_USAGE, as_json=as_json, **details, fields=fields)
    code = BAD_USAGE if error.reason in _BAD_INPUT else REFUSED
    fail(f"{name}: {error.message}", _HINTS.get(error.reason, ""), code, as_json=as_json, **details)


def unreachable(error: QuotafleetError) -> bool:
    """Whether nobody answered, as opposed to somebody who refused."""
    return not error.reason and error.code in (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
    )
