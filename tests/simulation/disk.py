"""An agent's disk, and the gate's store on it: what a group wrote is there whole, or not at all.

Nothing gets there but what a group says that it writes (`Changes`), whatever the gate has in memory; and what is loaded
went through the rows of the real store.

A group that is being written becomes durable at one moment. Whoever waits for it may learn of it, or be killed before
or after that moment, or be told of an error that leaves it open whether it was written. `test_durability.py` holds
this model against SQLite and kill -9.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

import immutables

from quota_agent.errors import StoreUnavailable
from quota_agent.gate.draft import Changes, Known
from quota_agent.gate.model import Entry, EntryState
from quota_agent.gate.records import Key, State, index_names
from quota_agent.gate.state import Lookup
from quota_agent.gate.store import DecidedT
from quota_agent.store import rows
from tests.simulation.loop import SimLoop

Entries = immutables.Map[Key, Entry]
#: Entries before (None: new) and after a write.
Moves = list[tuple[Entry | None, Entry]]


class Watcher(Protocol):
    """Who is told of everything that becomes durable on an agent's disk."""

    def store_wrote(self, disk: Disk, before: State, changes: Changes, moves: Moves) -> None:
        """`disk` holds the changes now; `moves` are the entries that are new or other ones."""


@dataclass(slots=True)
class Trouble:
    """How often a write fails so that nobody knows whether it happened; one for all disks."""

    unclear_rate: float = 0.0
    #: How often another transaction is in the way of one of the ledger's.
    conflict_rate: float = 0.0


@dataclass(slots=True)
class Disk:
    """What is durable of one store. A copy, or a backup put back, is another Disk that began as a part of this one."""

    number: int
    watcher: Watcher
    state: State = field(default_factory=State)
    entries: Entries = field(default_factory=immutables.Map)
    #: When each open hold ends.
    holds: immutables.Map[Key, int] = field(default_factory=immutables.Map)
    parent: Disk | None = None
    #: Whether new entries find no room.
    full: bool = False
    #: A group that is being written; it may still be lost.
    writing: Changes | None = None
    #: Groups written in all.
    writes: int = 0

    def fork(self, number: int) -> Disk:
        """A copy of this disk as it is now."""
        return Disk(number, self.watcher, self.state, self.entries, self.holds, parent=self)

    def power_loss(self, *, written: bool) -> None:
        """The group that was being written turns out to be there, or not."""
        if self.writing is not None and written:
            self.settle()
        self.writing = None

    def settle(self) -> None:
        """The group that was being written is durable."""
        assert self.writing is not None
        changes, self.writing = self.writing, None
        before, self.state = self.state, _written(self.state, changes)
        self.writes += 1
        self.watcher.store_wrote(self, before, changes, self._write(changes))

    def _write(self, changes: Changes) -> Moves:
        if not (changes.created or changes.changed or changes.cancels_holds):
            return []
        entries, holds = self.entries.mutate(), self.holds.mutate()
        moves: Moves = []
        for entry in (*changes.created, *changes.changed):
            key = (entry.quota_uid, entry.request_id)
            moves.append((entries.get(key), entry))
            entries[key] = entry
            if entry.state is EntryState.HELD:
                assert entry.expire_ms is not None
                holds[key] = entry.expire_ms
            else:
                holds.pop(key, None)
        if changes.cancels_holds:
            for key in self.holds:
                if key in holds:
                    held = entries[key]
                    entries[key] = held._replace(state=EntryState.CANCELLED)
                    moves.append((held, entries[key]))
                    del holds[key]
        self.entries, self.holds = entries.finish(), holds.finish()
        return moves


class SimGateStore:
    """`quota_agent.gate.store.GateStore` on a simulated disk."""

    def __init__(
        self, disk: Disk, loop: SimLoop, chance: Random, trouble: Trouble, archive: Callable[[Disk], Disk]
    ) -> None:
        """`archive` puts a disk aside and answers an empty one."""
        self.disk = disk
        self._loop = loop
        self._chance = chance
        self._archive = archive
        self._trouble = trouble

    async def load(self) -> State:
        state, holds = self.disk.state, self.disk.holds
        quotas = [rows.quota_of(rows.quota_row(each)) for each in state.quotas.values()]
        overrides = [rows.override_of(rows.override_row(each)) for each in state.overrides.values()]
        asks = [rows.ask_of(rows.ask_row(each)) for each in state.asks.values()]
        return State(
            rows.agent_of(rows.agent_row(state.agent)),
            {quota.uid: quota for quota in quotas},
            {override.override_id: override for override in overrides},
            {(ask.quota_uid, ask.ask_id): ask for ask in asks},
            min(holds.values(), default=None),
            index_names(quotas),
        )

    async def transact(self, lookup: Lookup, decide: Callable[[Known], DecidedT]) -> DecidedT:
        decided = decide(self._look_up(lookup))
        if decided.changes.needed:
            await self._write(decided.changes)
        return decided

    async def find(self, uids: Sequence[str], request_id: str) -> Entry | None:
        keys = ((uid, request_id) for uid in uids)
        return next((self.disk.entries[key] for key in keys if key in self.disk.entries), None)

    async def entries(
        self, uid: str, after_number: int, limit: int, states: Collection[EntryState]
    ) -> list[Entry]:
        wanted = states or tuple(EntryState)
        found = (each for each in self.disk.entries.values() if each.quota_uid == uid)
        page = sorted(
            (e for e in found if e.number > after_number and e.state in wanted), key=lambda e: e.number
        )
        return page[:limit]

    async def probe(self) -> None:
        await asyncio.sleep(0.001)
        if self.disk.full:
            raise StoreUnavailable("the disk is full", clean=True)

    async def reopen(self) -> None:
        await asyncio.sleep(0.001)

    async def archive(self, label: str) -> None:
        self.disk = self._archive(self.disk)

    def _look_up(self, lookup: Lookup) -> Known:
        disk = self.disk
        named = ((uid, request) for uid, requests in lookup.requests.items() for request in requests)
        entries = {key: disk.entries[key] for key in named if key in disk.entries}
        if lookup.due_ms is None:
            return Known(entries)
        due = [disk.entries[key] for key, at_ms in disk.holds.items() if at_ms <= lookup.due_ms]
        due.sort(key=lambda entry: (entry.expire_ms, entry.quota_uid, entry.number))
        later = (at_ms for at_ms in disk.holds.values() if at_ms > lookup.due_ms)
        return Known(entries, due, min(later, default=None))

    async def _write(self, changes: Changes) -> None:
        disk, chance = self.disk, self._chance
        if disk.full and changes.created:
            raise StoreUnavailable("the disk is full", clean=True)
        disk.writing = changes
        done = self._loop.create_future()
        unclear = chance.random() < self._trouble.unclear_rate
        delay = 0.0002 + 0.002 * chance.random() if chance.random() < 0.95 else 0.2 * chance.random()
        at = self._loop.time() + delay
        self._loop.at(at, "disk", self._settle, changes, done, not unclear or chance.random() < 0.5)
        await done
        if unclear:
            raise StoreUnavailable("the disk failed while it wrote", clean=False)

    def _settle(self, changes: Changes, done: asyncio.Future[None], written: bool) -> None:
        if self.disk.writing is not changes:
            return  # the machine was switched off meanwhile
        self.disk.power_loss(written=written)
        if not done.done():
            done.set_result(None)


def _written(before: State, changes: Changes) -> State:
    """What a store holds once a group is written: rows that are put in the place of others, and nothing else."""
    quotas, names = before.quotas, before.names
    if changes.quotas:
        # Copies: what the gate does to its own is not on the disk.
        put = {quota.uid: quota.copy() for quota in changes.quotas}
        known = quotas
        quotas = {**known, **put}
        if any(uid not in known or quota.terms is not known[uid].terms for uid, quota in put.items()):
            names = index_names(quotas.values())
    overrides, asks = before.overrides, before.asks
    if changes.overrides:
        overrides = {**overrides, **{each.override_id: each for each in changes.overrides}}
    if changes.asks:
        asks = {**asks, **{(each.quota_uid, each.ask_id): each for each in changes.asks}}
    return State(changes.agent or before.agent, quotas, overrides, asks, names=names)
