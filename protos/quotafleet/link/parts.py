"""Parts that messages of both directions are made of, as protobuf and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from quotafleet.errors import FieldError
from quotafleet.link import checks
from quotafleet.link.messages import FenceKind, OverrideState, Revision, Totals
from quotafleet.v1 import agent_link_service_pb2 as pb

STATES: Final[Mapping[OverrideState, pb.OverrideState.ValueType]] = {
    state: pb.OverrideState.Value(f"OVERRIDE_STATE_{state.name}") for state in OverrideState
}
FENCES: Final[Mapping[FenceKind, pb.FenceKind.ValueType]] = {
    kind: pb.FenceKind.Value(f"FENCE_KIND_{kind.name}") for kind in FenceKind
}
FENCE_KINDS: Final[dict[int, FenceKind]] = {number: kind for kind, number in FENCES.items()}


class _HasClock(Protocol):
    """Hello, Report, Welcome or ReportAck."""

    @property
    def clock_time(self) -> Any: ...
    def HasField(self, field_name: Any, /) -> bool: ...


def clock(message: _HasClock) -> int:
    """The sender's clock, in milliseconds; it must be there."""
    if not message.HasField("clock_time"):
        raise FieldError("clock_time", "must be set")
    return checks.wall_ms(message.clock_time, "clock_time")


def fill_revision(out: pb.Revision, value: Revision) -> None:
    """Write a revision."""
    out.generation, out.number = value


def revision(message: pb.Revision, check: Callable[[int, str], int] = checks.number) -> Revision:
    """Read the field `revision`; `check` bounds its numbers."""
    return Revision(
        check(message.generation, "revision.generation"), check(message.number, "revision.number")
    )


def fill_totals(out: pb.Totals, value: Totals) -> None:
    """Write totals."""
    out.consumed = value.consumed
    out.released = value.released
    out.override_consumed = value.override_consumed
    out.override_released = value.override_released


def totals(message: pb.Totals, name: str) -> Totals:
    """Read the totals that are field `name`."""
    consumed, released = message.consumed, message.released
    if not 0 <= released <= consumed:
        bad = "consumed" if consumed < 0 else "released"
        raise FieldError(f"{name}.{bad}", "must not be negative, nor released above consumed")
    spent, returned = message.override_consumed, message.override_released
    if not 0 <= returned <= spent:
        bad = "override_consumed" if spent < 0 else "override_released"
        raise FieldError(f"{name}.{bad}", "must not be negative, nor released above consumed")
    return Totals(consumed, released, spent, returned)


def fill_time(out: Any, milliseconds: int) -> None:
    """Write a Timestamp or a Duration; it is set even if all zero."""
    out.seconds, rest = divmod(milliseconds, 1000)
    out.nanos = rest * 1_000_000
    out.SetInParent()
