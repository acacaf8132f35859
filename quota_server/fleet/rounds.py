"""The fan-outs under way: told of everything that happens to agents, and asked for their outcomes.

Agents whose streams are on other controllers take part: what is stored of them is observed.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from quota_server.clock import Clock
from quota_server.errors import StoreUnavailable
from quota_server.fleet.again import again
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


@dataclass(frozen=True, slots=True)
class _Relayed:
    """A question of another controller: who has not answered it, and whom to tell."""

    request: ReportRequest
    pending: set[AgentKey]
    tell: Callable[[AgentKey], None]


class Rounds:
    """Rounds of changes, by quota, and rounds of questions. `connections` is the fleet's own table, which it keeps."""

    def __init__(
        self,
        connections: Mapping[AgentKey, Connection],
        history: Outcomes,
        clock: Clock,
        controller: str | None = None,
    ) -> None:
        self._connections = connections
        #: This one among several; None: there is no other.
        self._controller = controller
        #: Asks on the other controllers; there is none, unless somebody says so.
        self.ask_elsewhere: Callable[[int, str], Awaitable[None]] = _nobody
        self._history = history
        self._clock = clock
        self._changes: dict[str, list[Round]] = {}
        self._questions: dict[int, _Question] = {}
        self._relayed: dict[int, _Relayed] = {}
        self._numbers = itertools.count(1)
        self._background: set[asyncio.Task[object]] = set()

    # --- changes -----------------------------------------------------------------------------------------------------

    def open(self, quota_uid: str, participants: Iterable[Participant]) -> Round:
        """A round for a change that was just sent; in the same step as the commit, or acknowledgements are missed."""
        round_ = self._begin(participants)
        self._changes.setdefault(quota_uid, []).append(round_)
        return round_

    def is_reachable(self, participant: Participant) -> bool:
        """Whether a stream of it is up, here or on another controller."""
        return participant.agent in self._connections or self._is_elsewhere(participant)

    def _is_elsewhere(self, participant: Participant) -> bool:
        return self._controller is not None and participant.owner not in ("", self._controller)

    def _begin(self, participants: Iterable[Participant]) -> Round:
        everybody = tuple(participants)
        reachable = [p.agent for p in everybody if self.is_reachable(p)]
        return Round(everybody, reachable, self._clock.monotonic_ms())

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
                reached = [_reached(outcome) for outcome in outcomes]
                await again(lambda: self._history.record_round(round_id, reached))
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
        round_ = self._begin(participants)
        question = _Question(round_, ReportRequest(next(self._numbers), quota_uid))
        self._questions[question.request.request] = question
        self._ask(round_.pending, question.request)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_ms / 1000):
                    if self._some_elsewhere(round_):
                        await self.ask_elsewhere(question.request.request, quota_uid)
                    await round_.done.wait()
        finally:
            del self._questions[question.request.request]
        return round_.outcomes()

    def answered(self, agent: AgentKey, numbers: Iterable[int]) -> None:
        """The agent's answers to these questions are recorded."""
        for number in numbers:
            if question := self._questions.get(number):
                question.round.answered(agent, self._clock.monotonic_ms())
            elif (relayed := self._relayed.get(number)) and agent in relayed.pending:
                relayed.pending.discard(agent)
                relayed.tell(agent)

    def _ask(self, agents: Iterable[AgentKey], request: ReportRequest) -> None:
        for agent in agents:
            if connection := self._connections.get(agent):
                connection.ask(request)

    # --- other controllers -------------------------------------------------------------------------------------------

    def changing(self) -> bool:
        """Whether a change is under way."""
        return bool(self._changes)

    def changing_elsewhere(self) -> list[str]:
        """Quotas with a change that agents on other controllers have yet to acknowledge."""
        return [uid for uid, rounds in self._changes.items() if any(map(self._some_elsewhere, rounds))]

    def observed(self, quota_uid: str, participants: Iterable[Participant]) -> None:
        """What is stored of the agents of a quota now; of those that are here it is known already."""
        now_ms = self._clock.monotonic_ms()
        for participant in participants:
            agent = participant.agent
            if agent in self._connections:
                continue
            for round_ in self._changes.get(quota_uid, ()):
                round_.numbers(agent, participant.wanted, participant.exposure)
                round_.revised(agent, participant.needed)
                round_.acknowledged(agent, participant.acknowledged, now_ms)
                if not self._is_elsewhere(participant) and agent in round_.pending:
                    round_.gone(agent)

    def asked_elsewhere(self) -> list[tuple[int, str]]:
        """Questions, by number and quota, that agents on other controllers have yet to answer."""
        open_questions = self._questions.values()
        return [
            (q.request.request, q.request.quota_uid) for q in open_questions if self._some_elsewhere(q.round)
        ]

    def answered_elsewhere(self, number: int, agents: Iterable[AgentKey]) -> None:
        """Answers to a question that was asked here are recorded."""
        if question := self._questions.get(number):
            for agent in agents:
                question.round.answered(agent, self._clock.monotonic_ms())

    def relay(self, quota_uid: str, agents: Iterable[AgentKey], tell: Callable[[AgentKey], None]) -> int:
        """Asks agents that are here, or come here, on behalf of another controller; the number of the question."""
        relayed = _Relayed(ReportRequest(next(self._numbers), quota_uid), set(agents), tell)
        self._relayed[relayed.request.request] = relayed
        self._ask(relayed.pending, relayed.request)
        return relayed.request.request

    def end_relay(self, number: int) -> None:
        """Nobody waits for it any more."""
        del self._relayed[number]

    def _some_elsewhere(self, round_: Round) -> bool:
        return any(agent not in self._connections for agent in round_.pending)

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
        for relayed in self._relayed.values():
            if agent in relayed.pending:
                connection.ask(relayed.request)

    def gone(self, agent: AgentKey) -> None:
        """The agent has no stream any more."""
        for round_ in itertools.chain(*self._changes.values(), (q.round for q in self._questions.values())):
            round_.gone(agent)

    def cancel(self) -> None:
        """Nobody waits any more."""
        for task in self._background:
            task.cancel()


async def _nobody(_number: int, _quota_uid: str) -> None:
    """There is no other controller."""


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
