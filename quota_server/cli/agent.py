"""`quotactl agent`: agents and their parts in quotas."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer
from rich.text import Text

from quota_server.cli import amounts, exits, times, views
from quota_server.cli import options as o
from quota_server.cli.credentials import (
    CredentialOption,
    ForceOption,
    NextCredentialOption,
    credential_file,
    without_token,
)
from quota_server.cli.output import Cell, print_facts, print_json, print_table, say
from quota_server.cli.session import Session
from quotafleet.v1 import agent_admin_service_pb2 as pb

app = typer.Typer(help="Agents: they enforce their part of a quota on their machine.", no_args_is_help=True)

_PAGE = 1_000


@app.command()
def add(
    context: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Lower case letters, digits and . _ - (63 at most).")
    ],
    credential: CredentialOption = None,
    force: ForceOption = False,
    inactive: Annotated[bool, typer.Option("--inactive", metavar="", help="Begin switched off.")] = False,
    as_json: o.JsonOption = False,
) -> None:
    """Enrol an agent, and write its credential to a file. The secret is never printed."""
    session = Session(context, as_json)
    _check_name(name)
    with credential_file(credential, name, force=force, as_json=session.as_json) as file:
        request = pb.CreateAgentRequest(name=name, inactive=inactive)
        answer = session.call(session.agents.CreateAgent, request)
        file.write(answer.credential)
    if session.as_json:
        without_token(answer.credential)
        print_json(answer)
        return
    say(f"agent {name!r} is enrolled (uid {answer.agent.uid}, epoch {answer.agent.epoch})", "green")
    _say_how_to_start(session, name, file.path, assigned=False)


@app.command("list")
def list_(
    context: typer.Context,
    everything: Annotated[bool, typer.Option("--all", metavar="", help="Retired ones too.")] = False,
    as_json: o.JsonOption = False,
) -> None:
    """List the agents by name."""
    session = Session(context, as_json)
    found = pb.ListAgentsResponse()
    wish = pb.ListAgentsRequest(page_size=_PAGE, include_retired=everything)
    for page in session.pages(session.agents.ListAgents, wish):
        found.agents.extend(page.agents)
    if session.as_json:
        print_json(found)
        return
    rows: list[list[Cell]] = [
        [agent.name, str(agent.epoch), _state(agent), _contact(agent), agent.uid] for agent in found.agents
    ]
    columns = ("agent", "epoch>", "state", "last contact", "uid")
    print_table(columns, rows, "no agents yet: `quotactl agent add NAME`")


@app.command()
def get(context: typer.Context, agent: o.AgentArgument, as_json: o.JsonOption = False) -> None:
    """Show an agent and its parts in quotas."""
    session = Session(context, as_json)
    answer = session.call(session.agents.GetAgent, pb.GetAgentRequest(agent=agent))
    if session.as_json:
        print_json(answer)
        return
    found = answer.agent
    facts: list[tuple[str, Cell]] = [
        ("agent", found.name),
        ("uid", found.uid),
        ("epoch", str(found.epoch)),
        ("state", _state(found)),
        ("last contact", _contact(found)),
        ("enrolled", times.shown(found.create_time)),
    ]
    print_facts(facts)
    rows: list[list[Cell]] = []
    for part in found.assignments:
        decimals = session.quota(part.quota_uid).decimals
        most = amounts.shown(part.max, decimals) if part.HasField("max") else "-"
        numbers = (part.min, part.initial_count, part.static_limit)
        least, initial, static = (amounts.shown(number, decimals) for number in numbers)
        rows.append([part.quota, str(part.weight), least, most, static, initial])
    say("")
    columns = ("quota", "weight>", "min>", "max>", "static limit>", "initial count>")
    print_table(columns, rows, "no part in any quota yet: `quotactl agent assign AGENT QUOTA`")


@app.command()
def activate(
    context: typer.Context, agent: o.AgentArgument, reason: o.ReasonOption = "", as_json: o.JsonOption = False
) -> None:
    """Switch an agent on."""
    _switch(Session(context, as_json), agent, reason, active=True)


@app.command()
def deactivate(
    context: typer.Context, agent: o.AgentArgument, reason: o.ReasonOption = "", as_json: o.JsonOption = False
) -> None:
    """Switch an agent off: it leaves the sharing out, and refuses when it hears of it."""
    _switch(Session(context, as_json), agent, reason, active=False)


@app.command()
def retire(
    context: typer.Context,
    agent: o.AgentArgument,
    assume: o.AssumeOption = o.AssumeName.SPENT_LIMIT,
    confirm: o.ConfirmOption = False,
    reason: o.ReasonOption = "",
    as_json: o.JsonOption = False,
) -> None:
    """End an agent for good. It is charged until its store turns up with its final totals."""
    session = Session(context, as_json)
    found = session.call(session.agents.GetAgent, pb.GetAgentRequest(agent=agent)).agent
    request = pb.RetireAgentRequest(agent=found.uid, assume=assume.number, confirm=confirm, reason=reason)
    answer = session.call(session.agents.RetireAgent, request)
    if session.as_json:
        print_json(answer)
        return
    say(f"agent {answer.agent.name!r} is retired", "green")
    _print_settlements(session, answer, connected=found.connected)


@app.command()
def settle(
    context: typer.Context,
    agent: o.AgentArgument,
    epoch: Annotated[int, typer.Option("--epoch", min=0, help="Which epoch ends; 0: the newest.")] = 0,
    assume: o.AssumeOption = o.AssumeName.SPENT_LIMIT,
    confirm: o.ConfirmOption = False,
    credential: NextCredentialOption = None,
    force: ForceOption = False,
    reason: o.ReasonOption = "",
    as_json: o.JsonOption = False,
) -> None:
    """End an agent's epoch, because its store is lost; after the newest one a new one begins.

    The credential of the new epoch is written to a file; the secret is never printed.
    """
    session = Session(context, as_json)
    found = session.call(session.agents.GetAgent, pb.GetAgentRequest(agent=agent)).agent
    # Said by number: if somebody else settles it meanwhile, the epoch that begins then is not ended too.
    ending = epoch or found.epoch
    with ExitStack() as stack:
        file = None
        if ending == found.epoch:
            place = credential_file(
                credential, found.name, force=force, as_json=session.as_json, epoch=ending + 1
            )
            file = stack.enter_context(place)
        request = pb.SettleAgentRequest(
            agent=found.uid, epoch=ending, assume=assume.number, confirm=confirm, reason=reason
        )
        answer = session.call(session.agents.SettleAgent, request)
        if file is not None and answer.HasField("credential"):
            file.write(answer.credential)
            without_token(answer.credential)
    if session.as_json:
        print_json(answer)
        return
    say(f"epoch {ending} of agent {found.name!r} is settled", "green")
    _print_settlements(session, answer, connected=found.connected and ending == found.epoch)
    if file is not None and answer.HasField("credential"):
        say(f"epoch {answer.agent.epoch} begins", "green")
        _say_how_to_start(session, found.name, file.path, assigned=True)


@app.command()
def assign(
    context: typer.Context,
    agent: o.AgentArgument,
    quota: o.QuotaArgument,
    weight: Annotated[
        int | None,
        typer.Option("--weight", min=1, max=1_000_000, help="Share under weighted and max-min; at first 1."),
    ] = None,
    least: Annotated[
        str | None, typer.Option("--min", metavar="AMOUNT", help="Its limit is at least this; at first 0.")
    ] = None,
    most: Annotated[
        str | None,
        typer.Option("--max", metavar="AMOUNT", help='Its limit is at most this; at first "none": no bound.'),
    ] = None,
    initial_count: Annotated[
        str | None,
        typer.Option(
            "--initial-count",
            metavar="AMOUNT",
            help="What was used before it was enrolled; only with the first assignment.",
        ),
    ] = None,
    reason: o.ReasonOption = "",
    wait: o.WaitOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Give an agent a part in a quota, or change it: what is not given stays as it is.

    Amounts are integers; if the quota has decimals, always with a point (13000.000).
    """
    session = Session(context, as_json)
    known = session.quota(quota)
    part = _part_of(session, agent, known.uid)
    if weight is not None:
        part.weight = weight
    if least is not None:
        part.min = amounts.parse(least, known.decimals, "--min")
    if most == times.NONE:
        part.ClearField("max")
    elif most is not None:
        part.max = amounts.parse(most, known.decimals, "--max")
    if initial_count is not None:
        part.initial_count = amounts.parse(initial_count, known.decimals, "--initial-count")
    request = pb.AssignQuotaRequest(assignment=part, reason=reason)
    answer = session.call(session.agents.AssignQuota, request, o.wait_of(wait))
    if session.as_json:
        print_json(answer)
        return
    say(f"agent {answer.assignment.agent!r} has a part in {known.name!r}", "green")
    say(_part_line(answer.assignment, known.decimals))
    views.print_outcomes(answer.outcomes, known.decimals)


@app.command()
def unassign(
    context: typer.Context,
    agent: o.AgentArgument,
    quota: o.QuotaArgument,
    reason: o.ReasonOption = "",
    wait: o.WaitOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Take an agent's part in a quota away. What it used goes on counting."""
    session = Session(context, as_json)
    known = session.quota(quota)
    request = pb.UnassignQuotaRequest(quota=known.uid, agent=agent, reason=reason)
    answer = session.call(session.agents.UnassignQuota, request, o.wait_of(wait))
    if session.as_json:
        print_json(answer)
        return
    views.print_change(
        f"agent {agent!r} has no part in {known.name!r} any more", answer.outcomes, known.decimals
    )


def _switch(session: Session, agent: str, reason: str, *, active: bool) -> None:
    request = pb.UpdateAgentRequest(agent=agent, active=active, reason=reason)
    answer = session.call(session.agents.UpdateAgent, request)
    if session.as_json:
        print_json(answer)
    else:
        say(f"agent {answer.agent.name!r} is switched {'on' if active else 'off'}", "green")


def _part_of(session: Session, agent: str, quota_uid: str) -> pb.Assignment:
    """The agent's present part, as a request has it; a new one if it has none."""
    found = session.call(session.agents.GetAgent, pb.GetAgentRequest(agent=agent)).agent
    part = pb.Assignment(quota=quota_uid, agent=found.uid)
    for each in found.assignments:
        if each.quota_uid == quota_uid:
            part.weight, part.min = each.weight, each.min
            if each.HasField("max"):
                part.max = each.max
    return part


def _part_line(part: pb.Assignment, decimals: int) -> str:
    most = amounts.shown(part.max, decimals) if part.HasField("max") else times.NONE
    line = f"its part: weight {part.weight}, min {amounts.shown(part.min, decimals)}, max {most}"
    if part.initial_count:
        line += f", initial count {amounts.shown(part.initial_count, decimals)}"
    return line


def _print_settlements(
    session: Session, answer: pb.RetireAgentResponse | pb.SettleAgentResponse, *, connected: bool
) -> None:
    rows: list[list[Cell]] = []
    for each in answer.settlements:
        decimals = session.quota(each.quota_uid).decimals
        rows.append([each.quota, amounts.shown(each.charge, decimals), amounts.shown(each.at_risk, decimals)])
    print_table(("quota", "charged>", "at risk>"), rows, "it had no part in any quota")
    if rows and connected:
        say("charged until its final totals arrive: it is connected, so that is a matter of moments", "dim")


def _say_how_to_start(session: Session, name: str, path: Path, *, assigned: bool) -> None:
    say(f"its credential is in {path}: secret, take it to the agent's machine and nowhere else")
    say("next:")
    if not assigned:
        say(f"  quotactl agent assign {name} QUOTA")
    say(f"  quota-agent run --controller {session.server} --credential {quote(str(path))}")


def _state(agent: pb.Agent) -> Text:
    if agent.retired:
        return Text("retired", "dim")
    text = Text("connected", "green") if agent.connected else Text("not connected", "yellow")
    if not agent.active:
        text.append(" switched-off", "yellow")
    if agent.fenced:
        text.append(" fenced", "bold red")
    return text


def _contact(agent: pb.Agent) -> str:
    return times.shown(agent.last_contact_time) if agent.HasField("last_contact_time") else "never"


def _check_name(name: str) -> None:
    """Before a file is named after it."""
    if "/" in name or name.startswith("."):
        exits.fail(f"{name!r} is no name of an agent", "use [a-z0-9][a-z0-9._-]{0,62}", exits.BAD_USAGE)
