"""`quota-agent acquire | release | commit | cancel`."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from quota_agent.cli.client import Client, enum_name, print_json, rfc3339
from quota_agent.cli.options import (
    JsonOption,
    QuotaArgument,
    RequestIdArgument,
    SocketOption,
    duration,
    labels,
)
from quotafleet.agent.v1 import gate_service_pb2 as pb

_out = Console(highlight=False, soft_wrap=True)


def acquire(
    quota: QuotaArgument,
    socket: SocketOption,
    amount: Annotated[int, typer.Option(help="Units, in the quota's smallest unit.")] = 1,
    request_id: Annotated[
        str | None,
        typer.Option(
            help="The same id counts once, so repeat it to be sure. Default: a random one, which is printed."
        ),
    ] = None,
    up_to: Annotated[bool, typer.Option("--up-to", help="Take what is left, at least 1 unit.")] = False,
    hold: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only set aside, to be committed within this time (90s, 2h)."),
    ] = None,
    override: Annotated[
        str | None, typer.Option(metavar="ID", help="Spend this approved override instead of the limit.")
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
        amount=_amount(amount),
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
    response = Client(socket, as_json=as_json).call(lambda stub: stub.Acquire, request)
    _show(response, response.entry, response.balance, as_json=as_json)


def release(
    quota: QuotaArgument, request_id: RequestIdArgument, socket: SocketOption, as_json: JsonOption = False
) -> None:
    """Give back what a counted entry acquired."""
    _end(socket, "Release", pb.ReleaseRequest(quota=quota, request_id=request_id), as_json)


def commit(
    quota: QuotaArgument, request_id: RequestIdArgument, socket: SocketOption, as_json: JsonOption = False
) -> None:
    """Make a hold count."""
    _end(socket, "Commit", pb.CommitRequest(quota=quota, request_id=request_id), as_json)


def cancel(
    quota: QuotaArgument, request_id: RequestIdArgument, socket: SocketOption, as_json: JsonOption = False
) -> None:
    """Give a hold back."""
    _end(socket, "Cancel", pb.CancelRequest(quota=quota, request_id=request_id), as_json)


def _end(socket: Path, method: str, request: Any, as_json: bool) -> None:
    response = Client(socket, as_json=as_json).call(lambda stub: getattr(stub, method), request)
    _show(response, response.entry, response.balance, as_json=as_json)


def _amount(amount: int) -> int:
    """The amount, if a message can carry it; whether it makes sense is the agent's to say."""
    if not -(2**63) <= amount < 2**63:
        raise typer.BadParameter("is no amount that a message can carry", param_hint="--amount")
    return amount


def _show(response: Any, entry: pb.Entry, balance: pb.Balance, *, as_json: bool) -> None:
    if as_json:
        print_json(response)
        return
    state = enum_name(entry.DESCRIPTOR.fields_by_name["state"], entry.state).lower()
    line = Text.assemble(
        (state, "bold green"), f" {entry.granted} of {entry.quota}", f"  request id {entry.request_id}"
    )
    if entry.HasField("expire_time"):
        line.append(f"  until {rfc3339(entry.expire_time)}")
    _out.print(line)
    _out.print(
        Text(
            f"count {balance.count}  held {balance.held}  remaining {balance.remaining}  limit {balance.limit}",
            "dim",
        )
    )
