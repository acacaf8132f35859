"""A store as it is on disk after its process was killed, and what has to be in it."""

from __future__ import annotations

import enum
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.chaos.history import History, Told, Verb
from tests.chaos.verdict import Violation

STORE = "agent.sqlite"


class State(enum.IntEnum):
    """As gate_service.proto numbers them."""

    HELD = 1
    COUNTED = 2
    RELEASED = 3
    CANCELLED = 4
    EXPIRED = 5


class Row(NamedTuple):
    """An entry."""

    uid: str
    request_id: str
    granted: int
    state: State
    override_id: str | None = None


@dataclass(frozen=True, slots=True)
class Numbers:
    """A store's part in one quota."""

    limit: int
    count: int
    held: int
    overridden: int

    @property
    def used(self) -> int:
        """Units spent, under the limit and under overrides."""
        return self.count + self.overridden


class Paid(NamedTuple):
    """An override as the store has it."""

    override_id: str
    amount: int
    spent: int
    state: str


@dataclass(frozen=True, slots=True)
class Image:
    """Everything of a store that a client could have been told."""

    quotas: dict[str, Numbers] = field(default_factory=dict)
    rows: tuple[Row, ...] = ()
    overrides: tuple[Paid, ...] = ()
    fenced: bool = False
    confirmed: bool = False

    @property
    def keys(self) -> frozenset[tuple[str, str]]:
        """(quota uid, request id) of every entry."""
        return frozenset((row.uid, row.request_id) for row in self.rows)


def load(folder: Path) -> Image:
    """Read the store in `folder`, whose process must have ended. It is copied first: reading changes nothing."""
    with tempfile.TemporaryDirectory(prefix="qc-image-") as place:
        for suffix in ("", "-wal"):
            source = folder / f"{STORE}{suffix}"
            if source.exists():
                shutil.copyfile(source, Path(place) / source.name)
        with closing(sqlite3.connect(Path(place) / STORE)) as connection:
            return _read(connection)


def lose_entry(folder: Path) -> bool:
    """Take the newest counted entry from the disk, as a store would that answers before it is durable; False: none."""
    with closing(sqlite3.connect(folder / STORE)) as connection, connection:
        newest = connection.execute(
            "SELECT quota, number, granted FROM entry WHERE state = ? AND override_id IS NULL ORDER BY create_ms DESC",
            (State.COUNTED,),
        ).fetchone()
        if newest is None:
            return False
        quota, number, granted = newest
        connection.execute("DELETE FROM entry WHERE quota = ? AND number = ?", (quota, number))
        connection.execute("UPDATE quota SET consumed = consumed - ? WHERE number = ?", (granted, quota))
        return True


def _read(connection: sqlite3.Connection) -> Image:
    agent = connection.execute("SELECT fenced, fence_confirmed FROM agent").fetchone() or (None, 0)
    quotas = connection.execute(
        'SELECT number, uid, "limit", consumed - released, held, override_consumed - override_released FROM quota'
    ).fetchall()
    uids = {number: uid for number, uid, *_ in quotas}
    rows = connection.execute("SELECT quota, request_id, granted, state, override_id FROM entry")
    paid = connection.execute("SELECT override_id, amount, spent, state FROM override")
    return Image(
        {uid: Numbers(*numbers) for _, uid, *numbers in quotas},
        tuple(Row(uids[quota], name, granted, State(state), by) for quota, name, granted, state, by in rows),
        tuple(Paid(*each) for each in paid),
        agent[0] is not None,
        bool(agent[1]),
    )


def audit(image: Image, history: History, store: str, base: frozenset[tuple[str, str]] = frozenset()) -> None:
    """Compare a killed store with what its clients were told; `base` is what it began with as a copy.

    Raises Violation: S1, S4 or S6.
    """
    _limits(image, store)
    _sums(image, store)
    _fence(image, store)
    found = {(row.uid, row.request_id): row for row in image.rows}
    if len(found) != len(image.rows):
        raise Violation("S4", f"each request to count once on {store}", "a request has two entries")
    life = history.lives[store]
    for told in history.told(store):
        if told.life == life:
            _kept(told, found.get((told.uid, told.request_id)), image, store)
    for row in image.rows:
        if (row.uid, row.request_id) not in base:
            _known(row, history, store)


def _limits(image: Image, store: str) -> None:
    for uid, numbers in image.quotas.items():
        if numbers.count + numbers.held > numbers.limit or min(numbers.count, numbers.held) < 0:
            raise Violation("S1", f"count + held <= limit on the disk of {store}", f"{uid}: {numbers}")
    for paid in image.overrides:
        if paid.spent > paid.amount:
            raise Violation("S1", f"overrides of {store} to pay at most their amount", str(paid))


def _sums(image: Image, store: str) -> None:
    counted: Counter[str] = Counter()
    held: Counter[str] = Counter()
    overridden: Counter[str] = Counter()
    for row in image.rows:
        if row.state is State.HELD:
            held[row.uid] += row.granted
        elif row.state is State.COUNTED:
            (overridden if row.override_id else counted)[row.uid] += row.granted
    for uid, numbers in image.quotas.items():
        sums = (counted[uid], held[uid], overridden[uid])
        if sums != (numbers.count, numbers.held, numbers.overridden):
            seen = f"{uid}: entries come to {sums}, the totals are {numbers}"
            raise Violation("S4", f"each entry of {store} to count once", seen)


def _fence(image: Image, store: str) -> None:
    if not image.fenced:
        return
    held = [uid for uid, numbers in image.quotas.items() if numbers.held]
    spendable = [paid.override_id for paid in image.overrides if paid.state == "APPROVED"]
    if held or spendable:
        seen = f"open holds in {held}, open overrides {spendable}"
        raise Violation("S6", f"nothing open on the fenced store {store}", seen)


def _kept(told: Told, row: Row | None, image: Image, store: str) -> None:
    what = f"{told.request_id} of {told.granted} units, answered by {store}"
    if row is None:
        raise Violation("S4", f"{what}, to be on its disk", "there is no such entry")
    if row.granted != told.granted or (row.override_id or "") != told.override_id:
        raise Violation("S4", f"{what}, to be on its disk", str(row))
    if row.state not in _allowed(told, image):
        asked = sorted(told.asked)
        raise Violation("S4", f"{what}, to stand as told (ends asked for: {asked})", str(row))


def _allowed(told: Told, image: Image) -> Iterator[State]:
    """Every state in which an entry may be found."""
    if told.ended:
        yield State.RELEASED if Verb.RELEASE in told.asked else State.CANCELLED
        return
    if told.held:
        yield from (State.HELD, State.EXPIRED)
        if Verb.COMMIT in told.asked:
            yield State.COUNTED
        if Verb.CANCEL in told.asked or image.fenced:
            yield State.CANCELLED
    else:
        yield State.COUNTED
    if Verb.RELEASE in told.asked:
        yield State.RELEASED


def _known(row: Row, history: History, store: str) -> None:
    """Whatever counts was asked for, and not refused."""
    ask = history.asked(store, row.request_id)
    if ask is None:
        raise Violation("S4", f"only what was asked for to count on {store}", str(row))
    told = history.find(store, row.uid, row.request_id)
    if told is None and ask.refused:
        raise Violation("S4", f"nothing of {row.request_id} on {store}, refused with {ask.refused}", str(row))
    if row.granted > ask.amount:
        raise Violation("S4", f"at most {ask.amount} for {row.request_id} on {store}", str(row))
