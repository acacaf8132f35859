"""What TARIC3 names otherwise than our records do: measures name order numbers by digits, certificates have no sid.

It is looked up in the state after the transaction: in the data that was there, and in what the transaction makes of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from datetime import date
from typing import Any, Final, Protocol, TypeVar

from rules.periods import Period
from rules.records import (
    KINDS,
    Certificate,
    Change,
    GeographicalArea,
    Key,
    QuotaOrderNumber,
    Record,
    UpdateType,
)
from rules.taric.lexical import AREA_ID, LETTER, LETTERS

R = TypeVar("R", bound=Record)
Dated = TypeVar("Dated", QuotaOrderNumber, GeographicalArea)

#: Sids that are derived from codes lie above all that TARIC3 can hold (99,999,999).
DERIVED_SIDS: Final = 100_000_000


class Names(Protocol):
    """What is looked up in the data; `rules.dataset.Dataset` is one."""

    def live(self, kind: type[R], key: Key) -> R | None:
        """A record's current version, or None."""

    def order_numbers(self, number: str) -> Collection[QuotaOrderNumber]:
        """The live order numbers with these six digits."""

    def certificates(self, certificate_type: str, code: str) -> Collection[Certificate]:
        """The live certificates with this type and code."""

    def areas(self, area_id: str) -> Collection[GeographicalArea]:
        """The live areas with this id."""


class Overlay:
    """The data as a transaction leaves it, as far as its changes have been noted."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._changed: dict[type[Record], dict[Key, Record | None]] = {kind: {} for kind in KINDS}

    def note(self, change: Change) -> None:
        """Takes a change into account. Its record must not be malformed."""
        record = None if change.update_type is UpdateType.DELETE else change.record
        self._changed[type(change.record)][change.record.key] = record

    def live(self, kind: type[R], key: Key) -> R | None:
        """A record's current version, or None."""
        changed = self._changed[kind]
        return changed[key] if key in changed else self._names.live(kind, key)  # type: ignore[return-value]

    def order_number_for(self, number: str, period: Period) -> QuotaOrderNumber | None:
        """Of the live order numbers with these digits the nearest one (see `_nearest`), so that the rules can tell."""
        stored = self._names.order_numbers(number)
        return _nearest(
            self._found(QuotaOrderNumber, stored, lambda each: each.order_number == number), period
        )

    def area_for(self, area_id: str, period: Period) -> GeographicalArea | None:
        """Of the live areas with this id the nearest one."""
        stored = self._names.areas(area_id)
        return _nearest(self._found(GeographicalArea, stored, lambda each: each.area_id == area_id), period)

    def _found(self, kind: type[R], stored: Iterable[R], named: Callable[[Any], bool]) -> list[R]:
        changed: dict[Key, Any] = self._changed[kind]
        untouched = [each for each in stored if each.key not in changed]
        return untouched + [each for each in changed.values() if each is not None and named(each)]


def certificate_sid(names: Names, certificate_type: str, code: str) -> int | str:
    """The sid of a certificate: of the live one with the lowest sid, else derived; text if type or code is malformed.

    Type and code are four capitals or digits: a number to the base 36, added to DERIVED_SIDS.
    """
    if not LETTER.accepts(certificate_type) or not LETTERS.accepts(code):
        return certificate_type + code
    stored = names.certificates(certificate_type, code)
    if stored:
        return min(each.sid for each in stored)
    return DERIVED_SIDS + int(certificate_type + code, 36)


def unknown_area_sid(area_id: str) -> int | None:
    """Stands for an area that nobody knows, where a measure is deleted; derived as for certificates."""
    return DERIVED_SIDS + int(area_id, 36) if AREA_ID.accepts(area_id) else None


def _nearest(found: Iterable[Dated], period: Period) -> Dated | None:
    """Of several one that spans the period, else one that overlaps, else the last that starts before, else the first.

    Among equals the one that starts last (after the period: first), then the lowest sid.
    """

    def rank(each: Dated) -> tuple[bool, bool, bool, int, int]:
        valid = each.valid_between
        later = valid.start > period.start
        days = (valid.start - date.min).days
        return not valid.spans(period), not valid.overlaps(period), later, days if later else -days, each.sid

    return min(found, key=rank, default=None)
