"""From an envelope's records to changes of ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
    Record,
    UpdateType,
)
from rules.taric.body import END, KEPT, START, Body
from rules.taric.elements import BODIES
from rules.taric.errors import Problem, but_found
from rules.taric.resolving import Names, Overlay, certificate_sid, unknown_area_sid
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

    #: With problems: as far as they could be read, texts standing where there should be values.
    changes: tuple[Change, ...]
    #: The record that each change came from.
    records: tuple[TaricRecord, ...]
    #: By line; they count changes.
    problems: tuple[Problem, ...]


_DEFAULT_OPTIONS: Final = MapOptions()


def to_changes(transaction: TaricTransaction, names: Names, options: MapOptions = _DEFAULT_OPTIONS) -> Mapped:
    """The changes of a transaction, in its order; records of kinds that no rule asks about are left out.

    An update or deletion keeps what TARIC3 does not carry (mechanism, category, certificates, the end of a measure's
    regulation) as it is stored; a new order number is licensed if its third digit is 4, and of category 1.
    `names` is the data before the transaction.
    """
    return _Mapping(names, options).done(transaction)


class _Mapping:
    """One transaction while it is mapped."""

    def __init__(self, names: Names, options: MapOptions) -> None:
        self._names = names
        self._options = options
        self._overlay = Overlay(names)
        self._changes: list[Change] = []
        self._records: list[TaricRecord] = []
        self._problems: list[Problem] = []

    def done(self, transaction: TaricTransaction) -> Mapped:
        given: dict[int, list[Problem]] = {}
        for problem in transaction.problems:
            given.setdefault(problem.index, []).append(problem)
        for number, record in enumerate(transaction.records):
            self._take(record, BODIES[record.code], given.pop(number, []))
        for rest in given.values():
            self._report(rest)
        self._resolve_measures()
        in_order = sorted(self._problems, key=lambda problem: problem.line)
        return Mapped(tuple(self._changes), tuple(self._records), tuple(in_order))

    def _report(self, found: list[Problem]) -> None:
        self._problems += [replace(each, index=len(self._changes)) for each in found]

    def _take(self, record: TaricRecord, body: Body, found: list[Problem]) -> None:
        self._report(found)
        if body.kind is None:
            return
        change = Change(record.update_type, self._built(record, body))
        more = list(_more_problems(record, body, change.record, found))
        self._report(more)
        if not found and not more:
            self._overlay.note(change)
        self._changes.append(change)
        self._records.append(record)

    def _built(self, record: TaricRecord, body: Body) -> Any:
        """A record of ours; what cannot be read stays text."""
        assert body.kind is not None
        values: dict[str, Any] = {
            field: form.default if form.optional else None for field, form in FORMS[body.kind].items()
        }
        ends: dict[str, Any] = {START: None, END: None}
        kept = {}
        given = dict(record.elements)
        for name, slot in body.form_of(given).by_name.items():
            text = given.get(name)
            if text is None or not slot.field:
                continue
            if slot.field == KEPT:
                kept[name] = slot.lexical.normal(text)
            elif slot.field in ends:
                ends[slot.field] = slot.lexical.read(text)
            else:
                values[slot.field] = slot.lexical.read(text)
        if "valid_between" in values:
            values["valid_between"] = _period(*ends.values())
        if kept:
            values["data" if body.kind is QuotaEvent else "elements"] = Map(kept)
        return body.kind(**values | self._not_carried(record, body.kind, values))

    def _not_carried(
        self, record: TaricRecord, kind: type[Record], values: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The fields that TARIC3 does not have."""
        if kind is QuotaEvent:
            return {"subrecord_code": record.subrecord_code}
        if kind is Certificate:
            code = values["certificate_type"] or "", values["certificate_code"] or ""
            return {"sid": certificate_sid(self._names, *code)}
        stored: Any = None
        if record.update_type is not UpdateType.CREATE and type(values.get("sid")) is int:
            stored = self._overlay.live(kind, values["sid"])
        if kind is QuotaOrderNumber:
            return self._administration(values["order_number"] or "", stored)
        if kind is Measure and stored is not None:
            return {"regulation_effective_end_date": stored.regulation_effective_end_date}
        return {}

    def _administration(self, number: str, stored: QuotaOrderNumber | None) -> dict[str, Any]:
        licensed = Mechanism.LICENSED if number[2:3] == "4" else Mechanism.FIRST_COME_FIRST_SERVED
        mechanism = licensed if stored is None else stored.mechanism
        category = _DEFAULT_CATEGORY if stored is None else stored.category
        return {
            "mechanism": self._options.mechanisms.get(number, mechanism),
            "category": self._options.categories.get(number, category),
            "required_certificate_sids": () if stored is None else stored.required_certificate_sids,
        }

    def _resolve_measures(self) -> None:
        """Last, for the order numbers and areas that measures name may come later in the transaction."""
        refused = {problem.index for problem in self._problems}
        for index, change in enumerate(self._changes):
            if isinstance(change.record, Measure) and index not in refused:
                measure = self._resolved(change.record, change.update_type)
                self._changes[index] = replace(change, record=measure)
                if measure.geographical_area_sid is None:
                    record = self._records[index]
                    expected = "must be given: no area has the id that geographical.area names"
                    self._problems.append(Problem(index, record.line, "geographical.area.sid", expected))

    def _resolved(self, measure: Measure, update_type: UpdateType) -> Measure:
        """The measure with the sids of the order number and the area that it names."""
        period = measure.effective_period
        deleting = update_type is UpdateType.DELETE
        stored = self._names.live(Measure, measure.sid) if deleting else None
        if measure.order_number is not None:
            order_number = self._overlay.order_number_for(measure.order_number, period)
            sid = None if order_number is None else order_number.sid
            if stored is not None and stored.order_number == measure.order_number:
                sid = stored.order_number_sid
            measure = replace(measure, order_number_sid=sid)
        if measure.geographical_area_sid is None:
            area_id = measure.elements["geographical.area"]
            area = self._overlay.area_for(area_id, period)
            area_sid = None if area is None else area.sid
            if stored is not None:
                area_sid = stored.geographical_area_sid
            elif deleting and area_sid is None:
                area_sid = unknown_area_sid(area_id)
            measure = replace(measure, geographical_area_sid=area_sid)
        return measure


def _period(start: Any, end: Any) -> Any:
    whole = type(start) is date and (end is None or type(end) is date)
    return Period(start, end) if whole else (start, end)


def _more_problems(
    record: TaricRecord, body: Body, mapped: Record, found: list[Problem]
) -> Iterator[Problem]:
    """What makes our record malformed although its elements are as the schema wants them."""
    reported = {problem.element for problem in found}
    for field, expected in problems(mapped):
        slot = body.slot_of(END if field == "valid_between" else field)
        if slot is None or (field == "geographical_area_sid" and isinstance(mapped, Measure)):
            continue  # follows from what is reported; or named by its id, and looked up later
        start = body.slot_of(START)
        if field == "valid_between" and start is not None and start.element in reported:
            continue
        if slot.element not in reported:
            text = record.text(slot.element)
            yield Problem(0, record.line_of(slot.element), slot.element, but_found(expected, text))
