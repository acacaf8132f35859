"""The reader of TARIC3: what it gives back, from whatever pieces. Other tests build envelopes with what stands here."""

import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rules.records import UpdateType
from rules.taric import EnvelopeReader, TaricError, TaricRecord, TaricTransaction, read_envelope
from rules.taric import lexical as lex
from rules.taric.body import ENVELOPE_NAMESPACE, MESSAGE_NAMESPACE
from rules.taric.elements import BODIES
from rules.taric.lexical import Lexical

DATA: Final = Path(__file__).resolve().parents[1] / "data" / "taric"
QUOTA_YEAR: Final = (DATA / "quota_year.xml").read_bytes()
ODDITIES: Final = (DATA / "oddities.xml").read_bytes()

#: A good text of each type.
GOOD: Final[Mapping[Lexical, str]] = {
    lex.SID: "7",
    lex.DATE: "2020-01-01",
    lex.TIMESTAMP: "2020-01-02T03:04:05",
    lex.AMOUNT: "1000.5",
    lex.COEFFICIENT: "1.67",
    lex.FLAG: "N",
    lex.ORDER_NUMBER: "050001",
    lex.AREA_ID: "1011",
    lex.AREA_CODE: "1",
    lex.UNIT: "KGM",
    lex.QUALIFIER: "E",
    lex.PRECISION: "3",
    lex.PERCENT: "90",
    lex.BLOCKING_TYPE: "1",
    lex.RELATION: "NM",
    lex.LETTER: "L",
    lex.LETTERS: "001",
    lex.LANGUAGE: "EN",
    lex.GOODS: "0204421000",
    lex.MEASURE_TYPE: "143",
    lex.SERIES: "C",
    lex.ROLE: "1",
    lex.REGULATION: "X2000010",
    lex.DIGIT_1_TO_9: "1",
    lex.DIGIT_0_OR_1: "0",
    lex.DIGIT_0_TO_2: "0",
    lex.CAPTURE: "1",
    lex.LEVEL: "10",
    lex.DESCRIPTION: "Fish & chips",
}
UPDATE: Final = "1"
DELETE: Final = "2"
CREATE: Final = "3"

HEAD: Final = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    f'<env:envelope xmlns:env="{ENVELOPE_NAMESPACE}" xmlns:oub="{MESSAGE_NAMESPACE}" id="260001">\n'
)
TAIL: Final = "</env:envelope>\n"


def elements(code: str, changes: Mapping[str, str | None] = {}) -> dict[str, str]:
    """The elements of a good body, the optional ones left out; what is None in `changes` is left out too."""
    good = {slot.element: GOOD[slot.lexical] for slot in BODIES[code].slots if not slot.optional}
    if code == "370 00":
        good["measurement.unit.code"] = "KGM"
    return {name: text for name, text in {**good, **changes}.items() if text is not None}


def record(
    code: str,
    changes: Mapping[str, str | None] = {},
    update_type: str = CREATE,
    *,
    sequence: int = 1,
    body: str | None = None,
) -> str:
    """A record, each element on a line of its own; `body` stands for its whole body."""
    number, subnumber = code.split()
    if body is None:
        name = BODIES[code].element
        inner = "".join(
            f"<oub:{key}>{escape(text)}</oub:{key}>\n" for key, text in elements(code, changes).items()
        )
        body = f"<oub:{name}>\n{inner}</oub:{name}>"
    return (
        "<env:app.message id='1'><oub:transmission>\n<oub:record>\n<oub:transaction.id>1</oub:transaction.id>\n"
        f"<oub:record.code>{number}</oub:record.code>\n<oub:subrecord.code>{subnumber}</oub:subrecord.code>\n"
        f"<oub:record.sequence.number>{sequence}</oub:record.sequence.number>\n"
        f"<oub:update.type>{update_type}</oub:update.type>\n"
        f"{body}\n</oub:record>\n</oub:transmission></env:app.message>\n"
    )


def envelope(*transactions: Iterable[str]) -> bytes:
    """An envelope whose transactions consist of these records."""
    return (
        HEAD + "".join(transaction(number, each) for number, each in enumerate(transactions, 1)) + TAIL
    ).encode()


def transaction(number: int, records: Iterable[str]) -> str:
    return f'<env:transaction id="{number}">\n{"".join(records)}</env:transaction>\n'


def read(*chunks: bytes) -> list[TaricTransaction]:
    return list(read_envelope(chunks))


def read_one(*records: str) -> TaricTransaction:
    """The transaction that consists of these records."""
    (found,) = read(envelope(records))
    return found


def outcome(chunks: Iterable[bytes]) -> tuple[list[TaricTransaction], str, list[object]]:
    """All that a reader says: transactions, the error, and lines, ids and counters, which equality leaves out."""
    reader = EnvelopeReader()
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


def single_bytes(data: bytes) -> Iterator[bytes]:
    for place in range(len(data)):
        yield data[place : place + 1]


def test_an_envelope_is_read_whole() -> None:
    """Codes, numbers, texts, and what is counted."""
    reader = EnvelopeReader()
    found = reader.feed(QUOTA_YEAR)
    reader.close()
    assert reader.envelope_id == "250101"
    assert [(each.id, len(each.records)) for each in found] == [
        ("501", 10),
        ("502", 7),
        ("503", 3),
        ("504", 2),
    ]
    assert [each.problems for each in found] == [()] * 4
    assert reader.read.total() == 22
    assert (reader.read["360 10"], reader.read["430 15"], reader.read["110 00"]) == (2, 1, 1)
    assert reader.skipped == Counter({"430 05": 1})
    suspension = found[2].records[2]
    assert suspension == TaricRecord(
        "370 15",
        UpdateType.CREATE,
        (
            ("quota.suspension.period.sid", "90"),
            ("quota.definition.sid", "70"),
            ("suspension.start.date", "2025-03-01"),
            ("suspension.end.date", "2025-03-31"),
            ("description", "Checks <on the way> & back"),
        ),
        "503",
        "3",
    )
    assert (suspension.record_code, suspension.subrecord_code) == ("370", "15")
    assert found[0].records[1].text("description") == "Tonne\nof 1,000 kg"


def test_what_is_met_in_the_wild_is_read() -> None:
    """A byte order mark, CR LF, other prefixes, any order, several records in a message, ids that occur again."""
    reader = EnvelopeReader()
    first, second = reader.feed(ODDITIES)
    reader.close()
    assert (first.id, second.id, first.problems, second.problems) == ("77", "77", (), ())
    balance, critical, transfer = first.records
    assert dict(balance.elements)["new.balance"] == "250"
    assert (balance.transaction_id, critical.transaction_id, critical.sequence_number) == ("", "4711", "9")
    assert [name for name, _ in transfer.elements][2] == "closing.date"
    assert (second.records, reader.skipped) == ((), Counter({"400 10": 1}))


@pytest.mark.parametrize("code", BODIES)
def test_every_code_of_the_table_is_read(code: str) -> None:
    """With all elements and with the mandatory ones only."""
    for texts in (elements(code), {slot.element: GOOD[slot.lexical] for slot in BODIES[code].slots}):
        found = read_one(record(code, texts))
        assert found.problems == ()
        assert [(each.code, dict(each.elements)) for each in found.records] == [(code, texts)]


@pytest.mark.parametrize(
    "data", [QUOTA_YEAR, ODDITIES, ODDITIES[:-40], QUOTA_YEAR.replace(b"</oub:measure>", b"</x>")]
)
def test_single_bytes_say_the_same_as_the_whole(data: bytes) -> None:
    """Be it good, cut off or broken."""
    assert outcome(single_bytes(data)) == outcome([data])


@settings(deadline=None, print_blob=True)
@given(cuts=st.lists(st.integers(0, len(ODDITIES)), max_size=12), end=st.integers(0, len(ODDITIES)))
def test_it_does_not_matter_where_chunks_end(cuts: list[int], end: int) -> None:
    """Nor where the input ends: the same is given back, with the same lines, before the same error."""
    data = ODDITIES[:end]
    places = [0, *sorted(min(cut, end) for cut in cuts), end]
    pieces = [data[begin:until] for begin, until in pairwise(places)]
    assert outcome(pieces) == outcome([data])


def renamed(data: bytes) -> bytes:
    data = data.replace(b"oub:", b"a.b:").replace(b"xmlns:oub=", b"xmlns:a.b=")
    return data.replace(b"env:", b"oub:").replace(b"xmlns:env=", b"xmlns:oub=")


def without_prefix(data: bytes) -> bytes:
    return data.replace(b"<oub:", b"<").replace(b"</oub:", b"</")


def in_utf_16(data: bytes) -> bytes:
    return data.decode().replace("UTF-8", "UTF-16").encode("utf-16")


def in_latin_1(data: bytes) -> bytes:
    return data.decode().replace("UTF-8", "ISO-8859-1").encode("latin-1")


def in_windows_lines(data: bytes) -> bytes:
    return b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n")


def with_remarks(data: bytes) -> bytes:
    remark = b"<!-- a remark --><?a note?><oub:record><![CDATA[]]>"
    return data.replace(b"<oub:record>", remark).replace(b">1000.5<", b"><![CDATA[1000]]><!-- . -->&#46;5<")


@pytest.mark.parametrize(
    "change", [renamed, without_prefix, in_utf_16, in_latin_1, in_windows_lines, with_remarks]
)
def test_the_same_in_other_words_is_the_same(change: Callable[[bytes], bytes]) -> None:
    """Prefixes, encodings, line ends, remarks: names and texts count, and lines stay right."""
    plain = envelope([record("370 00", {"description": "Käse"}), record("360 00")], [record("375 00")])
    plain = plain.replace(b"xmlns:env=", f'xmlns="{MESSAGE_NAMESPACE}" xmlns:env='.encode())
    changed = change(plain)
    assert changed != plain
    assert outcome([changed]) == outcome([plain])
    assert outcome(single_bytes(changed)) == outcome([plain])


@settings(deadline=None, print_blob=True)
@given(st.permutations(list(elements("370 00"))), st.permutations(range(6)))
def test_children_may_stand_in_any_order(body: list[str], places: list[int]) -> None:
    """Those of the record and those of its body."""
    texts = elements("370 00")
    inner = "".join(f"<oub:{name}>{texts[name]}</oub:{name}>" for name in body)
    children = [
        "<oub:transaction.id>1</oub:transaction.id>",
        "<oub:record.code>370</oub:record.code>",
        "<oub:subrecord.code>00</oub:subrecord.code>",
        "<oub:record.sequence.number>1</oub:record.sequence.number>",
        "<oub:update.type>3</oub:update.type>",
        f"<oub:quota.definition>{inner}</oub:quota.definition>",
    ]
    mixed = "".join(children[place] for place in places)
    found = read_one(
        f"<env:app.message><oub:transmission><oub:record>{mixed}</oub:record></oub:transmission></env:app.message>"
    )
    assert found.problems == ()
    assert dict(found.records[0].elements) == texts


def test_lines_are_right_in_long_files() -> None:
    """Of transactions, records and elements: also after line 65,535, where libxml2 stops counting."""
    bad = record("360 00", {"validity.start.date": "2026-02-30"})
    data = HEAD.encode() + b"\n" * 70_000 + transaction(1, [record("360 00"), bad]).encode() + TAIL.encode()
    (found,) = read(data)
    lines = data.split(b"\n")
    assert lines[found.line - 1].startswith(b"<env:transaction ")
    assert [lines[each.line - 1] for each in found.records] == [b"<oub:record>"] * 2
    assert found.line < found.records[0].line < found.records[1].line
    assert (
        lines[found.problems[0].line - 1] == b"<oub:validity.start.date>2026-02-30</oub:validity.start.date>"
    )
    assert found.records[1].line_of("validity.start.date") == found.problems[0].line
    assert found.records[1].line_of("validity.end.date") == found.records[1].line


def test_what_was_read_before_an_error_is_given_back_first() -> None:
    """Whatever the chunks; then every call says the same."""
    reader = EnvelopeReader()
    found = reader.feed(envelope([record("360 00")], [record("360 15")]).replace(TAIL.encode(), b"</wrong>"))
    assert [each.id for each in found] == ["1", "2"]
    messages = []
    for act in (lambda: reader.feed(b""), lambda: reader.feed(b"more"), reader.close):
        with pytest.raises(TaricError) as refused:
            act()
        messages.append(str(refused.value))
    assert len(set(messages)) == 1


def test_memory_does_not_grow_with_the_file() -> None:
    """Neither with many transactions nor with many skipped records, headers or remarks in a single one."""
    skipped = record("430 05", body="<oub:measure.component><oub:a>1</oub:a></oub:measure.component>")
    noise = f'<env:header name="a" value="b"/><!-- {"x" * 500} -->'

    def chunks(times: int) -> Iterator[bytes]:
        yield HEAD.encode()
        for number in range(times):
            yield transaction(number + 1, [record("370 00")] * 20).encode()
        yield b'<env:transaction id="last">'
        for _ in range(times):
            yield (noise + skipped * 20).encode()
        yield b"</env:transaction>" + TAIL.encode()

    def peak(times: int) -> int:
        tracemalloc.start()
        try:
            for found in read_envelope(chunks(times)):
                assert not found.problems
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(2)  # caches are filled
    assert peak(200) < peak(10) + 64 * 1024


def test_a_transaction_takes_only_so_much_memory() -> None:
    """Its records have to be kept until it ends; the next one has all the room again."""
    small, large = [record("360 00")] * 10, [record("360 00")] * 100
    reader = EnvelopeReader(max_transaction_bytes=20_000)
    assert len(reader.feed(envelope(small, small, small, large))) == 3
    with pytest.raises(TaricError, match="too large") as refused:
        reader.close()
    assert refused.value.element == "transaction"
