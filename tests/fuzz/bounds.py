"""What the link's messages may hold, by the proto's own words; and what an envelope says, whatever it leaves unsaid."""

from __future__ import annotations

import dataclasses
import re
from enum import Enum
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from quotafleet.link.messages import MAX_OPEN_REQUESTS, MAX_UNITS, Totals

_MAX_CHARS: Final = 1_024
_MAX_MARK_BYTES: Final = 1_024
_MAX_NUMBER: Final = 2**63 - 1
#: Fields that hold units; running totals only grow, and have no bound but that of their type.
_UNITS: Final = frozenset({"limit", "held", "amount", "spent", "recent_demand", "wanted_more"})
_control: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]").search


def check(value: Any, name: str = "") -> None:
    """Fails if anything in it is out of bounds."""
    if isinstance(value, Enum | bool) or value is None:
        return
    if isinstance(value, int):
        most = MAX_UNITS if name in _UNITS else _MAX_NUMBER
        assert 0 <= value <= most, f"{name} is {value}"
    elif isinstance(value, str):
        assert len(value) <= _MAX_CHARS and not _control(value), f"{name} is {value!r}"
    elif isinstance(value, bytes):
        assert len(value) <= _MAX_MARK_BYTES, f"{name} has {len(value)} bytes"
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            check(getattr(value, field.name), field.name)
        if isinstance(value, Totals):
            assert value.count >= 0 and value.overridden >= 0, f"more released than consumed: {value}"
    elif hasattr(value, "_asdict"):
        for key, each in value._asdict().items():
            check(each, key)
    else:
        assert name != "open_requests" or len(value) <= MAX_OPEN_REQUESTS
        for each in value:
            check(each, name)


def said(message: Message) -> dict[str, Any]:
    """What a message says: without unknown fields, empty parts, and what is below a millisecond."""
    found: dict[str, Any] = {}
    for field, value in message.ListFields():
        if field.type != FieldDescriptor.TYPE_MESSAGE:
            found[field.name] = list(value) if field.is_repeated else value
        elif field.is_repeated:
            found[field.name] = [said(each) for each in value]
        elif inner := said(value):
            found[field.name] = inner
    if "nanos" in found:
        found["nanos"] -= found["nanos"] % 1_000_000
    return {name: value for name, value in found.items() if value or value is False}
