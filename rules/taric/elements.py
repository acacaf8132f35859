"""One table: the records of TARIC3 by code, their elements in the order of the schema, and which field each fills.

Source: the schema TARIC3-TMES 5.10. Codes that no rule asks about are known so that they are read and not reported as
strange; the bodies of descriptions are not looked into.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

from rules.forms import EVENTS, read_date, read_decimal, read_timestamp
from rules.records import (
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

#: Fields that are filled in a way of their own.
START: Final = "valid_between.start"
END: Final = "valid_between.end"
#: Elements that our records have no field for and keep by name.
KEPT: Final = "*"


@dataclass(frozen=True, slots=True)
class Lexical:
    """How a value stands in XML. Reading never fails; `pattern` is what the schema allows in writing."""

    expected: str
    pattern: re.Pattern[str]
    read: Callable[[str], Any] = str
    write: Callable[[Any], str] = str


@dataclass(frozen=True, slots=True)
class Slot:
    """One element of a body."""

    element: str
    lexical: Lexical
    #: The field that it fills; "" if it fills none, KEPT if it is kept under its name.
    field: str = ""
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Body:
    """The body of a record."""

    code: str
    element: str
    slots: tuple[Slot, ...] = ()
    kind: type[Record] | None = None

    @property
    def is_open(self) -> bool:
        """Whether it may hold elements that are not listed."""
        return self.kind is None or any(slot.field == KEPT for slot in self.slots)


_integer: Final = re.compile(r"-?[0-9]{1,18}").fullmatch


def _read_integer(text: str) -> Any:
    return int(text) if _integer(text) else text


def _read_flag(text: str) -> Any:
    return {"Y": True, "1": True, "N": False, "0": False}.get(text, text)


def _write_decimal(value: Decimal) -> str:
    return f"{value:f}"


def _lexical(
    expected: str,
    pattern: str,
    read: Callable[[str], Any] = str,
    write: Callable[[Any], str] = str,
) -> Lexical:
    return Lexical(expected, re.compile(pattern), read, write)


# Control characters other than tab and line ends cannot stand in XML.
_TEXT: Final = r"[\t\n\r\x20-\uD7FF\uE000-\uFFFD\U00010000-\U0010FFFF]"
SID: Final = _lexical("an integer from 1 to 99999999", r"[1-9][0-9]{0,7}", _read_integer)
DATE: Final = _lexical("a date, YYYY-MM-DD", r"[0-9]{4}-[0-9]{2}-[0-9]{2}", read_date, date.isoformat)
TIMESTAMP: Final = _lexical(
    "a time, YYYY-MM-DDThh:mm:ss",
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}",
    read_timestamp,
    datetime.isoformat,
)
AMOUNT: Final = _lexical(
    "a decimal with at most 11 digits before and 3 after the point",
    r"-?[0-9]{1,11}(\.[0-9]{1,3})?",
    read_decimal,
    _write_decimal,
)
COEFFICIENT: Final = _lexical(
    "a decimal with at most 11 digits before and 5 after the point",
    r"-?[0-9]{1,11}(\.[0-9]{1,5})?",
    read_decimal,
    _write_decimal,
)
ORDER_NUMBER: Final = _lexical("six digits", "[0-9]{6}")
AREA_ID: Final = _lexical("two or four capitals or digits", "[A-Z0-9]{2}|[A-Z0-9]{4}")
AREA_CODE: Final = _lexical("0, 1 or 2", "[012]", _read_integer, lambda value: str(int(value)))
UNIT: Final = _lexical("three capitals", "[A-Z]{3}")
QUALIFIER: Final = _lexical("one capital", "[A-Z]")
PRECISION: Final = _lexical("0, 1, 2 or 3", "[0123]", _read_integer)
FLAG: Final = _lexical("Y or N", "[YN]", _read_flag, lambda value: "Y" if value else "N")
PERCENT: Final = _lexical("an integer from 0 to 100", "[0-9]{1,2}|100", _read_integer)
BLOCKING_TYPE: Final = _lexical("one digit", "[0-9]", _read_integer, lambda value: str(int(value)))
RELATION: Final = _lexical("EQ or NM", "EQ|NM")
CERTIFICATE_TYPE: Final = _lexical("one capital or digit", "[A-Z0-9]")
CERTIFICATE_CODE: Final = _lexical("three capitals or digits", "[A-Z0-9]{3}")
SHORT: Final = _lexical("text of at most 1,000 characters", rf"{_TEXT}{{0,1000}}")
LONG: Final = _lexical("text of at most 20,000 characters", rf"{_TEXT}{{0,20000}}")
NAME: Final = _lexical("text of 1 to 255 characters", rf"{_TEXT}{{1,255}}")

_START: Final = Slot("validity.start.date", DATE, START)
_END: Final = Slot("validity.end.date", DATE, END, optional=True)
_DEFINITION: Final = Slot("quota.definition.sid", SID, "quota_definition_sid")


def _event(number: str, element: str, *slots: Slot) -> Body:
    key = (_DEFINITION, Slot("occurrence.timestamp", TIMESTAMP, "occurrence_timestamp"))
    return Body(f"375 {number}", f"quota.{element}.event", (*key, *slots), QuotaEvent)


def _kept(element: str, lexical: Lexical, *, optional: bool = False) -> Slot:
    return Slot(element, lexical, KEPT, optional)


def _code(number: str, element: str, lexical: Lexical, kind: type[Record]) -> Body:
    return Body(number, element, (Slot(f"{element}.code", lexical, "code"), _START, _END), kind)


_BODIES: Final[tuple[Body, ...]] = (
    Body("110 00", "certificate.type"),
    Body("110 05", "certificate.type.description"),
    Body(
        "205 00",
        "certificate",
        (
            Slot("certificate.type.code", CERTIFICATE_TYPE, "certificate_type"),
            Slot("certificate.code", CERTIFICATE_CODE, "certificate_code"),
            _START,
            _END,
        ),
        Certificate,
    ),
    Body("205 05", "certificate.description.period"),
    Body("205 10", "certificate.description"),
    _code("210 00", "measurement.unit", UNIT, MeasurementUnit),
    Body("210 05", "measurement.unit.description"),
    _code("215 00", "measurement.unit.qualifier", QUALIFIER, MeasurementUnitQualifier),
    Body("215 05", "measurement.unit.qualifier.description"),
    Body("220 00", "measurement"),
    _code("225 00", "monetary.unit", UNIT, MonetaryUnit),
    Body("225 05", "monetary.unit.description"),
    Body("235 00", "measure.type"),
    Body(
        "250 00",
        "geographical.area",
        (
            Slot("geographical.area.sid", SID, "sid"),
            Slot("geographical.area.id", AREA_ID, "area_id"),
            _START,
            _END,
            Slot("geographical.code", AREA_CODE, "area_code"),
            _kept("parent.geographical.area.group.sid", SID, optional=True),
        ),
        GeographicalArea,
    ),
    Body("250 05", "geographical.area.description.period"),
    Body("250 10", "geographical.area.description"),
    Body(
        "250 15",
        "geographical.area.membership",
        (
            Slot("geographical.area.sid", SID, "member_sid"),
            Slot("geographical.area.group.sid", SID, "group_sid"),
            _START,
            _END,
        ),
        GeographicalMembership,
    ),
    Body(
        "360 00",
        "quota.order.number",
        (
            Slot("quota.order.number.sid", SID, "sid"),
            Slot("quota.order.number.id", ORDER_NUMBER, "order_number"),
            _START,
            _END,
        ),
        QuotaOrderNumber,
    ),
    Body(
        "360 10",
        "quota.order.number.origin",
        (
            Slot("quota.order.number.origin.sid", SID, "sid"),
            Slot("quota.order.number.sid", SID, "order_number_sid"),
            Slot("geographical.area.id", AREA_ID),
            _START,
            _END,
            Slot("geographical.area.sid", SID, "geographical_area_sid"),
        ),
        QuotaOrderNumberOrigin,
    ),
    Body(
        "360 15",
        "quota.order.number.origin.exclusions",
        (
            Slot("quota.order.number.origin.sid", SID, "origin_sid"),
            Slot("excluded.geographical.area.sid", SID, "excluded_geographical_area_sid"),
        ),
        QuotaOrderNumberOriginExclusion,
    ),
    Body(
        "370 00",
        "quota.definition",
        (
            Slot("quota.definition.sid", SID, "sid"),
            Slot("quota.order.number.id", ORDER_NUMBER),
            _START,
            _END,
            Slot("quota.order.number.sid", SID, "order_number_sid"),
            Slot("volume", AMOUNT, "volume"),
            Slot("initial.volume", AMOUNT, "initial_volume"),
            Slot("monetary.unit.code", UNIT, "monetary_unit", optional=True),
            Slot("measurement.unit.code", UNIT, "measurement_unit", optional=True),
            Slot("measurement.unit.qualifier.code", QUALIFIER, "measurement_unit_qualifier", optional=True),
            Slot("maximum.precision", PRECISION, "maximum_precision"),
            Slot("critical.state", FLAG, "quota_critical"),
            Slot("critical.threshold", PERCENT, "quota_critical_threshold"),
            Slot("description", SHORT, "description", optional=True),
        ),
        QuotaDefinition,
    ),
    Body(
        "370 05",
        "quota.association",
        (
            Slot("main.quota.definition.sid", SID, "main_quota_sid"),
            Slot("sub.quota.definition.sid", SID, "sub_quota_sid"),
            Slot("relation.type", RELATION, "sub_quota_relation_type"),
            Slot("coefficient", COEFFICIENT, "coefficient", optional=True),
        ),
        QuotaAssociation,
    ),
    Body(
        "370 10",
        "quota.blocking.period",
        (
            Slot("quota.blocking.period.sid", SID, "sid"),
            _DEFINITION,
            Slot("blocking.start.date", DATE, START),
            Slot("blocking.end.date", DATE, END),
            Slot("blocking.period.type", BLOCKING_TYPE, "blocking_period_type"),
            Slot("description", SHORT, "description", optional=True),
        ),
        QuotaBlocking,
    ),
    Body(
        "370 15",
        "quota.suspension.period",
        (
            Slot("quota.suspension.period.sid", SID, "sid"),
            _DEFINITION,
            Slot("suspension.start.date", DATE, START),
            Slot("suspension.end.date", DATE, END),
            Slot("description", SHORT, "description", optional=True),
        ),
        QuotaSuspension,
    ),
    _event(
        "00",
        "balance",
        _kept("old.balance", AMOUNT),
        _kept("new.balance", AMOUNT),
        _kept("imported.amount", AMOUNT),
        _kept("last.import.date.in.allocation", DATE, optional=True),
    ),
    _event("05", "unblocking", _kept("unblocking.date", DATE)),
    _event(
        "10",
        "critical",
        _kept("critical.state", FLAG),
        _kept("critical.state.change.date", DATE, optional=True),
    ),
    _event("15", "exhaustion", _kept("exhaustion.date", DATE)),
    _event("20", "reopening", _kept("reopening.date", DATE)),
    _event("25", "unsuspension", _kept("unsuspension.date", DATE)),
    _event(
        "30",
        "closed.and.transferred",
        # The older schema has closing.date for the first two.
        _kept("transfer.date", DATE, optional=True),
        _kept("quota.closed", FLAG, optional=True),
        _kept("closing.date", DATE, optional=True),
        _kept("transferred.amount", AMOUNT),
        _kept("target.quota.definition.sid", SID),
    ),
    Body(
        "430 00",
        "measure",
        (
            Slot("measure.sid", SID, "sid"),
            _kept("measure.type", NAME),
            _kept("geographical.area", AREA_ID),
            _kept("goods.nomenclature.item.id", NAME, optional=True),
            _kept("additional.code.type", NAME, optional=True),
            _kept("additional.code", NAME, optional=True),
            Slot("ordernumber", ORDER_NUMBER, "order_number", optional=True),
            _kept("reduction.indicator", NAME, optional=True),
            _START,
            _kept("measure.generating.regulation.role", NAME),
            _kept("measure.generating.regulation.id", NAME),
            _END,
            _kept("justification.regulation.role", NAME, optional=True),
            _kept("justification.regulation.id", NAME, optional=True),
            _kept("stopped.flag", NAME),
            Slot("geographical.area.sid", SID, "geographical_area_sid", optional=True),
            _kept("goods.nomenclature.sid", SID, optional=True),
            _kept("additional.code.sid", SID, optional=True),
            _kept("export.refund.nomenclature.sid", SID, optional=True),
        ),
        Measure,
    ),
    Body("430 15", "measure.excluded.geographical.area"),
)

#: By record code and subrecord code.
BODIES: Final[Mapping[str, Body]] = {body.code: body for body in _BODIES}
#: The bodies of our kinds; those of events by subrecord code in `BODIES`.
BODY_OF: Final[Mapping[type[Record], Body]] = {
    body.kind: body for body in _BODIES if body.kind is not None and body.kind is not QuotaEvent
}
assert {f"375 {number}" for number in EVENTS} <= BODIES.keys()


def body_of(record: Record) -> Body:
    """The body that a record of ours is written as."""
    if isinstance(record, QuotaEvent):
        return BODIES[f"375 {record.subrecord_code}"]
    return BODY_OF[type(record)]
