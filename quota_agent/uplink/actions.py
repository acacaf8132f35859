"""What the machine of a stream asks of its driver, and how a report is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from quotafleet.link.messages import (
    MAX_OVERRIDES,
    AllocationUpdate,
    FenceKind,
    FromAgent,
    OverrideAsk,
    OverrideStanding,
    OverrideState,
    OverrideUpdate,
    Report,
    Standing,
)


@dataclass(frozen=True, slots=True)
class AdvanceDial:
    """Store command: the next hello's dial must be above `last`."""

    last: int


@dataclass(frozen=True, slots=True)
class Apply:
    """Store command, one transaction: what the controller wants, and the session mark to present from then on."""

    allocations: tuple[AllocationUpdate, ...] = ()
    overrides: tuple[OverrideUpdate, ...] = ()
    mark: bytes | None = None
    controller_ms: int | None = None
    #: This is the whole wanted state: what it does not name is not wanted any more.
    complete: bool = False


@dataclass(frozen=True, slots=True)
class ApplyFence:
    """Store command: spend nothing any more. Its result is the FenceAck."""

    kind: FenceKind


@dataclass(frozen=True, slots=True)
class FenceConfirmed:
    """Store command: the controller has recorded the FenceAck; never dial again."""


Command = AdvanceDial | Apply | ApplyFence | FenceConfirmed


@dataclass(frozen=True, slots=True)
class Send:
    """Write a message to the stream."""

    message: FromAgent


@dataclass(frozen=True, slots=True)
class Store:
    """Give a command to the gate, then call `stored`. There is never more than one under way."""

    command: Command


@dataclass(frozen=True, slots=True)
class MakeReport:
    """Build a report (see `make_report`), call `made`, write it, call `written`. Never more than one under way."""

    number: int
    #: Stamp: include every standing that changed after it.
    after: int
    #: Quotas whose standing must be in the report, changed or not.
    quota_uids: tuple[str, ...] = ()
    answers: tuple[int, ...] = ()
    #: Overrides whose end the controller has recorded: they need not be in the report.
    settled: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Contact:
    """The controller has spoken, and this is its clock; tell the gate."""

    controller_ms: int


@dataclass(frozen=True, slots=True)
class Close:
    """End the stream. Later events have no effect."""

    reason: str
    redial_at_once: bool = False
    #: There is nothing left to say to any controller: never dial again.
    for_good: bool = False


Action = Send | Store | MakeReport | Contact | Close


class ReportSource(Protocol):
    """What a report is made of: the gate's durable view."""

    @property
    def mark(self) -> bytes:
        """The session mark last stored."""

    def changes(self, after: int) -> tuple[tuple[Standing, ...], int]:
        """The standings that changed after a stamp, and the stamp of this view."""

    def standing(self, quota_uid: str) -> Standing | None:
        """The standing of one quota, if the store knows it."""

    def override_standings(self) -> tuple[OverrideStanding, ...]:
        """Every override that the controller's words named, or that a new generation may not know."""

    def open_asks(self) -> tuple[OverrideAsk, ...]:
        """Asks that the controller has not answered."""


def make_report(source: ReportSource, order: MakeReport, clock_ms: int) -> tuple[Report, int]:
    """The report that `order` asks for, and the stamp to call `made` with."""
    standings, stamp = source.changes(order.after)
    named = {standing.quota_uid for standing in standings}
    extra = (source.standing(uid) for uid in order.quota_uids if uid not in named)
    report = Report(
        number=order.number,
        mark=source.mark,
        clock_ms=clock_ms,
        standings=(*standings, *(standing for standing in extra if standing is not None)),
        overrides=_overrides(source.override_standings(), order.settled),
        asks=source.open_asks(),
        answers=order.answers,
    )
    return report, stamp


def is_final(standing: OverrideStanding) -> bool:
    """Whether the override can change no more."""
    return standing.state in (OverrideState.USED, OverrideState.DEAD)


def _overrides(
    standings: tuple[OverrideStanding, ...], settled: frozenset[str]
) -> tuple[OverrideStanding, ...]:
    """As many as a message takes. Those that have ended go first: they make room as they are acknowledged."""
    news = [each for each in standings if not (is_final(each) and each.override_id in settled)]
    if len(news) > MAX_OVERRIDES:
        news.sort(key=is_final, reverse=True)
    return tuple(news[:MAX_OVERRIDES])
