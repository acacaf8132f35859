"""Acquisitions that wait for more limit: first come, first served, within what each quota's name stands for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from quota_agent.gate.model import AcquireMode, AcquireRequest


@dataclass(slots=True, eq=False)
class Waiter:
    """One request that waits."""

    request: AcquireRequest
    future: asyncio.Future[object]
    timer: asyncio.TimerHandle
    #: It has been handed to the writer again and keeps its place until the answer is there.
    trying: bool = False
    #: Its time is over; the answer that is under way is its last.
    late: bool = False


_Line = dict[asyncio.Future[object], Waiter]


class Waiting:
    """Who waits, by the name that they asked for: what it stands for may change meanwhile.

    A waiter's answer always comes from the writer, its last included: only the store knows whether a request that
    somebody else waits for as well was granted. `retry` hands waiters to the writer.
    """

    def __init__(self, retry: Callable[[Sequence[Waiter]], None]) -> None:
        self._retry = retry
        self._waiters: _Line = {}
        self._lines: dict[str, _Line] = {}
        self._same: dict[tuple[str, str], _Line] = {}

    def names(self) -> list[str]:
        """Names of the quotas for which somebody waits."""
        return list(self._lines)

    def join(self, request: AcquireRequest, future: asyncio.Future[object]) -> None:
        """Stand behind the others, for as long as the request says."""
        loop = asyncio.get_running_loop()
        timer = loop.call_later(request.max_wait_ms / 1000, self._time_over, future)
        waiter = Waiter(request, future, timer)
        self._waiters[future] = waiter
        self._lines.setdefault(request.quota, {})[future] = waiter
        self._same.setdefault((request.quota, request.request_id), {})[future] = waiter

    def stay(self, future: asyncio.Future[object]) -> bool:
        """Go on waiting, in the same place, after a try that failed; False if the time for it is over."""
        waiter = self._waiters.get(future)
        if waiter is None or waiter.late:
            return False
        waiter.trying = False
        return True

    def leave(self, future: asyncio.Future[object]) -> None:
        """Wait no more."""
        waiter = self._waiters.pop(future, None)
        if waiter is None:
            return
        waiter.timer.cancel()
        request = waiter.request
        _remove(self._lines, request.quota, future)
        _remove(self._same, (request.quota, request.request_id), future)

    def try_fitting(self, name: str, room: int) -> None:
        """Try those at the front whose amounts fit into `room` units.

        Whoever does not fit holds up those behind: else a large request would starve among small ones.
        """
        chosen = []
        for waiter in self._lines.get(name, {}).values():
            amount = waiter.request.amount
            if waiter.request.mode is AcquireMode.UP_TO:
                amount = max(1, min(amount, room))
            if amount > room:
                break
            room -= amount
            chosen.append(waiter)
        self._try(chosen)

    def try_repeats(self, name: str, request_id: str) -> None:
        """Try all who wait with a request_id that was granted: there is an answer to it now."""
        self._try(self._same.get((name, request_id), {}).values())

    def try_last(self, name: str) -> None:
        """Try all who wait for a name for the last time, whatever the answer."""
        waiters = self._lines.get(name, {}).values()
        for waiter in waiters:
            waiter.late = True
        self._try(waiters)

    def _time_over(self, future: asyncio.Future[object]) -> None:
        waiter = self._waiters[future]
        waiter.late = True
        self._try([waiter])

    def _try(self, waiters: Iterable[Waiter]) -> None:
        idle = [waiter for waiter in waiters if not waiter.trying]
        for waiter in idle:
            waiter.trying = True
        if idle:
            self._retry(idle)


def _remove(lines: dict[Any, _Line], key: object, future: asyncio.Future[object]) -> None:
    line = lines[key]
    del line[future]
    if not line:
        del lines[key]
