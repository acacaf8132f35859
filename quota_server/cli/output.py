"""What commands print: JSON for programs, tables for people."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from typing import Any, Final

import typer
from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich.console import Console
from rich.table import Table
from rich.text import Text

#: For output that goes to a file or another program: lines are not folded for a screen that is not there.
_WIDE: Final = 240

Cell = str | Text


def console() -> Console:
    """Standard output; colours only if it is a terminal."""
    if sys.stdout.isatty() or "COLUMNS" in os.environ:
        return Console(highlight=False)
    return Console(highlight=False, width=_WIDE)


def print_json(message: Message) -> None:
    """Prints an answer as protobuf JSON, its fields named as in the proto, on one line."""
    typer.echo(json.dumps(as_dict(message)))


def as_dict(message: Message) -> dict[str, Any]:
    """An answer as protobuf JSON has it: 64-bit numbers are strings, enums names."""
    fields: dict[str, Any] = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return fields


def print_table(columns: Iterable[str], rows: Iterable[Iterable[Cell]], empty: str) -> None:
    """Prints a table; a column whose name ends in `>` is of numbers. Without rows it says so."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in columns:
        number = name.endswith(">")
        table.add_column(name.removesuffix(">"), justify="right" if number else "left", no_wrap=number)
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in row))
    console().print(table if table.rows else Text(empty, "dim"))


def print_facts(facts: Iterable[tuple[str, Cell]]) -> None:
    """Prints names and values, one a line."""
    grid = Table.grid(padding=(0, 2))
    for name, value in facts:
        grid.add_row(Text(name, "bold"), value if isinstance(value, Text) else Text(value))
    console().print(grid)


def say(text: str, style: str = "") -> None:
    """Prints a line."""
    console().print(Text(text, style), soft_wrap=True)


def enum_name(enum: EnumDescriptor, number: int) -> str:
    """A value as people read it: POLICY_MAX_MIN is "max-min"."""
    known = enum.values_by_number.get(number)
    if known is None:
        return str(number)
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return str(known.name).removeprefix(prefix).replace("_", "-").lower()
