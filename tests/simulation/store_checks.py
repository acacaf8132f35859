"""What has to hold of an agent's store after every group that became durable: S1, S3, S4, S5, S6."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from quota_agent.gate.draft import Changes
from quota_agent.gate.model import Entry, EntryState
from quota_agent.gate.quota import Quota
from quota_agent.gate.records import State
from quotafleet.link.messages import OverrideState
from tests.simulation.disk import Disk, Moves
from tests.simulation.truth import NOTHING, StoreTruth, require

#: Which states may follow on which; an entry that has ended stays so.
_NEXT: Mapping[EntryState, frozenset[EntryState]] = {
    EntryState.HELD: frozenset({EntryState.COUNTED, EntryState.CANCELLED, EntryState.EXPIRED}),
    EntryState.COUNTED: frozenset({EntryState.RELEASED}),
}


class Approvals(Protocol):
    """What operators approved."""

    def approved_units(self, override_id: str) -> int | None:
        """The amount of an override that was ever approved."""


def check_store(disk: Disk, store: StoreTruth, before: State, changes: Changes, moves: Moves) -> None:
    """Check what one group did. `store` has the moves already."""
    name = f"store {disk.number}"
    if before.agent.fenced is not None:
        require(not moves, "S6", f"{name} is fenced, and yet its entries changed: {moves[:2]}")
    if disk.state.agent.fenced is not None:
        open_ones = [each for each in disk.state.overrides.values() if each.state is OverrideState.APPROVED]
        require(not disk.holds and not open_ones, "S6", f"{name} is fenced with holds or overrides open")
    require(disk.state.agent.dial >= before.agent.dial, "S6", f"{name} went back to an older dial")
    for old, new in moves:
        _check_move(name, old, new)
    for quota in changes.quotas:
        _check_quota(name, quota, before.quotas.get(quota.uid), store)


def check_overrides(disk: Disk, store: StoreTruth, moves: Moves, approvals: Approvals) -> None:
    """Each override is spent at most once on a store, and up to what was approved."""
    for old, new in moves:
        if old is None and new.override_id is not None:
            name = f"override {new.override_id} on store {disk.number}"
            require(new.override_id not in store.overrides, "S1", f"{name} was spent twice")
            store.overrides[new.override_id] = new.granted
            amount = approvals.approved_units(new.override_id)
            require(amount is not None, "S1", f"{name} was never approved")
            require(new.granted <= (amount or 0), "S1", f"{name} paid {new.granted} of {amount}")


def _check_move(name: str, old: Entry | None, new: Entry) -> None:
    if old is None:
        return
    is_same = old._replace(state=new.state) == new
    require(is_same, "S4", f"{name} wrote over the entry {old} with {new}")
    allowed = new.state in _NEXT.get(old.state, frozenset())
    require(allowed, "S4", f"{name} took {old.request_id} from {old.state} to {new.state}")


def _check_quota(name: str, quota: Quota, before: Quota | None, store: StoreTruth) -> None:
    what = f"{name}, quota {quota.uid}"
    spent = store.spent.get(quota.uid, NOTHING)
    count = quota.consumed - quota.released
    require(
        spent.counted + spent.held <= quota.limit, "S1", f"{what}: {spent} is past the limit {quota.limit}"
    )
    said = (count, quota.held, quota.totals.overridden)
    require(said == tuple(spent), "S4", f"{what} says {said}, its entries say {tuple(spent)}")
    if before is None:
        return
    require(
        quota.totals.covers(before.totals), "S5", f"{what}: totals fell, {before.totals} to {quota.totals}"
    )
    require(quota.sequence > before.sequence, "S5", f"{what}: changed without a new sequence")
    require(quota.revision >= before.revision, "S3", f"{what}: went back to {quota.revision}")
    rose = quota.revision == before.revision and quota.limit > before.limit
    require(not rose, "S3", f"{what}: the limit rose from {before.limit} to {quota.limit} within a revision")
