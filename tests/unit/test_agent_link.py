"""The agent's end of a stream: each rule of the protocol, without a network, a disk or a clock."""

import pytest

from quota_agent.uplink.actions import (
    Action,
    AdvanceDial,
    Apply,
    ApplyFence,
    Close,
    Contact,
    FenceConfirmed,
    MakeReport,
    Send,
    Store,
)
from quota_agent.uplink.protocol import FIRST_ANSWER_MS, MAX_REMEMBERED, AgentLink, Phase
from quotafleet.link.messages import (
    AllocationUpdate,
    Fence,
    FenceAck,
    FenceDone,
    FenceKind,
    FromController,
    Hello,
    OverrideState,
    OverrideUpdate,
    ReportAck,
    ReportRequest,
    Revision,
    StaleHello,
    Terms,
    Update,
    Welcome,
)

HEARTBEAT = 1_000
HELLO = Hello("agent", 1, "store", 7, b"m0", 0, ())
FENCE_ACK = FenceAck(FenceKind.COPY, "new", b"m0", ())


def allocation(uid: str = "q", number: int = 1, limit: int = 10) -> AllocationUpdate:
    return AllocationUpdate(uid, Revision(0, number), limit, Terms(uid))


def welcome(*allocations: AllocationUpdate) -> Welcome:
    return Welcome(b"m1", 0, 50, HEARTBEAT, allocations)


def report(number: int, after: int = 0, uids: tuple[str, ...] = (), answers: tuple[int, ...] = ()) -> Action:
    return MakeReport(number, after, uids, answers)


def greeted() -> AgentLink:
    """Return a link whose hello is sent, at time 0."""
    link = AgentLink()
    assert link.opened(HELLO, 0) == [Send(HELLO)]
    return link


def up(at: int = 0) -> AgentLink:
    """Return a link that is up, its first report (number 1, stamp 10) written at time `at`."""
    link = greeted()
    link.received(welcome(), at)
    assert link.stored(None, at) == [report(1)]
    link.made(1, 10)
    assert link.written(at) == []
    return link


def fenced() -> AgentLink:
    """Return a link whose fence is durable since time 0."""
    link = greeted()
    assert link.received(Fence(FenceKind.COPY), 0) == [Store(ApplyFence(FenceKind.COPY))]
    assert link.stored(FENCE_ACK, 0) == [Send(FENCE_ACK)]
    return link


# --- the beginning ---------------------------------------------------------------------------------------------------


def test_the_hello_goes_first() -> None:
    """Nothing is sent before it, and nothing but it until the controller has answered."""
    link = AgentLink()
    assert link.tick(10**9) == []
    assert link.opened(HELLO, 0) == [Send(HELLO)]
    assert link.tick(FIRST_ANSWER_MS) == []


@pytest.mark.parametrize("message", [Update(), ReportAck(1, 0), ReportRequest(1, "q"), FenceDone()])
def test_a_hello_is_answered_by_welcome_stale_or_fence_and_nothing_else(message: FromController) -> None:
    """A controller that begins with anything else is not one to talk to."""
    link = greeted()
    [action] = link.received(message, 0)
    assert isinstance(action, Close)
    assert not action.redial_at_once
    assert link.received(welcome(), 0) == []


def test_a_controller_that_never_answers_is_left() -> None:
    """Before the first answer there is no heartbeat, so there is a bound of its own."""
    link = greeted()
    assert link.wake_at_ms == FIRST_ANSWER_MS + 1
    [action] = link.tick(FIRST_ANSWER_MS + 1)
    assert isinstance(action, Close)


def test_the_whole_welcome_is_stored_at_once_before_the_first_report() -> None:
    """One transaction holds allocations, overrides and mark; its report is the acknowledgement."""
    link = greeted()
    override = OverrideUpdate("o", "a", "q", 5, OverrideState.APPROVED)
    message = Welcome(b"m1", 3, 50, HEARTBEAT, (allocation(),), (override,))
    stored = Store(Apply((allocation(),), (override,), b"m1", 50, complete=True))
    assert link.received(message, 5) == [stored]
    assert not link.up
    assert link.stored(None, 6) == [report(1)]
    assert link.up


def test_a_slow_disk_is_not_a_silent_controller() -> None:
    """While the welcome is being stored it is the controller that waits."""
    link = greeted()
    link.received(welcome(), 0)
    assert link.wake_at_ms is None
    assert link.tick(50 * HEARTBEAT) == []
    assert link.stored(None, 50 * HEARTBEAT) == [report(1)]


def test_a_stale_hello_stores_the_dial_then_redials_at_once() -> None:
    """The next hello is above the last one seen."""
    link = greeted()
    assert link.received(StaleHello(41), 0) == [Store(AdvanceDial(41))]
    [action] = link.stored(None, 0)
    assert isinstance(action, Close)
    assert action.redial_at_once


def test_a_second_welcome_changes_nothing() -> None:
    """Its mark may be older than the one stored since: presenting an old mark is what a copy does."""
    link = up()
    assert link.received(welcome(allocation(number=9)), 1) == []
    assert link.received(StaleHello(99), 1) == []


# --- updates ---------------------------------------------------------------------------------------------------------


def test_an_update_is_stored_then_acknowledged_at_once() -> None:
    """The report does not wait for the heartbeat."""
    link = up()
    assert link.received(Update((allocation(number=2),)), 100) == [Store(Apply((allocation(number=2),)))]
    assert link.stored(None, 101) == [report(2)]


def test_updates_that_arrive_during_a_store_are_merged_the_newest_winning() -> None:
    """However many arrive, one command waits, with one update for each quota."""
    link = up()
    link.received(Update((allocation(number=2),)), 100)
    for number in (4, 3, 4):
        assert link.received(Update((allocation(number=number), allocation("r", number))), 100) == []
    acknowledged_and_next = link.stored(None, 101)
    assert acknowledged_and_next == [
        report(2),
        Store(Apply((allocation(number=4), allocation("r", 4)))),
    ]


def test_one_report_is_written_at_a_time() -> None:
    """What wants another one meanwhile gets it as soon as the stream has taken the first."""
    link = up()
    link.received(Update((allocation(number=2),)), 0)
    link.received(Update((allocation(number=3),)), 0)
    assert link.stored(None, 1) == [report(2), Store(Apply((allocation(number=3),)))]
    assert link.stored(None, 2) == []
    link.made(2, 20)
    assert link.written(3) == [report(3)]


def test_an_update_during_the_welcome_waits_for_it() -> None:
    """The welcome is stored whole before anything newer."""
    link = greeted()
    link.received(welcome(), 0)
    assert link.received(Update((allocation(number=5),)), 0) == []
    assert link.stored(None, 1) == [report(1), Store(Apply((allocation(number=5),)))]


# --- reports ---------------------------------------------------------------------------------------------------------


def test_a_report_is_sent_every_heartbeat() -> None:
    """Even if there is nothing to say."""
    link = up()
    link.received(ReportAck(1, 0), 10)
    assert link.wake_at_ms == HEARTBEAT
    assert link.tick(HEARTBEAT - 1) == []
    assert link.tick(HEARTBEAT) == [report(2, after=10)]


def test_a_report_covers_everything_not_acknowledged_yet() -> None:
    """Two reports are lost; the third begins where the last acknowledged one ended."""
    link = up()
    link.received(ReportAck(1, 0), 10)
    for number in (2, 3, 4):
        link.received(Update(), (number - 1) * HEARTBEAT)
        assert link.tick((number - 1) * HEARTBEAT) == [report(number, after=10)]
        link.made(number, 10 * number)
        link.written((number - 1) * HEARTBEAT)
    link.received(ReportAck(4, 0), 3 * HEARTBEAT)
    assert link.tick(4 * HEARTBEAT) == [report(5, after=40)]


def test_a_late_acknowledgement_loses_nothing_and_takes_nothing_back() -> None:
    """Number 2 arrives after number 3."""
    link = up()
    for number in (2, 3):
        link.received(ReportRequest(number, "q"), 1)
        link.made(number, 10 * number)
        link.written(1)
    assert link.received(ReportAck(3, 50), 2) == [Contact(50)]
    assert link.received(ReportAck(2, 40, b"old"), 3) == []
    assert link.tick(HEARTBEAT + 1) == [report(4, after=30)]


def test_an_acknowledgement_of_a_report_never_made_is_ignored() -> None:
    """It must not hide changes that no report has named."""
    link = up()
    assert link.received(ReportAck(99, 0), 1) == []
    assert link.tick(HEARTBEAT) == [report(2, after=0)]


def test_a_report_request_is_answered_at_once_with_its_quota() -> None:
    """Its number is among the answers, once."""
    link = up()
    assert link.received(ReportRequest(5, "q"), 1) == [report(2, 0, ("q",), (5,))]
    link.received(ReportRequest(6, "q"), 1)
    link.received(ReportRequest(7, "r"), 1)
    link.received(ReportRequest(6, "q"), 1)
    link.made(2, 20)
    assert link.written(2) == [report(3, 0, ("q", "r"), (6, 7))]


def test_requests_without_end_are_bounded() -> None:
    """The oldest are forgotten; a controller that wants to know asks again."""
    link = up()
    for number in range(3 * MAX_REMEMBERED):
        link.received(ReportRequest(number, f"q{number}"), 1)
    link.made(2, 20)
    [action] = link.written(2)
    assert isinstance(action, MakeReport)
    assert len(action.answers) == len(action.quota_uids) == MAX_REMEMBERED
    assert action.answers[-1] == 3 * MAX_REMEMBERED - 1


def test_urgency_sends_a_report_early_but_not_in_a_flood() -> None:
    """At most twenty in a heartbeat."""
    link = up()
    assert link.urgent(10) == []
    assert link.wake_at_ms == HEARTBEAT // 20
    assert link.urgent(30) == []
    assert link.tick(HEARTBEAT // 20) == [report(2)]
    link.made(2, 20)
    link.written(50)
    assert link.wake_at_ms == 50 + HEARTBEAT
    assert link.urgent(200) == [report(3)]


def test_urgency_before_the_welcome_waits_for_it() -> None:
    """The first report carries it."""
    link = greeted()
    assert link.urgent(1) == []
    link.received(welcome(), 2)
    assert link.urgent(3) == []
    assert link.stored(None, 4) == [report(1)]


def test_a_report_that_cannot_be_written_does_not_pile_up() -> None:
    """While the stream takes nothing, heartbeats and urgency wait, and silence still counts."""
    link = up()
    link.received(Update(), HEARTBEAT)
    assert link.tick(HEARTBEAT) == [report(2)]
    assert link.tick(2 * HEARTBEAT) == []
    assert link.urgent(2 * HEARTBEAT) == []
    [action] = link.tick(3 * HEARTBEAT + 1)
    assert isinstance(action, Close)


def test_a_silent_controller_is_left() -> None:
    """Two heartbeats without a word close the stream; any word begins them anew."""
    link = up()
    link.received(Update(), 500)
    link.tick(HEARTBEAT)
    assert link.tick(500 + 2 * HEARTBEAT) == []
    [action] = link.tick(501 + 2 * HEARTBEAT)
    assert isinstance(action, Close)
    assert not action.redial_at_once
    assert link.received(Update((allocation(),)), 9_999) == []


# --- marks -----------------------------------------------------------------------------------------------------------


def test_a_mark_is_stored_before_it_is_presented() -> None:
    """Reports show the mark that the store holds, so the machine only has to store it."""
    link = up()
    assert link.received(ReportAck(1, 50, b"m2"), 5) == [
        Contact(50),
        Store(Apply(mark=b"m2", controller_ms=50)),
    ]
    assert link.stored(None, 6) == []


def test_a_mark_that_arrives_during_a_store_waits_for_it() -> None:
    """Only the newest is kept."""
    link = up()
    link.received(Update((allocation(number=2),)), 1)
    link.received(ReportAck(1, 50, b"m2"), 2)
    assert link.stored(None, 3) == [report(2, 10), Store(Apply(mark=b"m2", controller_ms=50))]


# --- fences ----------------------------------------------------------------------------------------------------------


def test_a_fence_is_durable_before_it_is_acknowledged() -> None:
    """The acknowledgement is what the store answered."""
    assert fenced().phase is Phase.FENCED


def test_a_fence_is_acknowledged_until_the_controller_has_recorded_it() -> None:
    """Every heartbeat, and whenever the controller fences again."""
    link = fenced()
    assert link.wake_at_ms == 5_000
    assert link.tick(4_999) == []
    assert link.tick(5_000) == [Send(FENCE_ACK)]
    assert link.received(Fence(FenceKind.COPY), 6_000) == [Send(FENCE_ACK)]
    assert link.received(FenceDone(), 7_000) == [Store(FenceConfirmed())]
    [action] = link.stored(None, 7_001)
    assert isinstance(action, Close)
    assert action.for_good


def test_a_fenced_store_hears_nothing_else() -> None:
    """Neither updates nor requests have an effect, and no report is sent."""
    link = fenced()
    for message in (Update((allocation(),)), ReportRequest(1, "q"), ReportAck(1, 0, b"m"), welcome()):
        assert link.received(message, 1) == []
    assert link.urgent(100) == []


def test_a_fence_in_the_middle_of_a_stream_overtakes_what_waits() -> None:
    """What is under way is finished; what waits behind it is pointless."""
    link = up()
    link.received(Update((allocation(number=2),)), 1)
    link.received(Update((allocation(number=3),)), 1)
    assert link.received(Fence(FenceKind.ENDED), 2) == []
    assert link.stored(None, 3) == [Store(ApplyFence(FenceKind.ENDED))]
    assert link.stored(FENCE_ACK, 4) == [Send(FENCE_ACK)]


def test_a_fence_during_the_welcome_sends_no_report() -> None:
    """The welcome under way is stored, and then the fence."""
    link = greeted()
    link.received(welcome(), 0)
    link.received(Fence(FenceKind.ENDED), 0)
    assert link.stored(None, 1) == [Store(ApplyFence(FenceKind.ENDED))]
    assert not link.up


def test_a_controller_that_never_records_the_fence_is_left() -> None:
    """Silence counts here too; the next life dials again and repeats the acknowledgement."""
    link = fenced()
    [action] = link.tick(10_001)
    assert isinstance(action, Close)
    assert not action.for_good


def test_what_becomes_durable_after_the_end_of_the_stream_calls_for_nothing() -> None:
    link = up()
    assert link.received(Update((allocation(),)), 0) == [Store(Apply((allocation(),), (), None))]
    (closed,) = link.tick(2 * HEARTBEAT + 1)
    assert isinstance(closed, Close)
    assert link.stored(None, 2 * HEARTBEAT + 2) == []
