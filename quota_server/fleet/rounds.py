"""The fan-outs under way: told of everything that happens to agents, and asked for their outcomes."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from quota_server.clock import Clock
from quota_server.errors import StoreUnavailable
from quota_server.fleet.connection import Connection
from quota_server.fleet.fanout import AgentOutcome, Round
from quota_server.ledger.effects import Effects, Participant
from quota_server.ledger.model import AgentKey
from quotafleet.link.messages import ReportRequest


class Outcomes(Protocol):
    """Where the outcomes of a fan-out are kept; see `ledger.store`."""

    async def record_round(self, round_id: str, reached: list[dict[str, object]]) -> None: ...


@dataclass(frozen=True, slots=True)
class _Question:
    round: Round
    request: ReportRequest


class Rounds:
    """Rounds of changes, by quota, and rounds of questions. `connections` is the fleet's own table, which it keeps."""

    def __init__(self, connections: Mapping[AgentKey, Connection], history: Outcomes, clock: Clock) -> None:
        self._connections = connections
        self._history = history
        self._clock = clock
        self._changes: dict[str, list[Round]] = {}
        self._questions: dict[int, _Question] = {}
        self._numbers = itertools.count(1)
        self._background: set[asyncio.Task[object]] = set()

    # --- changes -----------------------------------------------------------------------------------------------------

    def open(self, quota_uid: str, participants: Iterable[Participant]) -> Round:
        """A round for a change that was just sent; in the same step as the commit, or acknowledgements are missed."""
        round_ = Round(participants, self._connections, self._clock.monotonic_ms())
        self._changes.setdefault(quota_uid, []).append(round_)
        return round_

    async def close(self, quota_uid: str, round_id: str, round_: Round, wait_ms: int) -> list[AgentOutcome]:
        """Waits until everybody connected is done or `wait_ms` is over, and keeps the outcomes for the history."""
        try:
            await _wait(round_.done, wait_ms)
        finally:
            rounds = self._changes[quota_uid]
            rounds.remove(round_)
            if not rounds:
                del self._changes[quota_uid]
        outcomes = round_.outcomes()
        if round_id:
            with suppress(StoreUnavailable):
                await self._history.record_round(round_id, [_reached(outcome) for outcome in outcomes])
        return outcomes

    def close_later(self, quota_uid: str, round_id: str, round_: Round, wait_ms: int) -> None:
        """The same for a change whose caller does not wait."""
        work = self.close(quota_uid, round_id, round_, wait_ms)
        task: asyncio.Task[object] = asyncio.create_task(work, name=f"fleet: outcomes of {round_id}")
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    # --- questions ---------------------------------------------------------------------------------------------------

    async def ask(
        self, quota_uid: str, participants: Iterable[Participant], wait_ms: int
    ) -> list[AgentOutcome]:
        """Asks all connected agents of a quota for a report, at once."""
        round_ = Round(participants, self._connections, self._clock.monotonic_ms())
        question = _Question(round_, ReportRequest(next(self._numbers), quota_uid))
        self._questions[question.request.request] = question
        for agent in round_.pending:
            self._connections[agent].ask(question.request)
        try:
            await _wait(round_.done, wait_ms)
        finally:
            del self._questions[question.request.request]
        return round_.outcomes()

    def answered(self, agent: AgentKey, numbers: Iterable[int]) -> None:
        """The agent's answers to these questions are recorded."""
        for number in numbers:
            if question := self._questions.get(number):
                question.round.answered(agent, self._clock.monotonic_ms())

    # --- what happens to agents --------------------------------------------------------------------------------------

    def dispatched(self, effects: Effects) -> None:
        """A transaction was committed: newer revisions are to be acknowledged, and some were."""
        for agent, updates in effects.updates.items():
            for update in updates:
                for round_ in self._changes.get(update.quota_uid, ()):
                    round_.revised(agent, update.revision)
        now_ms = self._clock.monotonic_ms()
        for acknowledged in effects.acknowledged:
            agent = acknowledged.key.agent
            for round_ in self._changes.get(acknowledged.key.quota_uid, ()):
                round_.numbers(agent, acknowledged.wanted, acknowledged.exposure)
                round_.acknowledged(agent, acknowledged.revision, now_ms)

    def welcomed(self, agent: AgentKey, connection: Connection) -> None:
        """The agent has a new stream: what the old one was asked is asked again."""
        for question in self._questions.values():
            if agent in question.round.pending:
                connection.ask(question.request)

    def gone(self, agent: AgentKey) -> None:
        """The agent has no stream any more."""
        for round_ in itertools.chain(*self._changes.values(), (q.round for q in self._questions.values())):
            round_.gone(agent)

    def cancel(self) -> None:
        """Nobody waits any more."""
        for task in self._background:
            task.cancel()


async def _wait(done: asyncio.Event, wait_ms: int) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(wait_ms / 1000):
            await done.wait()


def _reached(outcome: AgentOutcome) -> dict[str, object]:
    return {
        "agent": outcome.name,
        "outcome": outcome.outcome.value,
        "after_ms": outcome.after_ms,
        "wanted": outcome.wanted,
        "exposure": outcome.exposure,
    }
