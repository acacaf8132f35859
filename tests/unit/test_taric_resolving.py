"""How names are resolved: a certificate by type and code, a measure's order number by its digits, an area by its id."""

from dataclasses import replace
from typing import Final

import pytest

from rules import records as r
from rules.dataset import Dataset
from rules.records import Record
from rules.taric import to_changes
from rules.taric.resolving import DERIVED_SIDS
from tests.rules_kit import area, certificate, measure, order_number, period
from tests.unit.test_taric_mapping import EMPTY, NUMBERED, mapped, one
from tests.unit.test_taric_reader import CREATE, DELETE, UPDATE, read_one, record

# --- certificates ----------------------------------------------------------------------------------------------------


def test_a_certificate_is_found_by_type_and_code() -> None:
    """Of several the lowest sid; another type is another certificate."""
    stored = [
        replace(certificate(12), certificate_code="001"),
        replace(certificate(11), certificate_code="001"),
        replace(certificate(10), certificate_type="U", certificate_code="001"),
    ]
    for update_type in (CREATE, UPDATE, DELETE):
        assert one(record("205 00", {}, update_type), data=Dataset.of(stored)).sid == 11


def test_sids_of_unknown_certificates_follow_from_type_and_code() -> None:
    """The same every time, different for different ones, and no sid of TARIC3."""
    codes = [("0", "000"), ("L", "001"), ("L", "002"), ("Z", "ZZZ"), ("1", "L00")]
    sids = [
        one(record("205 00", {"certificate.type.code": kind, "certificate.code": code})).sid
        for kind, code in codes
    ]
    assert len(set(sids)) == len(codes)
    assert all(99_999_999 < sid < 2**31 for sid in sids)
    assert sids[1] == one(record("205 00", {}, UPDATE)).sid


# --- the order number of a measure -----------------------------------------------------------------------------------


def sid_for(*stored: Record, start: str = "2020-01-01", end: str | None = "2020-12-31") -> int | None:
    """The sid of the order number that a measure of this period has."""
    changes = {**NUMBERED, "validity.start.date": start, **({"validity.end.date": end} if end else {})}
    found = one(record("430 00", changes), data=Dataset.of(stored))
    assert found.order_number == "050001"
    sid: int | None = found.order_number_sid
    return sid


SPANNING: Final = order_number(5, start="2020-01-01", end="2020-12-31")


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ([], None),
        ([order_number(1, number="050002")], None),
        ([SPANNING], 5),
        ([SPANNING, order_number(1, end="2020-06-30"), order_number(9, start="2020-06-30")], 5),
        ([order_number(1, end="2020-06-30"), order_number(2, start="2021-01-01")], 1),
        ([order_number(1, end="2019-12-31", start="2019-01-01"), order_number(2, start="2020-12-31")], 2),
        (
            [
                order_number(1, start="2015-01-01", end="2015-12-31"),
                order_number(2, start="2016-01-01", end="2016-12-31"),
            ],
            2,
        ),
        ([order_number(1, start="2015-01-01", end="2015-12-31"), order_number(2, start="2021-01-01")], 1),
        ([order_number(1, start="2022-01-01"), order_number(2, start="2021-01-01", end="2021-12-31")], 2),
        ([order_number(2), order_number(1)], 1),
        ([order_number(1, start="2010-01-01"), order_number(2, start="2015-01-01")], 2),
    ],
)
def test_a_measure_has_the_order_number_nearest_to_its_period(
    stored: list[Record], expected: int | None
) -> None:
    """One that spans it; else one that overlaps, else the last before, else the first after, so that rules can tell."""
    assert sid_for(*stored) == expected
    assert sid_for(*reversed(stored)) == expected


def test_an_open_measure_is_spanned_by_an_open_order_number() -> None:
    """Not by one that ends."""
    assert sid_for(SPANNING, order_number(6, start="2020-01-01"), end=None) == 6


@pytest.mark.parametrize("measure_first", [True, False])
def test_the_order_numbers_of_the_transaction_count(measure_first: bool) -> None:
    """Created, updated and deleted ones, whatever the order: the state after it counts."""

    def resolved(*changes: str, stored: tuple[Record, ...] = ()) -> int | None:
        own = record("430 00", NUMBERED)
        records = [own, *changes] if measure_first else [*changes, own]
        found = mapped(*records, data=Dataset.of(stored))
        (sid,) = [each.record.order_number_sid for each in found if isinstance(each.record, r.Measure)]
        return sid

    assert resolved(record("360 00")) == 7
    assert (
        resolved(record("360 00", {"quota.order.number.id": "050002"}, UPDATE), stored=(order_number(7),))
        is None
    )
    assert resolved(record("360 00", {}, UPDATE), stored=(order_number(7, "050002"),)) == 7
    assert resolved(record("360 00", {}, DELETE), stored=(order_number(7),)) is None
    assert resolved(record("360 00", {}, DELETE), stored=(order_number(7), order_number(8))) == 8
    assert resolved(record("360 00", {}, DELETE), record("360 00"), stored=(order_number(7),)) == 7


def test_a_measure_without_number_has_no_order_number() -> None:
    """Whatever is stored."""
    found = one(record("430 00", {"geographical.area.sid": "9"}), data=Dataset.of([order_number(1)]))
    assert (found.order_number, found.order_number_sid) == (None, None)


def test_a_deleted_measure_names_what_the_stored_one_does() -> None:
    """Even if its order number is gone, or another one is nearer by now."""
    stored = replace(measure(7, of=1, area=9), order_number="050001")
    for data in (
        Dataset.of([stored]),
        Dataset.of([stored, order_number(1, start="2000-01-01"), order_number(2)]),
    ):
        assert one(record("430 00", NUMBERED, DELETE), data=data).order_number_sid == 1


# --- the area of a measure -------------------------------------------------------------------------------------------

AREA: Final = replace(area(30, code=1), area_id="1011")


def test_an_area_without_sid_is_found_by_its_id() -> None:
    """Stored, or created by the same transaction."""
    assert one(record("430 00"), data=Dataset.of([AREA])).geographical_area_sid == 30
    assert one(record("250 00"), record("430 00")).geographical_area_sid == 7
    older = replace(AREA, sid=29, valid_between=period("2000-01-01", "2019-12-31"))
    assert one(record("430 00"), data=Dataset.of([older, AREA])).geographical_area_sid == 30


@pytest.mark.parametrize("update_type", [CREATE, UPDATE])
def test_an_area_that_nobody_knows_is_a_problem(update_type: str) -> None:
    """At the measure's line."""
    read = read_one(record("360 00"), record("430 00", {}, update_type))
    (problem,) = to_changes(read, EMPTY).problems
    assert (problem.index, problem.line, problem.element) == (
        1,
        read.records[1].line,
        "geographical.area.sid",
    )
    assert problem.expected == "must be given: no area has the id that geographical.area names"


def test_a_deletion_never_fails_for_want_of_an_area() -> None:
    """It has that of the stored measure, else one that stands for its id."""
    assert (
        one(record("430 00", {}, DELETE), data=Dataset.of([measure(7, None, 31), AREA])).geographical_area_sid
        == 31
    )
    assert one(record("430 00", {}, DELETE), data=Dataset.of([AREA])).geographical_area_sid == 30
    assert one(record("430 00", {}, DELETE)).geographical_area_sid == DERIVED_SIDS + int("1011", 36)
