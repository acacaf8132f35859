"""Errors as every Quotafleet server sends them and every client reads them: a status, a stable reason, bad fields.

The reasons are those of `quotafleet.v1.ErrorReason`, without the prefix. Callers switch on the reason, never on the
status code or the message: other limits (message size, rate) share the codes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NoReturn

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from quotafleet.v1 import errors_pb2

DOMAIN: Final = "quotafleet"
#: The trailing metadata key in which gRPC carries a `google.rpc.Status`.
DETAILS_KEY: Final = "grpc-status-details-bin"
PREFIX: Final = "ERROR_REASON_"

FIELD_INVALID: Final = "FIELD_INVALID"

#: What a call's trailers carry of an error: gRPC's clients begin to drop trailers above 8 KiB. The message is in them
#: twice, once with up to three bytes for each of its own.
_MAX_MESSAGE_BYTES: Final = 1024
_MAX_FIELD_BYTES: Final = 3200
#: About what a field takes beside its path and its problem.
_FIELD_BYTES: Final = 8

#: A field's path, as in the proto (`items[3].amount`), and what is wrong with it.
Field = tuple[str, str]

_REASONS_OF: Final[Mapping[grpc.StatusCode, Sequence[str]]] = {
    grpc.StatusCode.RESOURCE_EXHAUSTED: ("QUOTA_REACHED",),
    grpc.StatusCode.FAILED_PRECONDITION: (
        "QUOTA_NOT_STARTED",
        "QUOTA_EXPIRED",
        "QUOTA_SUSPENDED",
        "QUOTA_CLOSED",
        "OFFLINE_TOO_LONG",
        "AGENT_FENCED",
        "AGENT_INACTIVE",
        "CLOCK_WENT_BACK",
        "NOT_ENROLLED",
        "TARGET_BELOW_COUNT",
        "HOLD_EXPIRED",
        "ENTRY_ENDED",
        "CONFIRMATION_NEEDED",
        "TARGET_EXCEEDED",
        "OVERRIDE_DECIDED",
        "RECOVERY_STATE",
        "RULES_VIOLATED",
    ),
    grpc.StatusCode.NOT_FOUND: (
        "QUOTA_UNKNOWN",
        "NOT_ASSIGNED",
        "AGENT_UNKNOWN",
        "ENTRY_UNKNOWN",
        "OVERRIDE_UNKNOWN",
        "RECORD_UNKNOWN",
    ),
    grpc.StatusCode.INVALID_ARGUMENT: (
        FIELD_INVALID,
        "ENVELOPE_INVALID",
        "RECORDS_MALFORMED",
    ),
    grpc.StatusCode.ALREADY_EXISTS: ("QUOTA_EXISTS", "AGENT_EXISTS", "REQUEST_ID_REUSED"),
    grpc.StatusCode.ABORTED: ("ETAG_MISMATCH", "DATA_CHANGED"),
    grpc.StatusCode.UNAVAILABLE: ("STORE_UNAVAILABLE",),
    grpc.StatusCode.UNAUTHENTICATED: ("TOKEN_INVALID",),
    grpc.StatusCode.PERMISSION_DENIED: ("NOT_YOUR_AGENT",),
}

#: The gRPC status code of each reason.
CODES: Final[Mapping[str, grpc.StatusCode]] = {
    reason: code for code, reasons in _REASONS_OF.items() for reason in reasons
}
_NUMBERS: Final[Mapping[str, int]] = {reason: code.value[0] for reason, code in CODES.items()}
_BY_NUMBER: Final[Mapping[int, grpc.StatusCode]] = {code.value[0]: code for code in grpc.StatusCode}


class FieldError(ValueError):
    """A message breaks its contract: `path` names the field as the proto does, `problem` says what is wrong."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path
        self.problem = problem

    def under(self, parent: str) -> FieldError:
        """The same error as seen from the message that holds the bad one as `parent`."""
        return FieldError(f"{parent}.{self.path}" if self.path else parent, self.problem)


class QuotafleetError(Exception):
    """A call failed.

    `reason` is "" if the error is not one of ours: the transport's, a proxy's, a message too large. `metadata` holds
    the numbers that belong to the reason; `fields` names what was bad about a request.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        reason: str,
        message: str,
        metadata: Mapping[str, str] | None = None,
        fields: Iterable[Field] = (),
    ) -> None:
        super().__init__(f"{reason or code.name}: {message}")
        self.code = code
        self.reason = reason
        self.message = message
        self.metadata: dict[str, str] = dict(metadata or {})
        self.fields: tuple[Field, ...] = tuple(fields)


def to_status(
    reason: str, message: str, metadata: Mapping[str, str] | None = None, fields: Iterable[Field] = ()
) -> status_pb2.Status:
    """The rich status of an error; `reason` must be one of ours (KeyError otherwise)."""
    status = status_pb2.Status(code=_NUMBERS[reason], message=message)
    info = error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata)
    status.details.add().Pack(info)
    bad = error_details_pb2.BadRequest()
    for path, problem in fields:
        bad.field_violations.add(field=path, description=problem)
    if bad.field_violations:
        status.details.add().Pack(bad)
    return status


async def abort(
    context: grpc.aio.ServicerContext[Any, Any],
    reason: str,
    message: str,
    metadata: Mapping[str, str] | None = None,
    fields: Iterable[Field] = (),
) -> NoReturn:
    """End a call with an error of ours; of very many bad fields the first are named, the others counted."""
    message, fields = _fitting(message, fields)
    details = to_status(reason, message, metadata, fields).SerializeToString()
    await context.abort(CODES[reason], message, ((DETAILS_KEY, details),))


def set_error(
    context: grpc.aio.ServicerContext[Any, Any],
    reason: str,
    message: str,
    metadata: Mapping[str, str] | None = None,
    fields: Iterable[Field] = (),
) -> None:
    """Let a unary call end with an error of ours when its handler returns; what it returns is dropped.

    Cheaper than `abort`, which unwinds the handler by an exception; the same arrives.
    """
    message, fields = _fitting(message, fields)
    details = to_status(reason, message, metadata, fields).SerializeToString()
    context.set_trailing_metadata(((DETAILS_KEY, details),))
    context.set_code(CODES[reason])
    context.set_details(message)


def _fitting(message: str, fields: Iterable[Field]) -> tuple[str, list[Field]]:
    """As much of an error as trailers hold: whole fields, at least one if there are any; the rest are counted."""
    said: list[Field] = []
    room, left = _MAX_FIELD_BYTES, 0
    for path, problem in fields:
        room -= len(path.encode()) + len(problem.encode()) + _FIELD_BYTES
        if said and room < 0:
            left += 1
        else:
            said.append((path, problem))
    more = f" ... and {left} more bad fields" if left else ""
    content = message.encode()
    if len(content) + len(more) <= _MAX_MESSAGE_BYTES:
        return message + more, said
    more = more or " ..."
    return content[: _MAX_MESSAGE_BYTES - len(more)].decode(errors="ignore") + more, said


def from_status(status: status_pb2.Status) -> QuotafleetError:
    """Read an error out of a rich status, whoever made it."""
    code = _BY_NUMBER.get(status.code, grpc.StatusCode.UNKNOWN)
    reason, metadata, fields = "", {}, []
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in status.details:
        if _unpack(detail, info) and info.domain == DOMAIN:
            reason, metadata = info.reason, dict(info.metadata)
        elif _unpack(detail, bad):
            fields += [(each.field, each.description) for each in bad.field_violations]
    return QuotafleetError(code, reason, status.message, metadata, fields)


def from_rpc_error(error: grpc.RpcError) -> QuotafleetError:
    """Read the error of a failed call, synchronous or asynchronous."""
    call: Any = error  # both kinds of RpcError are calls, only their types do not say so
    code, message = call.code(), call.details() or ""
    for key, value in call.trailing_metadata() or ():
        if key == DETAILS_KEY:
            try:
                status = status_pb2.Status.FromString(value)
            except DecodeError:
                break  # not a status: what the call itself says still holds
            if status.code == code.value[0]:
                return from_status(status)
    return QuotafleetError(code, "", message)


def known_reasons() -> frozenset[str]:
    """Every reason of `quotafleet.v1.ErrorReason` that is ever sent."""
    names = (value.name for value in errors_pb2.ErrorReason.DESCRIPTOR.values if value.number != 0)
    return frozenset(name.removeprefix(PREFIX) for name in names)


def _unpack(detail: Any, into: Message) -> bool:
    """Whether `detail` holds a message of `into`'s type, which then is in `into`."""
    try:
        return bool(detail.Unpack(into))
    except DecodeError:  # of that type by name only
        return False
