"""Acquisitions that wait for more limit: first come, first served, within each quota."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from quota_agent.gate.model import AcquireMode, AcquireRequest


@dataclass(slots=True, eq=False)
class Waiter:
    """One request that waits."""

    quota_uid: str
    request: AcquireRequest
    future: asyncio.Future[object]
    timer: asyncio.TimerHandle
    #: It has been handed to the writer again and keeps its place until the answer is there.
    trying: bool = False
    #: Its time is over; the answer that is under way is its last.
    late: bool = False


class Waiting:
    """Who waits, by quota. Calls `late` with each waiter whose time is over while it is not being tried."""

    def __init__(self, late: Callable[[Waiter], None]) -> None:
        self._late = late
        self._lines: dict[str, dict[asyncio.Future[object], Waiter]] = {}
        self._waiters: dict[asyncio.Future[object], Waiter] = {}

    def quotas(self) -> frozenset[str]:
        """Uids of the quotas in which somebody waits."""
        return frozenset(self._lines)

    def line(self, uid: str) -> list[Waiter]:
        """Those who wait in a quota and are not being tried, the first to come first."""
        return [waiter for waiter in self._lines.get(uid, {}).values() if not waiter.trying]

    def join(self, uid: str, request: AcquireRequest, future: asyncio.Future[object]) -> None:
        """Stand behind the others, for as long as the request says."""
        loop = asyncio.get_running_loop()
        timer = loop.call_later(request.max_wait_ms / 1000, self._time_over, future)
        waiter = Waiter(uid, request, future, timer)
        self._lines.setdefault(uid, {})[future] = waiter
        self._waiters[future] = waiter

    def stay(self, future: asyncio.Future[object]) -> bool:
        """Go on waiting, in the same place, after a try that failed; False if the time for it is over."""
        waiter = self._waiters[future]
        waiter.trying = False
        return not waiter.late

    def leave(self, future: asyncio.Future[object]) -> Waiter:
        """Wait no more."""
        waiter = self._waiters.pop(future)
        waiter.timer.cancel()
        line = self._lines[waiter.quota_uid]
        del line[future]
        if not line:
            del self._lines[waiter.quota_uid]
        return waiter

    def fitting(self, uid: str, room: int) -> list[Waiter]:
        """Those at the front whose amounts fit into `room` units; they count as being tried from now on.

        Whoever does not fit holds up those behind: else a large request would starve among small ones.
        """
        chosen = []
        for waiter in self._lines.get(uid, {}).values():
            amount = waiter.request.amount
            if waiter.request.mode is AcquireMode.UP_TO:
                amount = max(1, min(amount, room))
            if amount > room:
                break
            room -= amount
            if not waiter.trying:
                waiter.trying = True
                chosen.append(waiter)
        return chosen

    def _time_over(self, future: asyncio.Future[object]) -> None:
        waiter = self._waiters[future]
        if waiter.trying:
            waiter.late = True
        else:
            self._late(waiter)
