"""The controller's end of one stream, as a state machine: each rule a sentence."""

from quota_server.errors import LedgerRefusal
from quota_server.fleet.pauses import Pauses
from quota_server.fleet.protocol import AgentSession, Phase
from quota_server.ledger.events import FenceAckEvent, HelloEvent, Reply, ReportEvent
from quota_server.ledger.model import AgentKey
from quotafleet.link.messages import (
    AllocationUpdate,
    Fence,
    FenceAck,
    FenceDone,
    FenceKind,
    Hello,
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
    Update,
    Welcome,
)

BEAT = 1_000
HELLO = Hello("uid", 1, "store", 7, b"", 0, ())


def update(number: int, quota: str = "q", limit: int = 10) -> AllocationUpdate:
    return AllocationUpdate(quota, Revision(0, number), limit, Terms(quota))


def report(number: int = 1, revision: int | None = None, **more: object) -> Report:
    standings = () if revision is None else (Standing("q", Revision(0, revision), 10, Totals(), 0, number),)
    return Report(number, b"m", 0, standings, **more)  # type: ignore[arg-type]


def online(*allocations: AllocationUpdate) -> AgentSession:
    """A session that has said its welcome."""
    session = AgentSession(BEAT, now_ms=0)
    session.received(HELLO, 0)
    session.replied(Reply((Welcome(b"m", 0, 0, BEAT, allocations),), welcome=True), 0)
    assert isinstance(session.outgoing(0)[0], Welcome)
    return session


def refusal_of(session: AgentSession) -> LedgerRefusal:
    assert session.ending is not None
    assert session.ending.refusal is not None
    return session.ending.refusal


def test_whatever_comes_before_hello_ends_the_stream_with_the_reason() -> None:
    for message in (report(), FenceAck(FenceKind.COPY, "s", b"", ())):
        session = AgentSession(BEAT, now_ms=0)
        assert session.received(message, 0) is None
        assert refusal_of(session).fields == {"message": "a stream begins with hello"}


def test_a_second_hello_ends_the_stream() -> None:
    session = online()
    assert session.received(HELLO, 1) is None
    assert list(refusal_of(session).fields) == ["hello"]


def test_another_protocol_version_is_refused_by_name() -> None:
    session = AgentSession(BEAT, now_ms=0)
    assert session.received(Hello("uid", 1, "s", 1, b"", 0, (), protocol_version=2), 0) is None
    assert list(refusal_of(session).fields) == ["hello.protocol_version"]


def test_hello_report_and_fence_ack_become_events_that_carry_the_streams_dial() -> None:
    session = AgentSession(BEAT, now_ms=0)
    assert session.received(HELLO, 0) == HelloEvent(AgentKey("uid", 1), HELLO)
    assert session.received(report(), 0) is None  # before the welcome
    session = online()
    assert session.received(report(), 0) == ReportEvent(AgentKey("uid", 1), 7, report())
    session.fence(FenceKind.ENDED)
    ack = FenceAck(FenceKind.ENDED, "s", b"", ())
    assert session.received(report(), 0) is None  # it crossed the fence
    assert session.received(ack, 0) == FenceAckEvent(AgentKey("uid", 1), 7, ack)


def test_a_stale_hello_and_a_recorded_fence_are_said_and_then_the_stream_ends() -> None:
    for message in (StaleHello(9), FenceDone()):
        session = AgentSession(BEAT, now_ms=0)
        session.received(HELLO, 0)
        session.replied(Reply((message,)), 0)
        assert session.outgoing(0) == [message]
        assert session.ending is not None
        assert session.ending.refusal is None


def test_nothing_is_sent_before_the_welcome_but_what_was_posted_meanwhile_follows_it() -> None:
    session = AgentSession(BEAT, now_ms=0)
    session.received(HELLO, 0)
    session.post([update(2)])
    assert session.outgoing(0) == []
    session.replied(Reply((Welcome(b"m", 0, 0, BEAT, (update(1),)),), welcome=True), 0)
    assert [type(message) for message in session.outgoing(0)] == [Welcome, Update]


def test_of_updates_that_wait_only_the_newest_of_a_quota_is_kept() -> None:
    session = online()
    for number in (1, 3, 2):
        session.post([update(number)])
    assert session.outgoing(0) == [Update((update(3),))]


def test_an_update_is_said_again_every_heartbeat_until_its_revision_is_reported() -> None:
    session = online()
    session.post([update(2)])
    assert session.outgoing(0) == [Update((update(2),))]
    session.tick(BEAT - 1)
    assert session.outgoing(BEAT - 1) == []
    session.received(report(1, revision=1), BEAT)
    session.tick(BEAT)
    assert session.outgoing(BEAT) == [Update((update(2),))]
    session.received(report(2, revision=2), 2 * BEAT)
    session.tick(2 * BEAT)
    assert session.outgoing(2 * BEAT) == []


def test_an_allocation_of_the_welcome_is_said_again_too() -> None:
    session = online(update(1))
    session.received(report(1), BEAT)
    session.tick(BEAT)
    assert session.outgoing(BEAT) == [Update((update(1),))]


def test_an_approval_is_said_again_until_the_agent_knows_it_and_a_revocation_until_it_is_closed() -> None:
    approved = OverrideUpdate("o", "ask", "q", 5, OverrideState.APPROVED)
    revoked = OverrideUpdate("o", "ask", "q", 5, OverrideState.APPROVED, revoked=True)
    knows = (OverrideStanding("o", OverrideState.APPROVED, amount=4),)
    session = online()
    session.post((), [approved])
    assert session.outgoing(0) == [Update((), (approved,))]
    session.received(report(1, overrides=knows), BEAT)
    session.tick(BEAT)
    assert session.outgoing(BEAT) == []
    session.post((), [revoked])
    session.outgoing(BEAT)
    session.received(report(2, overrides=knows), 2 * BEAT)
    session.tick(2 * BEAT)
    assert session.outgoing(2 * BEAT) == [Update((), (revoked,))]
    session.received(report(3, overrides=(OverrideStanding("o", OverrideState.DEAD, amount=4),)), 3 * BEAT)
    session.tick(3 * BEAT)
    assert session.outgoing(3 * BEAT) == []


def test_an_approval_is_not_said_again_within_a_heartbeat() -> None:
    session = online()
    session.post((), [OverrideUpdate("o", "ask", "q", 5, OverrideState.APPROVED)])
    assert len(session.outgoing(0)) == 1
    session.tick(BEAT - 1)
    assert session.outgoing(BEAT - 1) == []


def test_the_end_of_an_override_is_the_agents_word_and_not_told_to_it() -> None:
    session = online()
    for state in (OverrideState.USED, OverrideState.DEAD):
        session.post((), [OverrideUpdate("o", "ask", "q", 5, state)])
    assert session.outgoing(0) == []


def test_an_answer_that_opens_nothing_is_said_once() -> None:
    """Should it be lost, the agent asks again."""
    session = online()
    denied = OverrideUpdate("", "ask", "q", 5, OverrideState.DENIED)
    session.post((), [denied])
    assert session.outgoing(0) == [Update((), (denied,))]
    session.tick(BEAT)
    assert session.outgoing(BEAT) == []


def test_an_update_that_is_reported_while_it_waits_to_be_said_again_is_not_said() -> None:
    """A newer one that waits is."""
    session = online()
    for waiting, said in ((2, []), (3, [Update((update(3),))])):
        session.post([update(2)])
        session.outgoing(0)
        session.tick(BEAT)
        session.post([update(waiting)])
        session.received(report(1, revision=2), BEAT)
        assert session.outgoing(BEAT) == said


def test_acknowledgements_that_wait_become_one_and_keep_the_mark() -> None:
    session = online()
    for number, mark in ((1, b"fresh"), (2, None), (3, None)):
        session.replied(Reply((ReportAck(number, number, mark),)), 0)
    assert session.outgoing(0) == [ReportAck(3, 3, b"fresh")]


def test_a_stream_silent_for_two_heartbeats_ends() -> None:
    session = online()
    session.tick(2 * BEAT)
    assert session.ending is None
    session.tick(2 * BEAT + 1)
    assert session.ending is not None


def test_a_superseded_stream_ends_quietly_and_takes_nothing_more() -> None:
    session = online()
    session.replied(Reply(superseded=True), 0)
    session.post([update(5)])
    assert session.phase is Phase.OVER
    assert session.outgoing(0) == []
    assert session.ending is not None
    assert session.ending.refusal is None


def test_a_fence_is_said_once_and_no_limit_after_it() -> None:
    session = online()
    session.fence(FenceKind.ENDED)
    session.fence(FenceKind.ENDED)
    session.post([update(5)])
    assert session.outgoing(0) == [Fence(FenceKind.ENDED)]


def test_questions_are_put_once() -> None:
    session = online()
    session.ask(ReportRequest(4, "q"))
    assert session.outgoing(0) == [ReportRequest(4, "q")]
    assert session.outgoing(0) == []


def test_many_updates_are_split_over_messages_of_bounded_size() -> None:
    session = online()
    session.post([update(1, f"quota-{index}") for index in range(1_001)])
    assert [len(message.allocations) for message in session.outgoing(0) if isinstance(message, Update)] == [
        500,
        500,
        1,
    ]


def test_a_fruitless_try_is_made_ever_more_rarely_and_a_fruitful_one_at_once() -> None:
    pauses = Pauses(shortest_ms=50, longest_ms=300)
    lengths = []
    now = 0.0
    for _ in range(4):
        pauses.done("q", now, moved=False)
        length = next(ms for ms in range(0, 1_000, 50) if pauses.due("q", now + ms))
        lengths.append(length)
        now += length
    assert lengths == [100, 200, 300, 300]
    pauses.done("q", now, moved=True)
    assert pauses.due("q", now)
