"""What is wrong with an envelope."""

from __future__ import annotations

from dataclasses import dataclass


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
    """Something wrong with one record; its transaction is refused. Records are counted from 0 in their transaction."""

    index: int
    line: int
    element: str
    expected: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.element}: {self.expected}"
