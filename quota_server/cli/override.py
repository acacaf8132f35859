"""`quotactl override`: permission to spend beyond a limit."""

from __future__ import annotations

import enum
from collections.abc import Collection
from typing import Annotated

import typer
from rich.text import Text

from quota_server.cli import amounts, exits, times
from quota_server.cli import options as o
from quota_server.cli.output import Cell, enum_name, print_json, print_table, say
from quota_server.cli.session import Session
from quotafleet.v1 import agent_link_service_pb2 as link_pb
from quotafleet.v1 import quota_service_pb2 as pb

app = typer.Typer(
    help="Overrides: permission to spend an amount, once, beyond the limit.", no_args_is_help=True
)

_PAGE = 1_000
#: Of a whole id.
_ID_CHARS = 36
_CANDIDATES = 10


class StateName(enum.StrEnum):
    """Where an override stands."""

    PENDING = "pending"
    DENIED = "denied"
    FROM_RESERVE = "from-reserve"
    APPROVED = "approved"
    USED = "used"
    DEAD = "dead"

    @property
    def number(self) -> link_pb.OverrideState.ValueType:
        """As the proto has it."""
        return link_pb.OverrideState.Value(f"OVERRIDE_STATE_{self.name}")


IdArgument = Annotated[
    str,
    typer.Argument(metavar="ID", help="Id of the override, or as many of its first characters as name it."),
]


@app.command()
def request(
    context: typer.Context,
    quota: o.QuotaArgument,
    agent: o.AgentArgument,
    amount: o.AmountArgument,
    reason: o.ReasonOption = "",
    as_json: o.JsonOption = False,
) -> None:
    """Ask for an override on an agent's behalf; the quota's override policy answers."""
    session = Session(context, as_json)
    known = session.quota(quota)
    units = amounts.parse(amount, known.decimals, "AMOUNT")
    wish = pb.RequestOverrideRequest(quota=known.uid, agent=agent, amount=units, reason=reason)
    _print(session, session.call(session.quotas.RequestOverride, wish))


@app.command("list")
def list_(
    context: typer.Context,
    quota: Annotated[str, typer.Option("--quota", help="Only of this quota, by name or uid.")] = "",
    agent: Annotated[str, typer.Option("--agent", help="Only of this agent, by name or uid.")] = "",
    state: Annotated[
        list[StateName] | None, typer.Option("--state", help="Only in this state; repeat for several.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1_000_000, help="Show at most so many.")] = 100,
    as_json: o.JsonOption = False,
) -> None:
    """List overrides, newest first."""
    session = Session(context, as_json)
    wish = pb.ListOverridesRequest(quota=quota, agent=agent, states=[each.number for each in state or []])
    found = _list(session, wish, limit)
    if session.as_json:
        print_json(found)
        return
    _print_table(session, found.overrides)
    if found.next_page_token:
        say(f"there are more than {limit}: use --limit", "dim")


@app.command()
def approve(
    context: typer.Context,
    override_id: IdArgument,
    reason: o.ReasonOption = "",
    as_json: o.JsonOption = False,
) -> None:
    """Let the agent spend it, once, beyond the quota's target."""
    _decide(Session(context, as_json), override_id, pb.DECISION_APPROVE, reason)


@app.command()
def deny(
    context: typer.Context,
    override_id: IdArgument,
    reason: o.ReasonOption = "",
    as_json: o.JsonOption = False,
) -> None:
    """Say no."""
    _decide(Session(context, as_json), override_id, pb.DECISION_DENY, reason)


@app.command()
def revoke(
    context: typer.Context,
    override_id: IdArgument,
    reason: o.ReasonOption = "",
    as_json: o.JsonOption = False,
) -> None:
    """Ask the agent to close an approved one; it counts until the agent reports it closed unspent."""
    session = Session(context, as_json)
    wish = pb.RevokeOverrideRequest(override_id=_whole_id(session, override_id), reason=reason)
    _print(session, session.call(session.quotas.RevokeOverride, wish))


def _list(session: Session, wish: pb.ListOverridesRequest, limit: int | None) -> pb.ListOverridesResponse:
    found = pb.ListOverridesResponse()
    wish.page_size = _PAGE if limit is None else min(_PAGE, limit)
    for page in session.pages(session.quotas.ListOverrides, wish):
        found.overrides.extend(page.overrides)
        found.next_page_token = page.next_page_token
        if limit is not None:
            if len(found.overrides) >= limit:
                break
            wish.page_size = min(_PAGE, limit - len(found.overrides))
    return found


def _whole_id(session: Session, given: str) -> str:
    """The id that begins like this; what names none goes to the controller as it is, which says so."""
    if not given or len(given) >= _ID_CHARS:
        return given
    every = _list(session, pb.ListOverridesRequest(), None).overrides
    ids = [each.override_id for each in every if each.override_id.startswith(given)]
    if given in ids or not ids:
        return given
    if len(ids) > 1:
        names = ", ".join(ids[:_CANDIDATES]) + (", ..." if len(ids) > _CANDIDATES else "")
        message = f"{len(ids)} overrides have ids that begin with {given!r}: {names}"
        exits.fail(message, "give more of it", exits.BAD_USAGE, as_json=session.as_json)
    return ids[0]


def _decide(session: Session, override_id: str, decision: pb.Decision.ValueType, reason: str) -> None:
    whole = _whole_id(session, override_id)
    wish = pb.DecideOverrideRequest(override_id=whole, decision=decision, reason=reason)
    _print(session, session.call(session.quotas.DecideOverride, wish))


Answer = pb.RequestOverrideResponse | pb.DecideOverrideResponse | pb.RevokeOverrideResponse


def _print(session: Session, answer: Answer) -> None:
    if session.as_json:
        print_json(answer)
        return
    _print_table(session, [answer.override])
    if answer.override.state == link_pb.OVERRIDE_STATE_PENDING:
        say(f"decide it with `quotactl override approve {answer.override.override_id}`, or deny", "dim")


def _print_table(session: Session, overrides: Collection[pb.Override]) -> None:
    decimals = {
        uid: session.quota(uid).decimals for uid in dict.fromkeys(each.quota_uid for each in overrides)
    }
    rows: list[list[Cell]] = [
        [
            each.override_id,
            each.quota,
            each.agent,
            amounts.shown(each.amount, decimals[each.quota_uid]),
            amounts.shown(each.spent, decimals[each.quota_uid]),
            _state(each),
            times.shown(each.create_time),
            each.reason or "-",
            _decision(each),
        ]
        for each in overrides
    ]
    columns = ("id", "quota", "agent", "amount>", "spent>", "state", "asked for", "why~", "decided~")
    print_table(columns, rows, "no overrides")


def _state(override: pb.Override) -> Text:
    name = enum_name(link_pb.OverrideState.DESCRIPTOR, override.state)
    style = "yellow" if override.state == link_pb.OVERRIDE_STATE_PENDING else ""
    return Text(f"{name} revoked" if override.revoked else name, style)


def _decision(override: pb.Override) -> str:
    if not override.HasField("decide_time"):
        return "-"
    who = override.decided_by or "by the policy"
    return f"{who}: {override.decision_reason}" if override.decision_reason else who
