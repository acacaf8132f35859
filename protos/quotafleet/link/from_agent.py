"""What an agent says, as protobuf and back; see `quotafleet.link.wire`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from quotafleet.errors import FieldError
from quotafleet.link import checks, parts
from quotafleet.link.messages import (
    MAX_OPEN_REQUESTS,
    MAX_UNITS,
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
    Standing,
)
from quotafleet.v1 import agent_link_service_pb2 as pb

#: What an agent may say of an override.
_STATES: Final[dict[int, OverrideState]] = {
    parts.STATES[state]: state for state in (OverrideState.APPROVED, OverrideState.USED, OverrideState.DEAD)
}


def to_request(message: FromAgent) -> pb.ConnectRequest:
    """An agent's message as it is sent."""
    envelope = pb.ConnectRequest()
    match message:
        case Report():
            _fill_report(envelope.report, message)
        case Hello():
            _fill_hello(envelope.hello, message)
        case FenceAck():
            _fill_fence_ack(envelope.fence_ack, message)
    return envelope


def from_request(envelope: pb.ConnectRequest) -> FromAgent:
    """An agent's message, checked; FieldError names the first bad field."""
    which = envelope.WhichOneof("message")
    if which is None:
        raise FieldError("message", "must be set")
    try:
        if which == "report":
            return _report(envelope.report)
        if which == "hello":
            return _hello(envelope.hello)
        return _fence_ack(envelope.fence_ack)
    except FieldError as error:
        raise error.under(which) from None


def _fill_hello(out: pb.Hello, hello: Hello) -> None:
    out.agent_uid = hello.agent_uid
    out.epoch = hello.epoch
    out.store_id = hello.store_id
    out.dial = hello.dial
    out.mark = hello.mark
    out.protocol_version = hello.protocol_version
    parts.fill_time(out.clock_time, hello.clock_ms)
    _add_standings(out.standings, hello.standings)
    _add_override_standings(out.overrides, hello.overrides)
    _add_asks(out.asks, hello.asks)
    if hello.fenced is not None:
        out.fenced = parts.FENCES[hello.fenced]


def _hello(message: pb.Hello) -> Hello:
    return Hello(
        agent_uid=checks.identifier(message.agent_uid, "agent_uid"),
        epoch=checks.number(message.epoch, "epoch"),
        store_id=checks.identifier(message.store_id, "store_id", checks.MAX_STORE_ID_CHARS),
        dial=checks.number(message.dial, "dial"),
        mark=checks.mark(message.mark),
        protocol_version=checks.number(message.protocol_version, "protocol_version"),
        clock_ms=parts.clock(message),
        standings=checks.each(message.standings, _standing, "standings"),
        overrides=checks.each(message.overrides, _override_standing, "overrides"),
        asks=checks.each(message.asks, _ask, "asks"),
        fenced=_fenced(message.fenced) if message.fenced else None,
    )


def _fenced(number: int) -> FenceKind:
    kind = parts.FENCE_KINDS.get(number)
    if kind is None:
        raise FieldError("fenced", f"is no kind of fence that this controller knows: {number}")
    return kind


def _fill_report(out: pb.Report, report: Report) -> None:
    out.number = report.number
    out.mark = report.mark
    parts.fill_time(out.clock_time, report.clock_ms)
    if report.standings:
        _add_standings(out.standings, report.standings)
    if report.overrides:
        _add_override_standings(out.overrides, report.overrides)
    if report.asks:
        _add_asks(out.asks, report.asks)
    if report.answers:
        out.answers.extend(report.answers)


def _report(message: pb.Report) -> Report:
    return Report(
        number=checks.number(message.number, "number"),
        mark=checks.mark(message.mark),
        clock_ms=parts.clock(message),
        standings=checks.each(message.standings, _standing, "standings"),
        overrides=checks.each(message.overrides, _override_standing, "overrides"),
        asks=checks.each(message.asks, _ask, "asks"),
        answers=tuple(
            checks.number(answer, f"answers[{index}]") for index, answer in enumerate(message.answers)
        ),
    )


def _fill_fence_ack(out: pb.FenceAck, ack: FenceAck) -> None:
    out.kind = parts.FENCES[ack.kind]
    out.store_id = ack.store_id
    out.mark = ack.mark
    for standing in ack.standings:
        item = out.standings.add(quota_uid=standing.quota_uid)
        parts.fill_totals(item.totals, standing.totals)
        parts.fill_totals(item.marked_totals, standing.marked)
    _add_override_standings(out.overrides, ack.overrides)


def _fence_ack(message: pb.FenceAck) -> FenceAck:
    return FenceAck(
        kind=checks.member(message.kind, parts.FENCE_KINDS, "kind"),
        store_id=checks.identifier(message.store_id, "store_id", checks.MAX_STORE_ID_CHARS),
        mark=checks.mark(message.mark),
        standings=checks.each(message.standings, _final_standing, "standings"),
        overrides=checks.each(message.overrides, _override_standing, "overrides"),
    )


def _final_standing(message: pb.FinalStanding) -> FinalStanding:
    return FinalStanding(
        quota_uid=checks.identifier(message.quota_uid, "quota_uid"),
        totals=parts.totals(message.totals, "totals"),
        marked=parts.totals(message.marked_totals, "marked_totals"),
    )


def _add_standings(out: Any, standings: Iterable[Standing]) -> None:
    for standing in standings:
        item = out.add(
            quota_uid=standing.quota_uid,
            limit=standing.limit,
            held=standing.held,
            sequence=standing.sequence,
            # Both only weigh, and a sum of wild requests may pass what a message carries.
            recent_demand=min(standing.recent_demand, MAX_UNITS),
            wanted_more=min(standing.wanted_more, MAX_UNITS),
        )
        parts.fill_revision(item.revision, standing.revision)
        parts.fill_totals(item.totals, standing.totals)
        for request in standing.open_requests:
            parts.fill_time(item.open_requests.add(amount=request.amount).age, request.age_ms)


def _standing(message: pb.Standing) -> Standing:
    requests = message.open_requests
    if len(requests) > MAX_OPEN_REQUESTS:
        raise FieldError("open_requests", f"must be at most {MAX_OPEN_REQUESTS}")
    return Standing(
        checks.identifier(message.quota_uid, "quota_uid"),
        parts.revision(message.revision, checks.start),  # after a restore the ledger counts on from it
        checks.units(message.limit, "limit"),
        parts.totals(message.totals, "totals"),
        checks.units(message.held, "held"),
        checks.number(message.sequence, "sequence"),
        checks.each(requests, _open_request, "open_requests") if requests else (),
        checks.units(message.recent_demand, "recent_demand"),
        checks.units(message.wanted_more, "wanted_more"),
    )


def _open_request(message: pb.OpenRequest) -> OpenRequest:
    return OpenRequest(
        checks.some_units(message.amount, "amount"),
        checks.duration_ms(message.age, "age"),
    )


def _add_override_standings(out: Any, standings: Iterable[OverrideStanding]) -> None:
    for standing in standings:
        out.add(
            override_id=standing.override_id,
            state=parts.STATES[standing.state],
            spent=standing.spent,
            quota_uid=standing.quota_uid,
            amount=standing.amount,
        )


def _override_standing(message: pb.OverrideStanding) -> OverrideStanding:
    state = checks.member(message.state, _STATES, "state")
    spent = checks.units(message.spent, "spent")
    if spent and state is not OverrideState.USED:
        raise FieldError("spent", "must be 0 unless the state is USED")
    amount = checks.some_units(message.amount, "amount")
    if spent > amount:
        raise FieldError("spent", "must not be above the amount")
    return OverrideStanding(
        checks.identifier(message.override_id, "override_id"),
        state,
        spent,
        checks.text(message.quota_uid, "quota_uid", checks.MAX_ID_CHARS),
        amount,
    )


def _add_asks(out: Any, asks: Iterable[OverrideAsk]) -> None:
    for ask in asks:
        out.add(ask_id=ask.ask_id, quota_uid=ask.quota_uid, amount=ask.amount, reason=ask.reason)


def _ask(message: pb.OverrideAsk) -> OverrideAsk:
    return OverrideAsk(
        ask_id=checks.identifier(message.ask_id, "ask_id"),
        quota_uid=checks.identifier(message.quota_uid, "quota_uid"),
        amount=checks.some_units(message.amount, "amount"),
        reason=checks.text(message.reason, "reason", checks.MAX_REASON_CHARS),
    )
