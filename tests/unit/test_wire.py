"""The link's messages survive the wire unchanged, and each bad field is named."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quotafleet.errors import FieldError
from quotafleet.link import messages as m
from quotafleet.link.checks import MAX_NUMBER, MAX_START
from quotafleet.link.wire import from_request, from_response, to_request, to_response
from quotafleet.v1 import agent_link_service_pb2 as pb

MAX_INT64 = 2**63 - 1

ids = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), min_size=1, max_size=128)
short_ids = ids.filter(lambda text: len(text) <= 64)
names = st.from_regex(r"[a-z0-9][a-z0-9._/-]{0,127}", fullmatch=True)
units = st.integers(0, m.MAX_UNITS)
some_units = st.integers(1, m.MAX_UNITS)
numbers = st.integers(0, MAX_NUMBER)
totals_of = st.integers(0, MAX_INT64)
marks = st.binary(max_size=64)
times = st.integers(0, 253_402_300_799_999)
durations = st.integers(0, 10**12)
starts = st.integers(0, MAX_START)
revisions = st.builds(m.Revision, starts, st.integers(1, MAX_START))


@st.composite
def totals(draw: st.DrawFn) -> m.Totals:
    consumed, spent = draw(totals_of), draw(totals_of)
    return m.Totals(consumed, draw(st.integers(0, consumed)), spent, draw(st.integers(0, spent)))


def tuples(items: st.SearchStrategy[object], most: int = 3) -> st.SearchStrategy[tuple[object, ...]]:
    return st.lists(items, max_size=most).map(tuple)


standings = st.builds(
    m.Standing,
    ids,
    revisions,
    units,
    totals(),
    units,
    numbers,
    tuples(st.builds(m.OpenRequest, some_units, durations)),
    units,
    units,
)
override_standings = st.one_of(
    some_units.flatmap(
        lambda amount: st.builds(
            m.OverrideStanding,
            ids,
            st.just(m.OverrideState.USED),
            st.integers(0, amount),
            st.just("") | ids,
            st.just(amount),
        )
    ),
    st.builds(
        m.OverrideStanding,
        ids,
        st.sampled_from([m.OverrideState.APPROVED, m.OverrideState.DEAD]),
        amount=some_units,
    ),
)
asks = st.builds(m.OverrideAsk, ids, ids, some_units, st.just("") | ids)
terms = st.builds(
    m.Terms,
    names,
    st.integers(0, 3),
    st.none() | times,
    st.none() | times,
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.none() | durations,
)
allocations = st.builds(m.AllocationUpdate, ids, revisions, units, terms)
words = st.sampled_from(
    [
        m.OverrideState.PENDING,
        m.OverrideState.DENIED,
        m.OverrideState.FROM_RESERVE,
        m.OverrideState.APPROVED,
    ]
)
#: Denied without becoming an override: then it has no id.
denials = st.builds(
    m.OverrideUpdate, st.just(""), ids, ids, some_units, st.just(m.OverrideState.DENIED), st.just(False)
)
overrides = denials | st.builds(
    m.OverrideUpdate, ids, st.just("") | ids, ids, some_units, words, st.booleans()
)
kinds = st.sampled_from(m.FenceKind)

from_agents = st.one_of(
    st.builds(
        m.Hello,
        ids,
        numbers,
        short_ids,
        numbers,
        marks,
        times,
        tuples(standings),
        tuples(override_standings),
        tuples(asks),
        st.integers(0, 2**31 - 1),
    ),
    st.builds(
        m.Report,
        numbers,
        marks,
        times,
        tuples(standings),
        tuples(override_standings),
        tuples(asks),
        tuples(numbers),
    ),
    st.builds(
        m.FenceAck,
        kinds,
        short_ids,
        marks,
        tuples(st.builds(m.FinalStanding, ids, totals(), totals())),
        tuples(override_standings),
    ),
)
from_controllers = st.one_of(
    st.builds(
        m.Welcome,
        marks.filter(bool),
        numbers,
        times,
        st.integers(1, 3_600_000),
        tuples(allocations),
        tuples(overrides),
    ),
    st.builds(m.StaleHello, starts),
    st.builds(m.Fence, kinds),
    st.just(m.FenceDone()),
    st.builds(m.Update, tuples(allocations), tuples(overrides)),
    st.builds(m.ReportAck, numbers, times, st.none() | marks.filter(bool)),
    st.builds(m.ReportRequest, numbers, ids),
)


@given(from_agents)
def test_what_an_agent_says_arrives_unchanged(message: m.FromAgent) -> None:
    """Through protobuf and its bytes, and back, it is the same message."""
    sent = to_request(message).SerializeToString()
    assert from_request(pb.ConnectRequest.FromString(sent)) == message


@given(from_controllers)
def test_what_a_controller_says_arrives_unchanged(message: m.FromController) -> None:
    """Through protobuf and its bytes, and back, it is the same message."""
    sent = to_response(message).SerializeToString()
    assert from_response(pb.ConnectResponse.FromString(sent)) == message


STANDING = m.Standing("q", m.Revision(0, 1), 10, m.Totals(5, 2, 3, 1), 1, 7, (m.OpenRequest(3, 20),))
OVERRIDE_STANDING = m.OverrideStanding("o", m.OverrideState.USED, 2, "q", 5)
ASK = m.OverrideAsk("a", "q", 1, "because")
HELLO = m.Hello("agent", 1, "store", 1, b"mark", 1_000, (STANDING,), (OVERRIDE_STANDING,), (ASK,))
REPORT = m.Report(1, b"mark", 1_000, (STANDING, STANDING), (OVERRIDE_STANDING,), (ASK,), (1, 2))
FENCE_ACK = m.FenceAck(
    m.FenceKind.COPY, "store", b"", (m.FinalStanding("q", m.Totals(), m.Totals()),), (OVERRIDE_STANDING,)
)

Spoil = Callable[[pb.ConnectRequest | pb.ConnectResponse], None]


def put(path: str, value: object) -> Spoil:
    """Return a function that sets the field at `path`, as `report.standings[1].limit`."""

    def spoil(message: object) -> None:
        *parents, last = path.replace("[", ".").replace("]", "").split(".")
        for name in parents:
            message = message[int(name)] if name.isdigit() else getattr(message, name)  # type: ignore[index]
        setattr(message, last, value)

    return spoil


BAD_REQUESTS = [
    (HELLO, "hello.agent_uid", ""),
    (HELLO, "hello.agent_uid", "x" * 129),
    (HELLO, "hello.epoch", -1),
    (HELLO, "hello.store_id", "x" * 65),
    (HELLO, "hello.dial", -1),
    (HELLO, "hello.mark", b"x" * 1025),
    (HELLO, "hello.protocol_version", -1),
    (HELLO, "hello.clock_time.seconds", -1),
    (HELLO, "hello.clock_time.seconds", 253_402_300_800),
    (HELLO, "hello.clock_time.nanos", 1_000_000_000),
    (HELLO, "hello.standings[0].revision.generation", -1),
    (HELLO, "hello.asks[0].ask_id", ""),
    (HELLO, "hello.asks[0].quota_uid", "bell\a"),
    (HELLO, "hello.asks[0].amount", 0),
    (HELLO, "hello.asks[0].reason", "x" * 1025),
    (REPORT, "report.number", -1),
    (REPORT, "report.standings[1].quota_uid", ""),
    (REPORT, "report.standings[1].quota_uid", "a\nb"),
    (REPORT, "report.standings[1].revision.number", -1),
    (REPORT, "report.standings[1].revision.number", MAX_START + 1),
    (REPORT, "report.standings[1].revision.generation", MAX_START + 1),
    (REPORT, "report.standings[1].limit", -1),
    (REPORT, "report.standings[1].limit", m.MAX_UNITS + 1),
    (REPORT, "report.standings[1].totals.consumed", -1),
    (REPORT, "report.standings[1].totals.released", -1),
    (REPORT, "report.standings[1].totals.released", 6),
    (REPORT, "report.standings[1].totals.override_consumed", -1),
    (REPORT, "report.standings[1].totals.override_released", 4),
    (REPORT, "report.standings[1].held", -1),
    (REPORT, "report.standings[1].sequence", -1),
    (REPORT, "report.standings[1].open_requests[0].amount", 0),
    (REPORT, "report.standings[1].open_requests[0].age.seconds", -1),
    (REPORT, "report.standings[1].recent_demand", -1),
    (REPORT, "report.standings[1].wanted_more", m.MAX_UNITS + 1),
    (REPORT, "report.overrides[0].override_id", ""),
    (REPORT, "report.overrides[0].state", pb.OVERRIDE_STATE_UNSPECIFIED),
    (REPORT, "report.overrides[0].state", pb.OVERRIDE_STATE_PENDING),
    (REPORT, "report.overrides[0].state", 99),
    (REPORT, "report.overrides[0].spent", -1),
    (REPORT, "report.overrides[0].spent", 6),
    (REPORT, "report.overrides[0].amount", 0),
    (REPORT, "report.overrides[0].amount", m.MAX_UNITS + 1),
    (REPORT, "report.overrides[0].quota_uid", "x" * 129),
    (FENCE_ACK, "fence_ack.kind", pb.FENCE_KIND_UNSPECIFIED),
    (FENCE_ACK, "fence_ack.store_id", ""),
    (FENCE_ACK, "fence_ack.standings[0].totals.consumed", -1),
    (FENCE_ACK, "fence_ack.standings[0].marked_totals.released", 1),
]


@pytest.mark.parametrize(("good", "path", "value"), BAD_REQUESTS)
def test_a_bad_field_of_an_agent_is_named(good: m.FromAgent, path: str, value: object) -> None:
    """The error's path is the field's."""
    message = to_request(good)
    put(path, value)(message)
    with pytest.raises(FieldError) as caught:
        from_request(message)
    assert caught.value.path == path.removesuffix(".seconds").removesuffix(".nanos")


ALLOCATION = m.AllocationUpdate("q", m.Revision(0, 1), 10, m.Terms("quota", 0, 1, 2, max_offline_ms=5))
OVERRIDE = m.OverrideUpdate("o", "a", "q", 5, m.OverrideState.APPROVED)
WELCOME = m.Welcome(b"mark", 0, 1_000, 5_000, (ALLOCATION, ALLOCATION), (OVERRIDE,))

BAD_RESPONSES = [
    (WELCOME, "welcome.mark", b""),
    (WELCOME, "welcome.generation", -1),
    (WELCOME, "welcome.clock_time.nanos", -1),
    (WELCOME, "welcome.heartbeat.seconds", 0),
    (WELCOME, "welcome.heartbeat.seconds", 3601),
    (WELCOME, "welcome.allocations[1].quota_uid", ""),
    (WELCOME, "welcome.allocations[1].revision.number", 0),
    (WELCOME, "welcome.allocations[1].revision.generation", -1),
    (WELCOME, "welcome.allocations[1].limit", m.MAX_UNITS + 1),
    (WELCOME, "welcome.allocations[1].terms.name", "Not/a/name"),
    (WELCOME, "welcome.allocations[1].terms.decimals", 4),
    (WELCOME, "welcome.allocations[1].terms.start_time.seconds", -1),
    (WELCOME, "welcome.allocations[1].terms.end_time.nanos", -1),
    (WELCOME, "welcome.allocations[1].terms.max_offline.seconds", -1),
    (WELCOME, "welcome.overrides[0].override_id", ""),
    (WELCOME, "welcome.overrides[0].ask_id", "x" * 129),
    (WELCOME, "welcome.overrides[0].amount", 0),
    (WELCOME, "welcome.overrides[0].state", pb.OVERRIDE_STATE_USED),
    (m.Update((ALLOCATION,)), "update.allocations[0].limit", -1),
    (m.StaleHello(1), "stale_hello.last_dial", -1),
    (m.StaleHello(1), "stale_hello.last_dial", MAX_START + 1),
    (m.Fence(m.FenceKind.ENDED), "fence.kind", 0),
    (m.ReportAck(1, 1_000), "report_ack.number", -1),
    (m.ReportRequest(1, "q"), "report_request.request", -1),
    (m.ReportRequest(1, "q"), "report_request.quota_uid", ""),
]


@pytest.mark.parametrize(("good", "path", "value"), BAD_RESPONSES)
def test_a_bad_field_of_a_controller_is_named(good: m.FromController, path: str, value: object) -> None:
    """The error's path is the field's."""
    message = to_response(good)
    put(path, value)(message)
    with pytest.raises(FieldError) as caught:
        from_response(message)
    assert caught.value.path == path.removesuffix(".seconds").removesuffix(".nanos")


def test_an_envelope_must_hold_something() -> None:
    """An unset oneof is an error, in both directions."""
    with pytest.raises(FieldError, match=r"^message: must be set"):
        from_request(pb.ConnectRequest())
    with pytest.raises(FieldError, match=r"^message: must be set"):
        from_response(pb.ConnectResponse())


def test_clock_and_terms_must_be_there() -> None:
    """What has no sensible default is not defaulted."""
    with pytest.raises(FieldError, match=r"^report\.clock_time: must be set"):
        from_request(pb.ConnectRequest(report=pb.Report(number=1)))
    update = pb.Update(allocations=[pb.AllocationUpdate(quota_uid="q")])
    with pytest.raises(FieldError, match=r"^update\.allocations\[0\]\.terms: must be set"):
        from_response(pb.ConnectResponse(update=update))


def test_only_the_oldest_requests_are_carried() -> None:
    """More open requests than the bound are refused, not cut."""
    many = m.Standing("q", m.Revision(), 0, m.Totals(), 0, 0, (m.OpenRequest(1),) * (m.MAX_OPEN_REQUESTS + 1))
    with pytest.raises(FieldError, match=r"^report\.standings\[0\]\.open_requests: "):
        from_request(to_request(m.Report(1, b"", 0, (many,))))


def test_only_a_used_override_has_spent_anything() -> None:
    """What is spent belongs to the state USED."""
    message = to_request(REPORT)
    message.report.overrides[0].state = pb.OVERRIDE_STATE_DEAD
    with pytest.raises(FieldError, match=r"^report\.overrides\[0\]\.spent: "):
        from_request(message)


def test_wild_demand_is_cut_to_what_a_message_carries() -> None:
    """Demand is a weight: a sum beyond every bound must not keep the agent from reporting."""
    wild = m.Standing("q", m.Revision(), 0, m.Totals(), 0, 0, (), 2**70, 2**70)
    received = from_request(to_request(m.Report(1, b"", 0, (wild,))))
    assert isinstance(received, m.Report)
    assert received.standings[0].recent_demand == received.standings[0].wanted_more == m.MAX_UNITS


def test_what_follows_the_last_number_of_one_end_is_taken_by_the_other() -> None:
    """An agent dials above the last dial it is told, a restored ledger counts on from a revision it is told."""
    stale = from_response(to_response(m.StaleHello(MAX_START)))
    assert isinstance(stale, m.StaleHello)
    hello = from_request(to_request(replace(HELLO, dial=stale.last_dial + 1)))
    assert isinstance(hello, m.Hello)
    standing = replace(STANDING, revision=m.Revision(MAX_START, MAX_START))
    told = from_request(to_request(replace(REPORT, standings=(standing,))))
    assert isinstance(told, m.Report)
    told_revision = told.standings[0].revision
    update = replace(ALLOCATION, revision=told_revision.next(told_revision.generation + 1))
    assert from_response(to_response(m.Update((update,)))) == m.Update((update,))
