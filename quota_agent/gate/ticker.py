"""What has to happen on the gate by itself: time is written down, holds end, a store that failed is tried again."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from quota_agent.clock import Clock
from quota_agent.errors import StoreUnavailable
from quota_agent.gate.model import GateSettings
from quota_agent.gate.operations import Touch
from quota_agent.gate.writer import Action, Writer


class Ticker:
    """Ticks now and then, as soon as a hold ends, and every heartbeat while the store is not healthy."""

    def __init__(self, writer: Writer, clock: Clock, settings: GateSettings) -> None:
        self._writer = writer
        self._clock = clock
        self._touch_s = settings.touch_ms / 1000
        self._beat_s = settings.heartbeat_ms / 1000
        self._timer: asyncio.TimerHandle | None = None
        self._touching: asyncio.Future[Any] | None = None

    def start(self) -> None:
        """Begin to tick."""
        self._arm(self._delay_s())

    def stop(self) -> None:
        """Tick no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def look_again(self) -> None:
        """Tick earlier if a hold ends earlier than the next tick."""
        if self._timer is None:
            return
        at = asyncio.get_running_loop().time() + self._delay_s()
        if at < self._timer.when():
            self.stop()
            self.start()

    def tick(self) -> None:
        """Do now what is to be done, unless it is under way."""
        writer = self._writer
        if self._touching is None or self._touching.done():
            operation = Touch() if writer.healthy else Action(writer.recover)
            with contextlib.suppress(StoreUnavailable):  # the queue is full, and takes the time along
                self._touching = writer.submit(operation)

    def _tick(self) -> None:
        self.tick()
        # What is due is under way, or the queue is full; `look_again`, after each group, finds what is left of it.
        # By the hold's time this would tick without a pause until then.
        self._arm(self._rest_s())

    def _arm(self, delay_s: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._tick)

    def _rest_s(self) -> float:
        return self._touch_s if self._writer.healthy else self._beat_s

    def _delay_s(self) -> float:
        writer = self._writer
        due_ms = writer.state.hold_due_ms
        if due_ms is None or not writer.healthy:
            return self._rest_s()
        now_ms = max(self._clock.wall_ms(), writer.state.agent.clock_mark_ms)
        return min(self._rest_s(), max(0.0, (due_ms - now_ms) / 1000))
