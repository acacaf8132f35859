"""`quota-agent override`."""

from __future__ import annotations

import shlex
import uuid
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from quota_agent.cli.amounts import AMOUNT_HELP, parse, status_of
from quota_agent.cli.client import Client, enum_name, print_json
from quota_agent.cli.options import JsonOption, QuotaArgument, SocketOption, decimal
from quotafleet.agent.v1 import gate_service_pb2 as pb

app = typer.Typer(help="Ask to go beyond the limit.", no_args_is_help=True)

_out = Console(highlight=False, soft_wrap=True)
_NEXT = {
    pb.OVERRIDE_STATE_PENDING: "the controller has yet to decide: repeat with the same --request-id to see",
    pb.OVERRIDE_STATE_FROM_RESERVE: "answered by a larger limit: acquire as usual",
}


@app.callback()
def _group() -> None:
    """Ask to go beyond the limit."""


@app.command()
def request(
    quota: QuotaArgument,
    socket: SocketOption,
    amount: Annotated[str, typer.Option(metavar="AMOUNT", help=AMOUNT_HELP)],
    reason: Annotated[str, typer.Option(help="For the operator who decides.")],
    request_id: Annotated[
        str | None, typer.Option(help="The same id is the same ask. Default: a random one, which is printed.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Ask the controller for permission; the ask is durable, and goes up when there is a link.

    Once approved it is spent by one `quota-agent acquire --override`: what a smaller amount leaves of it is lost.
    """
    client = Client(socket, as_json=as_json)
    known = status_of(client, quota)
    ask = pb.RequestOverrideRequest(
        quota=quota, amount=parse(amount, known), reason=reason, request_id=request_id or uuid.uuid4().hex
    )
    response = client.call(lambda stub: stub.RequestOverride, ask)
    if as_json:
        print_json(response)
        return
    override = response.override
    state = enum_name(override.DESCRIPTOR.fields_by_name["state"], override.state).lower()
    shown = decimal(override.amount, known.decimals)
    line = Text.assemble(
        (state, "bold"), f" {shown} of {override.quota}", f"  request id {override.request_id}"
    )
    if override.override_id:
        line.append(f"  override id {override.override_id}")
    _out.print(line)
    if override.state == pb.OVERRIDE_STATE_APPROVED:
        words = ("acquire", override.quota, "--amount", shown, "--override", override.override_id)
        told = (
            f"spend it at once with `quota-agent {shlex.join(words)}`: what a smaller amount leaves is lost"
        )
        _out.print(Text(told, "dim"))
    elif override.state in _NEXT:
        _out.print(Text(_NEXT[override.state], "dim"))
