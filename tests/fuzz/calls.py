"""Calls of a controller's services without a network: each has to be answered, or refused as the contract says."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from random import Random
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from quota_server.fleet.fleet import Fleet
from quota_server.ledger.administration import Administration
from quota_server.ledger.enrolment import Enrolments
from quota_server.ledger.link_batch import LinkBatches
from quota_server.ledger.recovery import Recovery
from quota_server.overrides.decisions import Overrides
from quota_server.services.agent_admin_service import AgentAdminService
from quota_server.services.quota_service import QuotaService
from quota_server.services.rules_service import RulesService
from quota_server.storage.ledger_store import SqlLedgerStore
from quota_server.storage.tables import quotas
from quota_server.storage.tariff_store import SqlTariffStore
from quota_server.storage.tariff_views import SqlTariffViews
from quota_server.storage.views import SqlLedgerViews
from quota_server.tariff.data import TariffData
from tests.fuzz.controller_kit import HEARTBEAT_MS, KEYS, MARKS, fill, nothing_fails
from tests.fuzz.database import Contents, MemoryDatabase
from tests.fuzz.endings import FakeContext
from tests.fuzz.mutate import frames, proto
from tests.fuzz.mutate.frames import Frame
from tests.gate_kit import FakeClock, ids
from tests.link_kit import Ledger
from tests.tariff_kit import BASE, definitions, store

T = TypeVar("T")

#: Refusals that nothing here gives a reason for: the store works, and nobody calls without a token.
_NEVER: Final = frozenset({"STORE_UNAVAILABLE", "TOKEN_INVALID"})


@dataclass(frozen=True)
class Method:
    """An RPC: its service among `Services`, its name, its request; of a stream, each message is one."""

    service: str
    name: str
    request: type[Message]
    streams: bool = False
    #: Nothing is stored, whatever comes of it.
    reads: bool = False


class Workers:
    """Does at once what is to be done in a thread."""

    async def do(self, work: Callable[[Callable[[], None]], T], **_: bool) -> T:
        return work(lambda: None)

    def close(self) -> None: ...


class Services:
    """A controller's services on a database in memory."""

    def __init__(self, database: Any, tariff: TariffData) -> None:
        sql, clock, new_id, workers = SqlLedgerStore(database), FakeClock(), ids("new"), Workers()
        administration, overrides = Administration(sql, new_id), Overrides(sql, new_id, HEARTBEAT_MS)
        self.fleet = Fleet(
            LinkBatches(sql, MARKS, HEARTBEAT_MS), administration, overrides, sql, clock, HEARTBEAT_MS
        )
        views, fleet = SqlLedgerViews(database), self.fleet
        self.quotas = QuotaService(administration, overrides, views, sql, fleet, clock)
        self.agents = AgentAdminService(
            Enrolments(sql, new_id), Recovery(sql), views, sql, fleet, KEYS, clock
        )
        self.rules = RulesService(tariff, SqlTariffViews(database), workers, clock)  # type: ignore[arg-type]


@functools.cache
def filled() -> tuple[MemoryDatabase, tuple[str, ...]]:
    """A database with a fleet and tariff data in it, and the ids that it has."""
    database = MemoryDatabase()
    port: Any = database

    async def begin() -> tuple[str, ...]:
        agents, quotas, overrides = await fill(Ledger(SqlLedgerStore(port)))
        data = await TariffData.open(SqlTariffStore(port), Workers())  # type: ignore[arg-type]
        await store(data, BASE)
        await store(data, definitions(50, 2))
        return (*(agent.agent_uid for agent in agents), *quotas, *overrides)

    with database.kept():
        return database, asyncio.run(begin())


def check(data: bytes, methods: Sequence[Method]) -> None:
    """All calls of an input, one after the other."""
    database, _ = filled()
    with nothing_fails("quota_server"), database.put_back():
        asyncio.run(_check(database, frames.unpack(data), methods))


async def _check(database: MemoryDatabase, steps: Sequence[Frame], methods: Sequence[Method]) -> None:
    port: Any = database
    tariff = TariffData(SqlTariffStore(port), Workers())  # type: ignore[arg-type]
    if any(method.service == "rules" for method in methods):
        await tariff._catch_up()
    services = Services(database, tariff)
    for number, group in groupby(steps, lambda frame: frame.operation % len(methods)):
        method, requests = methods[number], []
        for step in group:
            try:
                requests.append(method.request.FromString(step.body))
            except DecodeError:
                continue
        for given in [requests] if method.streams else ([each] for each in requests):
            await _call_and_check(services, database, method, given)


async def _call_and_check(
    services: Services, database: MemoryDatabase, method: Method, requests: list[Any]
) -> None:
    before = database.contents()
    reason, answers = await call(services, method, requests)
    after = database.contents()
    if reason or method.reads or any(getattr(each, "validate_only", False) for each in requests):
        assert before == after, f"{method.name}: something was stored: {reason or 'answered'}"
    elif any(getattr(each, "request_id", "") for each in requests):
        again, repeated = await call(services, method, requests)
        assert not again, f"{method.name}: a repeat is refused: {again}"
        assert repeated == answers, f"{method.name}: a repeat is answered otherwise"
        assert database.contents() == after, f"{method.name}: a repeat was carried out"
    _check_cap(before, after)


async def call(services: Services, method: Method, requests: list[Any]) -> tuple[str, list[Message]]:
    """The reason of the refusal, or "" and the answers."""
    context: Any = FakeContext([("quotafleet-actor", "anne")])
    act = getattr(getattr(services, method.service), method.name)
    try:
        answer = await act(_stream(requests) if method.streams else requests[0], context)
    except grpc.aio.AbortError:
        reason = context.refusal(method.request)
        assert reason, f"{method.name} ended without a reason: {context.details}"
        assert reason not in _NEVER, f"{method.name}: {reason}: {context.details}"
        return reason, []
    answers: list[Message] = [*context.written, *([] if answer is None else [answer])]
    for each in answers:
        assert type(each).FromString(each.SerializeToString()) == each
    return "", answers


async def _stream(requests: Iterable[Any]) -> AsyncIterator[Any]:
    for each in requests:
        yield each


def _check_cap(before: Contents, after: Contents) -> None:
    """S2: E is not above the target, unless it was above it already or the target fell."""
    columns = [column.name for column in quotas.columns]
    was = {row[columns.index("uid")]: row for row in before["quotas"]}
    for row in after["quotas"]:
        named = dict(zip(columns, row, strict=True))
        old = dict(zip(columns, was.get(named["uid"], row), strict=True))
        escrowed, earlier = (each["sum_exposure"] + each["sum_charge"] for each in (named, old))
        assert escrowed <= max(named["target"], earlier), f"E of {named['name']} rose to {escrowed}"


def mutate(
    data: bytes, other: bytes, random: Random, methods: Sequence[Method], words: Sequence[Any]
) -> bytes:
    """Calls, each a request."""

    def body(frame: Frame, random: Random) -> bytes:
        return proto.mutate(frame.body, methods[frame.operation % len(methods)].request, random, words)

    return frames.mutate(data, other, random, body, len(methods))
