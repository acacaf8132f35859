"""What is malformed is refused before any rule is asked: every field of every kind, everything at once."""

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from rules.forms import EVENTS, FORMS
from rules.json_form import read_record, write_record
from rules.malformed import Malformed, malformed, problems
from rules.periods import Period
from rules.records import KIND_OF, KINDS, AreaCode, Mechanism, QuotaBlocking, QuotaDefinition
from tests.rules_kit import (
    WORLD,
    area,
    association,
    create,
    definition,
    delete,
    event,
    judge,
    measure,
    money,
    order_number,
    period,
    update,
)

Values = list[Any]


def around(low: int, high: int) -> tuple[Values, Values]:
    """Integers from `low` to `high`, and what is none of them."""
    return [low, high], [low - 1, high + 1, str(low), float(low), True, None, [low], {}]


SID: tuple[Values, Values] = [1, 2**63 - 1], [0, -1, 2**63, "1", 1.0, 1.5, True, False, None, [1], {"sid": 1}]
DECIMALS_BAD: Values = [
    *(100.0, 0.5, float("nan"), float("inf"), True, None, [1], {}, 10**30),
    *(
        "NaN",
        "Infinity",
        "-Infinity",
        "sNaN",
        "1e3",
        "1E-1",
        "1_000",
        "1,5",
        "",
        ".",
        ".5",
        " 1",
        "1 ",
        "1\n",
    ),
    *("0x10", "\N{ARABIC-INDIC DIGIT THREE}", "--1", "1.2.3", "1" * 41),
]
VOLUME: tuple[Values, Values] = (
    [
        *("0", "0.000", "-0", 0, 5, "100", "0.001", "7.000000", "+1", "1."),
        *("99999999999.999", "99999999999.99900"),
    ],
    [
        *DECIMALS_BAD,
        *("-0.001", -1, "0.0001", "1.9999", "99999999999.9991", "100000000000", "100000000000.000"),
        *("1234567890123456789012345678.9999", "12345678901234567890123456789012.0001"),
    ],
)
COEFFICIENT: tuple[Values, Values] = (
    [
        *("0", "-1.5", "0.00001", "1.0000000", "99999999999999", 3, 2**63 - 1),
        *("1234567890123456789012345678901234.00001", "123456789012345678901234.0000000000"),
    ],
    [
        *(each for each in DECIMALS_BAD if each is not None),
        "0.000001",
        "-0.000001",
        2**63,
        "1.123456",
        "12345678901234567890123456789.123456",
    ],
)
PERIOD: tuple[Values, Values] = (
    [
        {"start": "2020-01-01", "end": "2020-01-01"},
        {"start": "2020-01-01", "end": None},
        {"start": "2020-01-01"},
        {"start": "2024-02-29", "end": "9999-12-31"},
    ],
    [
        {"start": "2020-01-02", "end": "2020-01-01"},
        {"start": "2023-02-29", "end": None},
        {"start": "2020-01-01", "end": "2020-04-31"},
        {"start": "0000-01-01", "end": None},
        {"start": "2020-1-1", "end": None},
        {"start": "20200101", "end": None},
        {"start": "2020-W01-1", "end": None},
        {"start": "2020-01-01T00:00:00", "end": None},
        {"start": "2020-01-01", "end": ""},
        {"start": "2020-01-01", "end": None, "more": 1},
        {"start": None, "end": "2020-01-01"},
        {"start": 20200101, "end": None},
        {"end": "2020-01-01"},
        *({}, [], "2020-01-01", None, 5, True),
    ],
)
NAME: tuple[Values, Values] = ["A", "1011", "é", "a b\n"], ["", None, 5, True, ["A"], {}]
TEXT: tuple[Values, Values] = ["", "any thing\n", None], [5, True, 1.5, ["A"], {}]
TEXTS: tuple[Values, Values] = [{}, {"a": "b"}, None], [{"a": 1}, {"a": None}, ["a"], "a", 5, True]
DATE_OR_NONE: tuple[Values, Values] = (
    ["2020-02-29", None],
    ["2021-02-29", "2020-1-1", "20200101", "", 20200101, True, {}, "2020-01-01T00:00:00", "0000-01-01"],
)


def matching(good: Values, *bad: str) -> tuple[Values, Values]:
    return good, [*bad, "", 5, True, [], {}, f"{good[0]}\n", f" {good[0]}", good[0].lower() + "x", "é", "ÄÖÜ"]


UNIT = matching(["KGM", "ZZZ"], "KG", "KGMX", "kgm", "K1M")
QUALIFIER = matching(["A", "Z"], "AB", "a", "1")
ORDER_NUMBER = matching(
    ["050001", "000000"], "05001", "0500011", "05000A", "\N{ARABIC-INDIC DIGIT ONE}" * 6, "-50001"
)
EVERY_KIND = {"sid": SID, "valid_between": PERIOD, "description": TEXT, "elements": TEXTS, "data": TEXTS}
#: What fields hold, and do not hold; those of any kind first.
FIELDS: dict[tuple[str, str], tuple[Values, Values]] = {
    **{(kind, name): each for kind in KIND_OF for name, each in EVERY_KIND.items()},
    ("geographical_area", "area_id"): NAME,
    ("geographical_area", "area_code"): around(0, 2),
    ("geographical_membership", "group_sid"): SID,
    ("geographical_membership", "member_sid"): SID,
    ("certificate", "certificate_type"): NAME,
    ("certificate", "certificate_code"): NAME,
    ("measurement_unit", "code"): UNIT,
    ("measurement_unit_qualifier", "code"): QUALIFIER,
    ("monetary_unit", "code"): UNIT,
    ("measure", "order_number_sid"): ([*SID[0], None], [each for each in SID[1] if each is not None]),
    ("measure", "geographical_area_sid"): SID,
    ("measure", "regulation_effective_end_date"): DATE_OR_NONE,
    ("measure", "order_number"): ([*ORDER_NUMBER[0], None], ORDER_NUMBER[1]),
    ("quota_order_number", "order_number"): (ORDER_NUMBER[0], [*ORDER_NUMBER[1], None]),
    ("quota_order_number", "mechanism"): around(0, 1),
    ("quota_order_number", "category"): around(0, 3),
    ("quota_order_number", "required_certificate_sids"): (
        [[], [1], [2, 1], None],
        [[0], [1, 1], ["1"], [True], [1.0], [None], [[1]], "1", 1, {}, {"1": 1}, True],
    ),
    ("quota_order_number_origin", "order_number_sid"): SID,
    ("quota_order_number_origin", "geographical_area_sid"): SID,
    ("quota_order_number_origin_exclusion", "origin_sid"): SID,
    ("quota_order_number_origin_exclusion", "excluded_geographical_area_sid"): SID,
    ("quota_definition", "order_number_sid"): SID,
    ("quota_definition", "volume"): VOLUME,
    ("quota_definition", "initial_volume"): VOLUME,
    ("quota_definition", "monetary_unit"): ([None], []),
    ("quota_definition", "measurement_unit"): UNIT,
    ("quota_definition", "measurement_unit_qualifier"): ([*QUALIFIER[0], None], QUALIFIER[1]),
    ("quota_definition", "maximum_precision"): around(0, 3),
    ("quota_definition", "quota_critical"): ([True, False], [0, 1, "true", None, [], {}]),
    ("quota_definition", "quota_critical_threshold"): around(0, 100),
    ("quota_association", "main_quota_sid"): SID,
    ("quota_association", "sub_quota_sid"): SID,
    ("quota_association", "sub_quota_relation_type"): (
        ["EQ", "NM"],
        ["eq", "EQNM", "", "EQ\n", "XX", None, 1, []],
    ),
    ("quota_association", "coefficient"): ([*COEFFICIENT[0], None], COEFFICIENT[1]),
    ("quota_suspension", "quota_definition_sid"): SID,
    ("quota_blocking", "quota_definition_sid"): SID,
    ("quota_blocking", "blocking_period_type"): around(1, 8),
    ("quota_event", "subrecord_code"): (list(EVENTS), ["", "0", "01", "99", 0, 5, None, True, ["00"]]),
    ("quota_event", "quota_definition_sid"): SID,
    ("quota_event", "occurrence_timestamp"): (
        ["2020-06-01T00:00:00", "2020-06-01T23:59:59", "2020-06-01T12:00:00Z"],
        [
            *(
                "2020-06-01",
                "2020-06-01T12:00",
                "2020-06-01 12:00:00",
                "2020-06-01T12:00:00+01:00",
                "",
                None,
                5,
            ),
            *(
                "2020-06-01T12:00:60",
                "2020-06-31T12:00:00",
                "2020-06-01T12:00:00.5",
                "2020-06-01T12:00:00z",
                {},
            ),
        ],
    ),
}
EVERY_FIELD = [(kind.kind, field) for kind in KINDS for field in FORMS[kind]]


def wrong_fields(given: dict[str, Any]) -> list[str]:
    return [field for field, _ in problems(read_record(given))]


def written(kind: str) -> dict[str, Any]:
    return write_record(next(each for each in WORLD if each.kind == kind))


@pytest.mark.parametrize(("kind", "field"), EVERY_FIELD)
def test_a_field_holds_what_it_must_and_nothing_else(kind: str, field: str) -> None:
    good, bad = FIELDS[kind, field]
    record = written(kind)
    assert [value for value in good if wrong_fields({**record, field: value})] == []
    refused = {"monetary_unit"} if field == "measurement_unit" else set()
    for value in bad:
        assert set(wrong_fields({**record, field: value})) - refused == {field}, value


@pytest.mark.parametrize(("kind", "field"), EVERY_FIELD)
def test_a_missing_field_is_reported_unless_it_may_be_missing(kind: str, field: str) -> None:
    record = written(kind)
    del record[field]
    optional = None in FIELDS[kind, field][0]
    expected = "monetary_unit" if (kind, field) == ("quota_definition", "measurement_unit") else field
    found = wrong_fields(record)
    assert found[:1] == ([] if optional else [expected])


# --- units of a definition -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("money_code", "unit_code", "qualifier_code", "wrong"),
    [
        ("EUR", None, None, []),
        (None, "KGM", None, []),
        (None, "KGM", "E", []),
        ("EUR", "KGM", None, ["monetary_unit"]),
        (None, None, None, ["monetary_unit"]),
        ("EUR", None, "E", ["measurement_unit_qualifier"]),
        (None, None, "E", ["monetary_unit", "measurement_unit_qualifier"]),
        ("EUR", "KGM", "E", ["monetary_unit"]),
        ("eur", None, None, ["monetary_unit"]),
        ("EURO", None, None, ["monetary_unit"]),
    ],
)
def test_a_definition_has_one_of_the_two_units_and_a_qualifier_with_a_measurement_unit_only(
    money_code: str | None, unit_code: str | None, qualifier_code: str | None, wrong: list[str]
) -> None:
    given = {
        **written("quota_definition"),
        "monetary_unit": money_code,
        "measurement_unit": unit_code,
        "measurement_unit_qualifier": qualifier_code,
    }
    assert wrong_fields(given) == wrong


# --- records that did not come from JSON -----------------------------------------------------------------------------


def definition_of(volume: Any) -> QuotaDefinition:
    return replace(definition(51), volume=volume)


@pytest.mark.parametrize(
    "volume",
    [
        1.5,
        100,
        float("nan"),
        "100",
        *map(Decimal, ["NaN", "sNaN", "Infinity", "-Infinity", "1E+11", "1E-4", "-1"]),
    ],
    ids=repr,
)
def test_a_volume_is_a_finite_exact_decimal_in_its_range(volume: Any) -> None:
    assert [field for field, _ in problems(definition_of(volume))] == ["volume"]


@pytest.mark.parametrize(
    "volume", [Decimal(text) for text in ("1E+10", "5E-3", "1.0000", "0E-10", "0E+20")], ids=str
)
def test_how_a_decimal_is_written_does_not_matter(volume: Decimal) -> None:
    assert list(problems(definition_of(volume))) == []


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2020-01-01", None),
        (None, None),
        (datetime(2020, 1, 1), None),
        (date(2020, 1, 1), "2020-01-02"),
        (date(2020, 1, 1), datetime(2020, 1, 2)),
        (date(2020, 1, 2), date(2020, 1, 1)),
    ],
)
def test_a_period_is_of_dates_in_their_order(start: Any, end: Any) -> None:
    wrong = replace(area(11), valid_between=Period(start, end))
    assert [field for field, _ in problems(wrong)] == ["valid_between"]


def test_a_time_has_no_zone() -> None:
    zoned = replace(event(), occurrence_timestamp=datetime(2020, 6, 1, tzinfo=UTC))
    assert [field for field, _ in problems(zoned)] == ["occurrence_timestamp"]


def test_the_enums_members_are_numbers_of_their_lists() -> None:
    assert list(problems(order_number(1, licensed=True))) == []
    assert list(problems(association(51, 52))) == []
    assert ([*AreaCode], [*Mechanism]) == ([0, 1, 2], [0, 1])


# --- the whole transaction -------------------------------------------------------------------------------------------

BACKWARDS = area(11, code=3, start="2020-01-02", end="2020-01-01")


def test_everything_malformed_is_reported_at_once_by_change_and_field() -> None:
    changes = [
        create(order_number(1)),
        update(BACKWARDS),
        delete(replace(definition(51, volume="-1"), quota_critical_threshold=101, monetary_unit="EUR")),
        create(measure(0)),
    ]
    found = malformed(changes)
    assert [(each.index, each.field) for each in found] == [
        (1, "area_code"),
        (1, "valid_between"),
        (2, "volume"),
        (2, "initial_volume"),
        (2, "quota_critical_threshold"),
        (2, "monetary_unit"),
        (3, "sid"),
    ]


def test_a_transaction_with_anything_malformed_is_refused_whole() -> None:
    broken_too = create(association(51, 51, coefficient="0"))
    assert judge([], broken_too).violations != ()
    verdict = judge([], broken_too, create(BACKWARDS))
    assert verdict.violations == ()
    assert verdict.introduced == ()
    assert verdict.malformed == malformed([broken_too, create(BACKWARDS)])


def test_what_is_well_formed_is_nothing() -> None:
    assert malformed([create(each) for each in WORLD]) == ()


def test_a_backwards_period_is_named_by_its_rules() -> None:
    (_, found) = malformed([create(BACKWARDS)])
    assert found == Malformed(
        0, "valid_between", "must be a period of dates whose end is not before its start (ON3, QD2)"
    )
    assert str(found).startswith("change 0: valid_between: must be a period")


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (area(11, code=3), "must be 0 (country), 1 (group) or 2 (region)"),
        (order_number(1, "1"), "must be six digits"),
        (money("eur"), "must be three capitals"),
        (
            definition_of(1.5),
            "must be a decimal from 0 to 99,999,999,999.999 with at most 3 decimals",
        ),
        (definition_of(1.5), "never a float"),
        (association(51, 52, coefficient="0.000001"), "must be a decimal with at most 5 decimals"),
        (association(51, 52, "XX"), "must be EQ or NM"),
        (QuotaBlocking(71, 51, 9, "", period()), "must be from 1 to 8"),
        (event(code="01"), "must be one of 00, 05, 10, 15, 20, 25, 30"),
        (definition(51, measurement_unit=None), "must be given, or else the measurement unit"),
        (replace(measure(31), order_number_sid=0), "must be a positive integer, or nothing"),
    ],
    ids=lambda each: each if isinstance(each, str) else each.kind,
)
def test_what_is_reported_says_what_was_expected(record: Any, expected: str) -> None:
    ((_, found),) = problems(record)
    assert expected in found
