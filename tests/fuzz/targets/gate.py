"""Requests of applications: GateService on a real gate, whose store is in memory."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterator
from random import Random
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message

from quota_agent.gate.gate import Gate
from quota_agent.gate.model import AcquireRequest, GateSettings
from quota_agent.local.requests import MAX_WAIT_MS
from quota_agent.local.service import GateServicer
from quotafleet.agent.v1 import gate_service_pb2 as pb
from quotafleet.link.messages import AllocationUpdate, OverrideState, OverrideUpdate, Revision, Terms
from tests.fuzz.controller_kit import nothing_fails
from tests.fuzz.endings import FakeContext
from tests.fuzz.memory_store import MemoryStore
from tests.fuzz.mutate import frames, proto
from tests.fuzz.mutate.frames import Frame
from tests.fuzz.target import Target
from tests.gate_kit import START_MS, FakeClock, ids

REQUESTS: Final[tuple[type[Message], ...]] = (
    pb.AcquireRequest,
    pb.AcquireBatchRequest,
    pb.CommitRequest,
    pb.CancelRequest,
    pb.ReleaseRequest,
    pb.CheckAvailabilityRequest,
    pb.GetCountRequest,
    pb.ListEntriesRequest,
    pb.GetEntryRequest,
    pb.RequestOverrideRequest,
    pb.GetStatusRequest,
)
_NUMBERS: Final = {kind: number for number, kind in enumerate(REQUESTS)}
#: A request given again is answered the same, and nothing is done.
_REPEATABLE: Final = (pb.AcquireRequest, pb.AcquireBatchRequest, pb.RequestOverrideRequest)
_WORDS: Final = (
    "q",
    "r",
    "old",
    "gone",
    "e-1",
    "e-2",
    "h-1",
    "ask-1",
    "o-1",
    "x",
    "1",
    0,
    1,
    2,
    4,
    43,
    46,
    47,
    50,
)
#: What the store's own failures would be called: it has none.
_NEVER: Final = "STORE_UNAVAILABLE"


def check(data: bytes) -> None:
    """Answered, or refused cleanly and nothing is kept; a repeat gets the same answer; S1 holds."""
    image = begun()
    with nothing_fails("quota_agent"):
        asyncio.run(_check(image, frames.unpack(data)))


@functools.cache
def begun() -> bytes:
    """A store with limits, an entry, a hold, an ask and an override."""
    return asyncio.run(_begin())


async def _begin() -> bytes:
    store = MemoryStore()
    async with Gate.open(store, FakeClock(), GateSettings(), ids("store")) as gate:
        await gate.bind("leeds", "uid-leeds", 1)
        quotas = (
            (50, Terms("q")),
            (5_000, Terms("r", decimals=3)),
            (5, Terms("old", closed=True)),
            (5, Terms("late", end_ms=1)),
        )
        updates = [
            AllocationUpdate(f"uid-{terms.name}", Revision(0, 1), limit, terms) for limit, terms in quotas
        ]
        approval = OverrideUpdate("o-1", "", "uid-q", 4, OverrideState.APPROVED)
        await gate.apply(tuple(updates), (approval,), mark=b"mark", complete=True)
        await gate.acquire(AcquireRequest("q", "e-1", 3))
        await gate.acquire(AcquireRequest("q", "h-1", 1, hold_ms=60_000))
        await gate.request_override("q", 5, "siblings", "ask-1")
        return store.image()


async def _check(image: bytes, steps: list[Frame]) -> None:
    store, clock = MemoryStore(image), FakeClock(START_MS + 1_000)
    async with store, Gate.open(store, clock, GateSettings(), ids("other")) as gate:
        servicer = GateServicer(gate, lambda: False)
        for operation, body in steps:
            kind = REQUESTS[operation % len(REQUESTS)]
            try:
                request = kind.FromString(body)
            except DecodeError:
                continue
            clock.pass_time(operation // len(REQUESTS) * 10_000)
            await gate.touch()
            await _call_and_check(servicer, store, request)


async def _call_and_check(servicer: GateServicer, store: MemoryStore, request: Message) -> None:
    _wait_shortly(request)
    before = store.contents()
    reason, answer = await call(servicer, request)
    after = store.contents()
    if reason:
        assert before == after, f"{type(request).__name__}: refused, and something was kept: {reason}"
    elif isinstance(request, _REPEATABLE):
        again, repeated = await call(servicer, request)
        assert not again, f"{type(request).__name__}: a repeat is refused: {again}"
        assert _lasting(repeated) == _lasting(answer), f"a repeat is answered otherwise: {repeated}"
        assert store.contents() == after, f"{type(request).__name__}: a repeat was carried out"


def _wait_shortly(request: Message) -> None:
    """Nobody gives it more: one that may wait at all waits for a moment."""
    wait: Duration | None = getattr(request, "max_wait", None)
    if (
        wait is not None
        and 0 <= wait.seconds * 1_000 + wait.nanos // 10**6 <= MAX_WAIT_MS
        and wait.nanos < 10**9
    ):
        wait.FromMilliseconds(min(1, wait.seconds + wait.nanos))


def _lasting(answer: Any) -> list[Any]:
    """What of an answer is said again: entries; balances are those of the moment."""
    if isinstance(answer, pb.AcquireBatchResponse):
        return [(each.granted.entry, each.granted.granted) for each in answer.results]
    return [(answer.entry, answer.granted)] if isinstance(answer, pb.AcquireResponse) else [answer]


async def call(servicer: GateServicer, request: Message) -> tuple[str, Message]:
    """The reason of the refusal, or "" and the answer."""
    context = FakeContext()
    act = getattr(servicer, type(request).__name__.removesuffix("Request"))
    answer: Message = await act(request, context)
    reason = context.refusal(type(request))
    assert reason != _NEVER, context.details
    assert type(answer).FromString(answer.SerializeToString()) == answer
    return reason, answer


def mutate(data: bytes, other: bytes, random: Random) -> bytes:
    """Calls, each a request."""
    return frames.mutate(data, other, random, _body, len(REQUESTS) * 4)


def _body(frame: Frame, random: Random) -> bytes:
    return proto.mutate(frame.body, REQUESTS[frame.operation % len(REQUESTS)], random, _WORDS)


def seeds() -> Iterator[bytes]:
    """Good requests."""
    plain = pb.AcquireRequest(quota="q", request_id="e-2", amount=4)
    held = pb.AcquireRequest(
        quota="r", request_id="x", amount=1_000, hold=Duration(seconds=60), labels={"a": "b"}
    )
    paid = pb.AcquireRequest(quota="q", request_id="x", amount=4, override_id="o-1")
    some = pb.AcquireRequest(quota="q", request_id="e-3", amount=60, mode=pb.ACQUIRE_MODE_UP_TO)
    waits = pb.AcquireRequest(quota="q", request_id="e-4", amount=60, max_wait=Duration(seconds=1))
    key = {"quota": "q", "request_id": "h-1"}
    yield _packed(plain, pb.ReleaseRequest(quota="q", request_id="e-2"))
    yield _packed(held, pb.CommitRequest(**key), pb.CancelRequest(quota="r", request_id="x"))
    yield _packed(paid, some, waits)
    yield _packed(pb.AcquireBatchRequest(items=[plain, held], atomic=True), pb.CancelRequest(**key))
    yield _packed(
        pb.AcquireBatchRequest(items=[plain, some, plain]), pb.CheckAvailabilityRequest(quota="q", amount=3)
    )
    yield _packed(
        pb.ListEntriesRequest(quota="q", page_size=1),
        pb.GetEntryRequest(**key),
        pb.GetCountRequest(quota="q"),
    )
    yield _packed(pb.RequestOverrideRequest(quota="q", amount=7, reason="why", request_id="x"))
    yield _packed(pb.GetStatusRequest(page_size=1, page_token="q"))


def _packed(*requests: Message) -> bytes:
    return frames.pack(Frame(_NUMBERS[type(each)], each.SerializeToString()) for each in requests)


TARGET: Final = Target("gate", check, mutate, seeds, max_bytes=32 * 1024)
