"""Tariff quota data of any size, in the proportions of the real one, and transactions on it. Neither breaks a rule."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Final

from immutables import Map

from rules.dataset import Dataset
from rules.periods import Period
from rules.records import (
    AreaCode,
    Change,
    GeographicalArea,
    GeographicalMembership,
    Measure,
    MeasurementUnit,
    Mechanism,
    QuotaAssociation,
    QuotaBlocking,
    QuotaDefinition,
    QuotaEvent,
    QuotaOrderNumber,
    QuotaOrderNumberOrigin,
    QuotaOrderNumberOriginExclusion,
    QuotaSuspension,
    Record,
    RelationType,
    UpdateType,
)

TODAY: Final = date(2019, 7, 1)
#: Each order number has a definition a year.
FIRST_YEAR: Final = 2010
YEARS: Final = 10
MEASURES: Final = 8
#: Every so manieth order number is the main quota of the one before.
MAIN: Final = 5
GROUPS: Final = 40
AREAS: Final = 260
_WINDOW: Final = 500
_OPEN: Final = Period(date(1970, 1, 1))


def base(definitions: int) -> Iterator[Record]:
    """Records for so many definitions (in tens), about as many of other kinds beside them, and the areas."""
    yield MeasurementUnit("KGM", _OPEN)
    for sid in range(1, AREAS + 1):
        code = AreaCode.GROUP if sid <= GROUPS else AreaCode.COUNTRY
        yield GeographicalArea(sid, f"{sid:04}", code, _OPEN)
    for group in range(1, GROUPS + 1):
        yield GeographicalMembership(group, _member_of(group), _OPEN)
    for sid in range(1, definitions // YEARS + 1):
        yield from _order_number(sid)


def transaction(data: Dataset, definitions: int, size: int, first: int) -> list[Change]:
    """So many changes of different records: mostly updates, and new events.

    They are about `_WINDOW` order numbers from `first` on, whatever the size of the data, so that only that differs.
    """
    numbers = definitions // YEARS
    made: dict[tuple[str, object], Change] = {}
    turn = 0
    while len(made) < size:
        number = 1 + (first + turn % _WINDOW) % numbers
        for change in _changes(data, number, FIRST_YEAR + turn // _WINDOW % YEARS, turn):
            if len(made) < size:
                made.setdefault((change.record.kind, change.record.key), change)
        turn += 1
    return list(made.values())


def _order_number(sid: int) -> Iterator[Record]:
    period = Period(date(FIRST_YEAR, 1, 1))
    group = _group_of(sid)
    yield QuotaOrderNumber(sid, f"{sid:06}", Mechanism.FIRST_COME_FIRST_SERVED, 1, period)
    yield QuotaOrderNumberOrigin(2 * sid, sid, group, period)
    yield QuotaOrderNumberOrigin(2 * sid + 1, sid, GROUPS + 1 + sid % (AREAS - GROUPS), period)
    yield QuotaOrderNumberOriginExclusion(2 * sid, _member_of(group))
    for number in range(MEASURES):
        yield Measure(MEASURES * sid + number, sid, group, period)
    for year in range(FIRST_YEAR, FIRST_YEAR + YEARS):
        yield from _definition(sid, year)


def _definition(order_number: int, year: int) -> Iterator[Record]:
    sid = _definition_sid(order_number, year)
    volume = Decimal(600_000 if order_number % MAIN == 0 else 500_000)
    whole = Period(date(year, 1, 1), date(year, 12, 31))
    yield QuotaDefinition(sid, order_number, volume, volume, None, "KGM", None, 3, False, 90, "", whole)
    if order_number % MAIN == 0:
        sub = _definition_sid(order_number - 1, year)
        yield QuotaAssociation(sid, sub, RelationType.NORMAL, Decimal(1))
    if sid % 8 == 0:
        yield QuotaBlocking(sid, sid, 1, "", Period(date(year, 1, 1), date(year, 1, 15)))
    if sid % 40 == 0:
        yield QuotaSuspension(sid, sid, "", Period(date(year, 5, 1), date(year, 5, 31)))
    yield _event(sid, year, 0)


def _changes(data: Dataset, order_number: int, year: int, turn: int) -> Iterator[Change]:
    sid = _definition_sid(order_number, year)
    definition = data.live(QuotaDefinition, sid)
    assert definition is not None
    yield Change(UpdateType.UPDATE, replace(definition, quota_critical=True))
    yield Change(UpdateType.CREATE, _event(sid, year, 1))
    keys: Mapping[type[Record], object] = {
        Measure: MEASURES * order_number,
        QuotaOrderNumberOrigin: 2 * order_number,
        QuotaOrderNumber: order_number,
        QuotaAssociation: (sid, _definition_sid(order_number - 1, year)),
        QuotaBlocking: sid,
    }
    kind = list(keys)[turn % len(keys)]
    record = data.live(kind, keys[kind])  # type: ignore[arg-type]
    if record is not None:
        yield Change(UpdateType.UPDATE, record)


def _definition_sid(order_number: int, year: int) -> int:
    return (order_number - 1) * YEARS + year - FIRST_YEAR + 1


def _group_of(order_number: int) -> int:
    return 1 + order_number % GROUPS


def _member_of(group: int) -> int:
    return GROUPS + 1 + 5 * group


def _event(definition: int, year: int, number: int) -> QuotaEvent:
    day = date(year, 1, 20) + timedelta(days=definition % 300)
    moment = datetime(day.year, day.month, day.day, 15, number)
    return QuotaEvent("00", definition, moment, Map({"new.balance": "1000"}))
