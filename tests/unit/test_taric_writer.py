"""The writer of TARIC3: nothing that the schema forbids gets out, and what was read is written again."""

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final
from xml.etree import ElementTree

import pytest
from immutables import Map

from rules import records as r
from rules.dataset import Dataset
from rules.records import Change, Record, UpdateType
from rules.taric import (
    Names,
    Problem,
    TaricError,
    TaricRecord,
    TaricTransaction,
    read_envelope,
    to_changes,
    to_taric,
    to_taric_transaction,
    write_envelope,
)
from rules.taric.body import MESSAGE_NAMESPACE
from rules.taric.elements import BODIES
from tests.rules_kit import (
    area,
    create,
    definition,
    delete,
    event,
    measure,
    order_number,
    origin,
    period,
    update,
)
from tests.unit.test_taric_mapping import MEASURE_ELEMENTS
from tests.unit.test_taric_reader import GOOD, ODDITIES, QUOTA_YEAR, elements, read

EMPTY: Final = Dataset.empty()


def written(*records: TaricRecord, transaction_id: str = "1") -> bytes:
    return b"".join(write_envelope("260001", [TaricTransaction(transaction_id, records)]))


def taric(code: str, changes: Mapping[str, str | None] = {}) -> TaricRecord:
    return TaricRecord(code, UpdateType.CREATE, tuple(elements(code, changes).items()))


FORM: Final = """\
<?xml version="1.0" encoding="UTF-8"?>
<env:envelope xmlns="urn:publicid:-:DGTAXUD:TARIC:MESSAGE:1.0" xmlns:env="urn:publicid:-:DGTAXUD:GENERAL:ENVELOPE:1.0" \
id="260001">
  <env:transaction id="1">
    <env:app.message id="1">
      <oub:transmission xmlns:oub="urn:publicid:-:DGTAXUD:TARIC:MESSAGE:1.0">
        <oub:record>
          <oub:transaction.id>1</oub:transaction.id>
          <oub:record.code>225</oub:record.code>
          <oub:subrecord.code>00</oub:subrecord.code>
          <oub:record.sequence.number>1</oub:record.sequence.number>
          <oub:update.type>3</oub:update.type>
          <oub:monetary.unit>
            <oub:monetary.unit.code>KGM</oub:monetary.unit.code>
            <oub:validity.start.date>2020-01-01</oub:validity.start.date>
          </oub:monetary.unit>
        </oub:record>
      </oub:transmission>
    </env:app.message>
  </env:transaction>
</env:envelope>
"""


def test_this_is_the_form() -> None:
    """To the byte."""
    assert written(taric("225 00")).decode() == FORM


@pytest.mark.parametrize("code", BODIES)
def test_elements_are_put_into_the_order_of_the_schema(code: str) -> None:
    """Whatever order they came in."""
    every = {slot.element: GOOD[slot.lexical] for slot in BODIES[code].slots}
    backwards = TaricRecord(code, UpdateType.DELETE, tuple(reversed(every.items())))
    (found,) = read(written(backwards))
    assert [name for name, _ in found.records[0].elements] == list(every)
    assert found.problems == ()


def test_transactions_messages_and_records_are_counted() -> None:
    """Where they have no id of their own; messages through the whole envelope, records within their transaction."""
    unit = taric("225 00")
    own = replace(unit, transaction_id="44", sequence_number="55")
    data = b"".join(
        write_envelope("26001", [TaricTransaction("", (unit, own)), TaricTransaction("x", (own,))])
    )
    root = ElementTree.fromstring(data)
    assert [each.get("id") for each in root] == ["1", "x"]
    assert [each.get("id") for each in root.iterfind("*/*")] == ["1", "2", "3"]
    numbers = [
        [each.text for each in root.iter(f"{{{MESSAGE_NAMESPACE}}}{name}")]
        for name in ("transaction.id", "record.sequence.number")
    ]
    assert numbers == [["1", "44", "44"], ["1", "55", "55"]]


def test_an_envelope_comes_in_chunks() -> None:
    """A transaction each: the whole is never in memory."""
    chunks = list(write_envelope("260001", [TaricTransaction("1", (taric("225 00"),))] * 3))
    assert len(chunks) == 5
    assert list(write_envelope("260001", []))[1:] == [b"</env:envelope>\n"]


@pytest.mark.parametrize(
    "text",
    [
        "a < b & c > d",
        "]]>",
        "\"'",
        "tab\tand\nline",
        "CR\rLF\r\n",
        " space ",
        "Käse 😀",
        "",
        "&amp;",
        "\x85",
    ],
)
def test_texts_arrive_as_they_were(text: str) -> None:
    """Of descriptions, and of ids."""
    record = replace(taric("370 00", {"description": text}), transaction_id="1")
    (found,) = read(written(record, transaction_id=text or "1"))
    assert found.id == (text or "1")
    assert found.records[0].text("description") == text


#: Code, changes of a good body, element, and words of the refusal.
FORBIDDEN: Final[list[tuple[str, dict[str, str | None], str, str]]] = [
    (
        "360 00",
        {"validity.start.date": "2026-02-30"},
        "validity.start.date",
        "a date, YYYY-MM-DD, not '2026-02-30'",
    ),
    ("360 00", {"validity.start.date": None}, "validity.start.date", "must be given"),
    ("360 00", {"quota.order.number.sid": "100000000"}, "quota.order.number.sid", "from 1 to 99999999"),
    ("360 00", {"quota.order.number.id": " 050001"}, "quota.order.number.id", "six digits"),
    ("360 00", {"mechanism": "1"}, "mechanism", "is no element of quota.order.number"),
    ("375 00", {"occurrence.timestamp": "2020-01-02T03:04:05Z"}, "occurrence.timestamp", "without zone"),
    ("375 10", {"critical.state": "1"}, "critical.state", "Y or N, not '1'"),
    ("370 00", {"volume": "0.0001"}, "volume", "at most 3 decimals"),
    ("370 00", {"description": "bell\x07"}, "description", "text of at most 1,000 characters"),
    ("370 00", {"description": "\ud800"}, "description", "text of at most 1,000 characters"),
    ("370 00", {"description": "x" * 1001}, "description", "text of at most 1,000 characters"),
    ("110 05", {"language.id": "english"}, "language.id", "two capitals"),
    ("375 30", {"closing.date": "2020-01-01"}, "transfer.date", "is no element"),
]


@pytest.mark.parametrize(("code", "changes", "element", "words"), FORBIDDEN)
def test_what_the_schema_forbids_is_refused(
    code: str, changes: dict[str, str | None], element: str, words: str
) -> None:
    """Record and element are named, and nothing of the transaction is written."""
    chunks = write_envelope("260001", [TaricTransaction("9", (taric("225 00"), taric(code, changes)))])
    next(chunks)
    with pytest.raises(TaricError) as refused:
        next(chunks)
    assert refused.value.element == f"transaction 9, record 2, {code}: {element}"
    assert words in refused.value.expected
    assert refused.value.line == 0


UNIT: Final = taric("225 00")


@pytest.mark.parametrize(
    ("envelope_id", "transaction", "words"),
    [
        ("1234", TaricTransaction("1", (UNIT,)), "envelope: its id must be five or six digits, not '1234'"),
        ("260001\n", TaricTransaction("1", (UNIT,)), "five or six digits"),
        ("260001", TaricTransaction("1", ()), "transaction 1: must hold a record"),
        ("260001", TaricTransaction("\x00", (UNIT,)), "its id must be text"),
        ("260001", TaricTransaction("1", (UNIT,), (Problem(0, 3, "a", "b"),)), "no problems: line 3: a: b"),
        ("260001", TaricTransaction("1", (replace(UNIT, code="430 05"),)), "of a code that is known"),
        ("260001", TaricTransaction("1", (replace(UNIT, elements=UNIT.elements * 2),)), "an element twice"),
        (
            "260001",
            TaricTransaction("1", (replace(UNIT, sequence_number="0"),)),
            "from 1 to 99999999, not '0'",
        ),
        ("260001", TaricTransaction("x", (UNIT,)), "transaction.id: must be an integer"),
    ],
)
def test_what_cannot_be_an_envelope_is_refused(
    envelope_id: str, transaction: TaricTransaction, words: str
) -> None:
    """Before a chunk that would be wrong."""
    with pytest.raises(TaricError) as refused:
        list(write_envelope(envelope_id, [transaction]))
    assert words in str(refused.value)


def test_what_was_read_is_written_again() -> None:
    """And read again it is the same; what the reader tolerated is refused, what it skipped is gone."""
    found = read(QUOTA_YEAR)
    assert list(read_envelope(write_envelope("250101", found))) == found
    with pytest.raises(TaricError, match="without zone"):
        list(write_envelope("18999", read(ODDITIES)[:1]))


# --- from our records ------------------------------------------------------------------------------------------------

AREA: Final = replace(area(11), area_id="CL")
NUMBER: Final = order_number(1)
NAMES: Final = Dataset.of([AREA, NUMBER])
MEASURE: Final = replace(measure(5), elements=Map(MEASURE_ELEMENTS))


def text_of(record: Record, element: str, names: Names = NAMES) -> str | None:
    return to_taric(create(record), names).text(element)


def test_changes_come_back_from_an_envelope_as_they_were() -> None:
    """Both ways, through the whole of a small envelope."""
    data = EMPTY
    for transaction in read(QUOTA_YEAR):
        changes = to_changes(transaction, data).changes
        back = to_taric_transaction(changes, data, transaction.id)
        (again,) = read_envelope(write_envelope("250101", [back])) if changes else (back,)
        assert to_changes(again, data).changes == changes
        kept = [each.elements for each in transaction.records if BODIES[each.code].kind is not None]
        assert [each.elements for each in back.records] == kept
        data = data.apply(changes)


@pytest.mark.parametrize("change", [create, update, delete])
def test_the_update_type_is_that_of_the_change(change: Any) -> None:
    """1, 2 and 3 in the envelope."""
    record = to_taric(change(NUMBER), NAMES)
    assert record.update_type is change(NUMBER).update_type
    assert read(written(record))[0].records[0].update_type is record.update_type


def test_ids_come_from_what_is_referred_to() -> None:
    """An origin and a measure name their area, a definition and a measure their order number."""
    assert text_of(origin(3), "geographical.area.id") == "CL"
    assert text_of(definition(3), "quota.order.number.id") == "050001"
    assert text_of(MEASURE, "ordernumber") == "050001"
    assert (
        text_of(replace(MEASURE, elements=MEASURE.elements.delete("geographical.area")), "geographical.area")
        == "CL"
    )
    assert text_of(MEASURE, "geographical.area", Dataset.of([NUMBER])) == "1011"
    unresolved = replace(MEASURE, order_number_sid=None, order_number="050009")
    assert text_of(unresolved, "ordernumber") == "050009"
    assert text_of(replace(MEASURE, order_number_sid=None), "ordernumber") is None


def test_ids_come_from_the_transaction_too() -> None:
    """Whatever the order, created or deleted."""
    changes = [create(definition(3)), create(origin(4)), create(NUMBER), create(AREA)]
    for each in (changes, [delete(change.record) for change in changes]):
        records = to_taric_transaction(each, EMPTY).records
        assert records[0].text("quota.order.number.id") == "050001"
        assert records[1].text("geographical.area.id") == "CL"
    with pytest.raises(TaricError, match=r"quota_definition 3: quota.order.number.id: must be given"):
        to_taric(changes[0], EMPTY)


@pytest.mark.parametrize(
    ("volume", "text"),
    [
        ("4000000", "4000000"),
        ("1E+3", "1000"),
        ("1.500", "1.5"),
        ("0.000", "0"),
        ("100.000", "100"),
        ("0.125", "0.125"),
    ],
)
def test_decimals_are_written_plainly(volume: str, text: str) -> None:
    """No exponent, no zeros at the end."""
    assert text_of(definition(3, volume=volume), "volume") == text
    small = r.QuotaAssociation(1, 2, "EQ", Decimal("1.67000"))
    assert text_of(small, "coefficient") == "1.67"


def test_what_is_empty_is_left_out() -> None:
    """An end, a unit, a description."""
    record = to_taric(create(definition(3, end=None)), NAMES)
    assert [name for name, _ in record.elements] == [
        slot.element
        for slot in BODIES["370 00"].slots
        if not slot.optional or slot.element == "measurement.unit.code"
    ]


#: A record of ours, and what is said of it.
UNWRITABLE: Final[list[tuple[Record, str]]] = [
    (
        order_number(100_000_000),
        "quota_order_number 100000000: quota.order.number.sid: must be an integer from 1",
    ),
    (order_number(1, number="x"), "quota_order_number 1: order_number: must be six digits"),
    (
        order_number(1, start="2020-01-02", end="2020-01-01"),
        "quota_order_number 1: valid_between: must be a period",
    ),
    (origin(3, area=99), "quota_order_number_origin 3: geographical.area.id: must be given"),
    (definition(3, of=99), "quota_definition 3: quota.order.number.id: must be given"),
    (definition(3, description="\x00"), "quota_definition 3: description: must be text"),
    (measure(5), "measure 5: measure.type: must be given"),
    (
        replace(MEASURE, order_number_sid=99),
        "measure 5: ordernumber: must be given: there is no quota_order_number 99",
    ),
    (
        replace(MEASURE, elements=MEASURE.elements.set("colour", "red")),
        "measure 5: colour: is no element of measure",
    ),
    (
        r.Certificate(1, "LL", "001", period()),
        "certificate 1: certificate.type.code: must be one capital or digit",
    ),
    (r.QuotaBlocking(1, 2, 1, "", period()), "quota_blocking 1: blocking.end.date: must be given"),
    (event(code="99"), "subrecord_code: must be one of 00"),
    (replace(event(), data=Map({"new.balance": "1"})), "old.balance: must be given"),
]


@pytest.mark.parametrize(("record", "message"), UNWRITABLE)
def test_what_cannot_be_written_is_refused(record: Record, message: str) -> None:
    """The record is named, and its field or element."""
    with pytest.raises(TaricError) as refused:
        to_taric(Change(UpdateType.CREATE, record), NAMES)
    assert message in str(refused.value)
    assert str(refused.value).startswith(record.kind)
