"""What a run can end with."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Outcome(enum.StrEnum):
    """How a run ends."""

    HELD = "held"
    BROKEN = "broken"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


#: 2 is bad usage.
_CODES = {Outcome.HELD: 0, Outcome.BROKEN: 1, Outcome.FAILED: 3, Outcome.INTERRUPTED: 130}


@dataclass
class Ending:
    """How a run ended, why, and whether its files are worth keeping."""

    outcome: Outcome = Outcome.HELD
    reason: str = ""
    keeps: bool = False

    @property
    def code(self) -> int:
        """The exit code."""
        return _CODES[self.outcome]

    def add(self, outcome: Outcome, reason: str, *, keeps: bool = True) -> None:
        """Something that ended it. What was added first decides; the same outcome again adds its reason."""
        if self.outcome is Outcome.HELD:
            self.outcome, self.reason = outcome, reason
        elif self.outcome is outcome:
            self.reason += f"; {reason}"
        self.keeps = self.keeps or keeps


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
