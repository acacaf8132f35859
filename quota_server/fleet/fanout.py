"""A fan-out: who was to be reached, who was, and how long it took. Pure but for the event that its caller waits for."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Iterable
from dataclasses import dataclass

from quota_server.ledger.effects import Participant
from quota_server.ledger.model import AgentKey
from quotafleet.link.messages import Revision


class Outcome(enum.StrEnum):
    """What became of a change, or a question, on one agent."""

    APPLIED = "APPLIED"
    PENDING_OFFLINE = "PENDING_OFFLINE"
    TIMED_OUT = "TIMED_OUT"
    FENCED = "FENCED"


@dataclass(frozen=True, slots=True)
class AgentOutcome:
    """One agent's outcome; `after_ms` since the fan-out began, for APPLIED."""

    agent: AgentKey
    name: str
    outcome: Outcome
    after_ms: int | None
    wanted: int
    exposure: int


class Round:
    """One fan-out to agents of a quota. `done` is set when nobody connected is pending any more.

    For a change an agent is done when it acknowledged the newest revision that it was sent meanwhile: also one that
    another agent's acknowledgement made possible.
    """

    def __init__(
        self, participants: Iterable[Participant], connected: Iterable[AgentKey], now_ms: int
    ) -> None:
        self._began_ms = now_ms
        self._participants = {p.agent: p for p in participants}
        self._numbers = {p.agent: (p.wanted, p.exposure) for p in self._participants.values()}
        self._after_ms: dict[AgentKey, int] = {}
        self._pending: dict[AgentKey, Revision] = {}
        self.done = asyncio.Event()
        reachable = set(connected)
        for participant in self._participants.values():
            if participant.agent in reachable and not participant.fenced:
                self._pending[participant.agent] = participant.needed
                self.acknowledged(participant.agent, participant.acknowledged, now_ms)
        self._check()

    @property
    def pending(self) -> list[AgentKey]:
        """Connected agents that are not done."""
        return list(self._pending)

    def revised(self, agent: AgentKey, revision: Revision) -> None:
        """The agent was sent a newer revision: that is the one to be acknowledged."""
        if agent in self._pending or agent in self._after_ms:
            self._pending[agent] = max(revision, self._pending.get(agent, revision))
            self._check()

    def acknowledged(self, agent: AgentKey, revision: Revision, now_ms: int) -> None:
        """The agent's store is found to have applied `revision`."""
        if agent in self._pending and revision >= self._pending[agent]:
            self.answered(agent, now_ms)

    def numbers(self, agent: AgentKey, wanted: int, exposure: int) -> None:
        """Where the agent's allocation stands now."""
        if agent in self._participants:
            self._numbers[agent] = (wanted, exposure)

    def answered(self, agent: AgentKey, now_ms: int) -> None:
        """The agent is done."""
        if self._pending.pop(agent, None) is not None:
            self._after_ms[agent] = now_ms - self._began_ms
        self._check()

    def gone(self, agent: AgentKey) -> None:
        """The agent's stream ended before it was done; it gets the change when it comes back."""
        self._pending.pop(agent, None)
        self._after_ms.pop(agent, None)
        self._check()

    def outcomes(self) -> list[AgentOutcome]:
        """Every participant's outcome so far, by name."""
        ordered = sorted(self._participants.values(), key=lambda p: (p.name, p.agent))
        return [self._outcome(participant) for participant in ordered]

    def _outcome(self, participant: Participant) -> AgentOutcome:
        agent = participant.agent
        outcome, after_ms = Outcome.PENDING_OFFLINE, None
        if participant.fenced:
            outcome = Outcome.FENCED
        elif agent in self._pending:
            outcome = Outcome.TIMED_OUT
        elif agent in self._after_ms:
            outcome, after_ms = Outcome.APPLIED, self._after_ms[agent]
        wanted, exposure = self._numbers[agent]
        return AgentOutcome(agent, participant.name, outcome, after_ms, wanted, exposure)

    def _check(self) -> None:
        if not self._pending:
            self.done.set()
        else:
            self.done.clear()
