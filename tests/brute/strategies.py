"""Small data sets and transactions in which records collide: few keys, few days, references that may dangle.

The first element of each list is what Hypothesis shrinks to; what stands there several times is drawn more often.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import date, datetime, time
from decimal import Decimal
from itertools import combinations_with_replacement
from typing import Any, Final, TypeVar

from hypothesis import strategies as st

from rules import records as r
from rules.periods import Period
from rules.records import Change, Record, UpdateType
from tests.brute.world import ref

T = TypeVar("T")

DAYS: Final = [
    date.fromisoformat(day)
    for day in (
        "1995-01-01",
        "2006-12-31",  # origins count if they start after it
        "2007-01-01",
        "2007-12-31",  # measures count if they start after it
        "2008-01-01",
        "2021-05-31",
        "2021-06-01",  # today, mostly
        "2021-06-02",
        "2021-12-31",
    )
]
TODAY: Final = date(2021, 6, 1)
TODAYS: Final = st.sampled_from([TODAY, TODAY, TODAY, date(2007, 1, 1), date(2021, 12, 31)])
ALWAYS: Final = Period(DAYS[0])
CLOSED: Final = [Period(start, end) for start, end in combinations_with_replacement(DAYS, 2)]
OPEN: Final = [Period(start) for start in DAYS]

PERIODS: Final = st.sampled_from([ALWAYS, *CLOSED, *OPEN * 3])
#: Of what has to span others.
LONG: Final = st.sampled_from([*[ALWAYS] * 30, *OPEN * 2, *CLOSED])
#: Of measures, whose cut-off is strict.
LATE: Final = st.sampled_from([each for each in CLOSED + OPEN * 3 if each.start >= date(2007, 12, 31)])
#: Of definitions and their events.
AROUND_TODAY: Final = st.sampled_from([each for each in CLOSED + OPEN * 2 if each.start >= DAYS[-4]])
TEXTS: Final = st.sampled_from(["", "", "", "text"])


def among(*values: T) -> st.SearchStrategy[T]:
    return st.sampled_from(values)


AREA_SIDS: Final = among(1, 1, 2, 2, 3, 9)
NUMBER_SIDS: Final = among(1, 1, 1, 2, 2, 3, 9)
ORIGIN_SIDS: Final = among(1, 1, 2, 3)
DEFINITION_SIDS: Final = among(1, 1, 2, 2, 3, 4)
FEW_SIDS: Final = among(1, 2, 3)
VOLUMES: Final = among(*map(Decimal, ("100", "100", "100", "100.000", "99.999", "500", "0")))
#: One of monetary and measurement unit, a qualifier only with the latter.
UNITS: Final = among(
    (None, "KGM", None),
    (None, "KGM", None),
    (None, "KGM", "E"),
    (None, "KGM", "E"),
    (None, "KGM", "X"),
    (None, "DTN", None),
    ("EUR", None, None),
    ("EUR", None, None),
    ("GBP", None, None),
)
UNIT_FIELDS: Final = ("monetary_unit", "measurement_unit", "measurement_unit_qualifier")


def _definition(units: tuple[str | None, str | None, str | None], **rest: Any) -> r.QuotaDefinition:
    monetary_unit, measurement_unit, qualifier = units
    return r.QuotaDefinition(
        monetary_unit=monetary_unit,
        measurement_unit=measurement_unit,
        measurement_unit_qualifier=qualifier,
        maximum_precision=3,
        quota_critical=False,
        quota_critical_threshold=90,
        **rest,
    )


OF_KIND: Final[dict[type[Record], st.SearchStrategy[Any]]] = {
    r.GeographicalArea: st.builds(
        r.GeographicalArea,
        among(1, 1, 2, 2, 3),
        among("A", "B"),
        among(1, 1, 1, 0, 2),
        LONG,
    ),
    r.GeographicalMembership: st.builds(r.GeographicalMembership, AREA_SIDS, AREA_SIDS, PERIODS),
    r.Certificate: st.builds(r.Certificate, among(1, 1, 2), among("L", "Y"), among("001", "002"), LONG),
    r.MeasurementUnit: st.builds(r.MeasurementUnit, among("KGM", "KGM", "DTN"), LONG),
    r.MeasurementUnitQualifier: st.builds(r.MeasurementUnitQualifier, among("E", "E", "X"), LONG),
    r.MonetaryUnit: st.builds(r.MonetaryUnit, among("EUR", "EUR", "GBP"), LONG),
    r.QuotaOrderNumber: st.builds(
        r.QuotaOrderNumber,
        among(1, 1, 2, 2, 3),
        among("050001", "050002", "050003"),
        among(0, 0, 1),
        among(0, 1),
        LONG,
        among((), (), (1,), (1,), (2, 1), (9,)),
    ),
    r.QuotaOrderNumberOrigin: st.builds(
        r.QuotaOrderNumberOrigin, ORIGIN_SIDS, NUMBER_SIDS, AREA_SIDS, st.one_of(LONG, PERIODS)
    ),
    r.QuotaOrderNumberOriginExclusion: st.builds(r.QuotaOrderNumberOriginExclusion, ORIGIN_SIDS, AREA_SIDS),
    r.Measure: st.builds(
        r.Measure,
        FEW_SIDS,
        among(1, 1, 1, 2, 2, 3, 9, None),
        AREA_SIDS,
        st.one_of(LATE, LATE, PERIODS),
        among(None, None, *DAYS),
        among(None, None, "050001", "050009"),
    ),
    r.QuotaDefinition: st.builds(
        _definition,
        UNITS,
        sid=DEFINITION_SIDS,
        order_number_sid=NUMBER_SIDS,
        volume=VOLUMES,
        initial_volume=VOLUMES,
        description=TEXTS,
        valid_between=st.one_of(PERIODS, AROUND_TODAY, AROUND_TODAY),
    ),
    r.QuotaAssociation: st.builds(
        r.QuotaAssociation,
        DEFINITION_SIDS,
        DEFINITION_SIDS,
        among("EQ", "NM"),
        among(*map(Decimal, ("1", "1.00000", "1.5", "1.5", "0", "-1"))),
    ),
    r.QuotaSuspension: st.builds(r.QuotaSuspension, among(1, 2), DEFINITION_SIDS, TEXTS, PERIODS),
    r.QuotaBlocking: st.builds(r.QuotaBlocking, among(1, 2), DEFINITION_SIDS, among(1, 3), TEXTS, PERIODS),
    r.QuotaEvent: st.builds(
        r.QuotaEvent,
        among("00", "05"),
        DEFINITION_SIDS,
        among(
            *(datetime.combine(day, time(hour)) for day in (*DAYS[1:], *DAYS[-4:] * 2) for hour in (0, 23))
        ),
    ),
}
assert OF_KIND.keys() == set(r.KINDS)

#: Kinds that rules are about stand here more often than those that are only referred to.
KINDS: Final[list[type[r.Record]]] = [
    *r.KINDS,
    r.GeographicalArea,
    *[r.QuotaOrderNumber] * 2,
    *[r.QuotaOrderNumberOrigin] * 2,
    r.QuotaOrderNumberOriginExclusion,
    *[r.Measure] * 4,
    *[r.QuotaDefinition] * 5,
    *[r.QuotaAssociation] * 2,
    r.QuotaEvent,
]
RECORDS: Final = st.sampled_from(KINDS).flatmap(OF_KIND.__getitem__)
DELETED: Final = among(*[False] * 7, True)
#: What most rules need to be there: order numbers with origins, units, definitions that draw on one another.
BACKBONE: Final[tuple[tuple[Record, bool], ...]] = tuple(
    (record, False)
    for record in (
        r.GeographicalArea(1, "A", 1, ALWAYS),
        r.GeographicalArea(2, "B", 0, ALWAYS),
        r.GeographicalMembership(1, 2, ALWAYS),
        r.Certificate(1, "L", "001", ALWAYS),
        r.MeasurementUnit("KGM", ALWAYS),
        r.MeasurementUnitQualifier("E", ALWAYS),
        r.MonetaryUnit("EUR", ALWAYS),
        r.QuotaOrderNumber(1, "050001", 0, 0, ALWAYS, (1,)),
        r.QuotaOrderNumber(2, "050002", 1, 0, ALWAYS),
        r.QuotaOrderNumberOrigin(1, 1, 1, ALWAYS),
        r.QuotaOrderNumberOrigin(2, 2, 2, ALWAYS),
        r.QuotaOrderNumberOriginExclusion(1, 2),
        r.Measure(1, 1, 1, Period(date(2008, 1, 1)), date(2021, 12, 31)),
        *[
            _definition(
                (None, "KGM", None),
                sid=sid,
                order_number_sid=sid,
                volume=Decimal(volume),
                initial_volume=Decimal(100),
                description="",
                valid_between=Period(date(2021, 6, 1), date(2021, 12, 31)),
            )
            for sid, volume in ((1, 100), (2, 500))
        ],
        r.QuotaAssociation(2, 1, "NM", Decimal(1)),
        r.QuotaEvent("00", 1, datetime(2021, 6, 2, 12)),
    )
)
BACKBONES: Final = among((), BACKBONE, BACKBONE)
#: Every version of base data, oldest first, and whether it is a deletion.
BASES: Final = st.tuples(BACKBONES, st.integers(0, 24)).flatmap(
    lambda drawn: st.lists(st.tuples(RECORDS, DELETED), min_size=drawn[1], max_size=drawn[1]).map(
        lambda records: [*drawn[0], *records]
    )
)

#: What is replaced together so that the record stays well-formed.
GROUPS: Final = {
    kind: [
        (each.name,)
        for each in fields(kind)  # type: ignore[arg-type]
        if each.name not in (*kind.key_fields, *UNIT_FIELDS, "elements", "data", "order_number")
        or (kind is r.QuotaOrderNumber and each.name == "order_number")
    ]
    + ([UNIT_FIELDS, ("valid_between",), ("valid_between",)] if kind is r.QuotaDefinition else [])
    for kind in r.KINDS
}
#: Of what is already there.
TYPES: Final = among(*[UpdateType.UPDATE] * 5, *[UpdateType.DELETE] * 3, UpdateType.CREATE)
FRESH_TYPES: Final = among(*[UpdateType.CREATE] * 3, UpdateType.UPDATE, UpdateType.DELETE)
#: Whether a change is of a record that is already there.
OF_OLD: Final = among(True, True, False)


@dataclass(frozen=True)
class Case:
    """Base data, a transaction and the day on which it is judged."""

    base: list[tuple[Record, bool]]
    changes: list[Change]
    today: date


def altered(draw: st.DrawFn, record: Record) -> Record:
    """The record with up to two fields as another of its kind has them; its key stays."""
    groups = GROUPS[type(record)]
    names = draw(st.lists(st.sampled_from(groups), max_size=2)) if groups else []
    other = draw(OF_KIND[type(record)]) if names else record
    values = {name: getattr(other, name) for group in names for name in group}
    return replace(record, **values)  # type: ignore[type-var]


@st.composite
def transactions(draw: st.DrawFn, old: Sequence[Record], once: bool = False) -> list[Change]:
    """1 to 8 changes, of old records or of new ones; `once`: each key only once."""
    changes: list[Change] = []
    for _ in range(draw(st.integers(1, 8))):
        if draw(OF_OLD) and old:
            record = altered(draw, draw(st.sampled_from(old)))
            changes.append(Change(draw(TYPES), record))
        else:
            changes.append(Change(draw(FRESH_TYPES), draw(RECORDS)))
    if once:
        return list({ref(each.record): each for each in changes}.values())
    return changes


@st.composite
def cases(draw: st.DrawFn, once: bool = False) -> Case:
    base = draw(BASES)
    changes = draw(transactions([record for record, _ in base], once))
    return Case(base, changes, draw(TODAYS))
