"""The rules engine against a brute force that scans everything, and against itself: on data in which records collide.

A failure prints its case and a blob for `@reproduce_failure`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import replace
from datetime import date
from itertools import pairwise
from typing import Any, Final

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rules import records as r
from rules.catalogue import Profile
from rules.dataset import Dataset
from rules.engine import validate
from rules.records import Change, Record, RecordRef, UpdateType
from rules.references import INDEXES
from rules.violation import Violation
from tests.brute.change_rules import referents
from tests.brute.judge import judge
from tests.brute.junk import damage
from tests.brute.state_rules import STATE_RULES
from tests.brute.strategies import Case, cases
from tests.brute.world import Ref, State, applied, every, loaded, ref

Name = tuple[str, str, r.Key]

checked = functools.partial(
    settings,
    deadline=None,
    derandomize=False,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
#: Of these `preexisting` is always false.
OF_THE_CHANGE: Final = {
    "UniqueIdentifyingFields",
    "QA1",
    "UpdateValidity",
    "QD12",
    "QD13",
    "QD15",
    "ON11",
    "ON12",
    "PreventQuotaDefinitionDeletion",
    "QuotaAssociationMustReferToANonDeletedSubQuota",
    "PreventDeletingLinkedQuotaDefinitions",
    "QuotaSuspensionMustReferToANonDeletedQuotaDefinition",
    "QuotaBlockingPeriodMustReferToANonDeletedQuotaDefinition",
}


def dataset(case: Case) -> Dataset:
    return Dataset.empty().with_versions((record, deleted, 0) for record, deleted in case.base)


def violations(case: Case, profile: Profile = Profile.UK) -> tuple[Violation, ...]:
    verdict = validate(dataset(case), case.changes, case.today, profile)
    assert verdict.malformed == ()
    return verdict.violations


def name(violation: Violation) -> Name:
    return violation.rule, violation.record.kind, violation.record.key


def contents(data: Dataset, mentioned: Iterable[Record]) -> dict[str, Any]:
    """All that can be read of a data set, as far as these records, or older versions of them, are concerned."""
    records = list(mentioned)
    versions = {ref(each): data.version(type(each), each.key) for each in records}
    return {
        "number": data.number,
        "size": len(data),
        "live": {kind: {each.key: each for each in data.records(kind)} for kind in r.KINDS},
        "found": {ref(each): data.live(type(each), each.key) for each in records},
        "versions": {
            each: [(one.record, one.deleted, one.number) for one in version or ()]
            for each, version in versions.items()
        },
        "buckets": {
            (position, value): dict(data.bucket(index, value))
            for position, index in enumerate(INDEXES)
            for each in records
            if isinstance(each, index.of)
            for value in index.values(each)
        },
    }


def mentioned(case: Case) -> list[Record]:
    return [record for record, _ in case.base] + [each.record for each in case.changes]


# --- what is violated ------------------------------------------------------------------------------------------------


@checked(max_examples=1200)
@given(case=cases())
def test_the_engine_finds_what_brute_force_finds(case: Case) -> None:
    compare(case, Profile.UK)


@checked(max_examples=200)
@given(case=cases())
def test_the_engine_finds_what_brute_force_finds_without_the_rules_of_the_uk(case: Case) -> None:
    compare(case, Profile.EU)


def compare(case: Case, profile: Profile) -> None:
    before = loaded(case.base)
    found = violations(case, profile)
    expected = judge(before, case.changes, case.today, uk=profile is Profile.UK)
    assert {(*name(each), each.preexisting) for each in found} == {
        (each.rule, each.kind, each.key, each.preexisting) for each in expected
    }
    assert len({name(each) for each in found}) == len(found)
    triggers = {(each.rule, each.kind, each.key): each.triggered_by for each in expected}
    for each in found:
        if (each.record.kind, each.record.key) in before:
            assert each.triggered_by == triggers[name(each)]
        else:  # links to a key that nothing had before may count or not: the record was changed anyhow
            assert set(each.triggered_by) >= set(triggers[name(each)])


def fails(rule: str, state: State, of: Ref, today: date) -> bool:
    """A fresh look at one record that may not be live."""
    record = state.get(of)
    if record is None:
        return False
    if any(
        each.code == rule and isinstance(record, each.about) and each.fails(state, record, today)
        for each in STATE_RULES
    ):
        return True
    return not referents(record).get(rule, set()) <= set(state)


def touching(data: Dataset, record: Record, today: date) -> dict[Name, bool]:
    """What a change that changes nothing is told; with each whether it was there before."""
    verdict = validate(data, [Change(UpdateType.UPDATE, record)], today)
    return {name(each): each.preexisting for each in verdict.violations}


@checked(max_examples=200)
@given(case=cases())
def test_preexisting_is_what_failed_before(case: Case) -> None:
    before = loaded(case.base)
    after = applied(before, case.changes)
    data_before = dataset(case)
    data_after = data_before.apply(case.changes)
    for each in violations(case):
        of = (each.record.kind, each.record.key)
        if each.rule in OF_THE_CHANGE:
            assert not each.preexisting
            continue
        assert each.preexisting == fails(each.rule, before, of, case.today)
        if of in before:
            told = touching(data_before, before[of], case.today)
            assert told.get(name(each), False) == each.preexisting
        if each.rule != "ON10":  # which may speak of the order number that the origin has left
            assert fails(each.rule, after, of, case.today)
            assert touching(data_after, after[of], case.today)[name(each)]


@checked(max_examples=200)
@given(case=cases())
def test_each_violation_names_its_changes_and_they_order_it(case: Case) -> None:
    found = violations(case)
    known = {ref(record) for record in mentioned(case)}
    for each in found:
        assert each.triggered_by
        assert list(each.triggered_by) == sorted(set(each.triggered_by))
        assert set(each.triggered_by) <= set(range(len(case.changes)))
        assert each.message
        assert isinstance(each.record, RecordRef)
        assert (each.record.kind, each.record.key) in known
    for one, other in pairwise(found):
        first, second = (one.triggered_by[0], one.rule), (other.triggered_by[0], other.rule)
        assert first <= second
        if first == second and one.record.kind == other.record.kind:
            assert one.record.parts() < other.record.parts()


@checked(max_examples=200)
@given(data=st.data(), case=cases(once=True))
def test_the_order_of_changes_does_not_matter(data: st.DataObject, case: Case) -> None:
    turned = replace(case, changes=data.draw(st.permutations(case.changes)))

    def told(of: Case) -> set[Any]:
        return {
            (
                *name(each),
                each.preexisting,
                each.message,
                each.related,
                frozenset(ref(of.changes[position].record) for position in each.triggered_by),
            )
            for each in violations(of)
        }

    assert told(case) == told(turned)


# --- the data set ----------------------------------------------------------------------------------------------------


@checked(max_examples=200)
@given(case=cases())
def test_validate_changes_nothing(case: Case) -> None:
    data, changes = dataset(case), list(case.changes)
    was = contents(data, mentioned(case))
    first = validate(data, case.changes, case.today)
    assert contents(data, mentioned(case)) == was
    assert case.changes == changes
    assert validate(data, case.changes, case.today) == first
    assert validate(dataset(case), tuple(case.changes), case.today) == first


@checked(max_examples=200)
@given(data=st.data(), case=cases())
def test_apply_makes_what_would_be_built_from_scratch(data: st.DataObject, case: Case) -> None:
    base, records = dataset(case), mentioned(case)
    was = contents(base, records)
    after = base.apply(case.changes)
    versions = [(record, deleted, 0) for record, deleted in case.base]
    versions += [(each.record, each.update_type is UpdateType.DELETE, 1) for each in case.changes]
    told = contents(after, records)
    assert told == contents(Dataset.empty().with_versions(versions), records)
    assert contents(base, records) == was

    state = applied(loaded(case.base), case.changes)
    assert {ref(each) for kind in told["live"].values() for each in kind.values()} == set(state)
    for (position, value), bucket in told["buckets"].items():
        index = INDEXES[position]
        assert bucket == {each.key: each for each in every(state, index.of) if value in index.values(each)}

    middle = data.draw(st.integers(0, len(case.changes)))
    in_two = base.apply(case.changes[:middle]).apply(case.changes[middle:], after.number)
    for part in ("live", "found", "buckets"):
        assert contents(in_two, records)[part] == told[part]


@checked(max_examples=100)
@given(case=cases(), profile=st.sampled_from(Profile))
def test_an_empty_transaction_is_blamed_for_nothing(case: Case, profile: Profile) -> None:
    after = dataset(case).apply(case.changes)
    verdict = validate(after, [], case.today, profile)
    assert verdict.violations == ()
    assert verdict.malformed == ()


# --- malformed -------------------------------------------------------------------------------------------------------


@checked(max_examples=300)
@given(data=st.data(), case=cases())
def test_junk_is_malformed_and_no_rule_is_asked(data: st.DataObject, case: Case) -> None:
    changes, damaged = damage(data.draw, case.changes)
    verdict = validate(dataset(case), changes, case.today)
    assert verdict.violations == ()
    assert damaged <= {(each.index, each.field) for each in verdict.malformed}
    assert {each.index for each in verdict.malformed} == {index for index, _ in damaged}
    assert all(each.expected for each in verdict.malformed)
