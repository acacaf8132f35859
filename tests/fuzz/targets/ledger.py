"""Streams of agents that say anything, into the real link service, fleet and ledger, on a store in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from random import Random
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError

from quota_server.ledger.model import AgentKey, Epoch
from quotafleet.link.messages import (
    FenceAck,
    FenceKind,
    FinalStanding,
    FromAgent,
    Hello,
    OpenRequest,
    OverrideAsk,
    OverrideStanding,
    OverrideState,
    Report,
    Revision,
    Standing,
    Totals,
)
from quotafleet.link.wire import from_response, to_request
from quotafleet.v1 import agent_link_service_pb2 as pb
from tests.fuzz.controller_kit import (
    KEYS,
    MARKS,
    MemoryController,
    begun,
    check_bounds,
    check_cap,
    nothing_fails,
    snapshot,
)
from tests.fuzz.endings import FakeContext
from tests.fuzz.mutate import frames, proto
from tests.fuzz.mutate.frames import Frame
from tests.fuzz.target import Target
from tests.memory_store import Tables

#: In the place of a mark: the one offered last, and the one before.
_OFFERED: Final = b"@offered"
_SHOWN: Final = b"@shown"
#: In the place of a uid: that of the stream's own agent.
_OWN: Final = "@"
#: Of an operation: whose stream it is, and whether another one begins or the one that is there ends.
_WHOSE: Final = 3
_NEW: Final = 4
_END: Final = 8
_STRANGER: Final = 48
_AGENTS: Final = 3
#: No agent that counts comes so far, but one may say so.
_LAST_DIAL: Final = 2**63 - 1
OPERATIONS: Final = 64
_REFUSALS: Final = {
    *("FIELD_INVALID", "AGENT_UNKNOWN", "NOT_YOUR_AGENT", "TOKEN_INVALID", "AGENT_FENCED"),
}


def words() -> tuple[Any, ...]:
    """Values that lead further in."""
    state = begun()
    numbers = (0, 1, 2, 3, 5, 10, 49, 50, 51, 100, 1_000)
    return (
        _OWN,
        *state.quotas,
        *state.overrides,
        "ask-1",
        "ask-9",
        _OFFERED,
        _SHOWN,
        b"",
        "store-anne",
        *numbers,
    )


def check(data: bytes) -> None:
    """Nothing fails inside; refusals are clean and change nothing; no agent talks E above the target."""
    begun()  # outside of the loop
    with nothing_fails("quota_server"):
        asyncio.run(_converse(frames.unpack(data)))


async def _converse(steps: list[Frame]) -> None:
    controller = MemoryController()
    streams: dict[int, Stream] = {}
    async with controller.working(), AsyncExitStack() as stack:
        for operation, body in steps:
            number = (operation & _WHOSE) % _AGENTS
            if operation & _END and number in streams:
                await streams.pop(number).end()
            request = _request(body)
            if request is None:
                continue
            if number not in streams or operation & _NEW:
                agent = begun().agents[number]
                streams[number] = Stream(controller, agent, known=operation & _STRANGER != _STRANGER)
                stack.push_async_callback(streams[number].drop)
            await streams[number].say(request)
            controller.clock.pass_time(1_000)
        for stream in streams.values():
            await stream.end()


def _request(body: bytes) -> pb.ConnectRequest | None:
    try:
        return pb.ConnectRequest.FromString(body)
    except DecodeError:
        return None


class Stream:
    """One call of Connect."""

    def __init__(self, controller: MemoryController, agent: AgentKey, *, known: bool) -> None:
        self._controller = controller
        self._agent = agent
        self._requests: asyncio.Queue[pb.ConnectRequest | None] = asyncio.Queue()
        self._hungry = asyncio.Event()
        token = KEYS.token(agent) if known else "qfa1.x.1.y"
        self.context = FakeContext([("authorization", f"Bearer {token}")])
        service: Any = controller.links
        self._call = asyncio.create_task(service.Connect(self, self.context), name="stream")

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> pb.ConnectRequest:
        self._hungry.set()
        request = await self._requests.get()
        if request is None:
            raise StopAsyncIteration
        return request

    async def say(self, request: pb.ConnectRequest) -> None:
        """Says one thing, and waits until it is dealt with."""
        before = snapshot(self._controller.tables)
        self._fill_in(request, before)
        self._hungry.clear()
        self._requests.put_nowait(request)
        hungry = asyncio.create_task(self._hungry.wait())
        await asyncio.wait((hungry, self._call), return_when=asyncio.FIRST_COMPLETED)
        hungry.cancel()
        self._check(before)

    async def end(self) -> None:
        """The agent hangs up."""
        before = snapshot(self._controller.tables)
        self._requests.put_nowait(None)
        await asyncio.wait((self._call,))
        self._check(before)

    async def drop(self) -> None:
        """Leaves nothing behind, whatever happened."""
        self._call.cancel()
        await asyncio.wait((self._call,))
        if not self._call.cancelled():
            self._call.exception()  # it was looked at when it ended

    def _fill_in(self, request: pb.ConnectRequest, tables: Tables) -> None:
        """Puts in what the stream's agent would know, where the input says so."""
        epoch = tables.epochs[self._agent]
        which = request.WhichOneof("message")
        if which is None:
            return
        message: Any = getattr(request, which)
        marks = {_OFFERED: epoch.offered, _SHOWN: epoch.shown}
        if message.mark in marks:
            message.mark = MARKS.encode(self._agent, marks[message.mark])
        if which == "hello":
            _fill_in_hello(message, epoch)

    def _check(self, before: Tables) -> None:
        """What became of it."""
        tables = self._controller.tables
        check_cap(before, tables)
        check_bounds(tables)
        for name in ("quotas", "agents", "epochs"):
            assert getattr(tables, name).keys() == getattr(before, name).keys(), (
                f"an agent changed the {name}"
            )
        # What turns up of a quota that the agent has no part in is kept, too.
        new = tables.assignments.keys() - before.assignments.keys()
        assert not any(tables.assignments[key].assigned for key in new), "an agent assigned itself"
        for response in self.context.written:
            from_response(pb.ConnectResponse.FromString(response.SerializeToString()))
        self.context.written.clear()
        if not self._call.done():
            return
        error = self._call.exception()
        assert error is None or isinstance(error, grpc.aio.AbortError), error
        reason = self.context.refusal(pb.ConnectRequest)
        assert reason == "" or reason in _REFUSALS, f"{reason}: {self.context.details}"
        if reason:
            _check_unchanged(before, tables)


def _fill_in_hello(hello: pb.Hello, epoch: Epoch) -> None:
    if hello.agent_uid == _OWN:
        hello.agent_uid = epoch.agent_uid
        hello.epoch = hello.epoch or epoch.epoch
        hello.dial = hello.dial or min(epoch.last_dial + 1, _LAST_DIAL)


def _check_unchanged(before: Tables, after: Tables) -> None:
    """A refusal changes nothing but that the stream is gone."""
    for name, was in vars(before).items():
        now = getattr(after, name)
        if name == "epochs":
            gone = {key: (each.shown, each.offered, each.last_dial, each.fenced) for key, each in was.items()}
            is_gone = {
                key: (each.shown, each.offered, each.last_dial, each.fenced) for key, each in now.items()
            }
            assert gone == is_gone, "a refused message changed an epoch"
        else:
            assert was == now, f"a refused message changed the {name}"


def mutate(data: bytes, other: bytes, random: Random) -> bytes:
    """Steps of streams, each an envelope."""
    return frames.mutate(data, other, random, _body, OPERATIONS)


def _body(frame: Frame, random: Random) -> bytes:
    return proto.mutate(frame.body, pb.ConnectRequest, random, words())


def seeds() -> Iterator[bytes]:
    """An honest agent, one that asks, one that was copied, one that has ended."""
    tables, (anne, bill, cleo) = begun().tables, begun().agents
    quota, override = begun().quotas[0], begun().overrides[0]
    for number, agent in enumerate((anne, bill, cleo)):
        standings = tuple(
            Standing(
                uid,
                a.revision,
                max(a.offered, a.totals.count),
                Totals(a.totals.consumed, a.totals.released),
                0,
                a.sequence + 1,
            )
            for (uid, *key), a in tables.allocations.items()
            if tuple(key) == tuple(agent)
        )
        spent = tuple(_spent(each) for each in standings)
        hello = Hello(_OWN, 0, "store", 0, _OFFERED, 1_000, standings)
        asks = (OverrideAsk("ask-9", quota, 2, "more"),)
        used = (OverrideStanding(override, OverrideState.USED, 4, quota, 4),)
        reports = (Report(1, _OFFERED, 1_000, spent), Report(2, _OFFERED, 1_000, spent, used, asks))
        final = tuple(FinalStanding(each.quota_uid, each.totals, each.totals) for each in standings)
        acks = (
            FenceAck(FenceKind.ENDED, "fresh", _OFFERED, final),
            FenceAck(FenceKind.COPY, "fresh", b"", final),
        )
        yield _packed(number, hello, *reports)
        yield _packed(number, hello, reports[0], hello, *acks)
        yield _packed(number, Hello(_OWN, 0, "copy", 0, b"forged", 1_000, standings), *acks)


def _spent(standing: Standing) -> Standing:
    """The standing after a unit was spent and more was asked for."""
    totals = Totals(standing.totals.consumed + 1, standing.totals.released)
    return Standing(
        standing.quota_uid,
        standing.revision if standing.revision.number else Revision(0, 1),
        max(standing.limit, totals.count),
        totals,
        0,
        standing.sequence + 1,
        (OpenRequest(30, 10),),
        5,
        30,
    )


def _packed(number: int, *messages: FromAgent) -> bytes:
    steps = [
        Frame(number | _NEW * isinstance(each, Hello), to_request(each).SerializeToString())
        for each in messages
    ]
    return frames.pack(steps)


TARGET: Final = Target("ledger", check, mutate, seeds, max_bytes=8 * 1024)
