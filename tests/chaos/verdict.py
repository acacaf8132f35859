"""What a run can end with besides success."""

from __future__ import annotations


class Violation(Exception):
    """A guarantee did not hold."""

    def __init__(self, guarantee: str, expected: str, seen: str) -> None:
        """`guarantee` is a name of docs/guarantees.md, S1 to S7 or L1 to L3, or API or RUN for what goes beyond it."""
        super().__init__(f"{guarantee} is broken: expected {expected}; seen: {seen}")
        self.guarantee = guarantee
        self.expected = expected
        self.seen = seen


class CannotRun(Exception):
    """The run cannot be made here; the message says what is missing."""
