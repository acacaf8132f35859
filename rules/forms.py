"""What each field of each kind may hold, and how it stands in JSON. One table: everything outside reads it.

Reading never fails: a value that cannot be read is kept as it came, so that `rules.malformed` reports it with the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

from immutables import Map

from rules.periods import Period
from rules.records import (
    KINDS,
    NO_ELEMENTS,
    Certificate,
    GeographicalArea,
    GeographicalMembership,
    Measure,
    MeasurementUnit,
    MeasurementUnitQualifier,
    MonetaryUnit,
    QuotaAssociation,
    QuotaBlocking,
    QuotaDefinition,
    QuotaEvent,
    QuotaOrderNumber,
    QuotaOrderNumberOrigin,
    QuotaOrderNumberOriginExclusion,
    QuotaSuspension,
    Record,
)

MAX_VOLUME: Final = Decimal("99999999999.999")
VOLUME_DECIMALS: Final = 3
COEFFICIENT_DECIMALS: Final = 5
#: Of every decimal as text; longer ones are nobody's volume.
_MAX_DECIMAL_CHARS: Final = 40
_MAX_INTEGER: Final = 2**63 - 1

#: The kinds of quota events by subrecord code.
EVENTS: Final[Mapping[str, str]] = {
    "00": "balance",
    "05": "unblocking",
    "10": "critical",
    "15": "exhaustion",
    "20": "reopening",
    "25": "unsuspension",
    "30": "closed and transferred",
}

_date: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}").fullmatch
_timestamp: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:Z)?").fullmatch
_decimal: Final = re.compile(r"[+-]?[0-9]+(?:\.[0-9]*)?").fullmatch


def _same(value: Any) -> Any:
    return value


@dataclass(frozen=True, slots=True)
class Form:
    """What one field may hold. `expected` completes "must be"; a field without `default` has to be given."""

    expected: str
    holds: Callable[[Any], bool]
    read: Callable[[Any], Any] = _same
    write: Callable[[Any], Any] = _same
    optional: bool = False
    default: Any = None


def read_date(value: Any) -> Any:
    """A date out of YYYY-MM-DD, or the value as it came."""
    if isinstance(value, str) and _date(value):
        try:
            return date.fromisoformat(value)
        except ValueError:
            pass
    return value


def read_timestamp(value: Any) -> Any:
    """A time without zone out of YYYY-MM-DDThh:mm:ss (a Z at its end says nothing), or the value as it came."""
    if isinstance(value, str) and _timestamp(value):
        try:
            return datetime.fromisoformat(value.removesuffix("Z"))
        except ValueError:
            pass
    return value


def read_decimal(value: Any) -> Any:
    """An exact decimal out of text or an integer, or the value as it came: a float is never one."""
    if isinstance(value, str) and len(value) <= _MAX_DECIMAL_CHARS and _decimal(value):
        return Decimal(value)
    if type(value) is int and abs(value) <= _MAX_INTEGER:
        return Decimal(value)
    return value


def write_decimal(value: Decimal) -> str:
    """A decimal as text without exponent: what `read_decimal` reads."""
    return f"{value:f}"


def _read_period(value: Any) -> Any:
    if not isinstance(value, Mapping) or not value.keys() <= {"start", "end"}:
        return value
    start, end = read_date(value.get("start")), read_date(value.get("end"))
    return Period(start, end) if _is_date(start) and (end is None or _is_date(end)) else value


def _write_period(value: Period) -> dict[str, str | None]:
    return {"start": value.start.isoformat(), "end": value.end.isoformat() if value.end else None}


def _read_texts(value: Any) -> Any:
    if isinstance(value, Mapping) and all(isinstance(part, str) for pair in value.items() for part in pair):
        return Map(value)
    return value


def _read_sids(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _is_date(value: Any) -> bool:
    return type(value) is date


def _is_sid(value: Any) -> bool:
    return type(value) is int and 0 < value <= _MAX_INTEGER


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_period(value: Any) -> bool:
    if type(value) is not Period or not _is_date(value.start):
        return False
    return value.end is None or (_is_date(value.end) and value.start <= value.end)


def fits(value: Any, decimals: int) -> bool:
    """Whether `value` is a finite decimal without more decimals than that; zeros at its end do not count."""
    if type(value) is not Decimal or not value.is_finite():
        return False
    _, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)  # it is finite
    # By its digits, for arithmetic rounds, or fails, beyond the precision of its context.
    return exponent >= -decimals or not any(digits[exponent + decimals :])


def _is_volume(value: Any) -> bool:
    return fits(value, VOLUME_DECIMALS) and 0 <= value <= MAX_VOLUME


def _is_coefficient(value: Any) -> bool:
    return fits(value, COEFFICIENT_DECIMALS)


def _matching(expected: str, pattern: str) -> Form:
    match = re.compile(pattern).fullmatch
    return Form(expected, lambda value: isinstance(value, str) and match(value) is not None)


def _number(expected: str, allowed: range) -> Form:
    return Form(
        expected, lambda value: isinstance(value, int) and type(value) is not bool and value in allowed
    )


def _or_none(form: Form) -> Form:
    return Form(
        f"{form.expected}, or nothing",
        lambda value: value is None or form.holds(value),
        form.read,
        lambda value: None if value is None else form.write(value),
        optional=True,
    )


def _is_sids(value: Any) -> bool:
    return type(value) is tuple and all(map(_is_sid, value)) and len(set(value)) == len(value)


def _is_texts(value: Any) -> bool:
    return type(value) is Map


def _is_event(value: Any) -> bool:
    return isinstance(value, str) and value in EVENTS


def _is_timestamp(value: Any) -> bool:
    return type(value) is datetime and value.tzinfo is None


SID: Final = Form("a positive integer", _is_sid)
DATE: Final = Form("a date, YYYY-MM-DD", _is_date, read_date, date.isoformat)
PERIOD: Final = Form(
    "a period of dates whose end is not before its start (ON3, QD2)", _is_period, _read_period, _write_period
)
TIMESTAMP: Final = Form(
    "a time without zone, YYYY-MM-DDThh:mm:ss", _is_timestamp, read_timestamp, datetime.isoformat
)
VOLUME: Final = Form(
    f"a decimal from 0 to {MAX_VOLUME:,} with at most {VOLUME_DECIMALS} decimals, as text, never a float",
    _is_volume,
    read_decimal,
    write_decimal,
)
COEFFICIENT: Final = Form(
    f"a decimal with at most {COEFFICIENT_DECIMALS} decimals, as text, never a float",
    _is_coefficient,
    read_decimal,
    write_decimal,
    optional=True,
    default=Decimal(1),
)
TEXT: Final = Form("text", _is_text, optional=True, default="")
NAME: Final = _matching("text, not empty", r"(?s:.+)")
FLAG: Final = Form("true or false", lambda value: type(value) is bool)
UNIT: Final = _matching("three capitals", "[A-Z]{3}")
QUALIFIER: Final = _matching("one capital", "[A-Z]")
ORDER_NUMBER: Final = _matching("six digits", "[0-9]{6}")
EVENT: Final = Form(f"one of {', '.join(EVENTS)}", _is_event)
SIDS: Final = Form(
    "a list of different positive integers", _is_sids, _read_sids, list, optional=True, default=()
)
TEXTS: Final = Form("texts by name", _is_texts, _read_texts, dict, optional=True, default=NO_ELEMENTS)

#: The form of every field of every kind, in the order of the record's fields.
FORMS: Final[Mapping[type[Record], Mapping[str, Form]]] = {
    GeographicalArea: {
        "sid": SID,
        "area_id": NAME,
        "area_code": _number("0 (country), 1 (group) or 2 (region)", range(3)),
        "valid_between": PERIOD,
        "elements": TEXTS,
    },
    GeographicalMembership: {"group_sid": SID, "member_sid": SID, "valid_between": PERIOD},
    Certificate: {
        "sid": SID,
        "certificate_type": NAME,
        "certificate_code": NAME,
        "valid_between": PERIOD,
    },
    MeasurementUnit: {"code": UNIT, "valid_between": PERIOD},
    MeasurementUnitQualifier: {"code": QUALIFIER, "valid_between": PERIOD},
    MonetaryUnit: {"code": UNIT, "valid_between": PERIOD},
    Measure: {
        "sid": SID,
        "order_number_sid": _or_none(SID),
        "geographical_area_sid": SID,
        "valid_between": PERIOD,
        "regulation_effective_end_date": _or_none(DATE),
        "order_number": _or_none(ORDER_NUMBER),
        "elements": TEXTS,
    },
    QuotaOrderNumber: {
        "sid": SID,
        "order_number": ORDER_NUMBER,
        "mechanism": _number("0 (first come, first served) or 1 (licensed)", range(2)),
        "category": _number("from 0 to 3", range(4)),
        "valid_between": PERIOD,
        "required_certificate_sids": SIDS,
    },
    QuotaOrderNumberOrigin: {
        "sid": SID,
        "order_number_sid": SID,
        "geographical_area_sid": SID,
        "valid_between": PERIOD,
    },
    QuotaOrderNumberOriginExclusion: {"origin_sid": SID, "excluded_geographical_area_sid": SID},
    QuotaDefinition: {
        "sid": SID,
        "order_number_sid": SID,
        "volume": VOLUME,
        "initial_volume": VOLUME,
        "monetary_unit": _or_none(UNIT),
        "measurement_unit": _or_none(UNIT),
        "measurement_unit_qualifier": _or_none(QUALIFIER),
        "maximum_precision": _number("from 0 to 3", range(4)),
        "quota_critical": FLAG,
        "quota_critical_threshold": _number("from 0 to 100", range(101)),
        "description": TEXT,
        "valid_between": PERIOD,
    },
    QuotaAssociation: {
        "main_quota_sid": SID,
        "sub_quota_sid": SID,
        "sub_quota_relation_type": _matching("EQ or NM", "EQ|NM"),
        "coefficient": COEFFICIENT,
    },
    QuotaSuspension: {
        "sid": SID,
        "quota_definition_sid": SID,
        "description": TEXT,
        "valid_between": PERIOD,
    },
    QuotaBlocking: {
        "sid": SID,
        "quota_definition_sid": SID,
        "blocking_period_type": _number("from 1 to 8", range(1, 9)),
        "description": TEXT,
        "valid_between": PERIOD,
    },
    QuotaEvent: {
        "subrecord_code": EVENT,
        "quota_definition_sid": SID,
        "occurrence_timestamp": TIMESTAMP,
        "data": TEXTS,
    },
}
assert FORMS.keys() == set(KINDS)
