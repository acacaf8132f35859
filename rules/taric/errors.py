"""What can be wrong with an envelope."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_MAX_SHOWN: Final = 60


class TaricError(ValueError):
    """An envelope cannot be read or written any further; `expected` says what should be at `element`.

    `line` is 0 where there is none: when writing.
    """

    def __init__(self, line: int, element: str, expected: str) -> None:
        place = f"line {line}: {element}" if line else element
        super().__init__(f"{place}: {expected}")
        self.line = line
        self.element = element
        self.expected = expected


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with one record of an envelope; its transaction is to be refused.

    `index` counts the transaction's records from 0 (its changes, once they are mapped): that of the record, or of the
    one after it if it could not even be taken. `element` is in its body or its head, or is the body.
    """

    index: int
    line: int
    element: str
    #: Completes a sentence about the element: "must be a date, YYYY-MM-DD, not '2026-02-30'".
    expected: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.element}: {self.expected}"


def shown(text: str) -> str:
    """A text as messages show it: not longer than helps."""
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def but_found(expected: str, found: str | None) -> str:
    """What was expected, and what stands there instead; None if nothing does."""
    return expected if found is None else f"{expected}, not {shown(found)!r}"
