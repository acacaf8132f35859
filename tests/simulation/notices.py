"""What controllers tell each other: late, or not at all. A queue of notices dies with its controller."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection
from random import Random
from typing import Any

from quota_server.fleet.others import Notice, Question
from quota_server.fleet.payloads import in_parts, read_payload
from quota_server.ledger.model import AgentKey
from tests.simulation.loop import Process, SimLoop


class Channel:
    """Brings every payload to all who listen but the one who says it, or loses it."""

    def __init__(self, loop: SimLoop, chance: Random, loss: float, slowest_ms: int) -> None:
        self._loop = loop
        self._chance = chance
        self._loss = loss
        self._slowest_ms = slowest_ms
        self._listening: dict[str, SimNotices] = {}

    def listen(self, controller: str, process: Process, check: Callable[[], None]) -> SimNotices:
        """The notices of one life of a controller; `check` is called before it says something, and may raise."""
        self._listening = {uid: each for uid, each in self._listening.items() if each.process.alive}
        notices = self._listening[controller] = SimNotices(self, controller, process, check)
        return notices

    def say(self, speaker: str, payload: dict[str, Any]) -> None:
        """Tell all the others."""
        said = json.dumps(payload)
        for uid, notices in self._listening.items():
            if uid == speaker or not notices.process.alive or self._chance.random() < self._loss:
                continue
            at = self._loop.time() + (0.1 + self._chance.random()) * self._slowest_ms / 1000
            self._loop.at(at, f"notice to {uid}", notices.take, read_payload(json.loads(said), uid))


class SimNotices:
    """See `fleet.others.Notices`."""

    def __init__(
        self, channel: Channel, controller: str, process: Process, check: Callable[[], None]
    ) -> None:
        self.process = process
        self._channel = channel
        self._controller = controller
        self._check = check
        self._notice = Notice(everything=True)
        self._new = asyncio.Event()
        self._new.set()

    async def next(self) -> Notice:
        await self._new.wait()
        self._new.clear()
        notice, self._notice = self._notice, Notice()
        return notice

    async def ask(self, question: Question) -> None:
        self._say({"question": [question.controller, question.number, question.quota_uid]})

    async def answer(self, question: Question, agents: Collection[AgentKey]) -> None:
        for some in in_parts(sorted(agents)):
            self._say({"answer": [question.controller, question.number, some]})

    def take(self, notice: Notice) -> None:
        """It has arrived."""
        if self.process.alive:
            self._notice.add(notice)
            self._new.set()

    def _say(self, payload: dict[str, Any]) -> None:
        self._check()
        self._channel.say(self._controller, payload)
