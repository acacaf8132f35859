"""Which controller to dial next, and when: a pure function of what came of the dials before, and of chance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

FIRST_MS: Final = 200
MOST_MS: Final = 30_000


class Attempt(NamedTuple):
    """Dial `target` after `delay_ms`."""

    target: str
    delay_ms: int


class Backoff:
    """Exponential, with full jitter: after each round in which every controller failed, wait up to twice as long.

    Within a round the next controller is tried at once. Full jitter (anything from nothing to the bound) keeps a fleet
    that lost its controller at one moment from coming back at one moment.
    """

    def __init__(
        self,
        targets: Sequence[str],
        random: Callable[[], float],
        *,
        first_ms: int = FIRST_MS,
        most_ms: int = MOST_MS,
    ) -> None:
        """`random` answers a number from 0 up to, not including, 1."""
        if not targets:
            raise ValueError("there must be at least one controller to dial")
        if not 0 < first_ms <= most_ms:
            raise ValueError("the bounds of the delay must be positive and in order")
        self._targets = tuple(targets)
        self._random = random
        self._first_ms = first_ms
        self._most_ms = most_ms
        self._at = 0
        self._failed = 0
        self._bound_ms = first_ms

    def first(self) -> Attempt:
        """The first dial."""
        return Attempt(self._targets[self._at], 0)

    def succeeded(self) -> None:
        """The dial held: what failed before it does not count any more."""
        self._failed = 0
        self._bound_ms = self._first_ms

    def failed(self) -> Attempt:
        """The dial failed, or its stream has ended."""
        bound_ms = self._bound_ms
        if not self._next():
            return Attempt(self._targets[self._at], 0)
        self._bound_ms = min(2 * bound_ms, self._most_ms)
        return Attempt(self._targets[self._at], int(self._random() * bound_ms))

    def rejected(self) -> Attempt:
        """The controller does not accept the credential: another might, but then there is no hurry."""
        self._bound_ms = self._most_ms
        delay_ms = self._most_ms if self._next() else 0
        return Attempt(self._targets[self._at], delay_ms)

    def again(self) -> Attempt:
        """Dial the same controller at once: it said how to do better."""
        return Attempt(self._targets[self._at], 0)

    def _next(self) -> bool:
        """Go on to the next controller; whether all have failed since the last wait."""
        self._at = (self._at + 1) % len(self._targets)
        self._failed = (self._failed + 1) % len(self._targets)
        return self._failed == 0
