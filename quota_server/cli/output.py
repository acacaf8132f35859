"""What commands print: JSON for programs, tables for people."""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from collections.abc import Iterable
from typing import Any, Final, Literal

import typer
from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

#: For output that goes to a file or another program: lines are not folded for a screen that is not there.
_WIDE: Final = 240
#: A column of sentences is not made narrower than this.
_SENTENCE: Final = 36
_GAP: Final = 2

Cell = str | Text


def console() -> Console:
    """Standard output; colours only if it is a terminal."""
    if sys.stdout.isatty() or "COLUMNS" in os.environ:
        return Console(highlight=False)
    return Console(highlight=False, width=_WIDE)


def visible(text: str) -> str:
    """Text from outside as it can be shown: what would steer a terminal, or begin a line, is written as an escape."""
    return "".join(
        each if each.isprintable() and unicodedata.category(each) != "Cf" else repr(each)[1:-1]
        for each in text
    )


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
    """Prints a table. A column whose name ends in `>` is of numbers, one that ends in `~` is of sentences.

    Only sentences are wrapped. Columns for which the screen has no room come below their row. Without rows it says so.
    """
    names = list(columns)
    cells = [[cell if isinstance(cell, Text) else Text(cell) for cell in row] for row in rows]
    if not cells:
        say(empty, "dim")
        return
    widths = [
        max(cell_len(name.rstrip(">~")), *(row[index].cell_len for row in cells))
        for index, name in enumerate(names)
    ]
    least = [
        min(width, _SENTENCE) if name.endswith("~") else width
        for name, width in zip(names, widths, strict=True)
    ]
    screen = console()
    room, fit = screen.width + _GAP, 0
    while fit < len(names) and room >= least[fit] + _GAP:
        room -= least[fit] + _GAP
        fit += 1
    if fit < len(names):
        _print_stacked(screen, names, cells, least, max(fit, 1))
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name, width in zip(names, least, strict=True):
        number, sentence = name.endswith(">"), name.endswith("~")
        side: Literal["left", "right"] = "right" if number else "left"
        table.add_column(
            name.rstrip(">~"), justify=side, no_wrap=not sentence, min_width=width, overflow="fold"
        )
    for row in cells:
        table.add_row(*row)
    screen.print(table)


def _print_stacked(
    screen: Console, names: list[str], rows: list[list[Text]], widths: list[int], fit: int
) -> None:
    """The first columns side by side; below each row the others, each with its name."""
    heads = [Text(name.rstrip(">~"), "bold") for name in names]
    for row in [heads, *rows]:
        line = Text()
        for name, width, cell in zip(names[:fit], widths, row, strict=False):
            space = " " * max(0, width - cell.cell_len)
            line.append("  " if line else "")
            line.append_text(Text(space) + cell if name.endswith(">") else cell + Text(space))
        line.rstrip()
        screen.print(line, soft_wrap=True)
        if row is heads:
            continue
        rest = [
            Text.assemble((head.plain, "dim"), " ", cell)
            for head, cell in zip(heads[fit:], row[fit:], strict=True)
            if cell.plain not in ("", "-")
        ]
        if rest:
            screen.print(Padding(Text("  ").join(rest), (0, 0, 0, 4)), overflow="fold")


def print_facts(facts: Iterable[tuple[str, Cell]]) -> None:
    """Prints names and values, one a line."""
    console().print(facts_grid(facts))


def facts_grid(facts: Iterable[tuple[str, Cell]]) -> Table:
    """Names and values, one a line."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in facts:
        grid.add_row(Text(name, "bold"), value if isinstance(value, Text) else Text(value))
    return grid


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
