"""What TARIC3 names otherwise than we do: measures name order numbers by their digits, certificates have no sid.

It is looked up in the state after the transaction: in the data that was there, and in what the transaction makes of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from datetime import date
from typing import Any, Final, Protocol, TypeVar

from rules.periods import Period
from rules.records import (
    Certificate,
    Change,
    GeographicalArea,
    Key,
    QuotaOrderNumber,
    Record,
    UpdateType,
)

R = TypeVar("R", bound=Record)

#: Sids derived from a certificate's type and code lie above all that TARIC3 can hold.
_DERIVED_SIDS: Final = 100_000_000


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
    """The state after a transaction, as far as its changes have been noted."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._changed: dict[type[Record], dict[Key, Any]] = {QuotaOrderNumber: {}, GeographicalArea: {}}

    def note(self, change: Change) -> None:
        """Takes a change into account."""
        changed = self._changed.get(type(change.record))
        if changed is not None:
            gone = change.update_type is UpdateType.DELETE
            changed[change.record.key] = None if gone else change.record

    def order_number_for(self, number: str, period: Period) -> QuotaOrderNumber | None:
        """The order number with these digits that covers a period; else the nearest one, so that rules can tell."""
        found = self._found(
            QuotaOrderNumber, self._names.order_numbers(number), lambda each: each.order_number == number
        )
        order_number: QuotaOrderNumber | None = _nearest(found, period)
        return order_number

    def area_for(self, area_id: str, period: Period) -> GeographicalArea | None:
        """The area with this id, chosen likewise."""
        found = self._found(
            GeographicalArea, self._names.areas(area_id), lambda each: each.area_id == area_id
        )
        area: GeographicalArea | None = _nearest(found, period)
        return area

    def _found(self, kind: type[Record], stored: Iterable[Any], named: Callable[[Any], bool]) -> list[Any]:
        changed = self._changed[kind]
        untouched = [each for each in stored if each.key not in changed]
        return untouched + [each for each in changed.values() if each is not None and named(each)]


def certificate_sid(names: Names, certificate_type: str, code: str) -> int | str:
    """The sid of a certificate: that of the live one, else one derived from type and code; text if they are malformed.

    Type and code are four capitals or digits: a number to the base 36.
    """
    stored = names.certificates(certificate_type, code)
    if stored:
        return min(each.sid for each in stored)
    text = certificate_type + code
    try:
        return _DERIVED_SIDS + int(text, 36) if len(text) == 4 else text
    except ValueError:
        return text


def _nearest(found: Iterable[Any], period: Period) -> Any:
    """Of several one that spans the period, else one that overlaps, else the last that starts before, else the first.

    Among equals the one that starts last, then the lowest sid.
    """

    def rank(each: Any) -> tuple[bool, bool, bool, int, int]:
        valid: Period = each.valid_between
        later = valid.start > period.start
        days = (valid.start - date.min).days
        return (
            not valid.spans(period),
            not valid.overlaps(period),
            later,
            days if later else -days,
            each.sid,
        )

    return min(found, key=rank, default=None)
