"""What the commands of `quota-server` share: where the data is, and how they fail."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from quota_server.config import ConfigInvalid, ServerConfig

DATA_DIR_VARIABLE: Final = "QUOTAFLEET_DATA_DIR"
DATABASE_VARIABLE: Final = "QUOTAFLEET_DATABASE"
DEFAULT_DATA_DIR: Final = Path("quotafleet-data")
FAILED: Final = 1
BAD_USAGE: Final = 2

DataDirOption = Annotated[
    Path,
    typer.Option(
        "--data-dir", metavar="DIR", envvar=DATA_DIR_VARIABLE, help="Where database and master key are."
    ),
]
DatabaseOption = Annotated[
    str | None,
    typer.Option(
        "--database",
        metavar="URL",
        envvar=DATABASE_VARIABLE,
        help="postgresql://USER@HOST/NAME, or the path of a SQLite file; without it, SQLite in the data directory. "
        "A password is better kept in the variable, or in PGPASSFILE: others can read a command line.",
        show_default=False,
    ),
]

_errors = Console(stderr=True, highlight=False, soft_wrap=True)


def config_of(data_dir: Path, **settings: Any) -> ServerConfig:
    """The configuration, or the end of the program with what is wrong with it."""
    if os.environ.get(DATABASE_VARIABLE) == "":
        fail(f"{DATABASE_VARIABLE} is set, and empty: unset it to keep the data in SQLite", BAD_USAGE)
    if settings.get("database") == "":
        fail("--database: must be postgresql://USER@HOST/NAME, sqlite:///PATH or a path", BAD_USAGE)
    settings["database"] = settings.get("database") or ""
    try:
        return ServerConfig(data_dir, **settings)
    except (ConfigInvalid, OverflowError, ValueError) as invalid:
        fail(str(invalid), BAD_USAGE)


def fail(message: str, code: int) -> NoReturn:
    """Says what is wrong, and leaves."""
    _errors.print(Text.assemble(("error: ", "bold red"), message))
    raise typer.Exit(code)
