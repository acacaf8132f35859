"""TARIC3 envelopes: read in any chunks, mapped, judged, written and read again; a tree of them has to agree."""

from __future__ import annotations

import gzip
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from random import Random
from typing import Final
from xml.etree import ElementTree as etree

from rules.dataset import Dataset
from rules.engine import validate
from rules.malformed import malformed
from rules.periods import Period
from rules.records import Change, GeographicalArea, QuotaOrderNumber
from rules.taric import (
    EnvelopeReader,
    TaricError,
    TaricTransaction,
    read_envelope,
    to_changes,
    to_taric_transaction,
    write_envelope,
)
from rules.taric.body import ENVELOPE_NAMESPACE, MESSAGE_NAMESPACE
from rules.taric.elements import BODIES
from tests.fuzz.mutate import xml
from tests.fuzz.target import Target, within_bounds

_ROOT: Final = Path(__file__).resolve().parents[3]
_TODAY: Final = date(2026, 11, 21)
#: What envelopes may refer to.
_DATA: Final = Dataset.of(
    [
        GeographicalArea(11, "CL", 0, Period(date(1900, 1, 1))),
        QuotaOrderNumber(12, "054012", 1, 1, Period(date(1900, 1, 1))),
    ]
)
_place: Final = re.compile(r"line [1-9][0-9]*: [^:\n]").match
_transaction: Final = re.compile(r"<(?:\w+:)?transaction .*?</(?:\w+:)?transaction>", re.DOTALL)
#: So many are read byte by byte: it is slow.
_SINGLE_BYTES: Final = 400
_SPACE: Final = " \t\r\n"

#: Transactions, the error, and what equality of transactions leaves out.
Outcome = tuple[list[TaricTransaction], str, list[object]]


def check(data: bytes) -> None:
    """The same in all chunks, refused only in words that name the place, and what is read survives being written."""
    found, error, more = within_bounds(data, lambda: outcome([data]), calls_per_byte=40, bytes_per_byte=120)
    again, other_error, other_more = outcome(in_chunks(data))
    assert error == other_error, f"the chunks make a difference: {error!r} or {other_error!r}"
    assert (found, more) == (again, other_more), "the chunks make a difference"
    assert not error or _place(error), f"the refusal names no place: {error!r}"
    for transaction in found:
        judge(transaction)
        check_records(transaction)
    if not error:
        compare_with_tree(data, found)


def outcome(chunks: Sequence[bytes]) -> Outcome:
    """All that a reader says."""
    reader = EnvelopeReader(max_transaction_bytes=200_000)
    found: list[TaricTransaction] = []
    error = ""
    try:
        for chunk in chunks:
            found += reader.feed(chunk)
        reader.close()
    except TaricError as refused:
        error = str(refused)
    lines: list[object] = [(each.line, [(rec.line, rec.lines) for rec in each.records]) for each in found]
    return found, error, [*lines, reader.envelope_id, reader.read, reader.skipped]


def in_chunks(data: bytes) -> list[bytes]:
    """Chunks that only the input decides: random ones, with a stretch of single bytes between them."""
    random = Random(zlib.crc32(data))
    stretch = random.choice((0, random.randint(0, len(data))))
    chunks, at = [], 0
    while at < len(data):
        single = stretch <= at < stretch + _SINGLE_BYTES
        size = 1 if single else random.choice((7, 100, 70_000))
        until = at + size if at >= stretch else min(at + size, stretch)
        chunks.append(data[at:until])
        at = until
    return chunks


def judge(transaction: TaricTransaction) -> None:
    """Changes can be judged; each problem names element and line; what was mapped comes back from an envelope."""
    mapped = to_changes(transaction, _DATA)
    for each in (*transaction.problems, *mapped.problems):
        assert each.line > 0, f"no line: {each!r}"
        assert each.element and each.expected, f"no place: {each!r}"
    if mapped.problems:
        return
    assert malformed(mapped.changes) == ()
    validate(_DATA, mapped.changes, _TODAY)
    # Ids are looked up beside sids: where those change within the transaction, its records say what they were.
    if mapped.changes and not any(
        isinstance(each.record, QuotaOrderNumber | GeographicalArea) for each in mapped.changes
    ):
        write_and_read(mapped.changes)


def write_and_read(changes: Sequence[Change]) -> None:
    """Refused by the writer, in words, or the same again."""
    try:
        written = b"".join(write_envelope("260001", [to_taric_transaction(changes, _DATA)]))
    except TaricError as error:
        assert error.element
        assert error.expected
        return
    (again,) = read_envelope([written])
    back = to_changes(again, _DATA)
    assert back.problems == (), f"what was written has problems: {back.problems}"
    assert back.changes == tuple(changes)


def check_records(transaction: TaricTransaction) -> None:
    """Records of an envelope are written as the schema has them, or refused; what was written reads the same."""
    try:
        written = b"".join(write_envelope("260001", [transaction]))
    except TaricError as error:
        assert error.element
        assert error.expected
        return
    (again,) = read_envelope([written])
    assert again.problems == ()
    for record, back in zip(transaction.records, again.records, strict=True):
        assert (back.code, back.update_type) == (record.code, record.update_type)
        assert sorted(back.elements) == sorted(record.elements)


# --- another route -----------------------------------------------------------------------------------------------


def compare_with_tree(data: bytes, found: list[TaricTransaction]) -> None:
    """What was accepted is well-formed, and a tree of it holds the same transactions and records, and nothing else."""
    assert b"<!DOCTYPE" not in data or b"<!-" in data or b"<![CDATA[" in data, "a document type was accepted"
    root = etree.fromstring(data)
    assert not list(_texts_between(root)), "a text between elements was accepted"
    transactions = root.findall(f"{{{ENVELOPE_NAMESPACE}}}transaction")
    assert [each.get("id", "") for each in transactions] == [each.id for each in found]
    for element, transaction in zip(transactions, found, strict=True):
        if not transaction.problems:
            compare_records(element, transaction)


def compare_records(element: etree.Element, transaction: TaricTransaction) -> None:
    """Of a transaction without problems."""
    path = f"{{{ENVELOPE_NAMESPACE}}}app.message/{_named('transmission')}/{_named('record')}"
    said = []
    for record in element.findall(path):
        head = {
            name: record.findtext(_named(name), "").strip(_SPACE)
            for name in ("record.code", "subrecord.code")
        }
        code = f"{head['record.code']} {head['subrecord.code']}"
        if code in BODIES and BODIES[code].judged:
            (body,) = record.findall(_named(BODIES[code].element))
            said.append((code, Counter(_element(each) for each in body)))
    read = [(each.code, Counter(each.elements)) for each in transaction.records if BODIES[each.code].judged]
    assert said == read


def _texts_between(root: etree.Element) -> Iterator[str]:
    """What stands beside an envelope's elements; what nobody reads may hold anything."""
    for outer in (root, *(root.iterfind(f"{{{ENVELOPE_NAMESPACE}}}transaction"))):
        for text in (outer.text, *(inner.tail for inner in outer)):
            if text and text.strip(_SPACE):
                yield text


def _named(name: str) -> str:
    return f"{{{MESSAGE_NAMESPACE}}}{name}"


def _element(element: etree.Element) -> tuple[str, str]:
    name = element.tag.removeprefix(f"{{{MESSAGE_NAMESPACE}}}")
    text = element.text or ""
    return name, text if name == "description" else text.strip(_SPACE)


def seeds() -> Iterator[bytes]:
    """Envelopes of the tests and the examples, cut into one for each transaction: small ones are quick."""
    for folder in ("tests/data/taric", "examples/tariff"):
        for path in sorted((_ROOT / folder).glob("*.xml")):
            yield from in_parts(path.read_text())
    yield gzip.compress(b"<envelope/>", mtime=0)


def in_parts(envelope: str) -> Iterator[bytes]:
    """Each transaction in an envelope of its own."""
    transactions = list(_transaction.finditer(envelope))
    head, tail = envelope[: transactions[0].start()], envelope[transactions[-1].end() :]
    for each in transactions:
        yield (head + each.group() + tail).encode()


TARGET: Final = Target("taric", check, xml.mutate, seeds, max_bytes=8 * 1024)
