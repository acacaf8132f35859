"""From an envelope's records to changes of ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Final

from immutables import Map

from rules.forms import FORMS
from rules.malformed import problems
from rules.periods import Period
from rules.records import (
    Certificate,
    Change,
    Measure,
    Mechanism,
    QuotaEvent,
    QuotaOrderNumber,
    UpdateType,
)
from rules.taric.elements import BODIES, END, KEPT, START, Body
from rules.taric.errors import Problem
from rules.taric.resolving import Names, Overlay, certificate_sid
from rules.taric.taric_record import TaricRecord, TaricTransaction

_DEFAULT_CATEGORY: Final = 1


@dataclass(frozen=True, slots=True)
class MapOptions:
    """What TARIC3 does not carry, by order number. What is not said here stays as it is stored, or is derived."""

    mechanisms: Mapping[str, int] = Map()
    categories: Mapping[str, int] = Map()


@dataclass(frozen=True, slots=True)
class Mapped:
    """A transaction as changes; if there are problems, it is to be refused."""

    changes: tuple[Change, ...]
    #: The record that each change came from.
    records: tuple[TaricRecord, ...]
    problems: tuple[Problem, ...]


_DEFAULT_OPTIONS: Final = MapOptions()


def to_changes(transaction: TaricTransaction, names: Names, options: MapOptions = _DEFAULT_OPTIONS) -> Mapped:
    """The changes of a transaction, in its order; records of kinds that no rule asks about are left out.

    An update keeps what TARIC3 does not carry (mechanism, category, certificates, the end of a measure's regulation) as
    it is stored. For a new order number the mechanism is licensed if its third digit is 4, and the category 1.
    """
    overlay = Overlay(names)
    changes: list[Change] = []
    records: list[TaricRecord] = []
    wrong = list(transaction.problems)
    for index, record in enumerate(transaction.records):
        body = BODIES[record.code]
        if body.kind is None:
            continue
        change = Change(record.update_type, _build(record, body, names, options))
        found = [*_strange(record, body, index), *_malformed(record, body, change, index)]
        if found:
            wrong += found
            continue
        overlay.note(change)
        changes.append(change)
        records.append(record)
    # Measures last: the order numbers and areas that they name may come later in the transaction.
    for index, change in enumerate(changes):
        if isinstance(change.record, Measure):
            changes[index] = replace(change, record=_resolved(change.record, overlay))
    wrong += _unresolved(changes, records)
    return Mapped(tuple(changes), tuple(records), tuple(wrong))


def _build(record: TaricRecord, body: Body, names: Names, options: MapOptions) -> Any:
    """A record of ours; what cannot be read stays text, to be reported."""
    assert body.kind is not None
    texts = {each.name: each.text for each in record.elements}
    forms = FORMS[body.kind]
    values: dict[str, Any] = {field: form.default if form.optional else None for field, form in forms.items()}
    start: Any = None
    end: Any = None
    kept = {}
    for slot in body.slots:
        text = texts.pop(slot.element, None)
        # Where something has to stand, an empty element is as good as none; elsewhere it says: nothing.
        if text is None or (text == "" and slot.field != "description"):
            continue
        if slot.field == KEPT:
            kept[slot.element] = text
        elif slot.field == START:
            start = slot.lexical.read(text)
        elif slot.field == END:
            end = slot.lexical.read(text)
        elif slot.field:
            values[slot.field] = slot.lexical.read(text)
    if body.is_open:
        kept |= texts
    if "valid_between" in forms:
        whole = type(start) is date and (end is None or type(end) is date)
        values["valid_between"] = Period(start, end) if whole else (start, end)
    if kept:
        values["data" if body.kind is QuotaEvent else "elements"] = Map(kept)
    return body.kind(**values | _not_carried(record, body, values, names, options))


def _not_carried(
    record: TaricRecord, body: Body, values: dict[str, Any], names: Names, options: MapOptions
) -> dict[str, Any]:
    """The fields that TARIC3 does not have."""
    if body.kind is QuotaEvent:
        return {"subrecord_code": record.code[-2:]}
    if body.kind is Certificate:
        given = values["certificate_type"] or "", values["certificate_code"] or ""
        return {"sid": certificate_sid(names, *given)}
    updating = record.update_type is not UpdateType.CREATE and type(values.get("sid")) is int
    if body.kind is QuotaOrderNumber:
        number = values["order_number"] or ""
        stored = names.live(QuotaOrderNumber, values["sid"]) if updating else None
        licensed = Mechanism.LICENSED if number[2:3] == "4" else Mechanism.FIRST_COME_FIRST_SERVED
        return {
            "mechanism": options.mechanisms.get(number, stored.mechanism if stored else licensed),
            "category": options.categories.get(number, stored.category if stored else _DEFAULT_CATEGORY),
            "required_certificate_sids": stored.required_certificate_sids if stored else (),
        }
    if body.kind is Measure and updating:
        measure = names.live(Measure, values["sid"])
        return {"regulation_effective_end_date": measure.regulation_effective_end_date if measure else None}
    return {}


def _strange(record: TaricRecord, body: Body, index: int) -> list[Problem]:
    """Elements that do not belong there, such as a misspelt end date that would leave a period open."""
    if body.is_open and body.kind is not QuotaEvent:
        return []
    known = {slot.element for slot in body.slots}
    return [
        Problem(index, each.line, each.name, f"is no element of {body.element}")
        for each in record.elements
        if each.name not in known
    ]


def _malformed(record: TaricRecord, body: Body, change: Change, index: int) -> list[Problem]:
    found = []
    for field, expected in problems(change.record):
        if field == "geographical_area_sid" and isinstance(change.record, Measure):
            continue  # may be named by its id: looked up later
        element, what = _element_of(record, body, change.record, field, expected)
        text = record.text(element)
        given = "nothing" if text is None else repr(text if len(text) <= 60 else f"{text[:60]}...")
        found.append(Problem(index, record.line_of(element), element, f"{what}, not {given}"))
    return found


def _element_of(record: TaricRecord, body: Body, mapped: Any, field: str, expected: str) -> tuple[str, str]:
    """The element that a bad field came from, and what should stand there."""
    if field == "valid_between":
        period = mapped.valid_between
        if isinstance(period, Period):
            field, expected = END, f"must be {period.start} or later (ON3, QD2)"
        else:
            field = START if type(period[0]) is not date else END
            expected = "must be a date, YYYY-MM-DD"
    if field == "sid" and body.kind is Certificate:
        field = "certificate_code"
    slot = next((slot for slot in body.slots if slot.field == field), None)
    if slot is None:
        return body.element, expected
    if record.text(slot.element) is None and field in ("monetary_unit", "measurement_unit_qualifier"):
        return slot.element, expected
    return slot.element, expected


def _resolved(measure: Measure, overlay: Overlay) -> Measure:
    """The measure with the sids of the order number and area that it names."""
    period = measure.effective_period
    if measure.order_number is not None:
        order_number = overlay.order_number_for(measure.order_number, period)
        measure = replace(measure, order_number_sid=None if order_number is None else order_number.sid)
    if measure.geographical_area_sid is None:
        area = overlay.area_for(measure.elements.get("geographical.area", ""), period)
        measure = replace(measure, geographical_area_sid=None if area is None else area.sid)
    return measure


def _unresolved(changes: list[Change], records: list[TaricRecord]) -> list[Problem]:
    """Measures whose area is nowhere to be found."""
    return [
        Problem(
            index,
            record.line,
            "geographical.area.sid",
            "must be given: no area has the id that geographical.area names",
        )
        for index, (change, record) in enumerate(zip(changes, records, strict=True))
        if isinstance(change.record, Measure) and type(change.record.geographical_area_sid) is not int
    ]
