"""What an agent sends: bytes to messages and back, and whole streams of them through the controller's state machine."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any, Final

from google.protobuf.message import DecodeError

from quota_server.errors import LedgerRefusal
from quota_server.fleet.protocol import AgentSession, Phase
from quota_server.ledger.events import HelloEvent, LinkEvent, Reply, ReportEvent
from quotafleet.errors import FieldError
from quotafleet.link.messages import (
    AllocationUpdate,
    Fence,
    FenceAck,
    FenceDone,
    FenceKind,
    FinalStanding,
    FromAgent,
    Hello,
    OpenRequest,
    OverrideAsk,
    OverrideStanding,
    OverrideState,
    OverrideUpdate,
    Report,
    ReportAck,
    ReportRequest,
    Revision,
    StaleHello,
    Standing,
    Terms,
    Totals,
    Welcome,
)
from quotafleet.link.wire import from_request, from_response, to_request, to_response
from quotafleet.v1 import agent_link_service_pb2 as pb
from tests.fuzz import bounds
from tests.fuzz.endings import check_path
from tests.fuzz.mutate import frames, proto
from tests.fuzz.mutate.frames import Frame
from tests.fuzz.target import Target, within_bounds

HEARTBEAT_MS: Final = 5_000
_HELLO = Hello("agent-1", 1, "store-1", 1, b"mark", 1_000, ())
_STANDING = Standing("q-1", Revision(0, 2), 100, Totals(7, 1), 3, 9, (OpenRequest(5, 10),), 4, 2)
_OVERRIDE = OverrideStanding("o-1", OverrideState.USED, 4, "q-1", 4)
_ASK = OverrideAsk("ask-1", "q-1", 5, "siblings")
_UPDATE = AllocationUpdate("q-1", Revision(0, 3), 90, Terms("q"))
#: Values that lead further in.
WORDS: Final = ("agent-1", "store-1", "q-1", "q-2", "o-1", "ask-1", b"mark", b"", 0, 1, 2, 3, 100)


def check(data: bytes) -> None:
    """Each message refused with the path of a field, or as it was when written and read again; no machine breaks."""
    session = AgentSession(HEARTBEAT_MS, 0)
    for number, frame in enumerate(frames.unpack(data)):
        now_ms = number * 700
        message = decoded(frame.body)
        if message is not None:
            event = session.received(message, now_ms)
            follow(session, event, frame.operation, now_ms)
        elif frame.operation % _REPLIES == 0:
            session.tick(now_ms)
        speak(session, now_ms)
    session.supersede()
    assert session.phase is Phase.OVER
    assert speak(session, 10**9) <= 1, "an ended stream goes on speaking"


def decoded(body: bytes) -> FromAgent | None:
    """The message, if it is one; whatever is refused is refused in words that name the field."""
    try:
        envelope = pb.ConnectRequest.FromString(body)
    except DecodeError:
        return None
    try:
        message = within_bounds(body, lambda: from_request(envelope), calls_per_byte=40, bytes_per_byte=200)
    except FieldError as error:
        check_path(error.path, pb.ConnectRequest)
        assert error.problem
        return None
    bounds.check(message)
    again = pb.ConnectRequest.FromString(to_request(message).SerializeToString())
    assert from_request(again) == message
    assert bounds.said(again) == bounds.said(envelope), "something of it was lost"
    return message


_REPLIES: Final = 8


def follow(session: AgentSession, event: LinkEvent | None, choice: int, now_ms: int) -> None:
    """A ledger that answers as it likes."""
    if event is None:
        return
    allocation = OverrideUpdate("o-1", "ask-1", "q-1", 4, OverrideState.APPROVED)
    welcome = Welcome(b"mark", 0, 0, HEARTBEAT_MS, (_UPDATE,), (allocation,))
    usual: Any = welcome if isinstance(event, HelloEvent) else FenceDone()
    if isinstance(event, ReportEvent):
        usual = ReportAck(event.report.number, 0, b"next" if choice & 16 else None)
    others: dict[int, Reply] = {
        1: Reply((Fence(FenceKind.COPY),)),
        2: Reply((StaleHello(7),)),
        3: Reply(superseded=True),
        4: Reply(refusal=LedgerRefusal("AGENT_UNKNOWN", "no such agent")),
        5: Reply((usual, usual)),
    }
    session.replied(others.get(choice % _REPLIES, Reply((usual,))), now_ms)
    if choice & 32:
        session.post(
            [_UPDATE, AllocationUpdate("q-2", Revision(0, choice), choice, Terms("r"))], [allocation]
        )
        session.ask(ReportRequest(choice, "q-1"))


def speak(session: AgentSession, now_ms: int) -> int:
    """What goes out can be read at the other end; the number of messages."""
    said = session.outgoing(now_ms)
    for message in said:
        back = from_response(pb.ConnectResponse.FromString(to_response(message).SerializeToString()))
        assert back == message
    return len(said)


def mutate(data: bytes, other: bytes, random: Random) -> bytes:
    """Steps of a stream, each an envelope."""
    return frames.mutate(data, other, random, _body, operations=64)


def _body(frame: Frame, random: Random) -> bytes:
    return proto.mutate(frame.body, pb.ConnectRequest, random, WORDS)


def seeds() -> Iterator[bytes]:
    """Streams of an honest agent."""
    hello = Frame(0, _encoded(_HELLO))
    full = Hello("agent-1", 1, "store-1", 2, b"mark", 1_000, (_STANDING,), (_OVERRIDE,), (_ASK,))
    report = Report(1, b"mark", 1_000, (_STANDING,), (_OVERRIDE,), (_ASK,), (1,))
    ack = FenceAck(
        FenceKind.COPY, "store-2", b"mark", (FinalStanding("q-1", Totals(7, 1), Totals(5)),), (_OVERRIDE,)
    )
    yield frames.pack([hello])
    yield frames.pack(
        [Frame(32, _encoded(full)), Frame(48, _encoded(report)), Frame(0, b""), Frame(0, _encoded(report))]
    )
    yield frames.pack([Frame(1, _encoded(full)), Frame(0, _encoded(report)), Frame(0, _encoded(ack))])


def _encoded(message: FromAgent) -> bytes:
    return to_request(message).SerializeToString()


TARGET: Final = Target("from_agent", check, mutate, seeds, max_bytes=16 * 1024)
