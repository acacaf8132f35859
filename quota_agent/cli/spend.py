"""`quota-agent acquire | release | commit | cancel`."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from quota_agent.cli.amounts import AMOUNT_HELP, parse_or_one, status_of
from quota_agent.cli.client import Client, enum_name, print_json, rfc3339
from quota_agent.cli.options import (
    JsonOption,
    QuotaArgument,
    RequestIdArgument,
    RequestIdOption,
    SocketOption,
    decimal,
    duration,
    labels,
    one_request_id,
)
from quotafleet.agent.v1 import gate_service_pb2 as pb

_out = Console(highlight=False, soft_wrap=True)


def acquire(
    quota: QuotaArgument,
    socket: SocketOption,
    amount: Annotated[str | None, typer.Option(metavar="AMOUNT", show_default="1", help=AMOUNT_HELP)] = None,
    request_id: Annotated[
        str | None,
        typer.Option(
            help="The same id counts once, so repeat it to be sure. Default: a random one, which is printed."
        ),
    ] = None,
    up_to: Annotated[
        bool, typer.Option("--up-to", metavar="", help="Take what is left, at least 1 unit.")
    ] = False,
    hold: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only set aside, to be committed within this time (90s, 2h)."),
    ] = None,
    override: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="Spend this approved override instead of the limit: once, so what a smaller amount leaves is lost.",
        ),
    ] = None,
    max_wait: Annotated[
        str | None, typer.Option(metavar="TIME", help="Wait so long for more limit; at most 10s.")
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Kept with the entry; repeat for others.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Acquire units of QUOTA; durable once answered. Exit code 0 if granted, 1 if refused."""
    request = pb.AcquireRequest(
        quota=quota,
        request_id=request_id or uuid.uuid4().hex,
        override_id=override or "",
        labels=labels(label or []),
    )
    if up_to:
        request.mode = pb.ACQUIRE_MODE_UP_TO
    if hold is not None:
        request.hold.CopyFrom(duration(hold))
    if max_wait is not None:
        request.max_wait.CopyFrom(duration(max_wait))
    client = Client(socket, as_json=as_json)
    known = status_of(client, quota)
    request.amount = parse_or_one(amount, known)
    response = client.call(lambda stub: stub.Acquire, request)
    if as_json:
        print_json(response)
        return
    _show(response.entry, response.balance, known.decimals)
    for each in known.overrides:
        if override and each.override_id == override and each.amount > response.granted:
            rest = decimal(each.amount - response.granted, known.decimals)
            _out.print(Text(f"the override is spent: the other {rest} of it are lost", "yellow"))


def release(
    quota: QuotaArgument,
    socket: SocketOption,
    request_id: RequestIdArgument = None,
    same_id: RequestIdOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give back what a counted entry acquired."""
    request = pb.ReleaseRequest(quota=quota, request_id=one_request_id(request_id, same_id))
    _end(Client(socket, as_json=as_json), "Release", request, as_json)


def commit(
    quota: QuotaArgument,
    socket: SocketOption,
    request_id: RequestIdArgument = None,
    same_id: RequestIdOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a hold count."""
    request = pb.CommitRequest(quota=quota, request_id=one_request_id(request_id, same_id))
    _end(Client(socket, as_json=as_json), "Commit", request, as_json)


def cancel(
    quota: QuotaArgument,
    socket: SocketOption,
    request_id: RequestIdArgument = None,
    same_id: RequestIdOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a hold back."""
    request = pb.CancelRequest(quota=quota, request_id=one_request_id(request_id, same_id))
    _end(Client(socket, as_json=as_json), "Cancel", request, as_json)


def _end(client: Client, method: str, request: Any, as_json: bool) -> None:
    decimals = 0 if as_json else status_of(client, request.quota).decimals
    response = client.call(lambda stub: getattr(stub, method), request)
    if as_json:
        print_json(response)
    else:
        _show(response.entry, response.balance, decimals)


def _show(entry: pb.Entry, balance: pb.Balance, decimals: int) -> None:
    state = enum_name(entry.DESCRIPTOR.fields_by_name["state"], entry.state).lower()
    granted = decimal(entry.granted, decimals)
    line = Text.assemble(
        (state, "bold green"), f" {granted} of {entry.quota}", f"  request id {entry.request_id}"
    )
    if entry.HasField("expire_time"):
        line.append(f"  until {rfc3339(entry.expire_time)}")
    _out.print(line)
    names = ("count", "held", "remaining", "limit")
    numbers = (f"{name} {decimal(getattr(balance, name), decimals)}" for name in names)
    _out.print(Text("  ".join(numbers), "dim"))
