"""Tariff records with good defaults, verdicts on them, and rows: one situation, and what a rule says to it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final
from unittest.mock import patch

from immutables import Map

from rules import engine
from rules import records as r
from rules.catalogue import RULES, Profile
from rules.catalogue import plan as make_plan
from rules.dataset import Dataset
from rules.engine import validate
from rules.periods import Period
from rules.records import Change, Record, RecordRef, UpdateType
from rules.state import Finding
from rules.violation import Verdict, Violation

START: Final = "2020-01-01"
TODAY: Final = date(2021, 6, 1)
HOLDS: Final = "holds"
BROKEN: Final = "is broken"
NOT_ASKED: Final = "is not asked"
UK_ONLY: Final = {
    "BlockingOnlyOfFCFSQuotas",
    "CertificateValidityPeriodMustSpanQuotaOrderNumber",
    "CertificatesMustExist",
    "OverlappingQuotaDefinition",
    "PreventQuotaDefinitionDeletion",
    "SameMainAndSubQuota",
    "SuspensionsOnlyToFCFSQuotas",
    "VolumeAndInitialVolumeMustMatch",
}

#: What a transaction is judged on: records, older versions first; a deletion stands for a deleted version.
Base = Iterable[Record | Change] | Dataset


# --- records ---------------------------------------------------------------------------------------------------------


def period(start: str = START, end: str | None = None) -> Period:
    return Period(date.fromisoformat(start), date.fromisoformat(end) if end else None)


def area(sid: int, code: int = 0, start: str = START, end: str | None = None) -> r.GeographicalArea:
    return r.GeographicalArea(sid, f"A{sid}", code, period(start, end))


def membership(group: int, member: int, start: str = START, end: str | None = None) -> Record:
    return r.GeographicalMembership(group, member, period(start, end))


def certificate(sid: int, start: str = START, end: str | None = None) -> r.Certificate:
    return r.Certificate(sid, "L", f"{sid:03}", period(start, end))


def unit(code: str = "KGM", start: str = START, end: str | None = None) -> r.MeasurementUnit:
    return r.MeasurementUnit(code, period(start, end))


def qualifier(code: str = "E", start: str = START, end: str | None = None) -> r.MeasurementUnitQualifier:
    return r.MeasurementUnitQualifier(code, period(start, end))


def money(code: str = "EUR", start: str = START, end: str | None = None) -> r.MonetaryUnit:
    return r.MonetaryUnit(code, period(start, end))


def measure(
    sid: int,
    of: int | None = 1,
    area: int = 11,
    start: str = START,
    end: str | None = None,
    regulation_end: str | None = None,
) -> r.Measure:
    regulation = date.fromisoformat(regulation_end) if regulation_end else None
    return r.Measure(sid, of, area, period(start, end), regulation)


def order_number(
    sid: int,
    number: str = "050001",
    start: str = START,
    end: str | None = None,
    licensed: bool = False,
    certificates: tuple[int, ...] = (),
) -> r.QuotaOrderNumber:
    mechanism = r.Mechanism.LICENSED if licensed else r.Mechanism.FIRST_COME_FIRST_SERVED
    return r.QuotaOrderNumber(sid, number, mechanism, 1, period(start, end), certificates)


def origin(
    sid: int, of: int = 1, area: int = 11, start: str = START, end: str | None = None
) -> r.QuotaOrderNumberOrigin:
    return r.QuotaOrderNumberOrigin(sid, of, area, period(start, end))


def exclusion(origin: int, area: int) -> r.QuotaOrderNumberOriginExclusion:
    return r.QuotaOrderNumberOriginExclusion(origin, area)


def definition(
    sid: int,
    of: int = 1,
    volume: str = "100",
    start: str = START,
    end: str | None = "2020-12-31",
    **more: Any,
) -> r.QuotaDefinition:
    """In KGM and begun full, unless `more` says otherwise."""
    fields: dict[str, Any] = {
        "initial_volume": more.pop("initial", volume),
        "monetary_unit": None,
        "measurement_unit": None if "monetary_unit" in more else "KGM",
        "measurement_unit_qualifier": None,
        "maximum_precision": 3,
        "quota_critical": False,
        "quota_critical_threshold": 90,
        "description": "",
        **more,
    }
    fields["initial_volume"] = Decimal(fields["initial_volume"])
    return r.QuotaDefinition(sid, of, Decimal(volume), valid_between=period(start, end), **fields)


def association(main: int, sub: int, relation: str = "NM", coefficient: str = "1") -> r.QuotaAssociation:
    return r.QuotaAssociation(main, sub, relation, Decimal(coefficient))


def suspension(sid: int, of: int = 51, start: str = START, end: str | None = "2020-12-31") -> Record:
    return r.QuotaSuspension(sid, of, "", period(start, end))


def blocking(sid: int, of: int = 51, start: str = START, end: str | None = "2020-12-31") -> Record:
    return r.QuotaBlocking(sid, of, 1, "", period(start, end))


def event(of: int = 51, at: str = "2020-06-01T12:00:00", code: str = "00") -> r.QuotaEvent:
    return r.QuotaEvent(code, of, datetime.fromisoformat(at), Map({"new.balance": "1.000"}))


# --- transactions and verdicts ---------------------------------------------------------------------------------------


def create(record: Record) -> Change:
    return Change(UpdateType.CREATE, record)


def update(record: Record) -> Change:
    return Change(UpdateType.UPDATE, record)


def delete(record: Record) -> Change:
    return Change(UpdateType.DELETE, record)


def ref(record: Record | RecordRef) -> RecordRef:
    return record if isinstance(record, RecordRef) else RecordRef.to(record)


def dataset(base: Base) -> Dataset:
    if isinstance(base, Dataset):
        return base
    versions = (each if isinstance(each, Change) else update(each) for each in base)
    return Dataset.empty().with_versions(
        (each.record, each.update_type is UpdateType.DELETE, 0) for each in versions
    )


def judge(base: Base, *changes: Change, today: date = TODAY, profile: Profile = Profile.UK) -> Verdict:
    return validate(dataset(base), changes, today, profile)


def broken(verdict: Verdict, record: Record | RecordRef) -> set[str]:
    """The codes of the rules that a record breaks."""
    return {each.rule for each in verdict.violations if each.record == ref(record)}


def the(code: str, verdict: Verdict) -> Violation:
    """The only violation of a rule."""
    (found,) = (each for each in verdict.violations if each.rule == code)
    return found


def asked(base: Base, *changes: Change, today: date = TODAY) -> set[tuple[str, RecordRef]]:
    """The rules that are asked and the records they are asked about: what is broken if every rule finds fault."""
    always = {
        code: [replace(each, check=lambda _state, _record: Finding("")) for each in same]
        for code, same in RULES.items()
    }
    with patch.dict(RULES, always), patch.object(engine, "_plan", make_plan):
        return {(each.rule, each.record) for each in judge(base, *changes, today=today).violations}


# --- rows ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A situation in which a rule holds, is broken, or is not asked; always about one record."""

    code: str
    sentence: str
    about: RecordRef
    base: Base
    changes: Sequence[Change]
    says: str
    related: tuple[RecordRef, ...] = ()
    #: What the message must name.
    names: tuple[str, ...] = ()
    preexisting: bool = False
    today: date = TODAY

    def __str__(self) -> str:
        return f"{self.code} {self.says}: {self.sentence}"


def holds(
    code: str,
    sentence: str,
    about: Record | RecordRef,
    base: Base,
    *changes: Change,
    today: date = TODAY,
) -> Row:
    """The rule is asked about the record, and nothing breaks it."""
    return Row(code, sentence, ref(about), base, changes, HOLDS, today=today)


def breaks(
    code: str,
    sentence: str,
    about: Record | RecordRef,
    base: Base,
    *changes: Change,
    related: Iterable[Record | RecordRef] = (),
    names: tuple[str, ...] = (),
    preexisting: bool = False,
    today: date = TODAY,
) -> Row:
    """The record, and it alone, breaks the rule."""
    refs = tuple(map(ref, related))
    return Row(code, sentence, ref(about), base, changes, BROKEN, refs, names, preexisting, today)


def not_asked(code: str, sentence: str, about: Record | RecordRef, base: Base, *changes: Change) -> Row:
    """The rule is not even asked about the record."""
    return Row(code, sentence, ref(about), base, changes, NOT_ASKED)


def check(row: Row) -> None:
    """What a row says of its rule, and what holds in every situation."""
    verdict = judge(row.base, *row.changes, today=row.today)
    assert verdict.malformed == ()
    found = [each for each in verdict.violations if each.rule == row.code]
    if row.says == NOT_ASKED:
        assert (row.code, row.about) not in asked(row.base, *row.changes, today=row.today)
        return
    assert (row.code, row.about) in asked(row.base, *row.changes, today=row.today)
    assert [each.record for each in found] == ([row.about] if row.says == BROKEN else []), found
    for each in found:
        assert each.preexisting is row.preexisting
        assert each.related == row.related
        assert all(name in each.message for name in row.names), each.message
    _check_form(verdict, row)
    _check_profile(verdict, row)
    _check_order_of_changes(verdict, row)


def _check_form(verdict: Verdict, row: Row) -> None:
    for each in verdict.violations:
        text, *others = {rule.text for rule in RULES[each.rule]}
        assert not others
        assert each.message.startswith(f"{text} ")
        assert each.message.endswith(".")
        assert len(each.message) > len(text) + 2
        assert each.triggered_by
        assert list(each.triggered_by) == sorted({*each.triggered_by} & {*range(len(row.changes))})
    order = [(e.triggered_by[0], e.rule, e.record.kind, e.record.parts()) for e in verdict.violations]
    assert order == sorted(set(order))


def _check_profile(verdict: Verdict, row: Row) -> None:
    union = judge(row.base, *row.changes, today=row.today, profile=Profile.EU)
    assert union.violations == tuple(each for each in verdict.violations if each.rule not in UK_ONLY)


def _check_order_of_changes(verdict: Verdict, row: Row) -> None:
    """Of changes of different records the order does not matter."""
    if len({ref(change.record) for change in row.changes}) == len(row.changes):
        last = len(row.changes) - 1
        turned = judge(row.base, *reversed(row.changes), today=row.today)
        assert {replace(each, triggered_by=()) for each in turned.violations} == {
            replace(each, triggered_by=()) for each in verdict.violations
        }
        assert {(each.rule, each.record, frozenset(each.triggered_by)) for each in verdict.violations} == {
            (each.rule, each.record, frozenset(last - index for index in each.triggered_by))
            for each in turned.violations
        }


#: One record of every kind, referents first; they refer to each other, and none breaks a rule at TODAY.
WORLD: Final[tuple[Record, ...]] = (
    area(11),
    area(12, code=1),
    area(13),
    membership(12, 13),
    certificate(41),
    unit(),
    qualifier(),
    money(),
    order_number(1, certificates=(41,)),
    order_number(2, "050002"),
    origin(21, area=12),
    origin(22, of=2),
    exclusion(21, 13),
    measure(31, area=12),
    definition(51, measurement_unit_qualifier="E"),
    definition(52, of=2),
    definition(53, of=2, start="2021-01-01", end="2021-12-31", monetary_unit="EUR"),
    association(51, 52),
    suspension(61),
    blocking(71),
    event(),
)
