"""Tariff data to test the service with: records that break no rule, as messages and as envelopes; what is stored."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any, Final

from google.type.date_pb2 import Date
from sqlalchemy import Connection, select

from quota_server.ledger.calls import Call
from quota_server.services.tariff_convert import change_to_proto, date_message
from quota_server.storage.connected import Database
from quota_server.storage.database import open_database
from quota_server.storage.tables import tariff_transactions, tariff_versions
from quota_server.storage.tariff_store import SqlTariffStore
from quota_server.tariff.data import TariffData
from quota_server.tariff.judging import Options, Prepared, prepare_typed
from quota_server.tariff.workers import Workers
from quotafleet.v1 import rules_service_pb2 as pb
from rules.dataset import Dataset, Version
from rules.records import KINDS, Change, Record, RecordRef
from rules.taric import to_taric_transaction, write_envelope
from tests.migrated import put_database
from tests.rules_kit import TODAY, area, create, definition, order_number, origin, unit, update
from tests.server_kit import Served

DAY: Final = date_message(TODAY)
OPTIONS: Final = pb.JudgeOptions(today=DAY)


def country(sid: int) -> Record:
    """An area with an id that TARIC3 allows."""
    return replace(area(sid), area_id=f"{sid % 10_000:04}")


#: An order number with its origin and area, and a unit: nothing is wrong with them.
BASE: Final[tuple[Change, ...]] = (
    create(country(11)),
    create(unit()),
    create(order_number(1)),
    create(origin(21)),
)


def definitions(first: int, count: int) -> tuple[Change, ...]:
    """New definitions that break no rule on `BASE`, one year after the other; `first` is the sid of the first."""
    return tuple(create(year(sid)) for sid in range(first, first + count))


def year(sid: int, **more: Any) -> Record:
    """The definition of a year: sid 50 is of 2050."""
    return definition(sid, start=f"{2000 + sid}-01-01", end=f"{2000 + sid}-12-31", **more)


def many(first: int, count: int) -> tuple[Change, ...]:
    """New records that break no rule whatever there is."""
    return tuple(create(country(sid)) for sid in range(first, first + count))


def message(changes: Iterable[Change]) -> pb.TariffTransaction:
    """Changes as a message."""
    return pb.TariffTransaction(changes=map(change_to_proto, changes))


def day(text: str) -> Date:
    """A day as a message."""
    return date_message(date.fromisoformat(text))


def envelope(*transactions: Sequence[Change], data: Dataset | None = None) -> bytes:
    """Transactions as a TARIC3 envelope."""
    known, written = data or Dataset.empty(), []
    for number, changes in enumerate(transactions, 1):
        written.append(to_taric_transaction(changes, known, str(number)))
        known = known.apply(changes)
    return b"".join(write_envelope("260001", written))


async def commit(served: Served, changes: Iterable[Change], **more: Any) -> pb.CommitTransactionResponse:
    """Commits typed changes; `expected`, `allow_preexisting` and `reason` are options of the commit."""
    options = pb.CommitOptions(
        expected_data_version=more.pop("expected", None),
        allow_preexisting=more.pop("allow_preexisting", False),
        reason=more.pop("reason", ""),
    )
    return await served.rules.CommitTransaction(
        pb.CommitTransactionRequest(transaction=message(changes), options=OPTIONS, commit=options, **more)
    )


async def listed(served: Served, **more: Any) -> list[pb.RecordVersion]:
    """All records that a listing finds, page by page."""
    found: list[pb.RecordVersion] = []
    token = ""
    while True:
        answer = await served.rules.ListRecords(pb.ListRecordsRequest(page_token=token, **more))
        found += answer.versions
        token = answer.next_page_token
        if not token:
            return found


# --- envelopes -----------------------------------------------------------------------------------------------------

GOOD: Sequence[Sequence[Change]] = (BASE, definitions(50, 2), definitions(52, 1))
ON_BASE = Dataset.of([change.record for change in BASE])
#: The second transaction breaks rules, the third depends on it, the fourth stands alone.
BAD: Sequence[Sequence[Change]] = (
    BASE,
    (create(country(12)), create(origin(22, of=404, area=12))),
    (update(origin(22, of=1, area=12)),),
    definitions(50, 1),
)


def in_chunks(content: bytes, size: int) -> Iterator[bytes]:
    for begin in range(0, len(content), size):
        yield content[begin : begin + size]


async def validated(
    served: Served, content: bytes, size: int = 1000, options: pb.JudgeOptions = OPTIONS
) -> tuple[list[pb.TransactionVerdict], pb.ValidateEnvelopeResponse]:
    """The verdicts, and the last message."""

    def parts() -> Iterator[pb.ValidateEnvelopeRequest]:
        yield pb.ValidateEnvelopeRequest(options=options)
        for chunk in in_chunks(content, size):
            yield pb.ValidateEnvelopeRequest(chunk=chunk)

    found = [each async for each in served.rules.ValidateEnvelope(parts())]
    assert [each.WhichOneof("part") for each in found] == ["verdict"] * (len(found) - 1) + ["summary"]
    return [each.verdict for each in found[:-1]], found[-1]


async def committed(
    served: Served,
    content: bytes,
    size: int = 1000,
    request_id: str = "",
    judge: pb.JudgeOptions = OPTIONS,
    **more: Any,
) -> pb.CommitEnvelopeResponse:
    options = pb.CommitEnvelopeOptions(request_id=request_id, options=judge, commit=pb.CommitOptions(**more))

    def parts() -> Iterator[pb.CommitEnvelopeRequest]:
        yield pb.CommitEnvelopeRequest(options=options)
        for chunk in in_chunks(content, size):
            yield pb.CommitEnvelopeRequest(chunk=chunk)

    return await served.rules.CommitEnvelope(parts())


async def committed_whole(served: Served, content: bytes, **more: Any) -> pb.CommitTransactionResponse:
    request = pb.CommitTransactionRequest(envelope=content, options=OPTIONS, **more)
    return await served.rules.CommitTransaction(request)


# --- without a service -----------------------------------------------------------------------------------------------


@asynccontextmanager
async def open_data(folder: Path) -> AsyncIterator[tuple[TariffData, Database]]:
    """Opens, or opens again, the tariff data in a folder."""
    workers = Workers()
    put_database(folder / "ledger.db")
    async with open_database(folder / "ledger.db") as database:
        try:
            yield await TariffData.open(SqlTariffStore(database), workers), database
        finally:
            workers.close()


async def store(data: TariffData, changes: Sequence[Change], request_id: str = "", now_ms: int = 1) -> int:
    """Commits changes; the data version."""

    async def judge(on: Dataset) -> Prepared:
        return prepare_typed(
            on, changes, (), Options(TODAY), lambda *_: "", lambda: None, allow_preexisting=False
        )

    call = Call("anne", now_ms, "why", request_id, "commit", str(changes).encode(), lambda _: b"done")
    return (await data.commit(call, None, judge)).number


Contents = dict[RecordRef, list[tuple[Record, bool, int]]]


def contents(data: Dataset) -> Contents:
    """Every version of every record, oldest first."""
    found: Contents = {}
    for kind in KINDS:
        newest: Iterable[Version] = data._versions[kind].values()
        for version in newest:
            chain = [(each.record, each.deleted, each.number) for each in version]
            found[RecordRef.to(version.record)] = chain[::-1]
    return found


async def stored(database: Database) -> dict[int, list[tuple[str, str]]]:
    """What the database holds: kinds and places by transaction."""

    def read(connection: Connection) -> dict[int, list[tuple[str, str]]]:
        found: dict[int, list[tuple[str, str]]] = {
            row.number: [] for row in connection.execute(select(tariff_transactions.c.number))
        }
        columns = tariff_versions.c
        rows = select(columns.number, columns.kind, columns.place).order_by(columns.number, columns.position)
        for number, kind, place in connection.execute(rows):
            found[number].append((kind, place))
        return found

    return await database.read(read)
