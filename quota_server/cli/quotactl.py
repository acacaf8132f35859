"""`quotactl`: the operators' command line."""

from __future__ import annotations

import os
import re

# gRPC's own chatter would stand between a command's lines.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from typing import Annotated, Final

import typer

from quota_server.cli import agent, exits, override, quota, recovery, rules
from quota_server.cli.session import DEFAULT_SERVER, SERVER_VARIABLE, Settings

_address: Final = re.compile(r"(\[[^\]]+\]|[^:\[\]]+):[0-9]{1,5}").fullmatch

app = typer.Typer(
    name="quotactl",
    help="Quotas, agents, overrides and tariff data of a Quotafleet controller. --json works before and after the "
    "subcommand.",
    epilog=exits.CODES_HELP,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(quota.app, name="quota")
app.add_typer(agent.app, name="agent")
app.add_typer(override.app, name="override")
app.add_typer(recovery.app, name="recovery")
app.add_typer(rules.app, name="rules")


@app.callback()
def main(
    context: typer.Context,
    server: Annotated[
        str, typer.Option("--server", metavar="HOST:PORT", envvar=SERVER_VARIABLE, help="The controller.")
    ] = DEFAULT_SERVER,
    as_json: Annotated[
        bool, typer.Option("--json", metavar="", help="Answer with protobuf JSON on one line.")
    ] = False,
) -> None:
    """Remembers what is said before the subcommand."""
    if "/" not in server and not _address(server):
        raise typer.BadParameter(
            f"{server!r} has no port: write HOST:PORT, as in {DEFAULT_SERVER}", param_hint="--server"
        )
    context.obj = Settings(server, as_json)


if __name__ == "__main__":
    app()
