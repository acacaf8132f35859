"""Checks of the single fields of a link message; each returns the value, or raises FieldError naming the field."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol, TypeVar

from quotafleet.errors import FieldError
from quotafleet.link.messages import MAX_UNITS

MAX_ID_CHARS: Final = 128
MAX_STORE_ID_CHARS: Final = 64
MAX_REASON_CHARS: Final = 1024
#: Nothing grows so far by one at a time.
MAX_NUMBER: Final = 2**62
#: What the reader counts on from; so what it says in turn is within MAX_NUMBER.
MAX_START: Final = 2**61
#: A session mark is opaque to the agent; this bounds what a controller can make it store.
MAX_MARK_BYTES: Final = 1024
#: The last second of the year 9999: what a protobuf Timestamp may say.
MAX_SECONDS: Final = 253_402_300_799
#: The longest protobuf Duration, 10,000 years.
MAX_DURATION_SECONDS: Final = 315_576_000_000

QUOTA_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._/-]{0,127}")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

T = TypeVar("T")
S = TypeVar("S")


class Time(Protocol):
    """Timestamp or Duration."""

    seconds: int
    nanos: int


def units(value: int, name: str) -> int:
    """An amount: 0 to MAX_UNITS."""
    if not 0 <= value <= MAX_UNITS:
        raise FieldError(name, f"must be from 0 to {MAX_UNITS}")
    return value


def some_units(value: int, name: str) -> int:
    """An amount that may not be nothing: 1 to MAX_UNITS."""
    if not 1 <= value <= MAX_UNITS:
        raise FieldError(name, f"must be from 1 to {MAX_UNITS}")
    return value


def number(value: int, name: str) -> int:
    """A number that only grows: 0 to MAX_NUMBER."""
    if not 0 <= value <= MAX_NUMBER:
        raise FieldError(name, f"must be from 0 to {MAX_NUMBER}")
    return value


def start(value: int, name: str) -> int:
    """A number that the reader may count on from: 0 to MAX_START."""
    if not 0 <= value <= MAX_START:
        raise FieldError(name, f"must be from 0 to {MAX_START}")
    return value


def identifier(value: str, name: str, max_chars: int = MAX_ID_CHARS) -> str:
    """An id: not empty, bounded, no control characters."""
    if not value or len(value) > max_chars or _CONTROL.search(value):
        raise FieldError(name, f"must have 1 to {max_chars} characters, none of them a control character")
    return value


def text(value: str, name: str, max_chars: int) -> str:
    """Words for people: bounded, no control characters."""
    if len(value) > max_chars or _CONTROL.search(value):
        raise FieldError(name, f"must have at most {max_chars} characters, none of them a control character")
    return value


def mark(value: bytes, name: str = "mark") -> bytes:
    """A session mark; empty for none."""
    if len(value) > MAX_MARK_BYTES:
        raise FieldError(name, f"must have at most {MAX_MARK_BYTES} bytes")
    return value


def wall_ms(value: Time, name: str) -> int:
    """A Timestamp, 1970 to 9999, as milliseconds."""
    seconds, nanos = value.seconds, value.nanos
    if not 0 <= seconds <= MAX_SECONDS or not 0 <= nanos < 1_000_000_000:
        raise FieldError(name, "must be a valid time from 1970 to 9999")
    return seconds * 1000 + nanos // 1_000_000


def duration_ms(value: Time, name: str, least_ms: int = 0) -> int:
    """A Duration as milliseconds, at least `least_ms`, rounded down."""
    seconds, nanos = value.seconds, value.nanos
    milliseconds = seconds * 1000 + nanos // 1_000_000
    if seconds < 0 or nanos < 0 or nanos >= 1_000_000_000 or milliseconds < least_ms:
        raise FieldError(name, f"must be a valid duration of at least {least_ms} ms")
    if seconds > MAX_DURATION_SECONDS:
        raise FieldError(name, f"must be at most {MAX_DURATION_SECONDS} s")
    return milliseconds


def member(value: int, names: Mapping[int, T], name: str) -> T:
    """One of an enum's values, as ours; unspecified and unknown ones are refused."""
    found = names.get(value)
    if found is None:
        raise FieldError(name, "must be one of the known values")
    return found


def each(items: Iterable[S], convert: Callable[[S], T], name: str) -> tuple[T, ...]:
    """Every item converted; an error names the item by its index."""
    done: list[T] = []
    try:
        for item in items:
            done.append(convert(item))
    except FieldError as error:
        raise error.under(f"{name}[{len(done)}]") from None
    return tuple(done)
