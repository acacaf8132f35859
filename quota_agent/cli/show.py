"""`quota-agent status | entries`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from quota_agent.cli.amounts import status_of
from quota_agent.cli.client import Client, enum_name, print_json, rfc3339
from quota_agent.cli.options import JsonOption, QuotaArgument, SocketOption, decimal
from quotafleet.agent.v1 import gate_service_pb2 as pb

#: Wide enough for every row: a terminal folds it, and nobody cuts an id that another command needs.
_out = Console(highlight=False, width=10_000)
_PAGE = 1_000


def status(socket: SocketOption, as_json: JsonOption = False) -> None:
    """Show the agent, its store, its link to the controller, and its part in every quota."""
    client = Client(socket, as_json=as_json)
    whole = client.call(lambda stub: stub.GetStatus, pb.GetStatusRequest(page_size=_PAGE))
    while whole.next_page_token:
        request = pb.GetStatusRequest(page_size=_PAGE, page_token=whole.next_page_token)
        page = client.call(lambda stub: stub.GetStatus, request)
        whole.quotas.extend(page.quotas)
        whole.next_page_token = page.next_page_token
    if as_json:
        print_json(whole)
        return
    _out.print(_head(whole))
    if whole.quotas:
        _out.print(_quota_table(whole))
    else:
        _out.print(Text("no quotas yet: they come with the first contact, once they are assigned", "dim"))
    if any(quota.overrides for quota in whole.quotas):
        _out.print(_override_table(whole))


def entries(
    quota: QuotaArgument,
    socket: SocketOption,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="Show at most so many.")] = 100,
    state: Annotated[
        list[str] | None,
        typer.Option(help="Only held, counted, released, cancelled or expired ones; repeat for several."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the entries of QUOTA, in the order they were granted."""
    client = Client(socket, as_json=as_json)
    request = pb.ListEntriesRequest(quota=quota, states=[_state(name) for name in state or []])
    found: list[pb.Entry] = []
    more = True
    while more and len(found) < limit:
        request.page_size = min(limit - len(found), _PAGE)
        page = client.call(lambda stub: stub.ListEntries, request)
        found += page.entries
        request.page_token = page.next_page_token
        more = bool(page.next_page_token)
    if as_json:
        print_json(pb.ListEntriesResponse(entries=found, next_page_token=request.page_token))
        return
    _out.print(_entry_table(found, status_of(client, quota).decimals))
    if more:
        _out.print(Text(f"there are more than {limit}: use --limit", "dim"))


def _head(whole: pb.GetStatusResponse) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_row("agent", Text(f"{whole.agent} (epoch {whole.epoch})"))
    table.add_row("link", _link(whole))
    store = (
        Text("takes writes", "green")
        if whole.store_ok
        else Text("takes no writes: is the disk full?", "bold red")
    )
    table.add_row("store", Text("fenced: it spends nothing any more", "bold red") if whole.fenced else store)
    return table


def _link(whole: pb.GetStatusResponse) -> Text:
    link = Text("connected", "green") if whole.connected else Text("not connected", "yellow")
    if not whole.HasField("last_contact_time"):
        return link.append(", the controller was never heard")
    seconds = max(0, int(datetime.now(UTC).timestamp() - whole.last_contact_time.seconds))
    return link.append(f", last contact {seconds} s ago")


def _quota_table(whole: pb.GetStatusResponse) -> Table:
    table = Table("quota", box=None, header_style="bold", pad_edge=False)
    for name in ("count", "held", "remaining", "limit", "overridden"):
        table.add_column(name, justify="right")
    table.add_column("refuses with")
    for quota in whole.quotas:
        balance = quota.balance
        numbers = (balance.count, balance.held, balance.remaining, balance.limit, quota.overridden)
        shown = [Text(decimal(number, quota.decimals)) for number in numbers]
        shown[2].stylize("green" if balance.remaining else "red")
        table.add_row(Text(quota.quota), *shown, Text(quota.refusal, "red"))
    return table


def _override_table(whole: pb.GetStatusResponse) -> Table:
    table = Table("override", "quota", "state", "request id", box=None, header_style="bold", pad_edge=False)
    table.add_column("amount", justify="right")
    for override, decimals in ((each, quota.decimals) for quota in whole.quotas for each in quota.overrides):
        state = enum_name(override.DESCRIPTOR.fields_by_name["state"], override.state).lower()
        cells = (
            override.override_id or "-",
            override.quota,
            state,
            override.request_id,
            decimal(override.amount, decimals),
        )
        table.add_row(*map(Text, cells))
    return table


def _entry_table(found: list[pb.Entry], decimals: int) -> Table:
    table = Table("request id", "state", "created", "until", box=None, header_style="bold", pad_edge=False)
    table.add_column("granted", justify="right")
    table.add_column("labels")
    for entry in found:
        state = enum_name(entry.DESCRIPTOR.fields_by_name["state"], entry.state).lower()
        until = rfc3339(entry.expire_time) if entry.HasField("expire_time") else ""
        named = " ".join(f"{key}={value}" for key, value in sorted(entry.labels.items()))
        granted = decimal(entry.granted, decimals)
        cells = (entry.request_id, state, rfc3339(entry.create_time), until, granted, named)
        table.add_row(*map(Text, cells))
    return table


def _state(name: str) -> pb.EntryState.ValueType:
    full = f"ENTRY_STATE_{name.upper()}"
    if name.upper() == "UNSPECIFIED" or full not in pb.EntryState.keys():  # noqa: SIM118
        raise typer.BadParameter(f"{name!r} is no state of an entry", param_hint="--state")
    return pb.EntryState.Value(full)
