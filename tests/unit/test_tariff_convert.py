"""Tariff records as messages and back: nothing is lost, and junk is malformed, never a failure."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest
from google.type.date_pb2 import Date
from google.type.datetime_pb2 import DateTime, TimeZone
from google.type.decimal_pb2 import Decimal as DecimalMessage
from hypothesis import given
from hypothesis import strategies as st
from immutables import Map

from quota_server.services import tariff_convert as convert
from quotafleet.v1 import rules_service_pb2 as pb
from quotafleet.v1 import tariff_records_pb2 as records_pb
from rules import records as r
from rules.forms import FORMS
from rules.malformed import problems
from rules.periods import Period
from rules.records import KINDS, Change, Record, RecordRef, UpdateType
from tests.rules_kit import area, association, definition, event, measure, order_number, unit

days = st.dates(date(1000, 1, 1))
periods = st.one_of(
    st.builds(Period, days), st.tuples(days, days).map(lambda both: Period(min(both), max(both)))
)
sids = st.integers(1, 2**63 - 1)
texts = st.dictionaries(st.text(), st.text()).map(Map)
units = st.from_regex("[A-Z]{3}", fullmatch=True)
volumes = st.decimals(0, Decimal("99999999999.999"), places=3)
#: By field: what a well-formed record may hold.
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "area_id": st.text(min_size=1),
    "area_code": st.integers(0, 2),
    "valid_between": periods,
    "elements": texts,
    "data": texts,
    "certificate_type": st.text(min_size=1),
    "certificate_code": st.text(min_size=1),
    "code": units,
    "order_number": st.from_regex("[0-9]{6}", fullmatch=True),
    "mechanism": st.integers(0, 1),
    "category": st.integers(0, 3),
    "required_certificate_sids": st.lists(sids, unique=True).map(tuple),
    "regulation_effective_end_date": st.none() | days,
    "volume": volumes,
    "initial_volume": volumes,
    "monetary_unit": st.none(),
    "measurement_unit": units,
    "measurement_unit_qualifier": st.none() | st.sampled_from("ABCXYZ"),
    "maximum_precision": st.integers(0, 3),
    "quota_critical": st.booleans(),
    "quota_critical_threshold": st.integers(0, 100),
    "description": st.text(),
    "sub_quota_relation_type": st.sampled_from(["EQ", "NM"]),
    "coefficient": st.decimals(-10, 10, places=5),
    "blocking_period_type": st.integers(1, 8),
    "subrecord_code": st.sampled_from(["00", "05", "10", "15", "20", "25", "30"]),
    "occurrence_timestamp": st.datetimes(datetime(1000, 1, 1)).map(
        lambda moment: moment.replace(microsecond=0)
    ),
}


def of_kind(kind: Any) -> st.SearchStrategy[Record]:
    values = {field.name: VALUES.get(field.name, sids) for field in fields(kind)}
    if kind is r.MeasurementUnitQualifier:
        values["code"] = st.sampled_from("ABC")
    if kind is r.Measure:
        values["order_number_sid"] = st.none() | sids
        values["order_number"] = st.none() | VALUES["order_number"]
    return st.builds(kind, **values)


records = st.sampled_from(KINDS).flatmap(of_kind)


@given(records, st.sampled_from(UpdateType))
def test_a_change_comes_back_as_it_was(record: Record, update_type: UpdateType) -> None:
    assert list(problems(record)) == []
    message = convert.change_to_proto(Change(update_type, record))
    sent = pb.TariffChange.FromString(message.SerializeToString())
    assert convert.changes_from_proto([sent]) == ((Change(update_type, record),), ())


@given(records)
def test_a_key_comes_back_as_it_was(record: Record) -> None:
    ref = RecordRef.to(record)
    assert convert.key_from_proto(convert.key_to_proto(ref), "key") == ref


@given(st.binary(max_size=200))
def test_whatever_comes_in_is_read_and_its_problems_are_those_of_its_fields(content: bytes) -> None:
    """Bytes that are no message at all are the transport's business."""
    try:
        message = records_pb.TariffRecord.FromString(content)
    except Exception:
        return
    _, wrong = convert.records_from_proto([message])
    kind = message.WhichOneof("record")
    allowed = {"record"} if kind is None else set(FORMS[r.KIND_OF[kind]])
    assert {each.field for each in wrong} <= allowed


@pytest.mark.parametrize("kind", [kind.kind for kind in KINDS])
def test_an_empty_record_of_every_kind_lacks_what_it_needs(kind: str) -> None:
    message = records_pb.TariffRecord()
    getattr(message, kind).SetInParent()
    (record,), wrong = convert.records_from_proto([message])
    assert record.kind == kind
    needed = {name for name, form in FORMS[type(record)].items() if not form.optional}
    never = {"quota_critical"} - {each.field for each in wrong}
    assert needed - never <= {each.field for each in wrong} | {"monetary_unit"}


def broken(record: Record, field: str, value: Any) -> records_pb.TariffRecord:
    """A good record's message in which one field says something else."""
    message = convert.record_to_proto(record)
    given = getattr(message, record.kind)
    if value is None:
        given.ClearField(field)
    elif isinstance(value, Date | DateTime | DecimalMessage | records_pb.DatePeriod):
        getattr(given, field).CopyFrom(value)
    else:
        setattr(given, field, value)
    return message


GOOD_DAY = Date(year=2026, month=1, day=1)


@pytest.mark.parametrize(
    ("record", "field", "value"),
    [
        (area(1), "area_code", 0),
        (area(1), "area_code", 4),
        (area(1), "area_code", -1),
        (area(1), "valid_between", None),
        (area(1), "valid_between", records_pb.DatePeriod(end_date=GOOD_DAY)),
        *(
            (area(1), "valid_between", records_pb.DatePeriod(start_date=day))
            for day in (
                Date(),
                Date(year=2026),
                Date(year=2026, month=2, day=30),
                Date(year=0, month=1, day=1),
                Date(year=-1, month=1, day=1),
                Date(year=10_000, month=1, day=1),
                Date(year=2**31 - 1, month=2**31 - 1, day=2**31 - 1),
            )
        ),
        (
            area(1),
            "valid_between",
            records_pb.DatePeriod(start_date=GOOD_DAY, end_date=Date(year=2025, month=12, day=31)),
        ),
        (area(1), "valid_between", records_pb.DatePeriod(start_date=GOOD_DAY, end_date=Date(year=2026))),
        (area(1), "sid", 0),
        (area(1), "sid", -(2**63)),
        (unit(), "code", "kgm"),
        (order_number(1), "mechanism", 0),
        (order_number(1), "mechanism", 3),
        (order_number(1), "category", None),
        (order_number(1), "category", 4),
        (measure(1), "order_number_sid", 0),
        (measure(1), "regulation_effective_end_date", Date(year=2026, month=4, day=31)),
        *(
            (definition(1), "volume", DecimalMessage(value=text))
            for text in (
                "",
                "1e3",
                "NaN",
                "Infinity",
                "-1",
                "1.2345",
                " 1",
                "1,5",
                "9" * 1000,
                "0x1",
                "\N{ARABIC-INDIC DIGIT ONE}",
            )
        ),
        (definition(1), "volume", None),
        (definition(1), "maximum_precision", None),
        (definition(1), "quota_critical", None),
        (definition(1), "quota_critical_threshold", 101),
        (association(1, 2), "sub_quota_relation_type", 0),
        (association(1, 2), "sub_quota_relation_type", 3),
        (association(1, 2), "coefficient", DecimalMessage(value="1.000001")),
        (event(1), "subrecord_code", "01"),
        (event(1), "occurrence_timestamp", None),
        *(
            (event(1), "occurrence_timestamp", moment)
            for moment in (
                DateTime(),
                DateTime(month=1, day=1),
                DateTime(year=2026, month=1, day=1, hours=24),
                DateTime(year=2026, month=1, day=1, seconds=60),
                DateTime(year=2026, month=1, day=1, nanos=1),
                DateTime(year=2026, month=1, day=1, utc_offset={}),
                DateTime(year=2026, month=1, day=1, time_zone=TimeZone(id="UTC")),
            )
        ),
    ],
)
def test_junk_is_malformed(record: Record, field: str, value: Any) -> None:
    _, wrong = convert.records_from_proto([broken(record, field, value)])
    assert [each.field for each in wrong] == [field]
    assert wrong[0].expected.startswith("must be")


def test_an_association_without_a_coefficient_has_1() -> None:
    (record,), wrong = convert.records_from_proto(
        [broken(association(1, 2, coefficient="3"), "coefficient", None)]
    )
    assert (record, wrong) == (association(1, 2), [])


def test_changes_are_numbered_whatever_is_wrong_with_others() -> None:
    good = convert.change_to_proto(Change(UpdateType.CREATE, unit()))
    empty = pb.TariffChange(update_type=pb.UPDATE_TYPE_CREATE)
    untyped = pb.TariffChange(record=good.record)
    bad = convert.change_to_proto(Change(UpdateType.CREATE, replace(unit(), code="x")))
    changes, wrong = convert.changes_from_proto([good, pb.TariffChange(), empty, untyped, bad])
    assert [(each.index, each.field) for each in wrong] == [
        (1, "update_type"),
        (1, "record"),
        (2, "record"),
        (3, "update_type"),
        (4, "code"),
    ]
    assert len(changes) == 3
