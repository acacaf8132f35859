"""What controllers on one PostgreSQL database tell each other, by LISTEN and NOTIFY; see `fleet.others.Notices`.

A transaction's notice goes out with its commit, or not at all. What it says is in `fleet.payloads`.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Collection
from contextlib import suppress
from typing import Any, Final

import asyncpg
from sqlalchemy import Connection, text

from quota_server.errors import StoreUnavailable
from quota_server.fleet.others import Notice, Question
from quota_server.fleet.payloads import in_parts, payloads_of, read_payload
from quota_server.ledger.book import Book
from quota_server.ledger.model import AgentKey
from quota_server.storage.mapping import encode_json
from quota_server.storage.migrating import SERVING
from quota_server.storage.postgres import PostgresDatabase

_log = logging.getLogger(__name__)

CHANNEL: Final = "quotafleet"
_LIFE_SECONDS: Final = 5.0
_PAUSES_SECONDS: Final = (0.1, 0.5, 1.0, 2.0)

_NOTIFY: Final = text("SELECT pg_notify(:channel, :payload)")
#: A notice is worth nothing after a power loss.
_AT_ONCE: Final = text("SET LOCAL synchronous_commit = off")


def announce(connection: Connection, controller: str, book: Book) -> None:
    """Tells the others, with the commit, what a book has changed."""
    if connection.dialect.name == "postgresql":
        for payload in payloads_of(book):
            _notify(connection, controller, payload)


def announce_tariff(connection: Connection, controller: str) -> None:
    """Tells the others, with the commit, that tariff data was stored."""
    if connection.dialect.name == "postgresql":
        _notify(connection, controller, {"tariff": True})


class PostgresNotices:
    """The notices of one controller; its docstrings are those of `fleet.others.Notices`. `run` listens."""

    def __init__(self, database: PostgresDatabase, controller: str) -> None:
        self._database = database
        self._controller = controller
        self._notice = Notice(everything=True)
        self._new = asyncio.Event()
        self._new.set()
        #: Set while nothing is lost on the way here.
        self.listening = False

    async def next(self) -> Notice:
        await self._new.wait()
        self._new.clear()
        notice, self._notice = self._notice, Notice()
        return notice

    async def ask(self, question: Question) -> None:
        await self._say({"question": [question.controller, question.number, question.quota_uid]})

    async def answer(self, question: Question, agents: Collection[AgentKey]) -> None:
        for some in in_parts(sorted(agents)):
            await self._say({"answer": [question.controller, question.number, some]})

    async def run(self) -> None:
        """Listens until it is cancelled; dials again when the connection is lost, and then has everything looked at."""
        tries = 0
        while True:
            try:
                connection = await self._database.connect_to_listen()
            except (StoreUnavailable, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                _log.warning("cannot listen to the other controllers: %s", error)
            else:
                tries = 0
                await self._listen(connection)
            await asyncio.sleep(_PAUSES_SECONDS[min(tries, len(_PAUSES_SECONDS) - 1)])
            tries += 1

    async def _listen(self, connection: asyncpg.Connection[Any]) -> None:
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _: lost.set())
        try:
            await connection.execute("SELECT pg_advisory_lock_shared($1)", SERVING)
            await connection.add_listener(CHANNEL, self._heard)
            self.listening = True
            self._take(Notice(everything=True))
            await self._until_lost(connection, lost)
            _log.warning("the connection to the database that listens was lost")
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            _log.warning("cannot listen to the other controllers: %s", error)
        finally:
            self.listening = False
            connection.terminate()

    async def _until_lost(self, connection: asyncpg.Connection[Any], lost: asyncio.Event) -> None:
        """A server that vanishes without a word is missed too: it is asked for a sign of life every so often."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LIFE_SECONDS):
                    await lost.wait()
                return
            await connection.execute("SELECT 1", timeout=_LIFE_SECONDS)

    def _heard(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        notice = Notice(everything=True)
        with suppress(ValueError, KeyError, TypeError, AttributeError):  # of a newer version: look everywhere
            said = json.loads(str(payload))
            if said["from"] == self._controller:
                return
            notice = read_payload(said, self._controller)
        self._take(notice)

    def _take(self, new: Notice) -> None:
        self._notice.add(new)
        self._new.set()

    async def _say(self, what: dict[str, Any]) -> None:
        async with self._database.writing() as connected:
            await connected.run(_say, self._controller, what)


def _say(connection: Connection, controller: str, what: dict[str, Any]) -> None:
    connection.execute(_AT_ONCE)
    _notify(connection, controller, what)


def _notify(connection: Connection, controller: str, what: dict[str, Any]) -> None:
    payload = encode_json({"from": controller, **what})
    connection.execute(_NOTIFY, {"channel": CHANNEL, "payload": payload})
