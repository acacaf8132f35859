"""What a controller sends: bytes to messages and back, and whole streams through the agent's state machine and gate."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from random import Random
from typing import Any, Final

from google.protobuf.message import DecodeError

from quota_agent.errors import Refusal
from quota_agent.gate import operations as gate
from quota_agent.gate.model import Granted
from quota_agent.uplink.actions import (
    Action,
    AdvanceDial,
    Apply,
    ApplyFence,
    Close,
    Command,
    FenceConfirmed,
    MakeReport,
    Send,
    Store,
)
from quota_agent.uplink.protocol import MAX_REMEMBERED, AgentLink
from quotafleet.errors import FieldError
from quotafleet.link.messages import (
    AllocationUpdate,
    Fence,
    FenceAck,
    FenceDone,
    FenceKind,
    FromAgent,
    FromController,
    OverrideState,
    OverrideUpdate,
    Report,
    ReportAck,
    ReportRequest,
    Revision,
    StaleHello,
    Terms,
    Update,
    Welcome,
)
from quotafleet.link.wire import from_request, from_response, to_request, to_response
from quotafleet.v1 import agent_link_service_pb2 as pb
from tests.fuzz import bounds
from tests.fuzz.endings import check_path
from tests.fuzz.mutate import frames, proto
from tests.fuzz.mutate.frames import Frame
from tests.fuzz.target import Target, within_bounds
from tests.pure_gate import PureGate, acquire

WORDS: Final = (
    "uid:q",
    "uid:r",
    "q",
    "r",
    "o-1",
    "o-2",
    "ask-1",
    b"mark",
    b"next",
    b"",
    0,
    1,
    2,
    3,
    10,
    5_000,
)
_OPERATIONS: Final = 8


def check(data: bytes) -> None:
    """Each message refused with the path of a field, or as it was when written and read again; no machine breaks."""
    stream = Stream()
    for frame in frames.unpack(data):
        message = decoded(frame.body)
        stream.step(frame.operation, message)
    stream.check()


def decoded(body: bytes) -> FromController | None:
    """The message, if it is one; whatever is refused is refused in words that name the field."""
    try:
        envelope = pb.ConnectResponse.FromString(body)
    except DecodeError:
        return None
    try:
        message = within_bounds(body, lambda: from_response(envelope), calls_per_byte=40, bytes_per_byte=200)
    except FieldError as error:
        check_path(error.path, pb.ConnectResponse)
        assert error.problem
        return None
    bounds.check(message)
    again = pb.ConnectResponse.FromString(to_response(message).SerializeToString())
    assert from_response(again) == message
    assert bounds.said(again) == bounds.said(envelope), "something of it was lost"
    return message


class Stream:
    """A machine, a gate that makes its commands durable, and applications that spend."""

    def __init__(self) -> None:
        self.gate = PureGate(welcomed=False)
        self.now_ms = 0
        self.ids = itertools.count()
        #: The one store command under way, and the one report being written.
        self.command: Command | None = None
        self.report: MakeReport | None = None
        self.for_good = False
        self.dial()

    def dial(self) -> None:
        """Begins another stream: what is under way is lost, what was stored is not."""
        self.link = AgentLink()
        self.command = self.report = None
        self.closed = False
        self.perform(self.link.opened(self.gate.one(gate.SayHello()), self.now_ms))

    def step(self, operation: int, message: FromController | None) -> None:
        """Something happens: a message, time, the end of a write, or an application."""
        self.now_ms += 300
        if self.closed and not self.for_good:
            self.dial()
        if message is not None:
            self.perform(self.link.received(message, self.now_ms))
        kind = operation % _OPERATIONS
        if kind != 1:
            self.settle()
        if kind == 2:
            self.perform(self.link.tick(self.now_ms))
        elif kind == 3:
            self.perform(self.link.urgent(self.now_ms))
        elif kind == 4:
            self.spend(operation // _OPERATIONS)
        self.check()

    def settle(self) -> None:
        """What is under way becomes durable, and is written."""
        if self.command is not None:
            command, self.command = self.command, None
            self.perform(self.link.stored(self.run(command), self.now_ms))
        if self.report is not None:
            order, self.report = self.report, None
            quotas = self.gate.state.quotas.values()
            report = Report(
                order.number, b"", 0, tuple(each.standing() for each in quotas), answers=order.answers
            )
            self.send(report)
            self.link.made(order.number, order.number, ())
            self.perform(self.link.written(self.now_ms))

    def run(self, command: Command) -> FenceAck | None:
        """As the conversation does."""
        match command:
            case Apply():
                self.gate.one(
                    gate.Apply(command.allocations, command.overrides, command.mark, command.complete)
                )
            case AdvanceDial():
                self.gate.one(gate.AdvanceDial(command.last))
            case ApplyFence():
                ack = self.gate.one(gate.FenceStore(command.kind, "fresh"))
                assert isinstance(ack, FenceAck)
                return ack
            case FenceConfirmed():
                self.gate.one(gate.FenceConfirmed())
        return None

    def spend(self, choice: int) -> None:
        """Some application takes units, or asks for more than there are."""
        request = acquire(f"r-{next(self.ids)}", 1 + choice % 7, override_id="o-1" if choice % 2 else "")
        answer = self.gate.one(request)
        assert isinstance(answer, Granted | Refusal)

    def perform(self, actions: list[Action]) -> None:
        """One store command and one report at a time; nothing after the end."""
        for action in actions:
            match action:
                case Send():
                    self.send(action.message)
                case Store():
                    assert self.command is None, "two store commands at a time"
                    self.command = action.command
                case MakeReport():
                    assert self.report is None, "two reports at a time"
                    self.report = action
                case Close():
                    assert action.reason, "it closes without saying why"
                    self.closed, self.for_good = True, action.for_good

    def send(self, message: FromAgent) -> None:
        """What goes out can be read at the other end."""
        assert not self.closed, f"speaks after the end: {message}"
        back: Any = from_request(pb.ConnectRequest.FromString(to_request(message).SerializeToString()))
        assert back == message

    def check(self) -> None:
        """S1, and that nothing grows without end."""
        for quota in self.gate.state.quotas.values():
            assert quota.totals.count + quota.held <= quota.limit, f"S1 is broken: {quota}"
        for override in self.gate.state.overrides.values():
            override.check(None)
        assert len(self.link._answers) <= MAX_REMEMBERED
        assert len(self.link._unacknowledged) <= MAX_REMEMBERED


def mutate(data: bytes, other: bytes, random: Random) -> bytes:
    """Steps of a stream, each an envelope."""
    return frames.mutate(data, other, random, _body, operations=128)


def _body(frame: Frame, random: Random) -> bytes:
    return proto.mutate(frame.body, pb.ConnectResponse, random, WORDS)


def seeds() -> Iterator[bytes]:
    """Streams of an honest controller."""
    terms = Terms("q", 3, 0, 2_000_000_000_000, max_offline_ms=60_000)
    first = AllocationUpdate("uid:q", Revision(0, 1), 10, terms)
    second = AllocationUpdate("uid:q", Revision(1, 2), 5, Terms("q"))
    approval = OverrideUpdate("o-1", "ask-1", "uid:q", 4, OverrideState.APPROVED)
    welcome = Frame(0, _encoded(Welcome(b"mark", 0, 0, 5_000, (first,), (approval,))))
    spend = Frame(4 + 8 * 5, b"")
    update = Frame(
        1, _encoded(Update((second,), (OverrideUpdate("o-2", "", "uid:q", 1, OverrideState.DENIED),)))
    )
    yield frames.pack([welcome, spend, update, spend, Frame(0, _encoded(ReportAck(1, 0, b"next")))])
    yield frames.pack(
        [welcome, Frame(2, _encoded(ReportRequest(1, "uid:q"))), Frame(0, _encoded(Fence(FenceKind.COPY)))]
    )
    yield frames.pack([Frame(0, _encoded(StaleHello(9)))])
    yield frames.pack([welcome, Frame(0, _encoded(Fence(FenceKind.ENDED))), Frame(0, _encoded(FenceDone()))])


def _encoded(message: FromController) -> bytes:
    return to_response(message).SerializeToString()


TARGET: Final = Target("from_controller", check, mutate, seeds)
