"""What a controller says, as protobuf and back; see `quotafleet.link.wire`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from quotafleet.errors import FieldError
from quotafleet.link import checks, parts
from quotafleet.link.messages import (
    AllocationUpdate,
    Fence,
    FenceDone,
    FromController,
    OverrideState,
    OverrideUpdate,
    ReportAck,
    ReportRequest,
    StaleHello,
    Terms,
    Update,
    Welcome,
)
from quotafleet.v1 import agent_link_service_pb2 as pb

#: A shorter heartbeat would be a flood, a longer one a dead link.
MIN_HEARTBEAT_MS: Final = 1
MAX_HEARTBEAT_MS: Final = 3_600_000

#: What a controller may say of an override.
_STATES: Final[dict[int, OverrideState]] = {
    number: state
    for state, number in parts.STATES.items()
    if state not in (OverrideState.USED, OverrideState.DEAD)
}


def to_response(message: FromController) -> pb.ConnectResponse:
    """A controller's message as it is sent."""
    envelope = pb.ConnectResponse()
    match message:
        case ReportAck():
            _fill_report_ack(envelope.report_ack, message)
        case Update():
            _add_allocations(envelope.update.allocations, message.allocations)
            _add_overrides(envelope.update.overrides, message.overrides)
            envelope.update.SetInParent()
        case ReportRequest():
            envelope.report_request.request = message.request
            envelope.report_request.quota_uid = message.quota_uid
            envelope.report_request.SetInParent()
        case Welcome():
            _fill_welcome(envelope.welcome, message)
        case StaleHello():
            envelope.stale_hello.last_dial = message.last_dial
            envelope.stale_hello.SetInParent()
        case Fence():
            envelope.fence.kind = parts.FENCES[message.kind]
        case FenceDone():
            envelope.fence_done.SetInParent()
    return envelope


def from_response(envelope: pb.ConnectResponse) -> FromController:
    """A controller's message, checked; FieldError names the first bad field."""
    which = envelope.WhichOneof("message")
    if which is None:
        raise FieldError("message", "must be set")
    try:
        return _RESPONSES[which](getattr(envelope, which))
    except FieldError as error:
        raise error.under(which) from None


def _fill_report_ack(out: pb.ReportAck, ack: ReportAck) -> None:
    out.number = ack.number
    parts.fill_time(out.clock_time, ack.clock_ms)
    if ack.mark:
        out.mark = ack.mark


def _report_ack(message: pb.ReportAck) -> ReportAck:
    return ReportAck(
        checks.number(message.number, "number"), parts.clock(message), checks.mark(message.mark) or None
    )


def _report_request(message: pb.ReportRequest) -> ReportRequest:
    return ReportRequest(
        checks.number(message.request, "request"), checks.identifier(message.quota_uid, "quota_uid")
    )


def _fill_welcome(out: pb.Welcome, welcome: Welcome) -> None:
    out.mark = welcome.mark
    out.generation = welcome.generation
    parts.fill_time(out.clock_time, welcome.clock_ms)
    parts.fill_time(out.heartbeat, welcome.heartbeat_ms)
    _add_allocations(out.allocations, welcome.allocations)
    _add_overrides(out.overrides, welcome.overrides)


def _welcome(message: pb.Welcome) -> Welcome:
    if not message.mark:
        raise FieldError("mark", "must be set")
    heartbeat_ms = checks.duration_ms(message.heartbeat, "heartbeat", MIN_HEARTBEAT_MS)
    if heartbeat_ms > MAX_HEARTBEAT_MS:
        raise FieldError("heartbeat", f"must be at most {MAX_HEARTBEAT_MS} ms")
    return Welcome(
        mark=checks.mark(message.mark),
        generation=checks.number(message.generation, "generation"),
        clock_ms=parts.clock(message),
        heartbeat_ms=heartbeat_ms,
        allocations=checks.each(message.allocations, _allocation, "allocations"),
        overrides=checks.each(message.overrides, _override, "overrides"),
    )


def _update(message: pb.Update) -> Update:
    return Update(
        checks.each(message.allocations, _allocation, "allocations"),
        checks.each(message.overrides, _override, "overrides"),
    )


def _stale_hello(message: pb.StaleHello) -> StaleHello:
    return StaleHello(checks.start(message.last_dial, "last_dial"))


def _fence(message: pb.Fence) -> Fence:
    return Fence(checks.member(message.kind, parts.FENCE_KINDS, "kind"))


def _fence_done(_message: pb.FenceDone) -> FenceDone:
    return FenceDone()


def _add_allocations(out: Any, allocations: Iterable[AllocationUpdate]) -> None:
    for allocation in allocations:
        item = out.add(quota_uid=allocation.quota_uid, limit=allocation.limit)
        parts.fill_revision(item.revision, allocation.revision)
        _fill_terms(item.terms, allocation.terms)


def _allocation(message: pb.AllocationUpdate) -> AllocationUpdate:
    if not message.HasField("terms"):
        raise FieldError("terms", "must be set")
    revision = parts.revision(message.revision)
    if revision.number == 0:
        raise FieldError("revision.number", "must be at least 1")
    try:
        terms = _terms(message.terms)
    except FieldError as error:
        raise error.under("terms") from None
    quota_uid = checks.identifier(message.quota_uid, "quota_uid")
    return AllocationUpdate(quota_uid, revision, checks.units(message.limit, "limit"), terms)


def _fill_terms(out: pb.QuotaTerms, terms: Terms) -> None:
    out.name = terms.name
    out.decimals = terms.decimals
    out.suspended = terms.suspended
    out.closed = terms.closed
    out.assigned = terms.assigned
    out.active = terms.active
    if terms.start_ms is not None:
        parts.fill_time(out.start_time, terms.start_ms)
    if terms.end_ms is not None:
        parts.fill_time(out.end_time, terms.end_ms)
    if terms.max_offline_ms is not None:
        parts.fill_time(out.max_offline, terms.max_offline_ms)


def _terms(message: pb.QuotaTerms) -> Terms:
    if not checks.QUOTA_NAME.fullmatch(message.name):
        raise FieldError("name", f"must match {checks.QUOTA_NAME.pattern}")
    if not 0 <= message.decimals <= 3:
        raise FieldError("decimals", "must be from 0 to 3")
    has = message.HasField
    return Terms(
        name=message.name,
        decimals=message.decimals,
        start_ms=checks.wall_ms(message.start_time, "start_time") if has("start_time") else None,
        end_ms=checks.wall_ms(message.end_time, "end_time") if has("end_time") else None,
        suspended=message.suspended,
        closed=message.closed,
        assigned=message.assigned,
        active=message.active,
        max_offline_ms=checks.duration_ms(message.max_offline, "max_offline") if has("max_offline") else None,
    )


def _add_overrides(out: Any, overrides: Iterable[OverrideUpdate]) -> None:
    for override in overrides:
        out.add(
            override_id=override.override_id,
            ask_id=override.ask_id,
            quota_uid=override.quota_uid,
            amount=override.amount,
            state=parts.STATES[override.state],
            revoked=override.revoked,
        )


def _override(message: pb.OverrideUpdate) -> OverrideUpdate:
    state = checks.member(message.state, _STATES, "state")
    ask_id = checks.text(message.ask_id, "ask_id", checks.MAX_ID_CHARS)
    # An ask that nobody can grant, say of a closed quota, is denied without becoming an override.
    denied = state is OverrideState.DENIED and not message.revoked
    nameless = denied and ask_id and not message.override_id
    return OverrideUpdate(
        override_id="" if nameless else checks.identifier(message.override_id, "override_id"),
        ask_id=ask_id,
        quota_uid=checks.identifier(message.quota_uid, "quota_uid"),
        amount=checks.some_units(message.amount, "amount"),
        state=state,
        revoked=message.revoked,
    )


_RESPONSES: Final[Mapping[str, Callable[[Any], FromController]]] = {
    "welcome": _welcome,
    "stale_hello": _stale_hello,
    "fence": _fence,
    "fence_done": _fence_done,
    "update": _update,
    "report_ack": _report_ack,
    "report_request": _report_request,
}
