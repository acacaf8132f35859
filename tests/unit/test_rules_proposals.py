"""The checks that a form asks before it submits: the same as the rules, on plain values."""

from decimal import Decimal
from typing import Any

import pytest

from rules.periods import Period
from rules.proposals import check_qa2, check_qa3, check_qa5, check_qa6
from tests.rules_kit import period

YEAR = period("2020-01-01", "2020-12-31")


@pytest.mark.parametrize(
    ("main", "sub", "wrong"),
    [
        (YEAR, YEAR, None),
        (period(), YEAR, None),
        (period(), period(), None),
        (YEAR, period("2020-01-01", "2021-01-01"), "2020-01-01 to 2021-01-01"),
        (YEAR, period("2019-12-31", "2020-12-31"), "2019-12-31 to 2020-12-31"),
        (YEAR, period(), "2020-01-01 on"),
    ],
)
def test_a_sub_quotas_period_is_within_that_of_its_main_quota(
    main: Period, sub: Period, wrong: str | None
) -> None:
    expected = wrong and f"The sub-quota's period, {wrong}, is not within that of the main quota, {main}."
    assert check_qa2(main, sub) == expected


def qa3(**changed: Any) -> str | None:
    hundred = Decimal(100)
    values: dict[str, Any] = {
        "main_measurement_unit": "KGM",
        "sub_measurement_unit": "KGM",
        "main_monetary_unit": None,
        "sub_monetary_unit": None,
        "main_volume": hundred,
        "sub_volume": hundred,
        "main_initial_volume": hundred,
        "sub_initial_volume": hundred,
    }
    return check_qa3(**{**values, **changed})


ABOVE = Decimal("100.001")


@pytest.mark.parametrize(
    ("changed", "wrong"),
    [
        ({}, None),
        ({"sub_volume": Decimal("99.999"), "sub_initial_volume": Decimal(0)}, None),
        ({"main_volume": ABOVE, "main_initial_volume": ABOVE}, None),
        (
            {"sub_volume": ABOVE},
            "The sub-quota's volume, 100.001, is above that of the main quota, 100.",
        ),
        (
            {"sub_initial_volume": ABOVE},
            "The sub-quota's initial volume, 100.001, is above that of the main quota, 100.",
        ),
        ({"sub_measurement_unit": "LTR"}, "The measurement units differ: main KGM, sub LTR."),
        ({"sub_measurement_unit": None}, "The measurement units differ: main KGM, sub None."),
        ({"sub_monetary_unit": "EUR"}, "The monetary units differ: main None, sub EUR."),
        (
            {"main_monetary_unit": "XEU", "sub_monetary_unit": "EUR"},
            "The monetary units differ: main XEU, sub EUR.",
        ),
        ({"main_monetary_unit": "EUR", "sub_monetary_unit": "EUR"}, None),
    ],
)
def test_a_sub_quota_has_the_units_of_its_main_quota_and_no_more_volume(
    changed: dict[str, Any], wrong: str | None
) -> None:
    assert qa3(**changed) == wrong


NORMAL = "A normal sub-quota has the coefficient {}, not 1."
EQUIVALENT = "An equivalent sub-quota has the coefficient 1."


@pytest.mark.parametrize(
    ("relation", "coefficient", "volumes", "wrong"),
    [
        ("NM", "1", ["5"], None),
        ("NM", "1.00000", ["5", "6"], None),
        ("NM", "1.00001", ["5"], NORMAL.format("1.00001")),
        ("NM", "0.99999", ["5"], NORMAL.format("0.99999")),
        ("NM", "-1", ["5"], NORMAL.format("-1")),
        ("EQ", "1", ["5"], EQUIVALENT),
        ("EQ", "1.00000", ["5", "6"], EQUIVALENT),
        ("EQ", "1.00001", ["5"], None),
        ("EQ", "0.99999", [], None),
        ("EQ", "2", ["5", "5.000"], None),
        ("EQ", "2", ["16", "9", "16.0"], "The sub-quotas have different volumes: 9, 16."),
    ],
)
def test_a_sub_quotas_coefficient_goes_with_its_type_and_equivalent_ones_have_one_volume(
    relation: str, coefficient: str, volumes: list[str], wrong: str | None
) -> None:
    assert check_qa5(relation, Decimal(coefficient), map(Decimal, volumes)) == wrong


@pytest.mark.parametrize("types", [[], ["EQ"], ["NM"], ["NM", "NM"], ["EQ", "EQ", "EQ"]])
def test_associations_of_one_type_agree(types: list[str]) -> None:
    assert check_qa6(types) is None


def test_associations_of_two_types_disagree() -> None:
    expected = "The associations of the main quota have the types EQ and NM."
    assert check_qa6(["NM", "EQ", "NM"]) == expected
    assert check_qa6(iter(["EQ", "NM"])) == expected
