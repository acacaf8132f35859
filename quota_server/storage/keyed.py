"""Statements over many keys: a few lengths of them on SQLite, arrays on PostgreSQL, so that there are few to plan."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Boolean,
    Connection,
    Executable,
    LargeBinary,
    Text,
    bindparam,
    func,
    select,
    tuple_,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql import ColumnElement, visitors

_AMONG: Final = "among"
#: Keys in one statement; up to three variables each, twice at most, and databases take some 32,000.
CHUNK: Final = 4_096


def among(*columns: ColumnElement[Any]) -> ColumnElement[bool]:
    """The condition that these columns are one of the bound `keys`; see `rows_by_key`."""
    keys: BindParameter[Any] = bindparam("keys", expanding=True)
    condition = columns[0].in_(keys) if len(columns) == 1 else tuple_(*columns).in_(keys)
    return condition._annotate({_AMONG: columns})


def on_postgres(statement: Executable) -> Executable:
    """The same, its keys bound as arrays, `keys_0` and so on: one text for any number of them."""
    return visitors.replacement_traverse(statement, {}, _as_arrays)  # type: ignore[call-overload, no-any-return]


def _as_arrays(element: Any, **_: Any) -> ColumnElement[bool] | None:
    columns = getattr(element, "_annotations", {}).get(_AMONG)
    if columns is None:
        return None
    arrays = (bindparam(f"keys_{n}", type_=array_of(column)) for n, column in enumerate(columns))
    keys = select(*map(func.unnest, arrays))
    return columns[0].in_(keys) if len(columns) == 1 else tuple_(*columns).in_(keys)


def array_of(column: ColumnElement[Any]) -> postgresql.ARRAY[Any]:
    """The type of an array of what a column holds; without a collation, which an array's name has no room for."""
    plain = next(kind for kind in (Text, BigInteger, Boolean, LargeBinary) if isinstance(column.type, kind))
    return postgresql.ARRAY(plain(), dimensions=1)


_on_postgres = cache(on_postgres)


def rows_by_key(
    connection: Connection, statement: Executable, keys: Collection[Any], **values: Any
) -> list[Any]:
    """The rows of a statement over `keys`, asked for in chunks and in order, as the locks are to be taken."""
    ordered = sorted(set(keys))
    if connection.dialect.name == "postgresql":
        return _rows_by_arrays(connection, statement, ordered, values)
    chunks = (ordered[start : start + CHUNK] for start in range(0, len(ordered), CHUNK))
    filled = ({**values, "keys": _filled_up(chunk)} for chunk in chunks)
    return [row for bound in filled for row in connection.execute(statement, bound)]


def _rows_by_arrays(
    connection: Connection, statement: Executable, keys: list[Any], values: dict[str, Any]
) -> list[Any]:
    if not keys:
        return []
    columns = zip(*keys, strict=True) if isinstance(keys[0], tuple) else [keys]
    arrays = {f"keys_{number}": list(column) for number, column in enumerate(columns)}
    return list(connection.execute(_on_postgres(statement), {**values, **arrays}))


def _filled_up(keys: list[Any]) -> list[Any]:
    """The last key again and again, up to a power of two: so few lengths are few statements to plan."""
    return keys + keys[-1:] * ((1 << (len(keys) - 1).bit_length()) - len(keys))
