"""What TARIC3 names otherwise than our records do: measures name order numbers by digits, certificates have no sid.

It is looked up in the state after the transaction: in the data that was there, and in what the transaction makes of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import date
from typing import Final, Protocol, TypeVar

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
        #: Keys of what was changed to have a number or id; it may have been changed again.
        self._order_numbers: dict[str, set[Key]] = {}
        self._areas: dict[str, set[Key]] = {}

    def note(self, change: Change) -> None:
        """Takes a change into account. Its record must not be malformed."""
        record = change.record
        gone = change.update_type is UpdateType.DELETE
        self._changed[type(record)][record.key] = None if gone else record
        if isinstance(record, QuotaOrderNumber):
            self._order_numbers.setdefault(record.order_number, set()).add(record.key)
        elif isinstance(record, GeographicalArea):
            self._areas.setdefault(record.area_id, set()).add(record.key)

    def live(self, kind: type[R], key: Key) -> R | None:
        """A record's current version, or None."""
        changed = self._changed[kind]
        return changed[key] if key in changed else self._names.live(kind, key)  # type: ignore[return-value]

    def order_number_for(self, number: str, period: Period) -> QuotaOrderNumber | None:
        """Of the live order numbers with these digits the nearest one (see `_nearest`), so that the rules can tell."""
        keys = {each.key for each in self._names.order_numbers(number)} | self._order_numbers.get(
            number, set()
        )
        found = self._live(QuotaOrderNumber, keys)
        return _nearest((each for each in found if each.order_number == number), period)

    def area_for(self, area_id: str, period: Period) -> GeographicalArea | None:
        """Of the live areas with this id the nearest one."""
        keys = {each.key for each in self._names.areas(area_id)} | self._areas.get(area_id, set())
        found = self._live(GeographicalArea, keys)
        return _nearest((each for each in found if each.area_id == area_id), period)

    def _live(self, kind: type[R], keys: Iterable[Key]) -> list[R]:
        return [each for each in (self.live(kind, key) for key in keys) if each is not None]


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
