"""`replace` for the ledger's records: as that of `dataclasses`, several times as fast.

A fan-out to a thousand agents replaces some seven thousand records of up to thirty fields.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import cache
from typing import Any, TypeVar

R = TypeVar("R")


def replace(record: R, /, **changes: Any) -> R:
    """The record with some fields changed. Raises TypeError for a field that it does not have."""
    kind: Any = type(record)
    replaced: R = _replacer(kind)(record, changes)
    return replaced


@cache
def _replacer(kind: Any) -> Callable[[Any, dict[str, Any]], Any]:
    names = [field.name for field in fields(kind)]
    known = frozenset(names)
    values = ", ".join(f"c[{name!r}] if {name!r} in c else r.{name}" for name in names)
    # The text is made of the fields of our own classes and of nothing else.
    build: Callable[[Any, dict[str, Any]], Any] = eval(f"lambda r, c: kind({values})", {"kind": kind})

    def replaced(record: Any, changes: dict[str, Any]) -> Any:
        if not known.issuperset(changes):
            raise TypeError(f"{kind.__name__} has no {', '.join(sorted(changes.keys() - known))}")
        return build(record, changes)

    return replaced
