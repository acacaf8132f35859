"""Times and lengths of time as people write and read them."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.date_pb2 import Date

NONE: Final = "none"

_date: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}").fullmatch
_rfc3339: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
).fullmatch
_duration: Final = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,3}))?(ms|s|m|h|d)?").fullmatch
_MILLISECONDS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def zone(name: str) -> tzinfo:
    """A time zone by its name, e.g. Europe/London."""
    if name.upper() == "UTC":
        return UTC  # known without any time zone database
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise typer.BadParameter(
            f"{name!r} is no time zone that this machine knows; write it as in Europe/London",
            param_hint="--time-zone",
        ) from None


def start(text: str, time_zone: tzinfo) -> Timestamp:
    """A moment, or the beginning of a date."""
    return _timestamp(text, time_zone, "--start", days_later=0)


def end(text: str, time_zone: tzinfo) -> Timestamp:
    """A moment, or the end of a date: the beginning of the next one."""
    return _timestamp(text, time_zone, "--end", days_later=1)


def _timestamp(text: str, time_zone: tzinfo, name: str, *, days_later: int) -> Timestamp:
    try:
        if _date(text):
            day = date.fromisoformat(text) + timedelta(days=days_later)
            moment = datetime(day.year, day.month, day.day, tzinfo=time_zone)
        elif _rfc3339(text):
            moment = datetime.fromisoformat(text.upper())
        else:
            raise typer.BadParameter(
                f"{text!r} is neither a date (2026-12-31) nor an RFC 3339 time (2026-12-31T18:00:00Z)",
                param_hint=name,
            )
        microseconds = (moment - _EPOCH) // timedelta(microseconds=1)
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"{text!r} is not in the calendar", param_hint=name) from None
    return Timestamp(seconds=microseconds // 10**6, nanos=microseconds % 10**6 * 1000)


def day(text: str, name: str) -> Date:
    """A date."""
    if not _date(text):
        raise typer.BadParameter(f"{text!r} is no date; write it as in 2026-12-31", param_hint=name)
    try:
        found = date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not in the calendar", param_hint=name) from None
    return Date(year=found.year, month=found.month, day=found.day)


def today() -> Date:
    """The date in UTC."""
    now = datetime.now(UTC)
    return Date(year=now.year, month=now.month, day=now.day)


def shown_day(day: Date) -> str:
    """YYYY-MM-DD, whether or not the calendar has it."""
    return f"{day.year:04}-{day.month:02}-{day.day:02}"


def duration(text: str, name: str) -> Duration:
    """A length of time, as in 90, 90s, 1.5m, 12h, 7d or 250ms."""
    match = _duration(text)
    if match is None:
        raise typer.BadParameter(
            f"{text!r} is no length of time; write it as in 90s, 1.5m, 12h or 7d", param_hint=name
        )
    thousandths = int(match[1]) * 1000 + int((match[2] or "").ljust(3, "0"))
    milliseconds = thousandths * _MILLISECONDS[match[3] or "s"] // 1000
    return Duration(seconds=milliseconds // 1000, nanos=milliseconds % 1000 * 10**6)


def shown(time: Timestamp) -> str:
    """A moment in UTC, without the fractions that do not matter."""
    moment = _EPOCH + timedelta(seconds=time.seconds, microseconds=time.nanos // 1000)
    text = moment.isoformat(sep=" ", timespec="milliseconds" if moment.microsecond else "seconds")
    return text.replace("+00:00", "Z")


def shown_duration(length: Duration) -> str:
    """A length of time in its two largest parts."""
    milliseconds = length.seconds * 1000 + length.nanos // 10**6
    if milliseconds < 10_000:
        return f"{milliseconds} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.1f} s"
    parts = []
    rest = milliseconds // 1000
    for unit, seconds in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        if rest >= seconds:
            parts.append(f"{rest // seconds} {unit}")
            rest %= seconds
    return " ".join(parts[:2])
