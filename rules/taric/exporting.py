"""From changes of ours to an envelope's records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rules.malformed import problems
from rules.records import (
    Change,
    GeographicalArea,
    Key,
    Measure,
    QuotaDefinition,
    QuotaEvent,
    QuotaOrderNumber,
    QuotaOrderNumberOrigin,
    Record,
    RecordRef,
)
from rules.taric.body import END, KEPT, START, Slot
from rules.taric.elements import body_of
from rules.taric.errors import TaricError
from rules.taric.resolving import Names
from rules.taric.taric_record import TaricRecord, TaricTransaction
from rules.taric.writer import in_order


def to_taric(change: Change, names: Names) -> TaricRecord:
    """A change as a record of an envelope; `names` gives the ids that TARIC3 wants beside the sids.

    What TARIC3 does not carry is left out: see `rules.taric.mapping`. Raises TaricError, naming record and element, if
    the record is malformed or the schema forbids what it holds or wants what it does not hold.
    """
    return _Export(names).record(change)


def to_taric_transaction(
    changes: Sequence[Change], names: Names, transaction_id: str = ""
) -> TaricTransaction:
    """A transaction's changes as records of an envelope, likewise.

    `names` is the data before the transaction: ids are found in it and in the transaction's own records.
    """
    export = _Export(names, changes)
    return TaricTransaction(transaction_id, tuple(map(export.record, changes)))


class _Export:
    def __init__(self, names: Names, changes: Sequence[Change] = ()) -> None:
        self._names = names
        # Deleted ones too: a definition deleted together with its order number still names it.
        self._own: dict[tuple[type[Record], Key], Any] = {}
        for change in changes:
            if isinstance(change.record, GeographicalArea | QuotaOrderNumber):
                self._own[type(change.record), change.record.key] = change.record

    def record(self, change: Change) -> TaricRecord:
        record = change.record
        name = str(RecordRef.to(record))
        for field, expected in problems(record):
            raise TaricError(0, f"{name}: {field}", expected)
        kept = _kept(record)
        body = body_of(record).form_of(kept)
        texts = ((slot.element, self._text(record, slot)) for slot in body.slots)
        elements = [(element, text) for element, text in texts if text is not None]
        # To be refused, not to be lost.
        elements += sorted((element, text) for element, text in kept.items() if element not in body.by_name)
        written = TaricRecord(body.code, change.update_type, tuple(elements))
        in_order(written, name)
        return written

    def _text(self, record: Any, slot: Slot) -> str | None:
        """What is to stand in an element, or None for no element."""
        if slot.element == "geographical.area":
            return self._area_id(record.geographical_area_sid) or _kept(record).get(slot.element)
        if slot.element == "ordernumber":
            return self._order_number_of(record)
        if slot.field == KEPT:
            return _kept(record).get(slot.element)
        if slot.field == "":
            return self._id_of_referent(record)
        value: Any
        if slot.field in (START, END):
            value = record.valid_between.start if slot.field == START else record.valid_between.end
        else:
            value = getattr(record, slot.field)
        if value is None or (slot.optional and value == ""):
            return None
        return slot.lexical.write(value)

    def _order_number_of(self, measure: Measure) -> str | None:
        if measure.order_number_sid is None:
            return measure.order_number
        number = self._order_number(measure.order_number_sid) or measure.order_number
        if number is None:
            ref = RecordRef(QuotaOrderNumber.kind, measure.order_number_sid)
            raise TaricError(0, f"{RecordRef.to(measure)}: ordernumber", f"must be given: there is no {ref}")
        return number

    def _id_of_referent(self, record: Any) -> str | None:
        """The id that stands beside the sid of an origin's area or a definition's order number."""
        if isinstance(record, QuotaOrderNumberOrigin):
            return self._area_id(record.geographical_area_sid)
        assert isinstance(record, QuotaDefinition)
        return self._order_number(record.order_number_sid)

    def _area_id(self, sid: int) -> str | None:
        area = self._own.get((GeographicalArea, sid)) or self._names.live(GeographicalArea, sid)
        return None if area is None else area.area_id

    def _order_number(self, sid: int) -> str | None:
        found = self._own.get((QuotaOrderNumber, sid)) or self._names.live(QuotaOrderNumber, sid)
        return None if found is None else found.order_number


def _kept(record: Any) -> Mapping[str, str]:
    """Elements kept by name."""
    kept: Mapping[str, str] = (
        record.data if isinstance(record, QuotaEvent) else getattr(record, "elements", {})
    )
    return kept
