"""The clients: one per site, asking its own agent for a place for each participant.

This is how an application uses Quotafleet: it talks to the agent on its own machine, chooses the request ids, asks
again under the same id when it got no answer, and takes QUOTA_REACHED for an answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, Self, TypeVar

import grpc
from google.protobuf.duration_pb2 import Duration

from examples.demo.checks import Broken, Guarantee, Reading, Refusal
from examples.demo.common import (
    GAP_SECONDS,
    MAX_WAIT_SECONDS,
    PATIENCE_SECONDS,
    QUOTA,
    REPLAY_SECONDS,
    DemoFailed,
    now,
    until,
)
from examples.enrolments import LENGTH, START, Enrolment
from quotafleet.agent.v1 import gate_service_pb2 as gate
from quotafleet.agent.v1.gate_service_pb2_grpc import GateServiceStub
from quotafleet.errors import QuotafleetError, from_rpc_error

T = TypeVar("T")

_OPTIONS: Final = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
)
_PAGE: Final = 1_000
#: The agent is down, or died before it answered: whether it granted is unknown, so the same request is sent again.
_NO_ANSWER: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
    }
)


class Pace:
    """The compressed time of the replay, which begins when it is made."""

    def __init__(self) -> None:
        self._began = now()

    @property
    def done(self) -> float:
        """The part of the replay that is over, from 0 to 1."""
        return min(1.0, (now() - self._began) / REPLAY_SECONDS)

    async def reach(self, time: datetime) -> None:
        """Return when it is that time."""
        await asyncio.sleep(self._began + (time - START) / LENGTH * REPLAY_SECONDS - now())


@dataclass(slots=True)
class Tally:
    """What a site's client has seen."""

    rows: int = 0
    #: Units by request id, and the entry's time: the same request must get the same answer.
    answers: dict[str, tuple[int, datetime]] = field(default_factory=dict)
    #: The sum of those units.
    units: int = 0
    #: Rows that were answered with an entry that the site had already.
    repeats: int = 0
    refusals: list[Refusal] = field(default_factory=list)
    #: Calls sent again because there was no answer.
    retried: int = 0
    broken: list[Broken] = field(default_factory=list)

    def granted(self, site: str, response: gate.AcquireResponse) -> None:
        """Take down an answer."""
        entry = response.entry
        answer = (response.granted, entry.create_time.ToDatetime())
        known = self.answers.setdefault(entry.request_id, answer)
        if known is answer:
            self.units += response.granted
            return
        self.repeats += 1
        if known != answer:
            said = f"{site}: {entry.request_id} was answered {known}, and when repeated {answer}"
            self.broken.append(Broken(Guarantee.ONCE, said))


class Site:
    """One site's client, on the unix socket of its agent."""

    def __init__(self, name: str, socket: Path, refused: asyncio.Event) -> None:
        """`refused` is set whenever a place was refused."""
        self.name = name
        self.tally = Tally()
        #: Set when a place is being asked for.
        self.asking = asyncio.Event()
        self._socket = socket
        self._refused = refused

    async def __aenter__(self) -> Self:
        self._channel = grpc.aio.insecure_channel(f"unix:{self._socket}", options=_OPTIONS)
        self._stub = GateServiceStub(self._channel)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()

    async def replay(self, rows: list[Enrolment], pace: Pace) -> None:
        """Ask for each row's place at its time, without waiting for the answers of those before."""
        async with asyncio.TaskGroup() as tasks:
            for row in rows:
                await pace.reach(row.time)
                tasks.create_task(self._enrol(row.participant))

    async def _enrol(self, participant: str) -> None:
        self.tally.rows += 1
        wait = Duration()
        wait.FromMilliseconds(int(MAX_WAIT_SECONDS * 1000))
        request = gate.AcquireRequest(quota=QUOTA, request_id=participant, max_wait=wait)
        asked_at = now()

        async def ask() -> gate.AcquireResponse:
            nonlocal asked_at
            asked_at = now()
            self.asking.set()
            return await self._stub.Acquire(request, timeout=PATIENCE_SECONDS, wait_for_ready=True)

        try:
            response = await self._answered(ask)
        except QuotafleetError as error:
            if error.reason != "QUOTA_REACHED":
                raise DemoFailed(
                    f"{self.name}: {participant} was refused in an unexpected way: {error}"
                ) from error
            used = int(error.metadata["count"]) + int(error.metadata["held"])
            limit = int(error.metadata["limit"])
            self.tally.refusals.append(Refusal(self.name, asked_at, now(), limit, used))
            self._refused.set()
        else:
            self.tally.granted(self.name, response)

    async def _answered(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call until there is an answer; raises QuotafleetError if that is a refusal."""

        async def once() -> T | None:
            try:
                return await call()
            except grpc.aio.AioRpcError as error:
                told = from_rpc_error(error)
                if told.code not in _NO_ANSWER:
                    raise told from None
                self.tally.retried += 1
                return None

        return await until(once, f"an answer of the agent of {self.name}", 2 * PATIENCE_SECONDS)

    async def get_override(self, request_id: str, amount: int, reason: str) -> gate.Override:
        """Ask to go beyond the limit, and wait until somebody has decided."""
        request = gate.RequestOverrideRequest(
            quota=QUOTA, amount=amount, reason=reason, request_id=request_id
        )

        async def decided() -> gate.Override | None:
            override = (await self._stub.RequestOverride(request, wait_for_ready=True)).override
            return None if override.state == gate.OVERRIDE_STATE_PENDING else override

        override = await until(decided, f"the decision on {request_id} to reach {self.name}")
        if override.state != gate.OVERRIDE_STATE_APPROVED:
            raise DemoFailed(
                f"{self.name}: {request_id} was approved, but the agent does not say so: {override}"
            )
        return override

    async def spend(self, override: gate.Override) -> None:
        """Spend an override, whole."""
        request = gate.AcquireRequest(
            quota=QUOTA,
            request_id=override.request_id,
            amount=override.amount,
            override_id=override.override_id,
        )
        response = await self._answered(lambda: self._stub.Acquire(request, timeout=PATIENCE_SECONDS))
        self.tally.granted(self.name, response)

    async def read(self) -> Reading | None:
        """The agent's own numbers; None if it does not answer now."""
        try:
            # The link first: numbers that are read later cannot make an agent look connected that was not.
            status = await self._stub.GetStatus(gate.GetStatusRequest(page_size=1), timeout=GAP_SECONDS)
            answer = await self._stub.GetCount(gate.GetCountRequest(quota=QUOTA), timeout=GAP_SECONDS)
        except grpc.aio.AioRpcError:
            return None
        own = answer.balance
        return Reading(own.count, own.held, own.limit, answer.overridden, status.connected)

    async def entries(self) -> list[tuple[str, int]]:
        """(request id, units) of all counted entries, from the agent's store."""
        found: list[tuple[str, int]] = []
        request = gate.ListEntriesRequest(quota=QUOTA, page_size=_PAGE, states=[gate.ENTRY_STATE_COUNTED])
        while True:
            page = await self._stub.ListEntries(request, timeout=PATIENCE_SECONDS, wait_for_ready=True)
            found += [(entry.request_id, entry.granted) for entry in page.entries]
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token
