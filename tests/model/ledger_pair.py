"""One ledger on SQLite and one on PostgreSQL, to which the same is done; both are to hold the same, row by row."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, select

from quota_server.errors import AlreadyAnswered, LedgerRefusal
from quota_server.ledger.calls import Change
from quota_server.ledger.effects import Effects
from quota_server.ledger.events import FenceAckEvent, HelloEvent, LinkEvent, Reply, ReportEvent
from quota_server.ledger.model import AgentKey
from quota_server.storage.connected import Database
from quota_server.storage.database import open_database
from quota_server.storage.ledger_store import SqlLedgerStore
from quota_server.storage.tables import metadata
from quotafleet.link.messages import Fence, FromController
from tests import databases
from tests.databases import chosen
from tests.link_kit import Ledger, Site

KINDS: Final = ("sqlite", "postgresql")

#: Rows by table, each by the names of its columns.
Contents = dict[str, list[dict[str, Any]]]


class Refused:
    """What a use case refused, to be compared."""

    def __init__(self, error: LedgerRefusal | AlreadyAnswered) -> None:
        self.said: tuple[object, ...] = (str(error),)
        if isinstance(error, LedgerRefusal):
            self.said = (error.reason, error.message, error.metadata, error.fields)

    @property
    def reason(self) -> object:
        return self.said[0]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Refused) and self.said == other.said

    def __hash__(self) -> int:
        return hash(str(self.said))

    def __repr__(self) -> str:
        return f"Refused{self.said}"


@dataclass(frozen=True)
class Answer:
    """What a store was answered, to be compared."""

    messages: tuple[FromController, ...]
    superseded: bool
    refusal: Refused | None

    @classmethod
    def to(cls, reply: Reply) -> Answer:
        return cls(reply.messages, reply.superseded, Refused(reply.refusal) if reply.refusal else None)

    def brings(self, kind: type) -> bool:
        return any(isinstance(message, kind) for message in self.messages)


class World:
    """A ledger and the stores that speak to it, by label; ids are numbered, so that two worlds have the same."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.ledger = Ledger(SqlLedgerStore(database))
        self.sites: dict[str, Site] = {}

    def enrolled(self, key: AgentKey, name: str) -> None:
        """A new store for a new enrolment."""
        label = f"{key.agent_uid}/{key.epoch}"
        self.sites[label] = self.ledger.sites[key] = Site(self.ledger, key, name)
        self.sites[label].store_id = f"store-{label}"

    async def exchange(self, events: Sequence[tuple[str, LinkEvent]]) -> tuple[list[Answer], Effects]:
        """One batch of what stores say; each takes its answer."""
        batch = [event for _, event in events]
        result = await self.ledger.batches.handle(batch, self.ledger.now_ms)
        self.ledger.keep(result.effects)
        for (label, event), reply in zip(events, result.replies, strict=True):
            site = self.sites[label]
            site.online = site.online and not (reply.superseded or reply.refusal)
            for message in reply.messages:
                if not isinstance(message, Fence):
                    site.take(message)
                elif isinstance(event, ReportEvent | HelloEvent):
                    site.online, site.fenced_kind = False, message.kind
        return [Answer.to(reply) for reply in result.replies], result.effects

    def hello(self, label: str) -> HelloEvent:
        site = self.sites[label]
        return HelloEvent(site.key, site.hello_message())

    def report(self, label: str) -> ReportEvent:
        site = self.sites[label]
        return ReportEvent(site.key, site.dial, site.report_message())

    def last_word(self, label: str) -> FenceAckEvent:
        site = self.sites[label]
        assert site.fenced_kind is not None
        return FenceAckEvent(site.key, site.dial, site.fence_ack(site.fenced_kind, f"fresh-{label}"))

    async def follow(self, uid: str) -> Change | None:
        return await self.ledger.administration.follow_demand(uid, self.ledger.now_ms)

    async def contents(self) -> Contents:
        """Every row of every table."""

        def read(connection: Connection) -> Contents:
            return {
                table.name: sorted(map(dict, connection.execute(select(table)).mappings()), key=repr)
                for table in metadata.sorted_tables
            }

        return await self.database.read(read)


class Pair:
    """Both worlds."""

    def __init__(self, worlds: list[World]) -> None:
        self.worlds = worlds

    @classmethod
    async def open(cls, folder: Path, stack: AsyncExitStack) -> Pair:
        worlds = []
        for kind in KINDS:
            with chosen(kind):
                where = await databases.put(folder / f"{kind}.db")
            worlds.append(World(await stack.enter_async_context(open_database(where))))
        return cls(worlds)

    @property
    def first(self) -> World:
        return self.worlds[0]

    async def do(self, work: Callable[[World], Awaitable[Any]]) -> Any:
        """The same in both; what came of it, which is the same, or the test has failed."""

        async def ended(world: World) -> Any:
            try:
                return await work(world)
            except (LedgerRefusal, AlreadyAnswered) as refusal:
                return Refused(refusal)

        one, other = await asyncio.gather(*map(ended, self.worlds))
        assert one == other
        return one

    async def contents(self) -> Contents:
        """The rows of both, which are the same."""
        one, other = await asyncio.gather(*(world.contents() for world in self.worlds))
        for table, rows in one.items():
            assert rows == other[table], table
        return one
