"""The port of the tariff data's store: a handful of verbs, one transaction each."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import date
from typing import Any, Protocol

from quota_server.ledger.store import RecordedAnswer
from rules.records import Change, Record, RecordRef


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """One version of a record, with what is known of the transaction that stored it."""

    record: Record
    deleted: bool
    number: int
    create_ms: int
    actor: str
    reason: str
    #: Its place among the records of its kind, as text that sorts like keys.
    place: str


@dataclass(frozen=True, slots=True)
class Newest:
    """The last stored transaction; number 0 if there is none."""

    number: int = 0
    create_ms: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """Transactions as they are stored together, in the store's own form."""

    numbers: range
    rows: Sequence[tuple[Any, ...]]


class TariffTransaction(Protocol):
    """One transaction of the store; it commits on leaving, or rolls back if an exception leaves it."""

    async def recorded(self, request_id: str) -> RecordedAnswer | None:
        """What was answered to a request id."""

    async def record(self, answer: RecordedAnswer) -> None:
        """Keeps an answer."""

    async def newest(self) -> Newest:
        """The last stored transaction. None is stored after it until this transaction ends."""

    async def append(self, batch: Batch, create_ms: int, actor: str, reason: str) -> None:
        """Stores tariff transactions."""


class TariffStore(Protocol):
    """Where the tariff data lives. Methods raise StoreUnavailable."""

    def pack(self, first: int, transactions: Sequence[Sequence[Change]]) -> Batch:
        """What `append` takes, numbered from `first` on. It may take long, and be called in any thread."""

    def transaction(self) -> AbstractAsyncContextManager[TariffTransaction]:
        """Begins a transaction."""

    async def recorded(self, request_id: str) -> RecordedAnswer | None:
        """What was answered to a request id."""

    async def newest(self) -> Newest:
        """The last stored transaction."""

    async def versions_after(
        self, after: tuple[int, int], limit: int
    ) -> tuple[list[tuple[str, bool, int]], tuple[int, int]]:
        """The next versions in the order in which they were stored: content, whether deleted, number.

        `after`, and the second part of the answer, is the number and position of the last one seen.
        """


class TariffViews(Protocol):
    """Reads of one moment each."""

    async def newest_number(self) -> int:
        """The last stored transaction; 0 for none."""

    async def number_before(self, moment_ms: int) -> int:
        """The last transaction that was stored before a moment; 0 for none."""

    async def version(self, ref: RecordRef, number: int) -> StoredVersion | None:
        """A record's newest version as of a transaction."""

    async def versions(
        self,
        number: int,
        kind: str | None,
        valid_on: date | None,
        after: tuple[str, str] | None,
        limit: int,
        *,
        include_deleted: bool,
    ) -> list[StoredVersion]:
        """The newest version of each record as of a transaction, by kind and place; `after` is the last one seen."""
