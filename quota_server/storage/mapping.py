"""One mapping between the ledger's records and rows, derived from the fields of a record.

Nested records become columns with a prefix, enums their value, tuples and dicts JSON text. The two directions are
compiled once into plain expressions, as `dataclasses` does: a redistribution moves a thousand rows at a time.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from types import MappingProxyType
from typing import Any, Generic, TypeVar, get_args, get_origin, get_type_hints

from sqlalchemy import Column, Table

from quota_server.ledger.model import Agent, Allocation, Assignment, Epoch, Meta, Note, Override, Quota
from quota_server.ledger.store import RecordedAnswer
from quota_server.storage import tables

R = TypeVar("R")

#: Compact JSON text.
encode_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class RecordMapping(Generic[R]):
    """How the records of one type are kept in a table.

    `prefixes` replaces the prefix of a nested field, which is its own name otherwise.
    """

    def __init__(
        self, record: type[R], table: Table, prefixes: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        compiler = _Compiler(prefixes)
        expression = compiler.build(record, "", "record")
        self.record = record
        self.table = table
        #: In the order in which `read` takes them.
        self.columns: tuple[Column[Any], ...] = tuple(table.c[name] for name in compiler.writes)
        written = ", ".join(f"{name!r}: {write}" for name, write in compiler.writes.items())
        # The text is made of the fields of our own classes and of nothing else.
        self._read: Callable[[Sequence[Any]], R] = eval(f"lambda row: {expression}", compiler.names)
        #: The columns of a record, by name.
        self.write: Callable[[R], dict[str, Any]] = eval(f"lambda record: {{{written}}}", compiler.names)

    def read(self, row: Sequence[Any]) -> R:
        """The record in a row whose first columns are `columns`."""
        return self._read(row)

    def read_all(self, rows: Iterable[Sequence[Any]]) -> list[R]:
        """The records in rows."""
        return list(map(self._read, rows))


class _Compiler:
    """Writes the expressions that build a record from `row` and take `record` apart."""

    def __init__(self, prefixes: Mapping[str, str]) -> None:
        self._prefixes = prefixes
        self.names: dict[str, Any] = {}
        self.writes: dict[str, str] = {}

    def build(self, record: type, prefix: str, path: str) -> str:
        """The expression that makes a `record` of the columns under `prefix`; `path` leads to it when writing."""
        hints = get_type_hints(record)
        arguments = [
            self._part(hints[name], name, f"{prefix}{name}", f"{path}.{name}") for name in _fields(record)
        ]
        return f"{self._name(record)}({', '.join(arguments)})"

    def _part(self, hint: Any, name: str, column: str, path: str) -> str:
        if isinstance(hint, type) and _fields(hint):
            return self.build(hint, f"{self._prefixes.get(name, name)}_", path)
        value = f"row[{len(self.writes)}]"
        if isinstance(hint, type) and issubclass(hint, enum.Enum):
            self.writes[column] = f"{path}.value"
            return f"{self._name(hint)}({value})"
        if get_origin(hint) is tuple:
            (item, _) = get_args(hint)
            self.writes[column] = f"{self._name(encode_json)}({path}) if {path} else '[]'"
            items = f"tuple({self._name(item)}(*item) for item in {self._name(json.loads)}({value}))"
            return f"{items} if {value} != '[]' else ()"
        if get_origin(hint) is dict:
            self.writes[column] = f"{self._name(encode_json)}({path})"
            return f"{self._name(json.loads)}({value})"
        self.writes[column] = path
        return value

    def _name(self, thing: Any) -> str:
        name = f"{thing.__name__}_{len(self.names)}"
        self.names[name] = thing
        return name


def _fields(record: type) -> tuple[str, ...]:
    """The fields of a record, or none if it is a plain value."""
    if is_dataclass(record):
        return tuple(field.name for field in fields(record))
    return tuple(getattr(record, "_fields", ()))


META = RecordMapping(Meta, tables.meta)
QUOTAS = RecordMapping(Quota, tables.quotas, {"sums": "sum"})
AGENTS = RecordMapping(Agent, tables.agents)
EPOCHS = RecordMapping(Epoch, tables.epochs)
ASSIGNMENTS = RecordMapping(Assignment, tables.assignments)
ALLOCATIONS = RecordMapping(Allocation, tables.allocations)
OVERRIDES = RecordMapping(Override, tables.overrides)
NOTES = RecordMapping(Note, tables.history)
ANSWERS = RecordMapping(RecordedAnswer, tables.answers)
