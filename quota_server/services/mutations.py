"""What all mutations share: who calls, the recorded answer, and that a decision is brought to its end."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Final, Protocol, TypeVar

from google.protobuf.message import Message

from quota_server.clock import Clock
from quota_server.errors import AlreadyAnswered, LedgerRefusal, StoreUnavailable
from quota_server.fleet.again import again
from quota_server.fleet.fanout import AgentOutcome, Round
from quota_server.fleet.fleet import Fleet
from quota_server.ledger.calls import Call, Change
from quota_server.ledger.effects import Effects
from quota_server.services.refusals import Context, actor_of
from quotafleet.v1 import agent_admin_service_pb2, quota_service_pb2

_log = logging.getLogger(__name__)

Response = TypeVar("Response", bound=Message)
Result = TypeVar("Result")

#: A fan-out ends when no stream is up any more, so that nothing is left to wait for but a commit.
DRAIN_SECONDS: Final = 2.0

#: Full names of RPCs by their request: every RPC has a request of its own.
_METHODS: Final = {
    method.input_type.full_name: f"/{service.full_name}/{method.name}"
    for module in (quota_service_pb2, agent_admin_service_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}


class Answers(Protocol):
    """Where answers are recorded; see `ledger.store`."""

    async def replace_answer(self, request_id: str, answer: bytes) -> None: ...


class Mutations:
    """Runs mutations.

    A decision and what it sends are one: a caller that hangs up must not cut them apart. So each mutation is a task
    of its own, which goes on when its caller has gone. A repeat gets the answer that was recorded.
    """

    def __init__(self, store: Answers, fleet: Fleet, clock: Clock) -> None:
        self._store = store
        self._fleet = fleet
        self._clock = clock
        self._tasks: set[asyncio.Task[Any]] = set()

    async def decide(
        self,
        request: Message,
        context: Context,
        use_case: Callable[[Call], Awaitable[Result]],
        effects: Callable[[Result], Effects],
        answer: Callable[[Result], Response],
        response: type[Response],
    ) -> Response:
        """Decides, and answers without waiting for any agent."""
        call = self._call(request, context, answer)

        async def work() -> Response:
            return answer(await self._fleet.decide(lambda: use_case(call), effects))

        return await self._to_the_end(work(), response)

    async def fan_out(
        self,
        request: Message,
        context: Context,
        use_case: Callable[[Call], Awaitable[Change]],
        wait_ms: int,
        answer: Callable[[Change, Iterable[AgentOutcome]], Response],
        response: type[Response],
    ) -> Response:
        """Decides, and answers when all connected agents have acknowledged or the wait is over."""
        call = self._call(request, context, lambda change: answer(change, self._outcomes_so_far(change)))

        async def work() -> Response:
            change, outcomes = await self._fleet.carry_out(lambda: use_case(call), wait_ms)
            full = answer(change, outcomes)
            await self._replace(call, full)
            return full

        return await self._to_the_end(work(), response)

    async def announce(
        self,
        request: Message,
        context: Context,
        use_case: Callable[[Call], Awaitable[Change]],
        wait_ms: int,
        answer: Callable[[Change], Response],
        response: type[Response],
    ) -> Response:
        """Decides and answers at once; who was reached within `wait_ms` is for the history only."""
        call = self._call(request, context, answer)
        decided: asyncio.Future[Change] = asyncio.get_running_loop().create_future()

        async def decide() -> Change:
            change = await use_case(call)
            decided.set_result(change)
            return change

        rest = self._start(self._fleet.carry_out(decide, wait_ms))

        async def first() -> Response:
            await asyncio.wait((rest, decided), return_when=asyncio.FIRST_COMPLETED)
            if not decided.done():
                await rest  # which raises
            rest.add_done_callback(_log_failure)
            return answer(decided.result())

        return await self._to_the_end(first(), response)

    async def drain(self) -> None:
        """Lets mutations end whose calls have ended, when no stream is up any more; those that do not are cut off.

        What they have decided is durable, and the agents hear of it when they come back.
        """
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=DRAIN_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _call(self, request: Message, context: Context, encode: Callable[[Any], Message]) -> Call:
        """The ledger's view of a request whose fields are checked."""
        given: Any = request
        return Call(
            actor=actor_of(context),
            now_ms=self._clock.wall_ms(),
            reason=getattr(given, "reason", ""),
            request_id=given.request_id,
            method=_METHODS[request.DESCRIPTOR.full_name],
            fingerprint=hashlib.sha256(request.SerializeToString(deterministic=True)).digest(),
            encode=lambda result: encode(result).SerializeToString(),
            validate_only=getattr(given, "validate_only", False),
        )

    def _outcomes_so_far(self, change: Change) -> list[AgentOutcome]:
        """As a repeat sees them that comes before the fan-out is over."""
        connected = [p.agent for p in change.participants if self._fleet.is_reachable(p)]
        return Round(change.participants, connected, 0).outcomes()

    async def _replace(self, call: Call, answer: Message) -> None:
        """Records the full answer, now that the outcomes are known; what was decided is recorded already."""
        if call.request_id and not call.validate_only:
            try:
                recorded = answer.SerializeToString()
                await again(lambda: self._store.replace_answer(call.request_id, recorded))
            except StoreUnavailable as unavailable:
                _log.warning("the outcomes of a call were not recorded: %s", unavailable.message)

    async def _to_the_end(self, work: Coroutine[Any, Any, Response], response: type[Response]) -> Response:
        task = self._start(work)
        try:
            return await asyncio.shield(task)
        except AlreadyAnswered as again:
            return response.FromString(again.answer)
        except asyncio.CancelledError:
            task.add_done_callback(_log_failure)  # nobody else will hear of it
            raise

    def _start(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        task = asyncio.create_task(work, name="mutation")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _log_failure(task: asyncio.Task[Any]) -> None:
    if task.cancelled() or (error := task.exception()) is None:
        return
    if not isinstance(error, LedgerRefusal | AlreadyAnswered):
        _log.error("%s failed after its call had ended", task.get_name(), exc_info=error)
