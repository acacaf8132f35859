"""Writes envelopes as the schema wants them: every element in its place, nothing that it does not allow."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final
from xml.sax.saxutils import escape

from rules.records import UpdateType
from rules.taric.body import ENVELOPE_NAMESPACE, MESSAGE_NAMESPACE
from rules.taric.elements import BODIES
from rules.taric.errors import TaricError, but_found
from rules.taric.lexical import SID, is_xml_text
from rules.taric.taric_record import TaricRecord, TaricTransaction

_NUMBERS: Final = {UpdateType.UPDATE: "1", UpdateType.DELETE: "2", UpdateType.CREATE: "3"}
_envelope_id: Final = re.compile(r"[0-9]{5,6}").fullmatch
#: What a parser would otherwise turn into another white space.
_IN_TEXT: Final = {"\r": "&#13;"}
_IN_ATTRIBUTE: Final = {'"': "&quot;", "\t": "&#9;", "\n": "&#10;", "\r": "&#13;"}


def write_envelope(envelope_id: str, transactions: Iterable[TaricTransaction]) -> Iterator[bytes]:
    """An envelope in UTF-8, in chunks of a transaction each; elements are put into the order of the schema.

    Transactions, messages and records are counted where they have no id or number of their own. Raises TaricError,
    naming record and element, before a chunk that the schema would not allow.
    """
    if not _envelope_id(envelope_id):
        raise TaricError(0, "envelope", but_found("its id must be five or six digits", envelope_id))
    yield (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<env:envelope xmlns="{MESSAGE_NAMESPACE}" xmlns:env="{ENVELOPE_NAMESPACE}" id="{envelope_id}">\n'
    ).encode()
    messages = 0
    for number, transaction in enumerate(transactions, 1):
        identifier = transaction.id or str(number)
        yield "\n".join([*_transaction_lines(transaction, identifier, messages), ""]).encode()
        messages += len(transaction.records)
    yield b"</env:envelope>\n"


def _transaction_lines(transaction: TaricTransaction, identifier: str, messages: int) -> Iterator[str]:
    if transaction.problems:
        raise TaricError(0, f"transaction {identifier}", f"must have no problems: {transaction.problems[0]}")
    if not transaction.records:
        raise TaricError(0, f"transaction {identifier}", "must hold a record")
    if not is_xml_text(identifier):
        raise TaricError(0, "transaction", but_found("its id must be text", identifier))
    yield f'  <env:transaction id="{escape(identifier, _IN_ATTRIBUTE)}">'
    for number, record in enumerate(transaction.records, 1):
        yield f'    <env:app.message id="{messages + number}">'
        yield f'      <oub:transmission xmlns:oub="{MESSAGE_NAMESPACE}">'
        yield "        <oub:record>"
        yield from _record_lines(record, identifier, number)
        yield "        </oub:record>"
        yield "      </oub:transmission>"
        yield "    </env:app.message>"
    yield "  </env:transaction>"


def _record_lines(record: TaricRecord, transaction: str, number: int) -> Iterator[str]:
    name = f"transaction {transaction}, record {number}, {record.code}"
    elements = in_order(record, name)
    head = {
        "transaction.id": record.transaction_id or transaction,
        "record.code": record.record_code,
        "subrecord.code": record.subrecord_code,
        "record.sequence.number": record.sequence_number or str(number),
        "update.type": _NUMBERS[record.update_type],
    }
    for element, text in head.items():
        if element in ("transaction.id", "record.sequence.number") and not SID.allows(text):
            raise TaricError(0, f"{name}: {element}", but_found(f"must be {SID.expected}", text))
        yield f"          <oub:{element}>{text}</oub:{element}>"
    body = BODIES[record.code].element
    yield f"          <oub:{body}>"
    for element, text in elements:
        yield f"            <oub:{element}>{escape(text, _IN_TEXT)}</oub:{element}>"
    yield f"          </oub:{body}>"


def in_order(record: TaricRecord, name: str) -> tuple[tuple[str, str], ...]:
    """A record's elements in the order of the schema. Raises TaricError, naming the record, if it forbids any."""
    if record.code not in BODIES:
        raise TaricError(0, name, "must be of a code that is known")
    given = dict(record.elements)
    if len(given) < len(record.elements):
        raise TaricError(0, name, "must not have an element twice")
    body = BODIES[record.code].form_of(given)
    for element in given:
        if element not in body.by_name:
            raise TaricError(0, f"{name}: {element}", f"is no element of {body.element}")
    for slot in body.slots:
        text = given.get(slot.element)
        if text is None:
            if not slot.optional:
                raise TaricError(0, f"{name}: {slot.element}", f"must be given: {slot.lexical.expected}")
        elif not slot.lexical.allows(text):
            raise TaricError(
                0, f"{name}: {slot.element}", but_found(f"must be {slot.lexical.expected}", text)
            )
    return tuple((element, given[element]) for element in body.by_name if element in given)
