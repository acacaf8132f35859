"""What controllers on one PostgreSQL database tell each other, by LISTEN and NOTIFY; see `fleet.others.Notices`.

A transaction's notice goes out with its commit, or not at all. A payload says where to look; what does not fit into one
is said in several.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

import asyncpg
from sqlalchemy import Connection, text

from quota_server.errors import StoreUnavailable
from quota_server.fleet.others import Notice, Question
from quota_server.ledger.book import Book
from quota_server.ledger.model import AgentKey, Epoch, Override
from quota_server.storage.mapping import encode_json
from quota_server.storage.postgres import PostgresDatabase

_log = logging.getLogger(__name__)

CHANNEL: Final = "quotafleet"
#: A payload has at most 7,999 bytes; uids are 36 characters, names are not sent.
_UIDS_IN_ONE: Final = 100
#: Of more quotas than this it is said that everything is to be looked at.
_MOST_UIDS: Final = 2_000
_PAUSES_SECONDS: Final = (0.1, 0.5, 1.0, 2.0)

_NOTIFY: Final = text("SELECT pg_notify(:channel, :payload)")
#: A notice is worth nothing after a power loss.
_AT_ONCE: Final = text("SET LOCAL synchronous_commit = off")


def announce(connection: Connection, controller: str, book: Book) -> None:
    """Tells the others, with the commit, what a book has changed."""
    if connection.dialect.name != "postgresql":
        return
    changed = book.changes()
    decided = sorted(record.override_id for record in changed if isinstance(record, Override))
    ended = any(isinstance(record, Epoch) and record.ended and record.online for record in changed)
    if len(book.touched) + len(decided) > _MOST_UIDS or book.everything_recovers:
        _notify(connection, controller, {"everything": True})
        return
    for kind, uids in (("quotas", sorted(book.touched)), ("overrides", decided)):
        for some in _in_parts(uids):
            _notify(connection, controller, {kind: some})
    if ended:
        _notify(connection, controller, {"ended": True})


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
        for some in _in_parts(sorted(agents)):
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
            await connection.add_listener(CHANNEL, self._heard)
            self.listening = True
            self._take(Notice(everything=True))
            await lost.wait()
            _log.warning("the connection to the database that listens was lost")
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            _log.warning("cannot listen to the other controllers: %s", error)
        finally:
            self.listening = False
            connection.terminate()

    def _heard(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        notice = Notice(everything=True)
        with suppress(ValueError, KeyError, TypeError):  # of a newer version: look everywhere
            said = json.loads(str(payload))
            if said["from"] == self._controller:
                return
            notice = _read(said, self._controller)
        self._take(notice)

    def _take(self, new: Notice) -> None:
        known = self._notice
        known.quotas |= new.quotas
        known.overrides |= new.overrides
        known.questions |= new.questions
        known.ended |= new.ended
        known.tariff |= new.tariff
        known.everything |= new.everything
        for number, agents in new.answers.items():
            known.answers.setdefault(number, set()).update(agents)
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


def _read(said: dict[str, Any], controller: str) -> Notice:
    notice = Notice(
        quotas=set(said.get("quotas", ())),
        overrides=set(said.get("overrides", ())),
        ended=bool(said.get("ended")),
        tariff=bool(said.get("tariff")),
        everything=bool(said.get("everything")),
    )
    if "question" in said:
        notice.questions.add(Question(*said["question"]))
    if "answer" in said:
        asker, number, agents = said["answer"]
        if asker == controller:
            notice.answers[number] = {AgentKey(uid, epoch) for uid, epoch in agents}
    return notice


def _in_parts(things: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(things), _UIDS_IN_ONE):
        yield things[start : start + _UIDS_IN_ONE]
