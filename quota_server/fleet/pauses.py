"""How often something may be tried: again soon while it gets somewhere, ever more rarely while it does not. Pure."""

from __future__ import annotations


class Pauses:
    """Pauses by key, in monotonic milliseconds; a fruitless one is twice as long as the last, up to `longest_ms`."""

    def __init__(self, shortest_ms: float, longest_ms: float) -> None:
        self._shortest_ms = shortest_ms
        self._longest_ms = longest_ms
        self._next: dict[str, tuple[float, float]] = {}

    def due(self, key: str, now_ms: float) -> bool:
        """Whether its pause is over."""
        when_ms, _ = self._next.get(key, (now_ms, 0.0))
        return now_ms >= when_ms

    def done(self, key: str, now_ms: float, *, moved: bool) -> None:
        """It was tried; `moved` says whether that got anywhere."""
        if moved:
            self._next.pop(key, None)
            return
        _, last_ms = self._next.get(key, (0.0, self._shortest_ms))
        pause_ms = min(2 * last_ms, self._longest_ms)
        self._next[key] = (now_ms + pause_ms, pause_ms)
