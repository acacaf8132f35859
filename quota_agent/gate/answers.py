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
        self._waiting = Waiting(self._refuse_late)
        self._stopping = False

    def waited(self) -> frozenset[str]:
        """Uids of the quotas in which requests wait."""
        return self._waiting.quotas()

    def settled(self, group: Sequence[Pending], decision: Decision) -> None:
        """Answer a durable group, then try those who wait."""
        self._reporting.settled(decision)
        for (operation, future), answer in zip(group, decision.answers, strict=True):
            if isinstance(answer, Refusal) or type(operation) is Retry:
                self._settle(operation, future, answer)
            elif not future.done():
                future.set_result(answer)
        for uid in self._waiting.quotas():
            self._serve(uid)
        self._after()

    def failed(self, group: Sequence[Pending], error: AgentError) -> None:
        """Refuse a group of which nothing is left."""
        for operation, future in group:
            if type(operation) is Retry:
                self._waiting.leave(future)
            # Each caller raises an error of its own: a shared one would collect all their tracebacks.
            _answer(future, StoreUnavailable(str(error)) if isinstance(error, StoreUnavailable) else error)
        self._after()

    def stop_waiting(self) -> None:
        """Refuse all who wait, and whoever would wait from now on."""
        self._stopping = True
        for uid in self._waiting.quotas():
            for waiter in self._waiting.line(uid):
                self._refuse_late(waiter)

    def _settle(self, operation: Operation | Action, future: asyncio.Future[Any], answer: object) -> None:
        """Answer, or let wait: the path of everything but a plain success."""
        reached = isinstance(answer, Refusal) and answer.reason == "QUOTA_REACHED"
        may_wait = reached and not self._stopping
        if type(operation) is Retry:
            if self._waiting.stay(future) and may_wait:
                return
            self._waiting.leave(future)
        elif may_wait and isinstance(operation, AcquireRequest) and operation.max_wait_ms > 0:
            quota = self._writer.state.newest(operation.quota)
            assert quota is not None
            self._waiting.join(quota.uid, operation, future)
            return
        _answer(future, answer)

    def _serve(self, uid: str) -> None:
        """Try those at the front of the line who fit; if nobody is let in any more, tell them all why."""
        quota = self._writer.state.quotas[uid]
        for waiter in self._waiting.line(uid):
            refusal = self._refusal(waiter)
            if refusal is None:
                break
            self._waiting.leave(waiter.future)
            _answer(waiter.future, refusal)
        room = quota.balance().remaining
        if room > 0:
            fitting = self._waiting.fitting(uid, room)
            self._writer.requeue([Pending(Retry(waiter.request), waiter.future) for waiter in fitting])

    def _refusal(self, waiter: Waiter) -> Refusal | None:
        state = self._writer.state
        return refusals.refuses_acquire(
            state.agent,
            state.quotas[waiter.quota_uid],
            waiter.request.quota,
            self._writer.moment(),
            self._tolerance_ms,
        )

    def _refuse_late(self, waiter: Waiter) -> None:
        request = waiter.request
        self._waiting.leave(waiter.future)
        self._reporting.refused(waiter.quota_uid, request.request_id, request.amount)
        quota = self._writer.state.quotas[waiter.quota_uid]
        _answer(waiter.future, refusals.quota_reached(quota, request.quota, request.amount))
        if waiter.quota_uid in self._waiting.quotas():
            self._serve(waiter.quota_uid)


def _answer(future: asyncio.Future[Any], answer: object) -> None:
    if not future.done():  # else its caller was cancelled, which withdraws nothing
        future.set_result(answer)
