"""Real envelopes of the European Commission, and two small ones, are read whole, judged as changes, written again."""

import gzip
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

import pytest

from rules.dataset import Dataset
from rules.malformed import malformed
from rules.periods import Period
from rules.records import Measure, QuotaOrderNumber
from rules.taric import EnvelopeReader, TaricTransaction, read_envelope, to_changes, write_envelope
from rules.taric import to_taric_transaction as to_transaction
from rules.taric.body import ENVELOPE_NAMESPACE, MESSAGE_NAMESPACE
from rules.taric.elements import BODIES

#: Beside the repository: they are no part of it.
SAMPLES: Final = Path(__file__).resolve().parents[3] / "shared" / "taric-samples"
NAMES: Final = sorted(path.name for path in SAMPLES.glob("*.xml*"))
SMALL: Final = ("create_all.xml", "update_delete.xml")
ENVELOPE: Final = f"{{{ENVELOPE_NAMESPACE}}}"
MESSAGE: Final = f"{{{MESSAGE_NAMESPACE}}}"

pytestmark = pytest.mark.skipif(not SAMPLES.is_dir(), reason=f"there are no samples: {SAMPLES} is not there")


def content(name: str) -> bytes:
    data = (SAMPLES / name).read_bytes()
    return gzip.decompress(data) if name.endswith(".gz") else data


def read(name: str) -> tuple[EnvelopeReader, list[TaricTransaction]]:
    """All transactions, and the reader that counted them."""
    reader = EnvelopeReader()
    data = content(name)
    found = [
        each for begin in range(0, len(data), 10_000) for each in reader.feed(data[begin : begin + 10_000])
    ]
    reader.close()
    return reader, found


def test_all_samples_are_there() -> None:
    """Twelve real envelopes and two small ones."""
    assert len(NAMES) == 14
    assert set(SMALL) < set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_is_read_whole(name: str) -> None:
    """As another parser sees it: ids, codes, elements with their texts; and nothing is wrong with it."""
    reader, found = read(name)
    root = ElementTree.fromstring(content(name))
    codes: Counter[str] = Counter()
    expected = []
    for transaction in root.iter(f"{ENVELOPE}transaction"):
        records = []
        for record in transaction.iter(f"{MESSAGE}record"):
            *head, body = record
            texts = {each.tag.removeprefix(MESSAGE): each.text for each in head}
            code = f"{texts['record.code']} {texts['subrecord.code']}"
            codes[code] += 1
            if code in BODIES:
                elements = tuple((each.tag.removeprefix(MESSAGE), each.text or "") for each in body)
                records.append((code, texts["transaction.id"], texts["record.sequence.number"], elements))
        expected.append((transaction.get("id"), records))
    assert reader.envelope_id == root.get("id")
    assert reader.read + reader.skipped == codes
    assert reader.read.keys() <= BODIES.keys()
    assert not reader.skipped.keys() & BODIES.keys()
    assert [
        (each.id, [(rec.code, rec.transaction_id, rec.sequence_number, rec.elements) for rec in each.records])
        for each in found
    ] == expected
    assert [problem for each in found for problem in each.problems] == []


@pytest.mark.parametrize("name", NAMES)
def test_lines_are_where_things_stand(name: str) -> None:
    """Those of transactions, records and elements."""
    _, found = read(name)
    lines = content(name).decode("utf-8-sig").split("\n")
    for transaction in found:
        assert f'transaction id="{transaction.id}"' in lines[transaction.line - 1]
        for record in transaction.records:
            assert "record>" in lines[record.line - 1]
            for (element, _), line in zip(record.elements, record.lines, strict=True):
                assert f":{element}" in lines[line - 1]


@pytest.mark.parametrize("name", NAMES)
def test_real_records_keep_the_order_of_the_schema(name: str) -> None:
    """The table has it right: what a sample holds is in the table's order already."""
    _, found = read(name)
    for record in (record for transaction in found for record in transaction.records):
        order = list(BODIES[record.code].by_name)
        places = [order.index(element) for element, _ in record.elements]
        assert places == sorted(places)


@pytest.mark.parametrize("name", NAMES)
def test_what_was_read_is_written_again(name: str) -> None:
    """And read again it is the same. A transaction of which nothing is known cannot be written."""
    reader, found = read(name)
    known = [each for each in found if each.records]
    assert list(read_envelope(write_envelope(reader.envelope_id, known))) == known


@pytest.mark.parametrize("name", SMALL)
def test_small_samples_are_written_to_the_byte(name: str) -> None:
    """They have the writer's own form."""
    reader, found = read(name)
    assert b"".join(write_envelope(reader.envelope_id, found)) == content(name)


def test_samples_become_changes() -> None:
    """All in a row, as days follow each other, well-formed; a measure has the sid of the number that it names."""
    days = [transaction for name in NAMES for transaction in read(name)[1]]
    named = {record.text("ordernumber") for day in days for record in day.records} - {None}
    # No order number is created in these days: half of those that measures name are taken as known.
    known = {number: sid for sid, number in enumerate(sorted(map(str, named))[::2], 90_000)}
    open_end = Period(date(1970, 1, 1))
    data = Dataset.of(QuotaOrderNumber(sid, number, 0, 1, open_end) for number, sid in known.items())
    resolved = 0
    for day in days:
        mapped = to_changes(day, data)
        assert mapped.problems == ()
        assert malformed(mapped.changes) == ()
        for measure in (each.record for each in mapped.changes if isinstance(each.record, Measure)):
            assert measure.order_number_sid == known.get(measure.order_number or "")
            resolved += measure.order_number_sid is not None
        data = data.apply(mapped.changes)
    assert resolved > 50
    assert len(data) > 3_000


@pytest.mark.parametrize("name", SMALL)
def test_changes_of_a_sample_come_back_from_an_envelope(name: str) -> None:
    """Whole: all that is referred to is in the two small samples."""
    data = Dataset.empty()
    for sample in SMALL[: SMALL.index(name) + 1]:
        for transaction in read(sample)[1]:
            changes = to_changes(transaction, data).changes
            chunks = write_envelope("260001", [to_transaction(changes, data, transaction.id)])
            (again,) = read_envelope(chunks)
            assert to_changes(again, data).changes == changes
            data = data.apply(changes)
