"""Records and changes as JSON: written and read back the same; whatever is given, reading reports and never fails."""

import json
from dataclasses import fields, replace
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from immutables import Map

from rules.forms import FORMS
from rules.json_form import (
    FormError,
    is_deletion,
    read_change,
    read_changes,
    read_record,
    write_change,
    write_key,
    write_record,
)
from rules.malformed import problems
from rules.records import KIND_OF, KINDS, Record, UpdateType
from tests.rules_kit import (
    WORLD,
    area,
    association,
    create,
    definition,
    delete,
    event,
    exclusion,
    judge,
    measure,
    order_number,
    period,
    ref,
    unit,
    update,
)

FULL = [
    *WORLD,
    replace(area(14), elements=Map({"geographical.area.description": "é"})),
    replace(measure(32, regulation_end="2024-02-29"), order_number="050001"),
    measure(33, None),
    definition(54, volume="99999999999.999", initial="0.100", end=None),
    association(51, 53, "EQ", "-1.50000"),
]


@pytest.mark.parametrize("record", FULL, ids=lambda each: str(ref(each)))
def test_a_record_is_written_and_read_back_the_same(record: Record) -> None:
    written = write_record(record)
    assert read_record(json.loads(json.dumps(written))) == record
    assert write_record(read_record(written)) == written


@pytest.mark.parametrize(
    "change", [create(area(11)), update(event()), delete(unit())], ids=lambda c: c.update_type.value
)
def test_a_change_is_written_and_read_back_the_same(change: Any) -> None:
    written = write_change(change)
    assert read_change(json.loads(json.dumps(written))) == change
    assert read_changes([written]) == ((change,), ())


def test_a_record_is_written_in_the_form_of_the_cases() -> None:
    assert write_record(definition(51, volume="1.50", end=None)) == {
        "kind": "quota_definition",
        "sid": 51,
        "order_number_sid": 1,
        "volume": "1.50",
        "initial_volume": "1.50",
        "monetary_unit": None,
        "measurement_unit": "KGM",
        "measurement_unit_qualifier": None,
        "maximum_precision": 3,
        "quota_critical": False,
        "quota_critical_threshold": 90,
        "description": "",
        "valid_between": {"start": "2020-01-01", "end": None},
    }
    assert write_record(event()) == {
        "kind": "quota_event",
        "subrecord_code": "00",
        "quota_definition_sid": 51,
        "occurrence_timestamp": "2020-06-01T12:00:00",
        "data": {"new.balance": "1.000"},
    }
    assert write_change(delete(order_number(1, certificates=(41,)))) == {
        "update_type": "DELETE",
        "record": {
            "kind": "quota_order_number",
            "sid": 1,
            "order_number": "050001",
            "mechanism": 0,
            "category": 1,
            "valid_between": {"start": "2020-01-01", "end": None},
            "required_certificate_sids": [41],
        },
    }
    assert list(write_record(area(11))) == [
        "kind",
        "sid",
        "area_id",
        "area_code",
        "valid_between",
        "elements",
    ]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_every_field_of_a_record_has_a_form_in_the_same_order(kind: Any) -> None:
    assert [each.name for each in fields(kind)] == list(FORMS[kind])


def test_what_is_not_given_is_its_default() -> None:
    pair = {
        "kind": "quota_association",
        "main_quota_sid": 1,
        "sub_quota_sid": 2,
        "sub_quota_relation_type": "NM",
    }
    assert read_record(pair) == association(1, 2)
    assert read_record({**pair, "coefficient": None}) == association(1, 2)
    bare = {"kind": "geographical_area", "sid": 11, "area_id": "A11", "area_code": 0}
    assert read_record({**bare, "valid_between": {"start": "2020-01-01"}}) == area(11)


def test_decimals_keep_their_digits_and_whole_numbers_are_decimals() -> None:
    given = {**write_record(definition(51)), "volume": "1.500", "initial_volume": 7}
    record: Any = read_record(given)
    assert str(record.volume) == "1.500"
    assert (type(record.initial_volume), record.initial_volume) == (Decimal, 7)


def test_a_z_says_nothing_of_a_time() -> None:
    assert read_record({**write_record(event()), "occurrence_timestamp": "2020-06-01T12:00:00Z"}) == event()


def test_what_cannot_be_read_is_kept_as_it_came() -> None:
    given = {**write_record(definition(51)), "volume": 1.5, "valid_between": {"start": "2020-02-30"}}
    record: Any = read_record(given)
    assert (record.volume, record.valid_between) == (1.5, {"start": "2020-02-30"})


@pytest.mark.parametrize(
    ("given", "deleted"),
    [({}, False), ({"deleted": False}, False), ({"deleted": None}, False), ({"deleted": True}, True)],
)
def test_an_entry_of_base_data_says_whether_it_is_a_deletion(given: dict[str, Any], deleted: bool) -> None:
    entry = {**write_record(area(11)), **given}
    assert is_deletion(entry) is deleted
    assert read_record(entry) == area(11)


def test_a_key_is_written_by_field() -> None:
    assert write_key(ref(unit())) == {"code": "KGM"}
    assert write_key(ref(exclusion(21, 13))) == {"origin_sid": 21, "excluded_geographical_area_sid": 13}
    assert write_key(ref(event())) == {
        "subrecord_code": "00",
        "quota_definition_sid": 51,
        "occurrence_timestamp": "2020-06-01T12:00:00",
    }
    assert str(ref(event())) == "quota_event 00/51/2020-06-01T12:00:00"


# --- what cannot even be begun ---------------------------------------------------------------------------------------

AREA = write_record(area(11))
UNREADABLE: list[tuple[Any, str, str]] = [
    (None, "change", "update_type"),
    ([], "change", "must be an object"),
    ("CREATE", "change", "must be an object"),
    ({"record": AREA}, "update_type", "must be one of CREATE, UPDATE, DELETE"),
    ({"update_type": "create", "record": AREA}, "update_type", "must be one of"),
    ({"update_type": ["CREATE"], "record": AREA}, "update_type", "must be one of"),
    ({"update_type": 3, "record": AREA}, "update_type", "must be one of"),
    ({"update_type": "CREATE"}, "record", "must be an object"),
    ({"update_type": "CREATE", "record": [AREA]}, "record", "must be an object"),
    ({"update_type": "CREATE", "record": {}}, "kind", "must be one of geographical_area, "),
    ({"update_type": "CREATE", "record": {**AREA, "kind": "area"}}, "kind", "must be one of"),
    ({"update_type": "CREATE", "record": {**AREA, "kind": ["geographical_area"]}}, "kind", "must be one of"),
    ({"update_type": "CREATE", "record": {**AREA, "Sid": 1}}, "Sid", "is no field of geographical_area"),
    (
        {"update_type": "CREATE", "record": {**AREA, "volume": "1"}},
        "volume",
        "is no field of geographical_area",
    ),
]


@pytest.mark.parametrize(("given", "field", "expected"), UNREADABLE)
def test_what_is_no_change_says_what_is_wrong(given: Any, field: str, expected: str) -> None:
    with pytest.raises(FormError, match=field) as raised:
        read_change(given)
    assert raised.value.field == field
    assert expected in raised.value.expected
    changes, (wrong,) = read_changes([given])
    assert (changes, wrong.index, wrong.field, wrong.expected) == ((), 0, field, raised.value.expected)


def test_all_that_is_wrong_in_a_transaction_is_reported_by_the_number_of_the_change() -> None:
    good, backwards = create(area(11)), area(12, start="2020-01-02", end="2020-01-01")
    given = [
        None,
        write_change(good),
        write_change(update(backwards)),
        {"update_type": "CREATE", "record": {}},
    ]
    changes, wrong = read_changes(given)
    assert changes == (good, update(backwards))
    assert [(each.index, each.field) for each in wrong] == [(0, "change"), (2, "valid_between"), (3, "kind")]


@pytest.mark.parametrize("given", [None, 5, "CREATE", {}, {"changes": []}, True])
def test_what_is_no_list_is_no_transaction(given: Any) -> None:
    changes, (wrong,) = read_changes(given)
    assert (changes, wrong.index, wrong.field, wrong.expected) == (
        (),
        0,
        "transaction",
        "must be a list of changes",
    )


def test_an_empty_transaction_is_one() -> None:
    assert read_changes([]) == ((), ())


# --- whatever is given -----------------------------------------------------------------------------------------------

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-1, 101),
    st.floats(),
    st.text(max_size=8),
    st.text("0123456789-.:TZE", max_size=24),
    st.dates().map(date.isoformat),
    st.datetimes().map(lambda time: time.isoformat(timespec="seconds")),
    st.decimals(allow_nan=True).map(str),
    st.sampled_from(["EQ", "NM", "KGM", "E", "EUR", "050001", "00"]),
)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["start", "end", "a"]) | st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
RECORDS = st.one_of(
    st.builds(
        lambda record, more: {**write_record(record), **more},
        st.sampled_from(WORLD),
        st.dictionaries(
            st.sampled_from(sorted({name for form in FORMS.values() for name in form})), JSON, max_size=3
        ),
    ),
    st.builds(
        lambda kind, values: {"kind": kind.kind, **dict(zip(FORMS[kind], values, strict=False))},
        st.sampled_from(KINDS),
        st.lists(JSON, min_size=12, max_size=12),
    ),
    JSON,
)
CHANGES = st.fixed_dictionaries(
    {"update_type": st.sampled_from(UpdateType).map(lambda u: u.value) | JSON, "record": RECORDS}
)


@given(st.lists(CHANGES | JSON, max_size=4) | JSON)
def test_any_json_is_read_or_reported_and_what_is_read_is_judged(given: Any) -> None:
    changes, wrong = read_changes(given)
    assert all(each.field and each.expected for each in wrong)
    verdict = judge(WORLD, *changes)
    assert set(verdict.malformed) <= {
        replace(each, index=index) for each in wrong for index in range(len(changes))
    }
    if not wrong:
        assert verdict.malformed == ()
        assert read_changes([write_change(each) for each in changes]) == (changes, ())


def can_be_begun(given: Any) -> bool:
    """Whether its kind and all its fields are known."""
    if not isinstance(given, dict) or not isinstance(given.get("kind"), str) or given["kind"] not in KIND_OF:
        return False
    return given.keys() <= {"kind", "deleted", *FORMS[KIND_OF[given["kind"]]]}


@given(RECORDS)
def test_any_json_is_a_record_or_says_why_not(given: Any) -> None:
    if can_be_begun(given):
        assert read_record(given).kind == given["kind"]
    else:
        with pytest.raises(FormError, match=": "):
            read_record(given)


def test_a_period_of_its_own_field_names_only_is_a_period() -> None:
    assert read_record({**AREA, "valid_between": {"start": "2020-01-01", "end": None}}) == area(11)
    record: Any = read_record({**AREA, "valid_between": {"start": "2020-01-01", "till": None}})
    assert record.valid_between != period()


@pytest.mark.parametrize("text", ["0E-7", "0.0000000", "1E+3", "5E-3", "99999999999.9990000", "100.000"])
def test_a_decimal_is_written_so_that_it_is_read_again(text: str) -> None:
    """Whatever its exponent: what was well-formed when it was stored has to be so when it is loaded."""
    record = replace(definition(51), volume=Decimal(text), initial_volume=Decimal(text))
    assert list(problems(record)) == []
    read = read_record(json.loads(json.dumps(write_record(record))))
    assert list(problems(read)) == []
    assert read == record


def test_everything_that_is_wrong_with_a_change_is_told_at_once() -> None:
    record = write_record(definition(51)) | {"foo": 1, "bar": 2, "volume": 1.5}
    changes, wrong = read_changes([{"update_type": "REPLACE", "record": record}])
    assert changes == ()
    assert [(each.index, each.field) for each in wrong] == [
        (0, "update_type"),
        (0, "foo"),
        (0, "bar"),
        (0, "volume"),
    ]


def test_a_field_that_is_wrong_by_itself_is_told_of_once() -> None:
    """Not again for what it should go with."""
    record = write_record(definition(51)) | {"monetary_unit": "eur"}
    _, wrong = read_changes([{"update_type": "CREATE", "record": record}])
    assert [each.field for each in wrong] == ["monetary_unit"]


@pytest.mark.parametrize("said", ["no", 1, []])
def test_an_entry_of_base_data_is_deleted_or_not(said: Any) -> None:
    with pytest.raises(FormError, match="must be true or false"):
        is_deletion(write_record(area(1)) | {"deleted": said})


def test_a_change_says_by_its_type_that_it_deletes() -> None:
    given = {"update_type": "UPDATE", "record": write_record(area(1)) | {"deleted": True}}
    changes, wrong = read_changes([given])
    assert changes == ()
    assert [(each.index, each.field) for each in wrong] == [(0, "deleted")]
