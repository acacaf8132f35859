"""The controllers of a database: who serves, and whose streams have ended with it; see `fleet.others.Leases`.

Time is the database's own, so that no controller's clock matters.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import (
    BigInteger,
    Connection,
    cast,
    delete,
    func,
    insert,
    literal,
    select,
    update,
)
from sqlalchemy.sql import ColumnElement

from quota_server.storage.connected import Database
from quota_server.storage.tables import controllers, epoch_is_online, epochs

#: Until the first renewal.
_FIRST_LEASE_MS = 10_000


class SqlControllers:
    """One controller among those of an open database. `alone`: nobody else can have it open.

    Its docstrings are those of `fleet.others.Leases`.
    """

    def __init__(self, database: Database, uid: str, address: str = "", *, alone: bool = False) -> None:
        self._database = database
        self._uid = uid
        self._address = address
        self._alone = alone

    async def begin(self) -> None:
        async with self._database.writing() as connected:
            await connected.run(_begin, self._uid, self._address, self._alone)

    async def renew(self, lease_ms: int) -> bool:
        async with self._database.writing() as connected:
            return await connected.run(_renew, self._uid, lease_ms)

    async def end(self) -> None:
        async with self._database.writing() as connected:
            await connected.run(_end, [self._uid])


def _begin(connection: Connection, uid: str, address: str, alone: bool) -> None:
    if alone:
        connection.execute(delete(controllers))
        connection.execute(update(epochs).where(epoch_is_online).values(online=False))
    now = _now_ms(connection)
    until = now + _FIRST_LEASE_MS
    connection.execute(
        insert(controllers).values(uid=uid, address=address, start_ms=now, lease_until_ms=until)
    )


def _renew(connection: Connection, uid: str, lease_ms: int) -> bool:
    now = _now_ms(connection)
    mine = select(controllers.c.lease_until_ms >= now).where(controllers.c.uid == uid)
    if connection.execute(mine.with_for_update()).scalar():
        # Else the database was away, or its clock jumped, and everybody's time seems to be over.
        _end_the_silent(connection, uid, now)
    renewed = update(controllers).where(controllers.c.uid == uid).values(lease_until_ms=now + lease_ms)
    return connection.execute(renewed).rowcount == 1


def _end_the_silent(connection: Connection, uid: str, now: ColumnElement[int]) -> None:
    silent = select(controllers.c.uid).where(controllers.c.uid != uid, controllers.c.lease_until_ms < now)
    # Whom another controller is ending already is skipped.
    gone = connection.execute(silent.with_for_update(skip_locked=True)).scalars().all()
    if gone:
        _end(connection, gone)


def _end(connection: Connection, uids: Sequence[str]) -> None:
    serving = select(controllers.c.uid).where(controllers.c.uid.not_in(uids))
    # Also those of whom was ended before, and wrote once more.
    of_theirs = epoch_is_online & epochs.c.owner.not_in(serving)
    # Locked in the order in which everybody locks them.
    in_order = select(epochs.c.agent_uid).where(of_theirs).order_by(epochs.c.agent_uid, epochs.c.epoch)
    connection.execute(in_order.with_for_update(key_share=True)).all()
    connection.execute(update(epochs).where(of_theirs).values(online=False))
    connection.execute(delete(controllers).where(controllers.c.uid.in_(uids)))


def _now_ms(connection: Connection) -> ColumnElement[int]:
    if connection.dialect.name == "sqlite":
        return cast(func.strftime("%s", "now"), BigInteger) * literal(1000)
    return cast(func.extract("epoch", func.clock_timestamp()) * literal(1000), BigInteger)
