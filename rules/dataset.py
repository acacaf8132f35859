"""The data that transactions are judged against: every version of every record, found by key and by reference.

A data set never changes. `apply` makes the next one, which shares all that has not changed: both stay usable, and
making it costs what the transaction is worth, not what the data set holds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from immutables import Map

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
from rules.references import AREAS, CERTIFICATES, INDEXES, ORDER_NUMBERS, Index

R = TypeVar("R", bound=Record)

_EMPTY: Final[Map[Any, Any]] = Map()
_INDEXES_OF: Final[dict[type[Record], tuple[Index, ...]]] = {
    kind: tuple(index for index in INDEXES if index.of is kind) for kind in KINDS
}


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a record, and those before it. A deletion is a version too: `record` is what it was given."""

    record: Record
    deleted: bool
    #: The data set's number once it had this version.
    number: int
    previous: Version | None = field(repr=False, compare=False)

    def __iter__(self) -> Iterator[Version]:
        """This one, then those before it, newest first."""
        version: Version | None = self
        while version is not None:
            yield version
            version = version.previous


class Dataset:
    """Tariff quota data after `number` transactions; loading judges nothing."""

    __slots__ = ("_buckets", "_versions", "number")

    def __init__(
        self,
        versions: Mapping[type[Record], Map[Key, Version]],
        buckets: Mapping[Index, Map[Any, Map[Key, Record]]],
        number: int,
    ) -> None:
        self._versions = versions
        self._buckets = buckets
        self.number = number

    @classmethod
    def empty(cls) -> Dataset:
        """No record at all."""
        return cls(dict.fromkeys(KINDS, _EMPTY), dict.fromkeys(INDEXES, _EMPTY), 0)

    @classmethod
    def of(cls, records: Iterable[Record]) -> Dataset:
        """Base data; of several records with one key, later ones are newer versions."""
        return cls.empty().with_versions((record, False, 0) for record in records)

    def with_versions(self, versions: Iterable[tuple[Record, bool, int]]) -> Dataset:
        """The data set with stored versions added, oldest first: record, whether it was deleted, by which transaction.

        Its number is that of the last one.
        """
        building = _Building(self)
        number = self.number
        for record, deleted, number in versions:
            building.put(record, deleted, number)
        return building.done(number)

    def apply(self, changes: Iterable[Change], number: int | None = None) -> Dataset:
        """The data set after a transaction, whether or not it breaks rules; its number is the next one if not given.

        The changes' records must not be malformed. Of several changes of one record the last one holds.
        """
        then = self.number + 1 if number is None else number
        building = _Building(self)
        for change in changes:
            building.put(change.record, change.update_type is UpdateType.DELETE, then)
        return building.done(then)

    def live(self, kind: type[R], key: Key) -> R | None:
        """The current version of a record, or None if there is none or it is deleted."""
        version = self._versions[kind].get(key)
        return None if version is None or version.deleted else version.record  # type: ignore[return-value]

    def version(self, kind: type[Record], key: Key) -> Version | None:
        """The newest version of a record, deleted or not, and through it the older ones; None if never seen."""
        return self._versions[kind].get(key)

    def bucket(self, index: Index, value: Any) -> Mapping[Key, Any]:
        """The live records that an index has under a value, by key."""
        return self._buckets[index].get(value, _EMPTY)

    def records(self, kind: type[R]) -> Iterator[R]:
        """All live records of a kind, in no order."""
        for version in self._versions[kind].values():
            if not version.deleted:
                yield version.record  # type: ignore[misc]

    def __len__(self) -> int:
        """How many records it knows, deleted ones included."""
        return sum(map(len, self._versions.values()))

    def order_numbers(self, number: str) -> Collection[QuotaOrderNumber]:
        """The live order numbers that have six digits."""
        return self.bucket(ORDER_NUMBERS, number).values()

    def certificates(self, certificate_type: str, code: str) -> Collection[Certificate]:
        """The live certificates that have a type and code."""
        return self.bucket(CERTIFICATES, (certificate_type, code)).values()

    def areas(self, area_id: str) -> Collection[GeographicalArea]:
        """The live areas that have an id."""
        return self.bucket(AREAS, area_id).values()


class _Building:
    """A data set in the making: maps that changed are open for writing, all others are shared."""

    def __init__(self, base: Dataset) -> None:
        self._versions: dict[type[Record], Any] = dict(base._versions)
        self._buckets: dict[Index, Any] = dict(base._buckets)
        self._open: set[type[Record]] = set()

    def put(self, record: Record, deleted: bool, number: int) -> None:
        """One more version of a record."""
        kind, key = type(record), record.key
        if kind not in self._open:
            self._open_for_writing(kind)
        versions = self._versions[kind]
        previous = versions.get(key)
        versions[key] = Version(record, deleted, number, previous)
        old = None if previous is None or previous.deleted else previous.record
        new = None if deleted else record
        if old is None and new is None:
            return
        for index in _INDEXES_OF[kind]:
            before = () if old is None else index.values(old)
            after = () if new is None else index.values(new)
            buckets = self._buckets[index]
            for value in before:
                if value not in after:
                    left = buckets[value].delete(key)
                    if left:
                        buckets[value] = left
                    else:
                        del buckets[value]
            for value in after:
                buckets[value] = buckets.get(value, _EMPTY).set(key, new)

    def _open_for_writing(self, kind: type[Record]) -> None:
        self._open.add(kind)
        self._versions[kind] = self._versions[kind].mutate()
        for index in _INDEXES_OF[kind]:
            self._buckets[index] = self._buckets[index].mutate()

    def done(self, number: int) -> Dataset:
        """The data set; nothing may be put after."""
        for kind in self._open:
            self._versions[kind] = self._versions[kind].finish()
            for index in _INDEXES_OF[kind]:
                self._buckets[index] = self._buckets[index].finish()
        return Dataset(self._versions, self._buckets, number)
