"""What was really spent, from the entries on every disk there ever was; and whose store is which.

A store that was copied or put back lives on as several disks. What they share was spent once, what each adds was spent
on top, whether anybody ever hears of it or not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from quota_agent.gate.model import Entry, EntryState
from quota_server.ledger.model import AgentKey
from tests.simulation.disk import Disk, Moves


class Violation(Exception):
    """A guarantee does not hold."""

    def __init__(self, guarantee: str, what: str) -> None:
        super().__init__(f"{guarantee}: {what}")
        self.guarantee = guarantee


def require(holds: bool, guarantee: str, what: str) -> None:
    """Raise Violation unless it holds. No assert: mutants run with assertions off."""
    if not holds:
        raise Violation(guarantee, what)


class Spent(NamedTuple):
    """Units of one quota on one disk."""

    counted: int = 0
    held: int = 0
    overridden: int = 0

    @property
    def total(self) -> int:
        """All that was given out."""
        return self.counted + self.held + self.overridden

    def plus(self, entry: Entry, sign: int) -> Spent:
        """With an entry put in or taken out."""
        units = sign * entry.granted
        if entry.state is EntryState.HELD:
            return self._replace(held=self.held + units)
        if entry.state is EntryState.COUNTED:
            if entry.override_id is not None:
                return self._replace(overridden=self.overridden + units)
            return self._replace(counted=self.counted + units)
        return self


NOTHING = Spent()


@dataclass(slots=True, eq=False)
class StoreTruth:
    """One disk's part."""

    disk: Disk
    spent: dict[str, Spent] = field(default_factory=dict)
    #: What was spent when the disk began as a copy of another.
    base: dict[str, Spent] = field(default_factory=dict)
    parent: StoreTruth | None = None
    #: Overrides that were spent on it.
    overrides: dict[str, int] = field(default_factory=dict)
    #: Whether a machine still has it.
    alive: bool = True

    def follow(self, moves: Moves) -> None:
        """Take entries along."""
        for before, after in moves:
            spent = self.spent.get(after.quota_uid, NOTHING)
            if before is not None:
                spent = spent.plus(before, -1)
            self.spent[after.quota_uid] = spent.plus(after, 1)

    def total(self, uid: str) -> int:
        """Everything spent of a quota on this disk."""
        return self.spent.get(uid, NOTHING).total

    def own(self, uid: str) -> int:
        """What was spent on this disk since it began."""
        return self.total(uid) - self.base.get(uid, NOTHING).total


@dataclass(slots=True, eq=False)
class Lineage:
    """All disks of one (agent, epoch)."""

    key: AgentKey
    stores: list[StoreTruth] = field(default_factory=list)
    #: The store whose hello the ledger accepted last.
    accepted: StoreTruth | None = None
    #: The ledger was put back since it accepted one, so it may count less than was spent.
    unsure: bool = False

    def total(self, uid: str) -> int:
        """Everything spent of a quota by this enrolment."""
        return sum(store.own(uid) for store in self.stores)


class Truth:
    """Every store and every lineage; moves with what becomes durable."""

    def __init__(self) -> None:
        self.stores: dict[int, StoreTruth] = {}
        self.lineages: dict[AgentKey, Lineage] = {}
        self._by_quota: dict[str, dict[AgentKey, Lineage]] = {}
        self._totals: dict[str, int] = {}

    def begin(self, disk: Disk) -> StoreTruth:
        """A new disk: empty, or a copy of its parent as of now or earlier."""
        store = StoreTruth(disk)
        self.stores[disk.number] = store
        if disk.parent is not None:
            parent = self.stores[disk.parent.number]
            self._copy(store, parent, disk)
        return store

    def follow(self, disk: Disk, moves: Moves) -> StoreTruth:
        """`disk` holds these entries now."""
        store = self.stores[disk.number]
        agent = disk.state.agent
        if agent.agent_uid and not any(each is store for each in self._lineage(disk).stores):
            self._lineage(disk).stores.append(store)
        if moves:
            uids = {after.quota_uid for _, after in moves}
            before = {uid: store.total(uid) for uid in uids}
            store.follow(moves)
            for uid in uids:
                self._totals[uid] = self._totals.get(uid, 0) + store.total(uid) - before[uid]
                self._by_quota.setdefault(uid, {})[self._lineage(disk).key] = self._lineage(disk)
        return store

    def lineage_of(self, disk: Disk) -> Lineage:
        """The enrolment that a disk belongs to."""
        return self._lineage(disk)

    def total(self, uid: str) -> int:
        """Units of a quota that were really given out."""
        return self._totals.get(uid, 0)

    def lineages_in(self, uid: str) -> list[Lineage]:
        """Enrolments that spent of a quota."""
        return list(self._by_quota.get(uid, {}).values())

    def _lineage(self, disk: Disk) -> Lineage:
        agent = disk.state.agent
        key = AgentKey(agent.agent_uid, agent.epoch)
        found = self.lineages.get(key)
        if found is None:
            found = self.lineages[key] = Lineage(key)
        return found

    def _copy(self, store: StoreTruth, parent: StoreTruth, disk: Disk) -> None:
        store.parent = parent
        entries: dict[str, Spent] = {}
        for entry in disk.entries.values():
            entries[entry.quota_uid] = entries.get(entry.quota_uid, NOTHING).plus(entry, 1)
            if entry.override_id is not None:
                store.overrides[entry.override_id] = entry.granted
        store.spent, store.base = entries, dict(entries)
        if disk.state.agent.agent_uid:
            self._lineage(disk).stores.append(store)


def unreported(lineage: Lineage, uid: str, is_accounted: Callable[[StoreTruth], bool]) -> int:
    """What copies of an enrolment's accepted store spent that nobody can have heard of yet.

    `is_accounted` says whether the ledger has taken a store's last word.
    """
    return sum(spent for store, spent in _beside_the_accepted(lineage, uid) if not is_accounted(store))


def accounted(lineage: Lineage, uid: str, is_accounted: Callable[[StoreTruth], bool]) -> int:
    """What copies of it spent whose last word the ledger has taken: it has to be charged."""
    return sum(spent for store, spent in _beside_the_accepted(lineage, uid) if is_accounted(store))


def _beside_the_accepted(lineage: Lineage, uid: str) -> Iterator[tuple[StoreTruth, int]]:
    """The other stores of an enrolment, and what each spent since it parted from the accepted one."""
    if len(lineage.stores) == 1 and lineage.accepted is lineage.stores[0]:
        return
    parted: dict[int, int] = {}
    store = lineage.accepted
    while store is not None and store.parent is not None:
        parted[store.parent.disk.number] = store.base.get(uid, NOTHING).total
        store = store.parent
    for each in lineage.stores:
        if each is not lineage.accepted:
            since = parted.get(each.disk.number, each.base.get(uid, NOTHING).total)
            yield each, max(0, each.total(uid) - since)
