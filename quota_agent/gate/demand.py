"""What callers ask for: the part of a standing that is not durable, and from which the controller shares out.

Times are of the monotonic clock. A request costs a few dictionary operations, however many there are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from quotafleet.link.messages import MAX_OPEN_REQUESTS, MAX_UNITS, OpenRequest

#: Demand is counted over this many heartbeats, the present one included.
WINDOW_BEATS = 4
#: A refused request stays open for so many heartbeats, unless it is granted before.
OPEN_BEATS = 2
#: Open requests remembered of one quota. Beyond them no more are needed to see that there is a want.
MAX_REMEMBERED = 1_024


class DemandView(NamedTuple):
    """The demand of one quota, as a standing carries it."""

    open_requests: tuple[OpenRequest, ...] = ()
    recent_demand: int = 0
    wanted_more: int = 0


NO_DEMAND = DemandView()


@dataclass(slots=True)
class _Open:
    amount: int
    since_ms: int
    until_ms: int


@dataclass(slots=True)
class QuotaDemand:
    """The demand of one quota, in its smallest unit."""

    beat_ms: int
    #: Requests not granted yet by request_id, oldest first.
    open: dict[str, _Open] = field(default_factory=dict)
    #: Units asked for by heartbeat; at most WINDOW_BEATS of them.
    beats: dict[int, int] = field(default_factory=dict)
    #: When what is over was last forgotten.
    swept_ms: int = 0

    def follow(self, beat_ms: int) -> None:
        """Count in beats of another length from now on; what was counted so far is forgotten, open requests stay."""
        self.beat_ms = beat_ms
        self.beats.clear()

    def ask(self, units: int, now_ms: int) -> None:
        """Count units that were asked for."""
        beat = now_ms // self.beat_ms
        self.beats[beat] = self.beats.get(beat, 0) + units
        if len(self.beats) > WINDOW_BEATS:
            self._forget(now_ms)

    def refuse(self, request_id: str, amount: int, now_ms: int, wait_ms: int) -> bool:
        """Remember a request that was refused, or waits up to `wait_ms`. Whether it is a new one."""
        until_ms = now_ms + max(wait_ms, OPEN_BEATS * self.beat_ms)
        known = self.open.get(request_id)
        if known is not None and known.until_ms > now_ms:
            known.until_ms = max(known.until_ms, until_ms)
            return False
        self.ask(amount, now_ms)
        self.open.pop(request_id, None)  # it comes back later than it could wait: younger than the others
        if len(self.open) >= MAX_REMEMBERED and now_ms - self.swept_ms >= self.beat_ms:
            self._forget(now_ms)  # at most once a heartbeat: it reads them all
        if len(self.open) >= MAX_REMEMBERED:
            return False
        self.open[request_id] = _Open(amount, now_ms, until_ms)
        return True

    def grant(self, requests: Iterable[tuple[str, int]], now_ms: int) -> None:
        """Close requests that were granted; the units of each were counted when it was first refused."""
        for request_id, amount in requests:
            known = self.open.pop(request_id, None)
            if known is None:
                self.ask(amount, now_ms)

    def view(self, headroom: int, now_ms: int) -> DemandView:
        """The demand now; `headroom` is limit - count - held."""
        self._forget(now_ms)
        recent = min(sum(self.beats.values()), MAX_UNITS)
        a_beat = -(-recent // WINDOW_BEATS)
        oldest = list(self.open.values())[:MAX_OPEN_REQUESTS]
        return DemandView(
            tuple(OpenRequest(each.amount, now_ms - each.since_ms) for each in oldest),
            recent,
            max(0, a_beat - headroom),
        )

    def _forget(self, now_ms: int) -> None:
        self.swept_ms = now_ms
        first = now_ms // self.beat_ms - WINDOW_BEATS + 1
        if any(beat < first for beat in self.beats):
            self.beats = {beat: units for beat, units in self.beats.items() if beat >= first}
        if any(each.until_ms <= now_ms for each in self.open.values()):
            self.open = {key: each for key, each in self.open.items() if each.until_ms > now_ms}
