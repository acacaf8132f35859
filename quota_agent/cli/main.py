"""`quota-agent`: run the agent, and use it from the shell of its machine, with or without the controller."""

from __future__ import annotations

import os

# gRPC's own chatter would stand between a command's lines.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import typer

from quota_agent.cli import exits, overrides, run, show, spend

app = typer.Typer(
    name="quota-agent",
    help="Enforces this machine's share of each quota, with or without a connection to the controller.",
    epilog=exits.CODES_HELP,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

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
