"""A machine's clocks: wall time jumps, drifts and stops; monotonic time does not."""

from __future__ import annotations

from tests.simulation.loop import SimLoop

#: 2026-07-01T00:00:00Z
START_MS = 1_782_864_000_000


class MachineClock:
    """Both clocks of one machine, as `quota_agent.clock.Clock` and `quota_server.clock.Clock` want them.

    `skew_ms` is by how much it is wrong when it is right.
    """

    def __init__(self, loop: SimLoop, skew_ms: int = 0) -> None:
        self._loop = loop
        self._skew_ms = skew_ms
        #: The wall clock said `_base_ms` at `_since_ms` of simulated time, and goes on at `_rate` since.
        self._base_ms = float(START_MS + skew_ms)
        self._since_ms = 0.0
        self._rate = 1.0

    def wall_ms(self) -> int:
        return int(self._wall())

    def monotonic_ms(self) -> int:
        return int(self._loop.time() * 1000)

    def jump(self, by_ms: int) -> None:
        """Set the wall clock forward or back."""
        self._set(self._wall() + by_ms, self._rate)

    def run_at(self, rate: float) -> None:
        """Let the wall clock drift from now on; 0 stops it."""
        self._set(self._wall(), rate)

    def put_right(self) -> None:
        """What ntp does in the end."""
        self._set(START_MS + self._skew_ms + self._loop.time() * 1000, 1.0)

    def _wall(self) -> float:
        return self._base_ms + (self._loop.time() * 1000 - self._since_ms) * self._rate

    def _set(self, wall_ms: float, rate: float) -> None:
        self._base_ms, self._since_ms, self._rate = wall_ms, self._loop.time() * 1000, rate
