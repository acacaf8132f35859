"""`quota-agent`: run the agent, and use it from the shell of its machine, with or without the controller."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.metadata import version as version_of
from typing import Annotated, Any

# gRPC's own chatter would stand between a command's lines.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from quota_agent.cli import exits, overrides, run, show, spend


class _Group(TyperGroup):
    """Under --json, bad usage is JSON too."""

    def main(self, args: Sequence[str] | None = None, *more: Any, **named: Any) -> Any:
        words = sys.argv[1:] if args is None else list(args)
        if "--json" not in words:
            return super().main(args, *more, **named)
        try:
            code = super().main(args, *more, **{**named, "standalone_mode": False})
        except TyperException as error:
            problem = error.format_message() if hasattr(error, "format_message") else str(error)
            exits.print_error(problem, "see --help", reason="INVALID_ARGUMENT")
            code = exits.BAD_USAGE
        sys.exit(code or 0)


app = typer.Typer(
    cls=_Group,
    name="quota-agent",
    help="Enforces this machine's share of each quota, with or without a connection to the controller.",
    epilog=exits.CODES_HELP,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(version_of("quotafleet"))
        raise typer.Exit


@app.callback()
def _whole(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            metavar="",
            is_eager=True,
            callback=_print_version,
            help="Print the version, and end.",
        ),
    ] = False,
) -> None:
    """Enforces this machine's share of each quota, with or without a connection to the controller."""


app.command("run")(run.run)
app.command("acquire")(spend.acquire)
app.command("release")(spend.release)
app.command("commit")(spend.commit)
app.command("cancel")(spend.cancel)
app.command("status")(show.status)
app.command("entries")(show.entries)
app.add_typer(overrides.app, name="override")

if __name__ == "__main__":
    app()
