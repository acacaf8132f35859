"""The data set: an old one stays as it was, every version is kept, and records are found by what they refer to."""

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.dataset import Dataset
from rules.records import Change, QuotaDefinition, QuotaOrderNumber, Record, UpdateType
from rules.references import (
    DEFINITION_MONETARY_UNIT,
    DEFINITION_ORDER_NUMBER,
    DEFINITION_UNIT,
    INDEXES,
    ORDER_NUMBER_CERTIFICATES,
    Reference,
)
from tests.rules_kit import (
    WORLD,
    area,
    certificate,
    create,
    dataset,
    definition,
    delete,
    order_number,
    ref,
    update,
)

ONE, MOVED = definition(51), definition(51, of=2)


def sids(data: Dataset, order_number_sid: int) -> list[Any]:
    return sorted(data.bucket(DEFINITION_ORDER_NUMBER, order_number_sid))


def test_an_empty_data_set_knows_nothing() -> None:
    data = Dataset.empty()
    assert (data.number, len(data), data.live(QuotaDefinition, 51)) == (0, 0, None)
    assert data.version(QuotaDefinition, 51) is None
    assert dict(data.bucket(DEFINITION_ORDER_NUMBER, 1)) == {}


def test_applying_a_transaction_leaves_the_old_data_set_as_it_was() -> None:
    old = Dataset.of([ONE, definition(52)])
    new = old.apply([update(MOVED), delete(definition(52)), create(definition(53))])
    assert old.live(QuotaDefinition, 51) == ONE
    assert old.live(QuotaDefinition, 52) is not None
    assert old.live(QuotaDefinition, 53) is None
    assert (sids(old, 1), sids(old, 2)) == ([51, 52], [])
    assert (sids(new, 1), sids(new, 2)) == ([53], [51])
    assert (old.number, new.number, len(old), len(new)) == (0, 1, 2, 3)


def test_one_data_set_has_many_futures() -> None:
    base = Dataset.of([ONE])
    first, second = base.apply([update(MOVED)]), base.apply([delete(ONE)])
    assert first.live(QuotaDefinition, 51) == MOVED
    assert second.live(QuotaDefinition, 51) is None
    assert base.apply([]).live(QuotaDefinition, 51) == ONE


def test_every_version_is_kept_newest_first() -> None:
    data = Dataset.of([ONE]).apply([update(MOVED)]).apply([delete(ONE)]).apply([create(ONE)])
    version = data.version(QuotaDefinition, 51)
    assert version is not None
    assert [(each.record, each.deleted, each.number) for each in version] == [
        (ONE, False, 3),
        (ONE, True, 2),
        (MOVED, False, 1),
        (ONE, False, 0),
    ]


def test_a_deletion_is_a_version_that_is_not_live() -> None:
    data = Dataset.of([ONE]).apply([delete(MOVED)])
    version = data.version(QuotaDefinition, 51)
    assert version is not None
    assert (version.deleted, version.record) == (True, MOVED)
    assert (data.live(QuotaDefinition, 51), sids(data, 1), sids(data, 2)) == (None, [], [])
    assert len(data) == 1
    assert list(data.records(QuotaDefinition)) == []


def test_the_caller_may_number_a_transaction() -> None:
    data = Dataset.empty().apply([create(ONE)], number=40)
    version = data.version(QuotaDefinition, 51)
    assert version is not None
    assert (data.number, version.number, data.apply([]).number) == (40, 40, 41)


def test_of_base_data_with_one_key_later_records_are_newer_versions() -> None:
    data = Dataset.of([ONE, definition(52), MOVED])
    assert data.live(QuotaDefinition, 51) == MOVED
    assert (sids(data, 1), sids(data, 2)) == ([52], [51])


def test_a_base_may_be_loaded_with_deletions_and_numbers() -> None:
    data = Dataset.empty().with_versions(
        [(ONE, False, 3), (ONE, True, 4), (definition(52), False, 4), (MOVED, False, 7)]
    )
    version = data.version(QuotaDefinition, 51)
    assert version is not None
    assert [(each.deleted, each.number) for each in version] == [(False, 7), (True, 4), (False, 3)]
    assert (data.number, sids(data, 1), sids(data, 2)) == (7, [52], [51])


def test_versions_are_added_to_a_data_set_that_stays_as_it_was() -> None:
    old = Dataset.of([ONE])
    new = old.with_versions([(MOVED, False, 3), (definition(52), False, 5)])
    assert (new.number, sids(new, 1), sids(new, 2)) == (5, [52], [51])
    assert (old.number, sids(old, 1), sids(old, 2)) == (0, [51], [])
    assert new.with_versions([]).number == 5


def test_a_base_that_ends_with_a_deletion_is_dead() -> None:
    data = dataset([ONE, delete(ONE), MOVED, delete(MOVED)])
    assert (data.live(QuotaDefinition, 51), sids(data, 1), sids(data, 2)) == (None, [], [])


def test_a_deletion_of_what_was_never_there_leaves_a_dead_version() -> None:
    data = Dataset.empty().apply([delete(ONE)])
    assert (data.live(QuotaDefinition, 51), sids(data, 1), len(data)) == (None, [], 1)


def test_of_several_changes_of_one_record_the_last_holds() -> None:
    data = Dataset.of([ONE]).apply([update(MOVED), delete(MOVED), create(definition(51, of=3))])
    assert [sids(data, number) for number in (1, 2, 3)] == [[], [], [51]]
    version = data.version(QuotaDefinition, 51)
    assert version is not None
    assert [each.number for each in version] == [1, 1, 1, 0]


def test_a_bucket_holds_the_current_record() -> None:
    longer = definition(51, end="2021-12-31")
    data = Dataset.of([ONE]).apply([update(longer)])
    assert dict(data.bucket(DEFINITION_ORDER_NUMBER, 1)) == {51: longer}


def test_a_field_without_a_reference_is_in_no_bucket() -> None:
    data = Dataset.of([ONE])
    assert dict(data.bucket(DEFINITION_MONETARY_UNIT, None)) == {}
    assert list(data.bucket(DEFINITION_UNIT, "KGM")) == [51]


def test_a_list_of_references_is_a_bucket_each() -> None:
    data = Dataset.of([order_number(1, certificates=(41, 42))])
    data = data.apply([update(order_number(1, certificates=(42, 43)))])
    assert [list(data.bucket(ORDER_NUMBER_CERTIFICATES, sid)) for sid in (41, 42, 43)] == [[], [1], [1]]


def test_records_are_found_by_what_people_call_them() -> None:
    first, second = order_number(1, end="2020-06-30"), order_number(2, start="2020-07-01")
    data = Dataset.of([first, second, order_number(3, "050003"), area(11), certificate(41)])
    assert {each.sid for each in data.order_numbers("050001")} == {1, 2}
    assert [each.sid for each in data.areas("A11")] == [11]
    assert [each.sid for each in data.certificates("L", "041")] == [41]
    renamed = data.apply([update(order_number(1, "050009"))])
    assert [each.sid for each in renamed.order_numbers("050001")] == [2]
    assert [each.sid for each in renamed.order_numbers("050009")] == [1]
    assert list(renamed.areas("A12")) + list(renamed.certificates("L", "042")) == []


def test_kinds_do_not_share_keys() -> None:
    data = Dataset.of([definition(1), order_number(1)]).apply([delete(definition(1))])
    assert data.live(QuotaDefinition, 1) is None
    assert data.live(QuotaOrderNumber, 1) is not None


@pytest.mark.parametrize("record", WORLD, ids=lambda each: str(ref(each)))
def test_every_reference_of_a_record_leads_back_to_it_until_it_is_deleted(record: Record) -> None:
    data = Dataset.of([record])
    gone = data.apply([delete(record)])
    references = [each for each in INDEXES if isinstance(each, Reference) and each.of is type(record)]
    for reference in references:
        held = getattr(record, reference.field)
        keys = held if isinstance(held, tuple) else () if held is None else (held,)
        for key in keys:
            assert dict(data.bucket(reference, key)) == {record.key: record}
            assert dict(gone.bucket(reference, key)) == {}


# --- whatever happens ------------------------------------------------------------------------------------------------

CHANGES = st.builds(
    lambda kind, sid, of, unit: Change(kind, definition(sid, of=of, measurement_unit=unit)),
    st.sampled_from(UpdateType),
    st.integers(1, 3),
    st.integers(1, 3),
    st.sampled_from([None, "KGM", "LTR"]),
)


def simply(transactions: Iterable[list[Change]]) -> dict[Any, Record]:
    """What is live, without any index."""
    live: dict[Any, Record] = {}
    for change in (each for transaction in transactions for each in transaction):
        if change.update_type is UpdateType.DELETE:
            live.pop(change.record.key, None)
        else:
            live[change.record.key] = change.record
    return live


def assert_shows(data: Dataset, live: dict[Any, Any]) -> None:
    assert {each.sid: each for each in data.records(QuotaDefinition)} == live
    for index in (DEFINITION_ORDER_NUMBER, DEFINITION_UNIT, DEFINITION_MONETARY_UNIT):
        for value in (1, 2, 3, "KGM", "LTR", None):
            expected = {key: each for key, each in live.items() if value in index.values(each)}
            assert dict(data.bucket(index, value)) == expected


@given(st.lists(st.lists(CHANGES, max_size=4), max_size=6))
def test_every_data_set_of_a_history_shows_what_was_live_then(history: list[list[Change]]) -> None:
    states = [Dataset.empty()]
    for transaction in history:
        states.append(states[-1].apply(transaction))
    for number, data in enumerate(states):
        assert data.number == number
        assert_shows(data, simply(history[:number]))
