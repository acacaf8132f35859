"""A state of the data as a plain dict, read by scanning all of it; nothing here knows the engine."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Any, Final, TypeVar

from rules.periods import Period
from rules.records import Change, Key, Measure, Record, UpdateType

R = TypeVar("R", bound=Record)

Ref = tuple[str, Key]
#: The live records.
State = dict[Ref, Record]

MEASURES_COUNT_AFTER: Final = date(2007, 12, 31)
ORIGINS_COUNT_AFTER: Final = date(2006, 12, 31)


def ref(record: Record) -> Ref:
    return record.kind, record.key


def loaded(versions: Iterable[tuple[Record, bool]]) -> State:
    """What is live once all versions are there, oldest first; with each whether it is a deletion."""
    state: State = {}
    for record, deleted in versions:
        state.pop(ref(record), None)
        if not deleted:
            state[ref(record)] = record
    return state


def applied(state: State, changes: Iterable[Change]) -> State:
    """The state after a transaction."""
    then = [(record, False) for record in state.values()]
    return loaded(then + [(each.record, each.update_type is UpdateType.DELETE) for each in changes])


def every(state: State, kind: type[R]) -> list[R]:
    """All live records of a kind."""
    return [record for record in state.values() if isinstance(record, kind)]


def find(state: State, kind: type[R], key: Any) -> R | None:
    """One live record."""
    for record in every(state, kind):
        if record.key == key:
            return record
    return None


def last_day(period: Period) -> tuple[bool, date]:
    """Sorts after every day if there is none."""
    return period.end is None, period.end or date.min


def spans(outer: Period, inner: Period) -> bool:
    return outer.start <= inner.start and last_day(outer) >= last_day(inner)


def overlap(one: Period, other: Period) -> bool:
    """Whether there is a day between the later start and the earlier end."""
    return (False, max(one.start, other.start)) <= min(last_day(one), last_day(other))


def effective(measure: Measure) -> Period:
    """Own end, else the regulation's effective end, else open."""
    own = measure.valid_between
    return Period(own.start, own.end or measure.regulation_effective_end_date)


def counting(state: State, order_number_sid: int) -> list[Measure]:
    """The live measures of an order number that started after the cut-off."""
    return [
        each
        for each in every(state, Measure)
        if each.order_number_sid == order_number_sid and each.valid_between.start > MEASURES_COUNT_AFTER
    ]
