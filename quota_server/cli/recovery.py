"""`quotactl recovery`: after the controller's database was restored from a backup."""

from __future__ import annotations

from typing import Annotated

import typer

from quota_server.cli import options as o
from quota_server.cli.output import Cell, print_json, print_table, say
from quota_server.cli.session import Session
from quotafleet.v1 import agent_admin_service_pb2 as pb

app = typer.Typer(
    help="Recovery after the controller's database was restored from a backup.", no_args_is_help=True
)

_PAGE = 1_000


@app.command()
def status(context: typer.Context, as_json: o.JsonOption = False) -> None:
    """Show whether quotas are recovering, and who has yet to be heard."""
    session = Session(context, as_json)
    found = pb.GetRecoveryResponse()
    for page in session.pages(session.agents.GetRecovery, pb.GetRecoveryRequest(page_size=_PAGE)):
        found.unheard.extend(page.unheard)
        found.recovering, found.generation = page.recovering, page.generation
    if session.as_json:
        print_json(found)
        return
    if not found.recovering:
        say(f"not recovering (generation {found.generation})", "green")
        return
    say(f"recovering (generation {found.generation}): no limit grows", "bold red")
    rows: list[list[Cell]] = [
        [each.agent, str(each.epoch), str(each.known_exposure)] for each in found.unheard
    ]
    columns = ("agent", "epoch>", "known exposure (smallest units)>")
    print_table(columns, rows, "every enrolment is heard or settled")
    if found.unheard:
        say("wait for them, or give them up with `quotactl agent settle`", "dim")
    else:
        say("make again what was made since the backup, then `quotactl recovery finish --confirm`", "dim")


@app.command()
def finish(
    context: typer.Context,
    confirm: Annotated[
        bool,
        typer.Option(
            "--confirm",
            metavar="",
            help="Every agent, quota and assignment made since the backup has been made again.",
        ),
    ] = False,
    reason: o.ReasonOption = "",
    as_json: o.JsonOption = False,
) -> None:
    """End the recovery: limits grow again. Every enrolment has to be heard or settled."""
    session = Session(context, as_json)
    request = pb.FinishRecoveryRequest(confirm=confirm, reason=reason)
    answer = session.call(session.agents.FinishRecovery, request)
    if session.as_json:
        print_json(answer)
    else:
        quotas = "1 quota" if answer.quotas == 1 else f"{answer.quotas} quotas"
        say(f"the recovery of {quotas} has ended: limits grow again", "green")
