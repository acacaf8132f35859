"""Writes envelopes as the schema wants them: every element in its place, nothing that it does not allow."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final
from xml.sax.saxutils import escape

from rules.records import (
    Change,
    GeographicalArea,
    Measure,
    QuotaDefinition,
    QuotaEvent,
    QuotaOrderNumber,
    QuotaOrderNumberOrigin,
    RecordRef,
)
from rules.taric.elements import BODIES, END, KEPT, LONG, START, Body, Slot, body_of
from rules.taric.errors import TaricError
from rules.taric.reader import ENVELOPE, MESSAGE, UPDATE_TYPES
from rules.taric.resolving import Names
from rules.taric.taric_record import Element, TaricRecord, TaricTransaction

_NUMBERS: Final = {update_type: number for number, update_type in UPDATE_TYPES.items()}
_envelope_id: Final = re.compile(r"[0-9]{5,6}").fullmatch
_number: Final = re.compile(r"[1-9][0-9]{0,7}").fullmatch
_element_name: Final = re.compile(r"[a-z]+(\.[a-z]+)*").fullmatch
#: What a parser would otherwise turn into another white space.
_ESCAPES: Final = {"\r": "&#13;"}


def to_taric(change: Change, names: Names) -> TaricRecord:
    """A change as a record of an envelope; `names` gives the ids that TARIC3 wants beside the sids.

    Raises TaricError, naming record and element, if the schema does not allow what the record holds, or asks for what
    it does not.
    """
    record: Any = change.record
    body = body_of(record)
    kept: Any = record.data if isinstance(record, QuotaEvent) else getattr(record, "elements", {})
    known = {slot.element for slot in body.slots}
    elements = []
    for slot in body.slots:
        text = _text(record, slot, kept, names)
        if text is not None:
            elements.append(Element(slot.element, text))
    elements += [Element(name, text) for name, text in sorted(kept.items()) if name not in known]
    written = TaricRecord(body.code, change.update_type, tuple(elements))
    _check(written, body, str(RecordRef.to(record)))
    return written


def write_envelope(envelope_id: str, transactions: Iterable[TaricTransaction]) -> Iterator[bytes]:
    """An envelope in UTF-8, in chunks of a transaction each. Raises TaricError before a chunk that would be wrong.

    Ids and sequence numbers that are not given are counted; those of messages always are.
    """
    if not _envelope_id(envelope_id):
        raise TaricError(0, "envelope", f"its id must be five or six digits, not {envelope_id!r}")
    yield (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<env:envelope xmlns="{MESSAGE[1:-1]}" xmlns:env="{ENVELOPE[1:-1]}" id="{envelope_id}">\n'
    ).encode()
    message = 0
    for number, transaction in enumerate(transactions, 1):
        identifier = transaction.id or str(number)
        lines = [f'  <env:transaction id="{escape(identifier, {chr(34): "&quot;"})}">']
        for sequence, record in enumerate(transaction.records, 1):
            message += 1
            lines += _record_lines(record, identifier, message, sequence)
        if not transaction.records:
            raise TaricError(0, f"transaction {identifier}", "must hold a record")
        lines.append("  </env:transaction>\n")
        yield "\n".join(lines).encode()
    yield b"</env:envelope>\n"


def _text(record: Any, slot: Slot, kept: Any, names: Names) -> str | None:
    """What is to stand in an element, or None for no element."""
    if slot.field == KEPT:
        text: str | None = kept.get(slot.element)
        if text is None and isinstance(record, Measure) and slot.element == "geographical.area":
            area = names.live(GeographicalArea, record.geographical_area_sid)
            return None if area is None else area.area_id
        return text
    if slot.field == "":
        return _id_of_referent(record, names)
    value: Any
    if slot.field in (START, END):
        period = record.valid_between
        value = period.start if slot.field == START else period.end
    elif slot.field == "order_number" and isinstance(record, Measure) and record.order_number is None:
        order_number = _live_order_number(record.order_number_sid, names)
        value = None if order_number is None else order_number.order_number
    else:
        value = getattr(record, slot.field)
    if value is None or (slot.optional and value == ""):
        return None
    return slot.lexical.write(value)


def _id_of_referent(record: Any, names: Names) -> str | None:
    """The id that stands beside the sid of an origin's area or a definition's order number."""
    if isinstance(record, QuotaOrderNumberOrigin):
        area = names.live(GeographicalArea, record.geographical_area_sid)
        return None if area is None else area.area_id
    assert isinstance(record, QuotaDefinition)
    order_number = _live_order_number(record.order_number_sid, names)
    return None if order_number is None else order_number.order_number


def _live_order_number(sid: int | None, names: Names) -> QuotaOrderNumber | None:
    return None if sid is None else names.live(QuotaOrderNumber, sid)


def _check(record: TaricRecord, body: Body, name: str) -> None:
    """Raises TaricError for what the schema does not allow."""
    given = {each.name: each.text for each in record.elements}
    for slot in body.slots:
        text = given.pop(slot.element, None)
        if text is None:
            if not slot.optional:
                raise TaricError(0, f"{name}: {slot.element}", f"must be given: {slot.lexical.expected}")
        elif not slot.lexical.pattern.fullmatch(text):
            raise TaricError(
                0, f"{name}: {slot.element}", f"must be {slot.lexical.expected}, not {text!r:.80}"
            )
    for element, text in given.items():
        if not body.is_open or body.kind is QuotaEvent or not _element_name(element):
            raise TaricError(0, f"{name}: {element}", f"is no element of {body.element}")
        if not LONG.pattern.fullmatch(text):
            raise TaricError(0, f"{name}: {element}", f"must be {LONG.expected}")


def _record_lines(record: TaricRecord, transaction: str, message: int, sequence: int) -> Iterator[str]:
    body = BODIES[record.code]
    name = f"transaction {transaction}, record {record.code}"
    _check(record, body, name)
    code, subcode = record.code.split()
    head = {
        "transaction.id": record.transaction_id or transaction,
        "record.code": code,
        "subrecord.code": subcode,
        "record.sequence.number": record.sequence_number or str(sequence),
        "update.type": _NUMBERS[record.update_type],
    }
    for element in ("transaction.id", "record.sequence.number"):
        if not _number(head[element]):
            raise TaricError(
                0, f"{name}: {element}", f"must be from 1 to 99999999, not {head[element]!r:.80}"
            )
    yield f'    <env:app.message id="{message}">'
    yield f'      <oub:transmission xmlns:oub="{MESSAGE[1:-1]}">'
    yield "        <oub:record>"
    for element, text in head.items():
        yield f"          <oub:{element}>{text}</oub:{element}>"
    yield f"          <oub:{body.element}>"
    order = {slot.element: place for place, slot in enumerate(body.slots)}
    for each in sorted(record.elements, key=lambda each: order.get(each.name, len(order))):
        yield f"            <oub:{each.name}>{escape(each.text, _ESCAPES)}</oub:{each.name}>"
    yield f"          </oub:{body.element}>"
    yield "        </oub:record>"
    yield "      </oub:transmission>"
    yield "    </env:app.message>"
