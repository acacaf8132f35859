"""The table of TARIC3's elements fits our records and the format's facts."""

from dataclasses import fields
from typing import Final

import pytest

from rules.forms import EVENTS, FORMS
from rules.records import KINDS, Certificate, Measure, QuotaEvent, QuotaOrderNumber, Record
from rules.taric import lexical as lex
from rules.taric.body import END, KEPT, START
from rules.taric.elements import BODIES, body_of
from rules.taric.lexical import Lexical
from tests.rules_kit import event, order_number
from tests.unit.test_taric_reader import GOOD

#: Fields that no element fills: see `rules.taric.mapping`.
NOT_CARRIED: Final[dict[type[Record], set[str]]] = {
    Certificate: {"sid"},
    Measure: {"order_number_sid", "regulation_effective_end_date"},
    QuotaOrderNumber: {"mechanism", "category", "required_certificate_sids"},
    QuotaEvent: {"subrecord_code"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_has_its_element(kind: type[Record]) -> None:
    """But those that TARIC3 does not carry."""
    bodies = [body for body in BODIES.values() if body.kind is kind]
    assert len(bodies) == (len(EVENTS) if kind is QuotaEvent else 1)
    for body in bodies:
        for form in filter(None, (body, body.older)):
            filled = {slot.field for slot in form.slots} - {"", START, END, KEPT}
            expected = set(FORMS[kind]) - NOT_CARRIED.get(kind, set()) - {"valid_between", "elements", "data"}
            assert filled == expected
            assert (form.slot_of(START) is not None) == ("valid_between" in FORMS[kind])
            assert (form.slot_of(END) is not None) == ("valid_between" in FORMS[kind])
            names = {each.name for each in fields(kind)}  # type: ignore[arg-type]
            assert (form.slot_of(KEPT) is None) or names & {"elements", "data"}


def test_codes_are_those_of_the_format() -> None:
    """All that facts list, and each once."""
    assert list(BODIES) == [
        *("110 00", "110 05", "205 00", "205 05", "205 10", "210 00", "210 05", "215 00", "215 05", "220 00"),
        *("225 00", "225 05", "235 00", "250 00", "250 05", "250 10", "250 15", "360 00", "360 10", "360 15"),
        *("370 00", "370 05", "370 10", "370 15", "375 00", "375 05", "375 10", "375 15", "375 20", "375 25"),
        *("375 30", "430 00", "430 15"),
    ]
    assert len({body.element for body in BODIES.values()}) == len(BODIES)


def test_a_record_has_its_body() -> None:
    """Events by their subrecord code."""
    assert body_of(order_number(1)).code == "360 00"
    assert [body_of(event(code=code)).code for code in EVENTS] == [f"375 {code}" for code in EVENTS]


@pytest.mark.parametrize("lexical", GOOD, ids=lambda lexical: lexical.expected)
def test_values_are_written_as_they_were_read(lexical: Lexical) -> None:
    """And what is good to read is good to write."""
    text = GOOD[lexical]
    assert lexical.accepts(text)
    assert lexical.allows(text)
    assert lexical.write(lexical.read(text)) == text
    assert lexical.normal(text) == text


#: Type, text, whether it is read, whether it may be written.
EDGES: Final[list[tuple[Lexical, str, bool, bool]]] = [
    (lex.SID, "1", True, True),
    (lex.SID, "99999999", True, True),
    (lex.SID, "100000000", False, False),
    (lex.SID, "0", False, False),
    (lex.SID, "-1", False, False),
    (lex.SID, "1.0", False, False),
    (lex.SID, "1_0", False, False),
    (lex.SID, "9" * 10_000, False, False),
    (lex.DATE, "2024-02-29", True, True),
    (lex.DATE, "2023-02-29", False, False),
    (lex.DATE, "2024-2-29", False, False),
    (lex.DATE, "2024-02-29Z", False, False),
    (lex.DATE, "0000-01-01", False, False),
    (lex.DATE, "\u0662\u0660\u0662\u0664-01-01", False, False),
    (lex.TIMESTAMP, "2024-02-29T23:59:59", True, True),
    (lex.TIMESTAMP, "2024-02-29T23:59:59Z", True, False),
    (lex.TIMESTAMP, "2024-02-29T23:59:60", False, False),
    (lex.TIMESTAMP, "2024-02-29T23:59:59.5", False, False),
    (lex.TIMESTAMP, "2024-02-29T23:59:59+01:00", False, False),
    (lex.TIMESTAMP, "2024-02-29", False, False),
    (lex.AMOUNT, "99999999999.999", True, True),
    (lex.AMOUNT, "100000000000", False, False),
    (lex.AMOUNT, "-799507.01", True, True),
    (lex.AMOUNT, ".5", True, True),
    (lex.AMOUNT, "5.", True, True),
    (lex.AMOUNT, "1.5000", True, True),
    (lex.AMOUNT, "1.5001", False, False),
    (lex.AMOUNT, ".", False, False),
    (lex.AMOUNT, "1,5", False, False),
    (lex.AMOUNT, "NaN", False, False),
    (lex.AMOUNT, "Infinity", False, False),
    (lex.AMOUNT, "1E2", False, False),
    (lex.COEFFICIENT, "1.00001", True, True),
    (lex.COEFFICIENT, "1.000001", False, False),
    (lex.FLAG, "1", True, False),
    (lex.FLAG, "y", False, False),
    (lex.AREA_ID, "CL", True, True),
    (lex.AREA_ID, "CLX", False, False),
    (lex.UNIT, "KGM\n", False, False),
    (lex.PERCENT, "100", True, True),
    (lex.PERCENT, "101", False, False),
    (lex.REGULATION, "R123456", False, False),
    (lex.DESCRIPTION, "x" * 1000, True, True),
    (lex.DESCRIPTION, "\x0b", False, False),
    (lex.DESCRIPTION, "\ufffe", False, False),
]


@pytest.mark.parametrize(("lexical", "text", "is_read", "is_written"), EDGES)
def test_edges_of_types(lexical: Lexical, text: str, is_read: bool, is_written: bool) -> None:
    """What cannot be read stays as it is."""
    assert bool(lexical.accepts(text)) == is_read
    assert bool(lexical.allows(text)) == is_written
    if not is_read:
        assert lexical.normal(text) == text
    elif lexical.normal(text) != text:
        assert lexical.allows(lexical.normal(text))
