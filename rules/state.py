"""What a rule sees: the data before or after a transaction."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from heapq import nsmallest
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Final, TypeVar

from rules.dataset import Dataset
from rules.records import Change, Key, Record, RecordRef
from rules.references import Index

R = TypeVar("R", bound=Record)
T = TypeVar("T")
K = TypeVar("K")


#: Of one violation: naming all of very many, again for each of them, would take longer than finding them.
MAX_RELATED: Final = 100
_MAX_LISTED: Final = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule found wrong with a record, and the other records that belong to it."""

    found: str
    related: tuple[RecordRef, ...] = ()
    #: How many there are, if more than `related` names.
    related_count: int = 0

    @classmethod
    def naming(cls, text: str, records: Collection[Any]) -> Finding:
        """A finding about records of one kind, however many: the first ones by key are named in the place of `{}`."""
        first = nsmallest(MAX_RELATED, records, key=attrgetter("key"))
        names = tuple(map(RecordRef.to, first))
        return cls(text.replace("{}", listed(names, len(records))), names, len(records))


def listed(names: Sequence[RecordRef], count: int) -> str:
    """Names of records for a message; of many, the first ones."""
    rest = count - _MAX_LISTED
    return ", ".join(map(str, names[:_MAX_LISTED])) + (f" and {rest} more" if rest > 0 else "")


class State:
    """The data that a rule is asked of, and what else it may ask.

    `before` is the state before the transaction, None if this is it.
    """

    __slots__ = ("_changes", "_known", "before", "bucket", "live", "today")

    def __init__(
        self,
        data: Dataset,
        today: date,
        before: State | None = None,
        changes: Mapping[tuple[type[Record], Key], Sequence[Change]] = MappingProxyType({}),
    ) -> None:
        self._changes = changes
        self._known: dict[tuple[Any, ...], Any] = {}
        self.before = before
        self.today = today
        # Bound once: these are called for every rule and record.
        self.live: Callable[[type[Any], Key], Any] = data.live
        self.bucket: Callable[[Index, Any], Mapping[Key, Any]] = data.bucket

    def changes_of(self, record: Record) -> Sequence[Change]:
        """The transaction's changes of the record of this kind and key."""
        return self._changes[type(record), record.key]

    def was_live(self, record: Record) -> bool:
        """Whether the record of this kind and key was live before the transaction."""
        return self.before is not None and self.before.live(type(record), record.key) is not None

    def is_deleted(self, kind: type[Record], key: Key) -> bool:
        """Whether the transaction deletes this record."""
        return (
            self.before is not None
            and self.before.live(kind, key) is not None
            and self.live(kind, key) is None
        )

    def once(self, compute: Callable[[State, K], T], key: K) -> T:
        """`compute(self, key)`, computed once: for what many records of one owner ask for."""
        asked = (compute, key)
        if asked not in self._known:
            self._known[asked] = compute(self, key)
        found: T = self._known[asked]
        return found


def refs(records: Iterable[Record]) -> tuple[RecordRef, ...]:
    """The names of a few records, in a stable order."""
    return tuple(sorted(map(RecordRef.to, records), key=lambda ref: (ref.kind, ref.parts())))
