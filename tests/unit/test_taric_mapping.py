"""What an envelope's records mean as changes of ours, and what becomes of what TARIC3 does not carry."""

from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

import pytest
from immutables import Map

from rules import records as r
from rules.dataset import Dataset
from rules.malformed import malformed
from rules.periods import Period
from rules.records import Change, Record, UpdateType
from rules.taric import MapOptions, Names, to_changes
from rules.taric.resolving import DERIVED_SIDS
from tests.rules_kit import delete, measure, order_number, period
from tests.unit.test_taric_reader import CREATE, DELETE, UPDATE, read_one, record

EMPTY: Final = Dataset.empty()
FROM_2020: Final = period("2020-01-01")
#: A measure that names an order number.
NUMBERED: Final = {"ordernumber": "050001", "geographical.area.sid": "9"}
MEASURE_ELEMENTS: Final = {
    "measure.type": "143",
    "geographical.area": "1011",
    "measure.generating.regulation.role": "1",
    "measure.generating.regulation.id": "X2000010",
    "stopped.flag": "0",
}


def mapped(*records: str, data: Names = EMPTY, options: MapOptions | None = None) -> tuple[Change, ...]:
    """The changes of the transaction that consists of these records; there must be no problem."""
    found = to_changes(read_one(*records), data, options or MapOptions())
    assert found.problems == ()
    assert malformed(found.changes) == ()
    assert len(found.records) == len(found.changes)
    return found.changes


def one(*records: str, data: Names = EMPTY, options: MapOptions | None = None) -> Any:
    """The last of these records as ours."""
    return mapped(*records, data=data, options=options)[-1].record


#: Code, what is changed in a good body, and the record of ours.
KINDS: Final[list[tuple[str, dict[str, str], Record]]] = [
    ("205 00", {}, r.Certificate(DERIVED_SIDS + int("L001", 36), "L", "001", FROM_2020)),
    (
        "210 00",
        {"validity.end.date": "2020-12-31"},
        r.MeasurementUnit("KGM", period("2020-01-01", "2020-12-31")),
    ),
    ("215 00", {}, r.MeasurementUnitQualifier("E", FROM_2020)),
    ("225 00", {"monetary.unit.code": "EUR"}, r.MonetaryUnit("EUR", FROM_2020)),
    ("250 00", {}, r.GeographicalArea(7, "1011", r.AreaCode.GROUP, FROM_2020)),
    (
        "250 00",
        {"parent.geographical.area.group.sid": "8"},
        r.GeographicalArea(7, "1011", 1, FROM_2020, Map({"parent.geographical.area.group.sid": "8"})),
    ),
    (
        "250 15",
        {"geographical.area.sid": "31", "geographical.area.group.sid": "30"},
        r.GeographicalMembership(30, 31, FROM_2020),
    ),
    ("360 00", {}, r.QuotaOrderNumber(7, "050001", r.Mechanism.FIRST_COME_FIRST_SERVED, 1, FROM_2020)),
    (
        "360 10",
        {"quota.order.number.sid": "8", "geographical.area.sid": "9"},
        r.QuotaOrderNumberOrigin(7, 8, 9, FROM_2020),
    ),
    ("360 15", {"excluded.geographical.area.sid": "8"}, r.QuotaOrderNumberOriginExclusion(7, 8)),
    (
        "370 00",
        {
            "quota.order.number.sid": "8",
            "volume": "4000000",
            "initial.volume": "4000000.125",
            "critical.state": "1",
        },
        r.QuotaDefinition(
            7, 8, Decimal(4000000), Decimal("4000000.125"), None, "KGM", None, 3, True, 90, "", FROM_2020
        ),
    ),
    (
        "370 00",
        {"measurement.unit.qualifier.code": "E", "description": " two\nlines "},
        r.QuotaDefinition(
            7,
            7,
            Decimal("1000.5"),
            Decimal("1000.5"),
            None,
            "KGM",
            "E",
            3,
            False,
            90,
            " two\nlines ",
            FROM_2020,
        ),
    ),
    ("370 05", {"sub.quota.definition.sid": "8"}, r.QuotaAssociation(7, 8, "NM", Decimal(1))),
    (
        "370 05",
        {"sub.quota.definition.sid": "8", "relation.type": "EQ", "coefficient": "1.67"},
        r.QuotaAssociation(7, 8, "EQ", Decimal("1.67")),
    ),
    (
        "370 10",
        {"quota.definition.sid": "8", "blocking.end.date": "2020-01-15", "description": "Late"},
        r.QuotaBlocking(7, 8, 1, "Late", period("2020-01-01", "2020-01-15")),
    ),
    (
        "370 15",
        {"quota.definition.sid": "8"},
        r.QuotaSuspension(7, 8, "", period("2020-01-01", "2020-01-01")),
    ),
    (
        "375 00",
        {"occurrence.timestamp": "2020-01-02T03:04:05Z", "new.balance": " -0.5 "},
        r.QuotaEvent(
            "00",
            7,
            datetime(2020, 1, 2, 3, 4, 5),
            Map({"old.balance": "1000.5", "new.balance": "-0.5", "imported.amount": "1000.5"}),
        ),
    ),
    (
        "375 10",
        {"critical.state": "1", "critical.state.change.date": "2020-01-02"},
        r.QuotaEvent(
            "10",
            7,
            datetime(2020, 1, 2, 3, 4, 5),
            Map({"critical.state": "Y", "critical.state.change.date": "2020-01-02"}),
        ),
    ),
    (
        "430 00",
        {"geographical.area.sid": "9", "validity.end.date": "2020-12-31"},
        r.Measure(7, None, 9, period("2020-01-01", "2020-12-31"), None, None, Map(MEASURE_ELEMENTS)),
    ),
]


@pytest.mark.parametrize(("code", "texts", "expected"), KINDS)
@pytest.mark.parametrize(
    ("number", "update_type"),
    [(CREATE, UpdateType.CREATE), (UPDATE, UpdateType.UPDATE), (DELETE, UpdateType.DELETE)],
)
def test_every_kind_is_mapped(
    code: str, texts: dict[str, str], expected: Record, number: str, update_type: UpdateType
) -> None:
    """What is omitted is empty: an end, a unit, a description; a coefficient is 1."""
    assert mapped(record(code, texts, number)) == (Change(update_type, expected),)


def test_the_older_form_of_a_transfer_is_kept() -> None:
    """It has closing.date."""
    older: dict[str, str | None] = {"transfer.date": None, "quota.closed": None, "closing.date": "2020-01-01"}
    assert dict(one(record("375 30", older)).data) == {
        "closing.date": "2020-01-01",
        "transferred.amount": "1000.5",
        "target.quota.definition.sid": "7",
    }


def test_codes_that_no_rule_asks_about_become_no_change() -> None:
    """Changes stand beside the records that they came from."""
    found = to_changes(
        read_one(record("110 00"), record("360 00"), record("430 15"), record("225 00")), EMPTY
    )
    assert [each.code for each in found.records] == ["360 00", "225 00"]
    assert [type(each.record) for each in found.changes] == [r.QuotaOrderNumber, r.MonetaryUnit]


# --- what TARIC3 does not carry --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "mechanism"), [("050001", 0), ("054001", 1), ("094999", 1), ("400001", 0), ("014004", 1)]
)
def test_the_third_digit_tells_the_mechanism_of_a_new_order_number(number: str, mechanism: int) -> None:
    """4 is licensed; the category is 1."""
    found = one(record("360 00", {"quota.order.number.id": number}))
    assert (found.mechanism, found.category, found.required_certificate_sids) == (mechanism, 1, ())


def test_the_caller_tells_better() -> None:
    """By order number, new or stored."""
    options = MapOptions({"050001": r.Mechanism.LICENSED}, {"050001": 3})
    stored = Dataset.of([replace(order_number(7), category=2)])
    for data in (EMPTY, stored):
        found = one(record("360 00", {}, UPDATE), data=data, options=options)
        assert (found.mechanism, found.category) == (1, 3)
    other = one(record("360 00", {"quota.order.number.id": "050002"}), options=options)
    assert (other.mechanism, other.category) == (0, 1)


STORED: Final = replace(order_number(7, "050001", licensed=True, certificates=(3, 4)), category=2)


@pytest.mark.parametrize("update_type", [UPDATE, DELETE])
def test_an_update_keeps_what_is_stored(update_type: str) -> None:
    """Mechanism, category, certificates; even if the number itself changes."""
    changes = {"quota.order.number.id": "050009", "validity.end.date": "2030-12-31"}
    found = one(record("360 00", changes, update_type), data=Dataset.of([STORED]))
    assert found == replace(STORED, order_number="050009", valid_between=period("2020-01-01", "2030-12-31"))


@pytest.mark.parametrize("data", [Dataset.of([STORED]).apply([delete(STORED)]), EMPTY])
def test_nothing_is_kept_of_what_is_not_live(data: Dataset) -> None:
    """Deleted, or never seen."""
    found = one(record("360 00", {}, UPDATE), data=data)
    assert (found.mechanism, found.category, found.required_certificate_sids) == (0, 1, ())


def test_a_creation_keeps_nothing() -> None:
    """Of a live order number with the same sid: that it is there is for the rules to say."""
    assert one(record("360 00"), data=Dataset.of([STORED])).category == 1


def test_an_update_keeps_what_the_transaction_created() -> None:
    """Also if it deletes in between."""
    options = MapOptions({"054001": 0})
    created = record("360 00", {"quota.order.number.id": "054001"})
    moved = record("360 00", {"quota.order.number.id": "054002"}, UPDATE)
    assert one(created, moved, options=options).mechanism == 0
    gone = record("360 00", {"quota.order.number.id": "054001"}, DELETE)
    assert one(created, gone, moved, options=options).mechanism == 1


def test_a_measure_keeps_the_end_of_its_regulation() -> None:
    """And that end counts when its order number is looked for."""
    stored = measure(7, of=None, area=9, regulation_end="2021-12-31")
    early = order_number(1, start="2019-01-01", end="2021-12-31")
    late = order_number(2, start="2022-01-01")
    changes = {"ordernumber": "050001", "geographical.area.sid": "9"}
    for update_type in (UPDATE, DELETE):
        found = one(record("430 00", changes, update_type), data=Dataset.of([stored, early, late]))
        assert (found.regulation_effective_end_date, found.order_number_sid) == (date(2021, 12, 31), 1)
    created = one(record("430 00", changes), data=Dataset.of([stored, early, late]))
    assert created.regulation_effective_end_date is None


# --- the rest --------------------------------------------------------------------------------------------------------


def test_bad_values_stay_as_they_came() -> None:
    """So that the rules' own check reports them too; a period that cannot be read is a pair of what could."""
    bad = {
        "quota.order.number.sid": "x",
        "validity.start.date": "2020-02-30",
        "validity.end.date": "2020-03-01",
    }
    found = to_changes(read_one(record("360 00", bad)), EMPTY)
    change: Any = found.changes[0]
    assert change.record.sid == "x"
    assert change.record.valid_between == ("2020-02-30", date(2020, 3, 1))
    assert {each.field for each in malformed(found.changes)} == {"sid", "valid_between"}
    backwards: Any = to_changes(
        read_one(record("360 00", {"validity.end.date": "2019-01-01"})), EMPTY
    ).changes[0]
    assert backwards.record.valid_between == Period(date(2020, 1, 1), date(2019, 1, 1))


def test_bad_records_are_not_looked_up() -> None:
    """A measure is not resolved with an order number that is refused."""
    found = to_changes(
        read_one(record("360 00", {"validity.start.date": "soon"}), record("430 00", NUMBERED)), EMPTY
    )
    last: Any = found.changes[1].record
    assert last.order_number_sid is None


def test_a_data_set_is_a_source_of_names() -> None:
    """And stays as it was."""
    names: Names = Dataset.of([order_number(7)])
    mapped(record("360 00", {}, DELETE), record("430 00", NUMBERED), data=names)
    assert names.live(r.QuotaOrderNumber, 7) == order_number(7)
