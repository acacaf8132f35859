"""What is wrong with records is collected: all of it, each with line, element, expectation and what stands there."""

from collections.abc import Mapping
from typing import Final

import pytest

from rules.dataset import Dataset
from rules.malformed import malformed
from rules.taric import Problem, to_changes
from tests.unit.test_taric_reader import DELETE, UPDATE, envelope, read, read_one, record

DATE: Final = "must be a date, YYYY-MM-DD"
SID: Final = "must be an integer from 1 to 99999999"
AMOUNT: Final = "must be a decimal up to 99999999999.999 with at most 3 decimals"
TEXT: Final = "must be text of at most 1,000 characters"
BACKWARDS: Final = "must not be before validity.start.date, 2020-01-01 (ON3, QD2), not"
AREA_CODE: Final = "must be 0 (country), 1 (group) or 2 (region)"
Changes = Mapping[str, str | None]

#: Code, what is changed in a good body, and what is said then: element and expectation, in the order of lines.
BAD: Final[list[tuple[str, Changes, list[tuple[str, str]]]]] = [
    (
        "360 00",
        {"validity.start.date": "2026-02-30"},
        [("validity.start.date", f"{DATE}, not '2026-02-30'")],
    ),
    ("360 00", {"validity.start.date": "20260201"}, [("validity.start.date", f"{DATE}, not '20260201'")]),
    ("360 00", {"validity.start.date": ""}, [("validity.start.date", f"{DATE}, not ''")]),
    ("360 00", {"validity.end.date": ""}, [("validity.end.date", f"{DATE}, not ''")]),
    ("360 00", {"validity.start.date": None}, [("validity.start.date", "must be given: a date, YYYY-MM-DD")]),
    (
        "360 00",
        {"validity.end.date": "2019-12-31"},
        [
            (
                "validity.end.date",
                f"{BACKWARDS} '2019-12-31'",
            )
        ],
    ),
    ("360 00", {"validity.end.date": "2020-01-01"}, []),
    (
        "360 00",
        {"quota.order.number.id": "50001"},
        [("quota.order.number.id", "must be six digits, not '50001'")],
    ),
    ("360 00", {"quota.order.number.sid": "0"}, [("quota.order.number.sid", f"{SID}, not '0'")]),
    (
        "360 00",
        {"quota.order.number.sid": "100000000"},
        [("quota.order.number.sid", f"{SID}, not '100000000'")],
    ),
    ("360 00", {"quota.order.number.sid": "\u0667"}, [("quota.order.number.sid", f"{SID}, not '\u0667'")]),
    ("360 00", {"quota.order.number.sid": "00000007"}, []),
    (
        "360 00",
        {"valdity.end.date": "2020-01-01"},
        [("valdity.end.date", "is no element of quota.order.number")],
    ),
    (
        "370 00",
        {"volume": "1.2345", "initial.volume": "1e5", "critical.state": "maybe", "critical.threshold": "101"},
        [
            ("volume", f"{AMOUNT}, not '1.2345'"),
            ("initial.volume", f"{AMOUNT}, not '1e5'"),
            ("critical.state", "must be Y or N, not 'maybe'"),
            ("critical.threshold", "must be an integer from 0 to 100, not '101'"),
        ],
    ),
    ("370 00", {"volume": "1.2000", "initial.volume": "+1."}, []),
    ("370 00", {"volume": "100000000000"}, [("volume", f"{AMOUNT}, not '100000000000'")]),
    ("370 00", {"volume": "9" * 5000}, [("volume", f"{AMOUNT}, not '{'9' * 60}...'")]),
    ("370 00", {"maximum.precision": "4"}, [("maximum.precision", "must be 0, 1, 2 or 3, not '4'")]),
    ("370 00", {"description": "x" * 1001}, [("description", f"{TEXT}, not '{'x' * 60}...'")]),
    ("370 05", {"relation.type": "eq"}, [("relation.type", "must be EQ or NM, not 'eq'")]),
    (
        "370 05",
        {"coefficient": "1.000001"},
        [
            (
                "coefficient",
                "must be a decimal up to 99999999999.99999 with at most 5 decimals, not '1.000001'",
            )
        ],
    ),
    ("370 10", {"blocking.end.date": None}, [("blocking.end.date", "must be given: a date, YYYY-MM-DD")]),
    (
        "370 15",
        {"suspension.start.date": "2020-02-01", "suspension.end.date": "2020-01-31"},
        [
            (
                "suspension.end.date",
                "must not be before suspension.start.date, 2020-02-01 (ON3, QD2), not '2020-01-31'",
            )
        ],
    ),
    ("375 00", {"new.balance": "-799507.01"}, []),
    ("375 00", {"new.balance": "n/a"}, [("new.balance", f"{AMOUNT}, not 'n/a'")]),
    (
        "375 00",
        {"occurrence.timestamp": "2020-01-02T24:30:00"},
        [
            (
                "occurrence.timestamp",
                "must be a time without zone, YYYY-MM-DDThh:mm:ss, not '2020-01-02T24:30:00'",
            )
        ],
    ),
    ("375 00", {"occurrence.timestamp": "2020-01-02T03:04:05Z"}, []),
    ("375 10", {"critical.state": "0"}, []),
    ("375 30", {"transfer.date": None}, [("transfer.date", "must be given: a date, YYYY-MM-DD")]),
    ("375 30", {"transfer.date": None, "quota.closed": None, "closing.date": "2020-01-01"}, []),
    (
        "375 30",
        {"closing.date": "2020-01-01"},
        [
            ("transfer.date", "is no element of quota.closed.and.transferred.event"),
            ("quota.closed", "is no element of quota.closed.and.transferred.event"),
        ],
    ),
    ("250 00", {"geographical.code": "3"}, [("geographical.code", f"{AREA_CODE}, not '3'")]),
    ("430 00", {"measure.type": "14"}, [("measure.type", "must be three or six digits, not '14'")]),
    # Codes without a record of ours are checked too, descriptions are not.
    ("220 00", {"validity.end.date": "2019-01-01"}, [("validity.end.date", f"{BACKWARDS} '2019-01-01'")]),
    (
        "235 00",
        {"order.number.capture.code": "3"},
        [("order.number.capture.code", "must be 1 or 2, not '3'")],
    ),
    ("110 05", {"language.id": "english", "whatever": "1", "certificate.type.code": None}, []),
]


@pytest.mark.parametrize(("code", "changes", "expected"), BAD)
def test_what_is_wrong_with_elements_is_told(
    code: str, changes: Changes, expected: list[tuple[str, str]]
) -> None:
    """At the element's line, or at the record's if there is no such element."""
    data = envelope([record("225 00"), record(code, changes)])
    (found,) = read(data)
    assert sorted((each.element, each.expected) for each in found.problems) == sorted(expected)
    lines = data.decode().split("\n")
    for problem in found.problems:
        assert problem.index == 1
        place = lines[problem.line - 1]
        assert place == "<oub:record>" if "given" in problem.expected else f"<oub:{problem.element}>" in place
        assert str(problem) == f"line {problem.line}: {problem.element}: {problem.expected}"


@pytest.mark.parametrize(("code", "changes", "expected"), BAD)
@pytest.mark.parametrize("update_type", [UPDATE, DELETE])
def test_mapping_adds_nothing_to_what_was_told(
    code: str, changes: Changes, expected: list[tuple[str, str]], update_type: str
) -> None:
    """Each problem once, and nothing raises; what our records cannot hold is malformed for the rules too."""
    found = read_one(record(code, changes, update_type))
    mapped = to_changes(found, Dataset.empty())
    assert sorted(
        (each.element, each.expected) for each in mapped.problems if "area" not in each.expected
    ) == sorted((each.element, each.expected) for each in found.problems)
    if malformed(mapped.changes):
        assert mapped.problems


#: What the schema allows and our records do not.
STRICTER: Final[list[tuple[str, Changes, str, str]]] = [
    ("370 00", {"volume": "-5"}, "volume", "a decimal from 0 to"),
    ("370 00", {"measurement.unit.code": None}, "monetary.unit.code", "or else the measurement unit"),
    ("370 00", {"monetary.unit.code": "EUR"}, "monetary.unit.code", "not both, not 'EUR'"),
    (
        "370 00",
        {"measurement.unit.code": None, "monetary.unit.code": "EUR", "measurement.unit.qualifier.code": "E"},
        "measurement.unit.qualifier.code",
        "must go with a measurement unit, not 'E'",
    ),
    ("370 10", {"blocking.period.type": "9"}, "blocking.period.type", "must be from 1 to 8, not '9'"),
]


@pytest.mark.parametrize(("code", "changes", "element", "words"), STRICTER)
def test_what_our_records_cannot_hold_is_told_by_the_mapping(
    code: str, changes: Changes, element: str, words: str
) -> None:
    """By element and line too, counted by changes: records that become none do not count."""
    found = read_one(record("110 00"), record("360 00"), record(code, changes))
    assert found.problems == ()
    (problem,) = to_changes(found, Dataset.empty()).problems
    assert (problem.index, problem.element) == (1, element)
    assert words in problem.expected
    assert problem.line == found.records[2].line_of(element)


def head_without(name: str, *replacement: tuple[str, str]) -> str:
    """A good record without one element of its head, or with another in its stead."""
    lines = [line for line in record("360 00").split("\n") if not line.startswith(f"<oub:{name}>")]
    start = lines.index("<oub:record>") + 1
    return "\n".join(
        [*lines[:start], *(f"<oub:{key}>{text}</oub:{key}>" for key, text in replacement), *lines[start:]]
    )


REFUSED: Final[dict[str, tuple[str, str, str]]] = {
    "update.type 7": (
        record("360 00", update_type="7"),
        "update.type",
        "must be 1 (update), 2 (delete) or 3 (create), not '7'",
    ),
    "no update.type": (
        head_without("update.type"),
        "update.type",
        "must be 1 (update), 2 (delete) or 3 (create)",
    ),
    "no code": (head_without("record.code"), "record.code", "must be three digits"),
    "no subcode": (head_without("subrecord.code"), "subrecord.code", "must be two digits"),
    "a bad code": (
        head_without("record.code", ("record.code", "36")),
        "record.code",
        "must be three digits, not '36'",
    ),
    "a bad subcode": (
        head_without("subrecord.code", ("subrecord.code", "x")),
        "subrecord.code",
        "must be two digits, not 'x'",
    ),
    "a code twice": (
        head_without("", ("record.code", "360")),
        "record.code",
        "must stand there only once",
    ),
    "no body": (record("360 00", body=""), "quota.order.number", "must be given: it is the body of 360 00"),
    "another body": (
        record("360 00", body="<oub:quota.definition/>"),
        "quota.definition",
        "must be quota.order.number, the body of 360 00",
    ),
    "a body of another namespace": (
        record("360 00", body='<quota.order.number xmlns="urn:x"/>'),
        "{urn:x}quota.order.number",
        "must be quota.order.number, the body of 360 00",
    ),
    "two bodies": (
        record("360 00", body="<oub:quota.order.number/><oub:measure/>"),
        "measure",
        "must not stand there: quota.order.number is the one body of 360 00",
    ),
    "an element in an element": (
        record("360 00").replace("050001", "05<oub:b>0</oub:b>0001"),
        "b",
        "must not stand there: only text can",
    ),
    "an element in the head": (
        record("360 00").replace(">360<", "><b>360</b><"),
        "record.code",
        "must be three digits, not ''",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_records_that_cannot_be_taken_are_told_of(case: str) -> None:
    """The others of the transaction are still read, and those of the next one."""
    bad, element, expected = REFUSED[case]
    first, second = read(envelope([record("225 00"), bad, record("360 00")], [record("360 00")]))
    # One of which only the update type is not known is kept, so that whatever else is wrong with it is told, too.
    kept = ["360 00"] if element == "update.type" else []
    assert [each.code for each in first.records] == ["225 00", *kept, "360 00"]
    (problem,) = first.problems
    assert (problem.index, problem.element, problem.expected) == (1, element, expected)
    assert first.records[0].line < problem.line < first.records[-1].line
    assert second.problems == ()
    assert to_changes(first, Dataset.empty()).problems == (problem,)


def test_an_element_of_another_namespace_is_not_ours() -> None:
    """Even if it has the name of one."""
    for prefix in ("env:", 'x xmlns="urn:x" ', "q:"):
        name = prefix.partition(" ")[0]
        inner = (
            f'<{name}volume xmlns:q="urn:q">1</{name}volume>'
            if name.endswith(":")
            else '<volume xmlns="urn:x"/>'
        )
        bad = record("370 00").replace("<oub:volume>1000.5</oub:volume>", inner)
        elements = [each.element for each in read_one(bad).problems]
        assert "volume" in elements
        assert any(each.endswith("}volume") for each in elements)


def test_an_element_twice_is_told_of_twice() -> None:
    """For nobody knows which one counts."""
    start = "<oub:validity.start.date>2020-01-01</oub:validity.start.date>\n"
    found = read_one(record("360 00").replace(start, start * 2))
    assert [(each.element, each.expected) for each in found.problems] == [
        ("validity.start.date", "must stand there only once")
    ] * 2
    assert len({each.line for each in found.problems}) == 2


def test_a_transaction_without_id_is_told_of() -> None:
    """Its records are read all the same."""
    (found,) = read(envelope([record("360 00")]).replace(b'transaction id="1"', b"transaction"))
    assert (found.id, len(found.records)) == ("", 1)
    assert found.problems == (Problem(0, 3, "transaction", "must have an id"),)


def test_all_problems_of_a_transaction_come_at_once() -> None:
    """In the order of lines, those of the mapping among them."""
    found = read_one(
        record("360 00", {"quota.order.number.id": "x"}),
        record("370 00", {"volume": "-1", "critical.state": "?"}),
        record("360 00", {"quota.order.number.id": "y"}, update_type="7"),
        record("370 10", {"blocking.period.type": "0"}),
    )
    mapped = to_changes(found, Dataset.empty())
    assert [(each.index, each.element) for each in mapped.problems] == [
        (0, "quota.order.number.id"),
        (1, "volume"),
        (1, "critical.state"),
        (2, "update.type"),
        (2, "quota.order.number.id"),
        (3, "blocking.period.type"),
    ]
    assert [each.line for each in mapped.problems] == sorted(each.line for each in mapped.problems)
    assert len(mapped.changes) == len(mapped.records) == 4
