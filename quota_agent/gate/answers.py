"""Gives callers their answers once these are durable, and lets those wait who asked to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from quota_agent.errors import AgentError, Refusal, StoreUnavailable
from quota_agent.gate import refusals
from quota_agent.gate.model import AcquireRequest, GateSettings
from quota_agent.gate.operations import Operation, Retry
from quota_agent.gate.reporting import Reporting
from quota_agent.gate.state import Decision
from quota_agent.gate.waiting import Waiter, Waiting
from quota_agent.gate.writer import Action, Pending, Writer


class Answers:
    """The writer's listener; calls `after` when a group is dealt with."""

    def __init__(
        self, writer: Writer, reporting: Reporting, settings: GateSettings, *, after: Callable[[], None]
    ) -> None:
        self._writer = writer
        self._reporting = reporting
        self._tolerance_ms = settings.clock_tolerance_ms
        self._after = after
        self._waiting = Waiting(self._retry)
        self._stopping = False

    def waited(self) -> frozenset[str]:
        """Uids of the quotas in which requests wait."""
        newest = map(self._writer.state.newest, self._waiting.names())
        return frozenset(quota.uid for quota in newest if quota is not None)

    def settled(self, group: Sequence[Pending], decision: Decision) -> None:
        """Answer a durable group, then try those who wait."""
        self._reporting.settled(decision)
        for (operation, future), answer in zip(group, decision.answers, strict=True):
            if isinstance(answer, Refusal) or type(operation) is Retry:
                self._settle(operation, future, answer)
            elif not future.done():
                future.set_result(answer)
        if self._waiting.names():
            for entry in decision.changes.created:
                name = self._writer.state.quotas[entry.quota_uid].terms.name
                self._waiting.try_repeats(name, entry.request_id)
            self.serve()
        self._after()

    def failed(self, group: Sequence[Pending], error: AgentError) -> None:
        """Refuse a group of which nothing is left, then try those who waited behind it."""
        for operation, future in group:
            if type(operation) is Retry:
                self._waiting.leave(future)
            # Each caller raises an error of its own: a shared one would collect all their tracebacks.
            _answer(future, StoreUnavailable(str(error)) if isinstance(error, StoreUnavailable) else error)
        self.serve()  # on a store that stays broken each round answers some, so this ends
        self._after()

    def serve(self) -> None:
        """Try those at the front of each line who fit, or all of it if nobody is let in any more."""
        state = self._writer.state
        for name in self._waiting.names():
            quota = state.newest(name)
            refusal = refusals.refuses_acquire(
                state.agent, quota, name, self._writer.moment(), self._tolerance_ms
            )
            if quota is None or refusal is not None:
                self._waiting.try_last(name)
            else:
                self._waiting.try_fitting(name, quota.balance().remaining)

    def stop_waiting(self) -> None:
        """Have all who wait tried for the last time, and let nobody wait from now on."""
        self._stopping = True
        for name in self._waiting.names():
            self._waiting.try_last(name)

    def _settle(self, operation: Operation | Action, future: asyncio.Future[Any], answer: object) -> None:
        """Answer, or let wait: the path of everything but a plain success."""
        reached = isinstance(answer, Refusal) and answer.reason == "QUOTA_REACHED"
        if type(operation) is Retry:
            if reached and self._waiting.stay(future):
                return
            self._waiting.leave(future)
        elif (
            reached
            and not self._stopping
            and isinstance(operation, AcquireRequest)
            and operation.max_wait_ms > 0
        ):
            self._waiting.join(operation, future)
            return
        _answer(future, answer)

    def _retry(self, waiters: Sequence[Waiter]) -> None:
        self._writer.requeue([Pending(Retry(waiter.request), waiter.future) for waiter in waiters])


def _answer(future: asyncio.Future[Any], answer: object) -> None:
    if not future.done():  # else its caller was cancelled, which withdraws nothing
        future.set_result(answer)
