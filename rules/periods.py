"""Periods of days, both ends included."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True, slots=True)
class Period:
    """From `start` to `end`, both included; no end means open.

    A period that ends before it starts can be made, so that it can be reported: see `rules.malformed`.
    """

    start: date
    end: date | None = None

    def spans(self, other: Period) -> bool:
        """Whether every day of `other` is one of this; only an open period spans an open one."""
        if self.start > other.start:
            return False
        return self.end is None or (other.end is not None and self.end >= other.end)

    def overlaps(self, other: Period) -> bool:
        """Whether the two share a day."""
        return (other.end is None or self.start <= other.end) and (
            self.end is None or other.start <= self.end
        )

    def __contains__(self, day: date) -> bool:
        return self.start <= day and (self.end is None or day <= self.end)

    def __str__(self) -> str:
        return f"{self.start} to {self.end}" if self.end else f"{self.start} on"
