"""`quotactl quota`: what reads, creates and ends quotas."""

from __future__ import annotations

import contextlib
import sys
from datetime import datetime
from typing import Annotated

import typer
from rich.live import Live
from rich.table import Table
from rich.text import Text

from quota_server.cli import amounts, quota_changes, views
from quota_server.cli import options as o
from quota_server.cli.output import console, facts_grid, print_facts, print_json, say
from quota_server.cli.session import Session
from quotafleet.v1 import quota_service_pb2 as pb

app = typer.Typer(help="Quotas: caps over a period, shared out over agents.", no_args_is_help=True)

_PAGE = 1_000

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="Lower case letters, digits and . _ - / (128 at most).")
]
LimitOption = Annotated[int, typer.Option("--limit", min=1, max=1_000_000, help="Show at most so many.")]


@app.command()
def create(
    context: typer.Context,
    name: NameArgument,
    target: Annotated[
        str, typer.Option("--target", metavar="AMOUNT", help=f"The overall cap. {amounts.AMOUNT_HELP}")
    ],
    decimals: Annotated[
        int, typer.Option("--decimals", min=0, max=3, help="Decimal places of the smallest unit; for good.")
    ] = 0,
    start: o.StartOption = None,
    end: o.EndOption = None,
    time_zone: o.ZoneOption = None,
    policy: o.PolicyOption = o.PolicyName.MAX_MIN,
    reserve: o.ReserveOption = None,
    critical: o.CriticalOption = None,
    override_policy: o.OverridePolicyOption = o.OverridePolicyName.ASK,
    max_offline: o.MaxOfflineOption = None,
    dry_run: o.DryRunOption = False,
    as_json: o.JsonOption = False,
) -> None:
    """Open a quota.

    Dates are inclusive: --end 2026-12-31 means that the period is over when the next day begins in --time-zone.
    """
    session = Session(context, as_json)
    quota = pb.Quota(name=name, decimals=decimals, target=amounts.parse(target, decimals, "--target"))
    o.fill_settings(
        quota,
        start=start,
        end=end,
        time_zone=time_zone,
        policy=policy,
        reserve=reserve,
        critical=critical,
        override_policy=override_policy,
        max_offline=max_offline,
    )
    request = pb.CreateQuotaRequest(quota=quota, validate_only=dry_run)
    created = session.call(session.quotas.CreateQuota, request)
    if session.as_json:
        print_json(created)
        return
    say(f"quota {name!r} could be opened" if dry_run else f"quota {name!r} is open", "green")
    views.print_quota(created.quota)


@app.command("list")
def list_(
    context: typer.Context,
    everything: Annotated[
        bool, typer.Option("--all", metavar="", help="Closed ones too, with their uids.")
    ] = False,
    as_json: o.JsonOption = False,
) -> None:
    """List the quotas by name."""
    session = Session(context, as_json)
    found = pb.ListQuotasResponse()
    wish = pb.ListQuotasRequest(page_size=_PAGE, include_closed=everything)
    for page in session.pages(session.quotas.ListQuotas, wish):
        found.quotas.extend(page.quotas)
    if session.as_json:
        print_json(found)
    else:
        views.print_quotas(found.quotas, with_uid=everything)


@app.command()
def get(context: typer.Context, quota: o.QuotaArgument, as_json: o.JsonOption = False) -> None:
    """Show a quota's settings."""
    session = Session(context, as_json)
    found = session.call(session.quotas.GetQuota, pb.GetQuotaRequest(quota=quota))
    if session.as_json:
        print_json(found)
    else:
        views.print_quota(found.quota)


@app.command()
def count(
    context: typer.Context,
    quota: o.QuotaArgument,
    refresh: Annotated[
        bool, typer.Option("--refresh", metavar="", help="Ask all connected agents first.")
    ] = False,
    agents: Annotated[
        bool, typer.Option("--agents", metavar="", help="The numbers of every agent too.")
    ] = False,
    wait: o.WaitOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Show what is counted, and the upper bound that the true total never passes."""
    session = Session(context, as_json)
    request = pb.GetCountRequest(quota=quota, refresh=refresh, page_size=_PAGE if agents else 0)
    answer = session.call(session.quotas.GetCount, request, o.wait_of(wait))
    token = answer.next_page_token
    while token:  # the agents were asked with the first page
        request = pb.GetCountRequest(quota=answer.count.quota_uid, page_size=_PAGE, page_token=token)
        page = session.call(session.quotas.GetCount, request)
        answer.agents.extend(page.agents)
        token = answer.next_page_token = page.next_page_token
    if session.as_json:
        print_json(answer)
        return
    facts = views.count_facts(answer.count, session.quota(answer.count.quota_uid), answer.agents)
    print_facts(facts)
    if agents:
        say("")
        views.print_agent_counts(answer.agents, answer.count.decimals, asked=refresh)


quota_changes.register(app)  # here, because help lists commands in this order


@app.command()
def history(
    context: typer.Context, quota: o.QuotaArgument, limit: LimitOption = 100, as_json: o.JsonOption = False
) -> None:
    """Show every change of target, limits or state: who, when, why, before, after, who was reached."""
    session = Session(context, as_json)
    whole = session.quota(quota)
    found = pb.ListHistoryResponse()
    wish = pb.ListHistoryRequest(quota=whole.uid, page_size=min(_PAGE, limit))
    for page in session.pages(session.quotas.ListHistory, wish):
        found.entries.extend(page.entries)
        found.next_page_token = page.next_page_token
        if len(found.entries) >= limit:
            break
        wish.page_size = min(_PAGE, limit - len(found.entries))
    if session.as_json:
        print_json(found)
        return
    views.print_history(found.entries, whole.decimals)
    if found.next_page_token:
        say(f"there are more than {limit}: use --limit", "dim")


@app.command()
def watch(context: typer.Context, quota: o.QuotaArgument, as_json: o.JsonOption = False) -> None:
    """Show the numbers now and after every change, until interrupted; with --json one object per line."""
    session = Session(context, as_json)
    uid = session.quota(quota).uid
    with contextlib.suppress(KeyboardInterrupt):
        if session.as_json:
            for each in session.watch(uid):
                print_json(each)
        elif sys.stdout.isatty():
            with Live(console=console(), auto_refresh=False) as live:
                for each in session.watch(uid):
                    live.update(_live_table(each), refresh=True)
        else:
            for each in session.watch(uid):
                say(_line(each))
                sys.stdout.flush()


def _live_table(count: pb.Count) -> Table:
    grid = facts_grid(views.count_facts(count))
    grid.add_row(Text("seen", "bold"), Text(_now()))
    return grid


def _line(count: pb.Count) -> str:
    facts = {name: str(value) for name, value in views.count_facts(count)}
    shown = ("state", "target", "count", "held", "overridden", "upper bound", "agents")
    return "  ".join([_now(), *(f"{name} {facts[name]}" for name in shown)])


def _now() -> str:
    return datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
