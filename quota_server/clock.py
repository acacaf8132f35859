"""The only module that reads the clock."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Wall time decides about periods, monotonic time about leases and silence."""

    def wall_ms(self) -> int:
        """Milliseconds since 1970-01-01 UTC."""

    def monotonic_ms(self) -> int:
        """Milliseconds that never go back."""


class SystemClock:
    """The machine's clocks."""

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000
