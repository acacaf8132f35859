"""One table: the records of TARIC3 by code, their elements in the order of the schema, and which field each fills.

Source: the schema TARIC3-TMES 5.10. Codes that no rule asks about are known, so that they are kept and checked; only
the bodies of descriptions are not looked into.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from rules.forms import EVENTS
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
from rules.taric import lexical as lex
from rules.taric.body import END, KEPT, START, Body, Slot
from rules.taric.lexical import Lexical

_START: Final = Slot("validity.start.date", lex.DATE, START)
_END: Final = Slot("validity.end.date", lex.DATE, END, optional=True)
_DEFINITION: Final = Slot("quota.definition.sid", lex.SID, "quota_definition_sid")
_TEXT: Final = Slot("description", lex.DESCRIPTION, "description", optional=True)
_LANGUAGE: Final = Slot("language.id", lex.LANGUAGE)
_CERTIFICATE: Final = (
    Slot("certificate.type.code", lex.LETTER, "certificate_type"),
    Slot("certificate.code", lex.LETTERS, "certificate_code"),
)
_BALANCE: Final = (
    Slot("transferred.amount", lex.AMOUNT, KEPT),
    Slot("target.quota.definition.sid", lex.SID, KEPT),
)


def _coded(number: str, element: str, lexical: Lexical, kind: type[Record] | None) -> Body:
    """A record that consists of a code and a period."""
    return Body(number, element, (Slot(f"{element}.code", lexical, "code"), _START, _END), kind)


def _description(number: str, element: str, *slots: Slot) -> Body:
    return Body(number, element, slots, judged=False)


def _event(number: str, element: str, *slots: Slot, older: Body | None = None) -> Body:
    key = (_DEFINITION, Slot("occurrence.timestamp", lex.TIMESTAMP, "occurrence_timestamp"))
    return Body(f"375 {number}", f"quota.{element}.event", (*key, *slots), QuotaEvent, older=older)


def _kept(element: str, lexical: Lexical, *, optional: bool = False) -> Slot:
    return Slot(element, lexical, KEPT, optional)


_REFERENCED: Final = (
    _coded("110 00", "certificate.type", lex.LETTER, None),
    _description("110 05", "certificate.type.description", _CERTIFICATE[0], _LANGUAGE, _TEXT),
    Body("205 00", "certificate", (*_CERTIFICATE, _START, _END), Certificate),
    _description(
        "205 05",
        "certificate.description.period",
        Slot("certificate.description.period.sid", lex.SID),
        *_CERTIFICATE,
        _START,
    ),
    _description(
        "205 10",
        "certificate.description",
        Slot("certificate.description.period.sid", lex.SID),
        _LANGUAGE,
        *_CERTIFICATE,
        _TEXT,
    ),
    _coded("210 00", "measurement.unit", lex.UNIT, MeasurementUnit),
    _description(
        "210 05",
        "measurement.unit.description",
        Slot("measurement.unit.code", lex.UNIT),
        _LANGUAGE,
        _TEXT,
    ),
    _coded("215 00", "measurement.unit.qualifier", lex.QUALIFIER, MeasurementUnitQualifier),
    _description(
        "215 05",
        "measurement.unit.qualifier.description",
        Slot("measurement.unit.qualifier.code", lex.QUALIFIER),
        _LANGUAGE,
        _TEXT,
    ),
    Body(
        "220 00",
        "measurement",
        (
            Slot("measurement.unit.code", lex.UNIT),
            Slot("measurement.unit.qualifier.code", lex.QUALIFIER),
            _START,
            _END,
        ),
    ),
    _coded("225 00", "monetary.unit", lex.UNIT, MonetaryUnit),
    _description(
        "225 05", "monetary.unit.description", Slot("monetary.unit.code", lex.UNIT), _LANGUAGE, _TEXT
    ),
    Body(
        "235 00",
        "measure.type",
        (
            Slot("measure.type.id", lex.MEASURE_TYPE),
            _START,
            _END,
            Slot("trade.movement.code", lex.DIGIT_0_TO_2),
            Slot("priority.code", lex.DIGIT_1_TO_9),
            Slot("measure.component.applicable.code", lex.DIGIT_0_TO_2),
            Slot("origin.dest.code", lex.DIGIT_0_TO_2),
            Slot("order.number.capture.code", lex.CAPTURE),
            Slot("measure.explosion.level", lex.LEVEL),
            Slot("measure.type.series.id", lex.SERIES),
        ),
    ),
)

_AREAS: Final = (
    Body(
        "250 00",
        "geographical.area",
        (
            Slot("geographical.area.sid", lex.SID, "sid"),
            Slot("geographical.area.id", lex.AREA_ID, "area_id"),
            _START,
            _END,
            Slot("geographical.code", lex.AREA_CODE, "area_code"),
            _kept("parent.geographical.area.group.sid", lex.SID, optional=True),
        ),
        GeographicalArea,
    ),
    _description(
        "250 05",
        "geographical.area.description.period",
        Slot("geographical.area.description.period.sid", lex.SID),
        Slot("geographical.area.sid", lex.SID),
        _START,
        Slot("geographical.area.id", lex.AREA_ID),
    ),
    _description(
        "250 10",
        "geographical.area.description",
        Slot("geographical.area.description.period.sid", lex.SID),
        _LANGUAGE,
        Slot("geographical.area.sid", lex.SID),
        Slot("geographical.area.id", lex.AREA_ID),
        _TEXT,
    ),
    Body(
        "250 15",
        "geographical.area.membership",
        (
            Slot("geographical.area.sid", lex.SID, "member_sid"),
            Slot("geographical.area.group.sid", lex.SID, "group_sid"),
            _START,
            _END,
        ),
        GeographicalMembership,
    ),
)

_ORDER_NUMBERS: Final = (
    Body(
        "360 00",
        "quota.order.number",
        (
            Slot("quota.order.number.sid", lex.SID, "sid"),
            Slot("quota.order.number.id", lex.ORDER_NUMBER, "order_number"),
            _START,
            _END,
        ),
        QuotaOrderNumber,
    ),
    Body(
        "360 10",
        "quota.order.number.origin",
        (
            Slot("quota.order.number.origin.sid", lex.SID, "sid"),
            Slot("quota.order.number.sid", lex.SID, "order_number_sid"),
            Slot("geographical.area.id", lex.AREA_ID),
            _START,
            _END,
            Slot("geographical.area.sid", lex.SID, "geographical_area_sid"),
        ),
        QuotaOrderNumberOrigin,
    ),
    Body(
        "360 15",
        "quota.order.number.origin.exclusions",
        (
            Slot("quota.order.number.origin.sid", lex.SID, "origin_sid"),
            Slot("excluded.geographical.area.sid", lex.SID, "excluded_geographical_area_sid"),
        ),
        QuotaOrderNumberOriginExclusion,
    ),
)

_DEFINITIONS: Final = (
    Body(
        "370 00",
        "quota.definition",
        (
            Slot("quota.definition.sid", lex.SID, "sid"),
            Slot("quota.order.number.id", lex.ORDER_NUMBER),
            _START,
            _END,
            Slot("quota.order.number.sid", lex.SID, "order_number_sid"),
            Slot("volume", lex.AMOUNT, "volume"),
            Slot("initial.volume", lex.AMOUNT, "initial_volume"),
            Slot("monetary.unit.code", lex.UNIT, "monetary_unit", optional=True),
            Slot("measurement.unit.code", lex.UNIT, "measurement_unit", optional=True),
            Slot(
                "measurement.unit.qualifier.code", lex.QUALIFIER, "measurement_unit_qualifier", optional=True
            ),
            Slot("maximum.precision", lex.PRECISION, "maximum_precision"),
            Slot("critical.state", lex.FLAG, "quota_critical"),
            Slot("critical.threshold", lex.PERCENT, "quota_critical_threshold"),
            _TEXT,
        ),
        QuotaDefinition,
    ),
    Body(
        "370 05",
        "quota.association",
        (
            Slot("main.quota.definition.sid", lex.SID, "main_quota_sid"),
            Slot("sub.quota.definition.sid", lex.SID, "sub_quota_sid"),
            Slot("relation.type", lex.RELATION, "sub_quota_relation_type"),
            Slot("coefficient", lex.COEFFICIENT, "coefficient", optional=True),
        ),
        QuotaAssociation,
    ),
    Body(
        "370 10",
        "quota.blocking.period",
        (
            Slot("quota.blocking.period.sid", lex.SID, "sid"),
            _DEFINITION,
            Slot("blocking.start.date", lex.DATE, START),
            Slot("blocking.end.date", lex.DATE, END),
            Slot("blocking.period.type", lex.BLOCKING_TYPE, "blocking_period_type"),
            _TEXT,
        ),
        QuotaBlocking,
    ),
    Body(
        "370 15",
        "quota.suspension.period",
        (
            Slot("quota.suspension.period.sid", lex.SID, "sid"),
            _DEFINITION,
            Slot("suspension.start.date", lex.DATE, START),
            Slot("suspension.end.date", lex.DATE, END),
            _TEXT,
        ),
        QuotaSuspension,
    ),
)

_HAPPENED: Final = (
    _event(
        "00",
        "balance",
        _kept("old.balance", lex.AMOUNT),
        _kept("new.balance", lex.AMOUNT),
        _kept("imported.amount", lex.AMOUNT),
        _kept("last.import.date.in.allocation", lex.DATE, optional=True),
    ),
    _event("05", "unblocking", _kept("unblocking.date", lex.DATE)),
    _event(
        "10",
        "critical",
        _kept("critical.state", lex.FLAG),
        _kept("critical.state.change.date", lex.DATE, optional=True),
    ),
    _event("15", "exhaustion", _kept("exhaustion.date", lex.DATE)),
    _event("20", "reopening", _kept("reopening.date", lex.DATE)),
    _event("25", "unsuspension", _kept("unsuspension.date", lex.DATE)),
    _event(
        "30",
        "closed.and.transferred",
        _kept("transfer.date", lex.DATE),
        _kept("quota.closed", lex.FLAG),
        *_BALANCE,
        older=_event("30", "closed.and.transferred", _kept("closing.date", lex.DATE), *_BALANCE),
    ),
)

_MEASURES: Final = (
    Body(
        "430 00",
        "measure",
        (
            Slot("measure.sid", lex.SID, "sid"),
            _kept("measure.type", lex.MEASURE_TYPE),
            _kept("geographical.area", lex.AREA_ID),
            _kept("goods.nomenclature.item.id", lex.GOODS, optional=True),
            _kept("additional.code.type", lex.LETTER, optional=True),
            _kept("additional.code", lex.LETTERS, optional=True),
            Slot("ordernumber", lex.ORDER_NUMBER, "order_number", optional=True),
            _kept("reduction.indicator", lex.DIGIT_1_TO_9, optional=True),
            _START,
            _kept("measure.generating.regulation.role", lex.ROLE),
            _kept("measure.generating.regulation.id", lex.REGULATION),
            _END,
            _kept("justification.regulation.role", lex.ROLE, optional=True),
            _kept("justification.regulation.id", lex.REGULATION, optional=True),
            _kept("stopped.flag", lex.DIGIT_0_OR_1),
            Slot("geographical.area.sid", lex.SID, "geographical_area_sid", optional=True),
            _kept("goods.nomenclature.sid", lex.SID, optional=True),
            _kept("additional.code.sid", lex.SID, optional=True),
            _kept("export.refund.nomenclature.sid", lex.SID, optional=True),
        ),
        Measure,
    ),
    Body(
        "430 15",
        "measure.excluded.geographical.area",
        (
            Slot("measure.sid", lex.SID),
            Slot("excluded.geographical.area", lex.AREA_ID),
            Slot("geographical.area.sid", lex.SID),
        ),
    ),
)

#: By record code and subrecord code: "370 00".
BODIES: Final[Mapping[str, Body]] = {
    body.code: body
    for body in (*_REFERENCED, *_AREAS, *_ORDER_NUMBERS, *_DEFINITIONS, *_HAPPENED, *_MEASURES)
}
_CODE_OF: Final = {
    body.kind: body.code for body in BODIES.values() if body.kind is not None and body.kind is not QuotaEvent
}
assert {f"375 {number}" for number in EVENTS} <= BODIES.keys()


def body_of(record: Record) -> Body:
    """The body that a record of ours is written as. The kind of an event must be one that there is."""
    code = f"375 {record.subrecord_code}" if isinstance(record, QuotaEvent) else _CODE_OF[type(record)]
    return BODIES[code]
