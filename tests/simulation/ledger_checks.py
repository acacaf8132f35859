"""What has to hold of the ledger after every transaction: S2, S3, S5, S7, on sums of our own."""

from __future__ import annotations

from collections.abc import Callable

from quota_server.ledger.book import Book, Record
from quota_server.ledger.marks import Marks
from quota_server.ledger.model import (
    AgentKey,
    Allocation,
    AllocationKey,
    Assignment,
    Epoch,
    Override,
    Quota,
)
from quotafleet.link.messages import OverrideState
from tests.memory_store import Tables
from tests.simulation.machines import KEYS
from tests.simulation.truth import Lineage, StoreTruth, Truth, accounted, require, unreported

_MARKS = Marks(KEYS.mark_key)


class LedgerChecks:
    """Follows the ledger transaction by transaction. `find_accepted` tells which store opened the stream of a dial."""

    def __init__(self, truth: Truth, find_accepted: Callable[[AgentKey, int], StoreTruth | None]) -> None:
        self._truth = truth
        self._find_accepted = find_accepted
        self.tables = Tables()
        #: E by quota, and what is known to be used, as our own sums have them.
        self._escrowed: dict[str, int] = {}
        self._known: dict[str, int] = {}
        #: Overrides ever approved, their amounts and their quotas.
        self._approved: dict[str, tuple[str, int]] = {}
        self._approved_units: dict[str, int] = {}
        self._overrides_of: dict[tuple[AgentKey, str], list[str]] = {}
        self._highest: dict[str, int] = {}
        self._ever_at_risk: dict[str, int] = {}
        #: The database was put back and nobody was told: nothing holds until that is noticed.
        self.put_back_unseen = False
        #: The database was ever put back.
        self.was_restored = False
        #: Quotas of which limits may have been given out by a ledger that had been put back unseen.
        self.tainted: set[str] = set()
        #: Copies that were charged by such a ledger: it may have taken what it had forgotten for heard.
        self.charged_unseen: set[tuple[AgentKey, str]] = set()
        self._pending: list[tuple[Record | None, Record]] = []

    def approved_units(self, override_id: str) -> int | None:
        """See `store_checks.Approvals`."""
        found = self._approved.get(override_id)
        return found[1] if found is not None else None

    # --- transactions ------------------------------------------------------------------------------------------------

    def will_write(self, book: Book) -> None:
        """Remember what the transaction changes."""
        self._pending = [(self._stored(record), record) for record in book.changes()]

    def wrote(self, book: Book) -> None:
        """Check what it did."""
        if self.put_back_unseen and book.everything_recovers:
            self.put_back_unseen = False
        before = {uid: self._escrowed.get(uid, 0) for uid in book.touched}
        decided: dict[str, int] = {}
        facts: dict[str, int] = {}
        for old, new in self._pending:
            self._follow(old, new, decided, facts)
        if self.put_back_unseen:
            self.tainted |= book.touched
            self.charged_unseen |= set(book.new_charged_copies)
            return
        self._check_settlements(book)
        self._check_recovery()
        for uid in book.touched:
            self._check_quota(uid, before[uid], decided.get(uid, 0), facts.get(uid, 0))
            self.check_bound(uid)
        for key, _ in book.new_charged_copies:
            for uid in self.tables.quotas if key in self._truth.lineages else ():
                self.check_lineage(self._truth.lineages[key], uid)
        for _, record in self._pending:
            if isinstance(record, Allocation):
                self._check_cover(record)
            if isinstance(record, Allocation | Override):
                lineage = self._truth.lineages.get(AgentKey(record.agent_uid, record.epoch))
                if lineage is not None:
                    self.check_lineage(lineage, record.quota_uid)

    def restored(self, tables: Tables) -> None:
        """The database was put back to an older state."""
        self.tables, self.was_restored = tables, True
        self._escrowed.clear()
        self._known.clear()
        records: list[Allocation | Assignment] = [*tables.allocations.values(), *tables.assignments.values()]
        for record in records:
            escrowed, known = _contribution(record)
            self._escrowed[record.quota_uid] = self._escrowed.get(record.quota_uid, 0) + escrowed
            self._known[record.quota_uid] = self._known.get(record.quota_uid, 0) + known
        for lineage in self._truth.lineages.values():
            lineage.unsure = True

    # --- bounds ------------------------------------------------------------------------------------------------------

    def check_bound(self, uid: str) -> None:
        """The true total is not above the upper bound, nor above what was ever allowed (S7, S2)."""
        quota = self.tables.quotas.get(uid)
        if quota is None or self.put_back_unseen:
            return
        total = self._truth.total(uid)
        bound = quota.upper_bound
        allowed = (
            self._highest.get(uid, quota.target)
            + self._approved_units.get(uid, 0)
            + self._ever_at_risk.get(uid, 0)
            + quota.sums.overage
        )
        if (bound is None or total <= bound) and total <= allowed:
            return
        excuse = sum(self.excuse(lineage, uid) for lineage in self._truth.lineages_in(uid))
        if bound is not None:
            what = f"quota {quota.name} ({uid}): {total} were given out"
            require(
                total <= bound + excuse, "S7", f"{what}, the bound is {bound}, unheard of at most {excuse}"
            )
        if uid not in self.tainted:
            require(
                total <= allowed + excuse, "S2", f"{quota.name} ({uid}): {total} given out, {allowed} allowed"
            )

    def check_lineage(self, lineage: Lineage, uid: str) -> None:
        """What one enrolment has spent is not above what the ledger counts for it: the bound, part by part (S7)."""
        unknown = self.put_back_unseen or lineage.unsure or self.tables.meta.recovering
        if unknown or uid not in self.tables.quotas:
            return
        allocation = self.tables.allocations.get(AllocationKey(uid, *lineage.key))
        copies, charged = accounted(lineage, uid, self.is_accounted), allocation.copies if allocation else 0
        require(
            copies <= charged,
            "S6",
            f"copies of {lineage.key} spent {copies} of {uid}, {charged} were charged",
        )
        total, counted = lineage.total(uid), self._counted_for(lineage, uid)
        if total > counted:
            excuse = self.excuse(lineage, uid)
            what = f"{lineage.key} has given out {total} of {uid}, the ledger counts {counted} for it"
            require(total <= counted + excuse, "S7", f"{what}, unheard of at most {excuse}")

    def excuse(self, lineage: Lineage, uid: str) -> int:
        """What nobody can know of an enrolment's spending."""
        if lineage.unsure:
            return max(0, lineage.total(uid) - self._counted_for(lineage, uid))
        return unreported(lineage, uid, self.is_accounted)

    def is_accounted(self, store: StoreTruth) -> bool:
        """Whether the ledger has taken a store's last word."""
        agent = store.disk.state.agent
        if agent.fenced is None:
            return False
        key = AgentKey(agent.agent_uid, agent.epoch)
        epoch = self.tables.epochs.get(key)
        is_final = epoch is not None and epoch.final and epoch.store_id == agent.store_id
        copy = (key, agent.store_id)
        return is_final or (copy in self.tables.charged_copies and copy not in self.charged_unseen)

    def covers_limit(self, store: StoreTruth, uid: str, limit: int) -> bool:
        """Whether the ledger counts with a store enforcing `limit` (S3)."""
        lineage = self._truth.lineage_of(store.disk)
        if self.put_back_unseen or lineage.unsure or lineage.accepted is not store:
            return True
        if uid in self.tables.quotas and self.tables.meta.recovering:
            return True
        allocation = self.tables.allocations.get(AllocationKey(uid, *lineage.key))
        if allocation is None:
            return uid not in self.tables.quotas
        if allocation.final:
            return True
        return limit <= allocation.exposure + allocation.charge + allocation.at_risk

    # --- inside ------------------------------------------------------------------------------------------------------

    def _counted_for(self, lineage: Lineage, uid: str) -> int:
        allocation = self.tables.allocations.get(AllocationKey(uid, *lineage.key))
        counted = 0
        if allocation is not None:
            counted = allocation.exposure + allocation.charge + allocation.at_risk + allocation.copies
        overrides = self.tables.overrides
        mine = (
            overrides[name] for name in self._overrides_of.get((lineage.key, uid), ()) if name in overrides
        )
        return counted + sum(_override_counts(override) for override in mine)

    def _stored(self, record: Record) -> Record | None:
        tables = self.tables
        match record:
            case Quota():
                return tables.quotas.get(record.uid)
            case Epoch():
                return tables.epochs.get(record.key)
            case Assignment():
                return tables.assignments.get((record.quota_uid, record.agent_uid))
            case Allocation():
                return tables.allocations.get(record.key)
            case Override():
                return tables.overrides.get(record.override_id)
        return None

    def _follow(
        self, old: Record | None, new: Record, decided: dict[str, int], facts: dict[str, int]
    ) -> None:
        match new:
            case Quota():
                self._follow_quota(old if isinstance(old, Quota) else None, new)
            case Epoch():
                self._follow_epoch(old if isinstance(old, Epoch) else None, new)
            case Override():
                approved = new.state in (OverrideState.APPROVED, OverrideState.USED)
                if approved and new.override_id not in self._approved:
                    self._approve(new)
            case Allocation() | Assignment():
                was = _contribution(old)
                now = _contribution(new)
                uid, rise = new.quota_uid, now[0] - was[0]
                self._escrowed[uid] = self._escrowed.get(uid, 0) + rise
                self._known[uid] = self._known.get(uid, 0) + now[1] - was[1]
                if rise > 0:
                    kind = facts if self._is_fact(old, new) else decided
                    kind[uid] = kind.get(uid, 0) + rise
                if isinstance(new, Allocation):
                    self._check_allocation(old if isinstance(old, Allocation) else None, new)

    def _follow_quota(self, old: Quota | None, new: Quota) -> None:
        self._highest[new.uid] = max(self._highest.get(new.uid, 0), new.target)
        if old is not None and new.target < old.target and not self.put_back_unseen:
            known = self._known.get(new.uid, 0)
            require(
                new.target >= known, "S2", f"{new.name}: the target fell to {new.target}, {known} are known"
            )

    def _follow_epoch(self, old: Epoch | None, new: Epoch) -> None:
        went_back = old is not None and new.last_dial < old.last_dial
        require(not went_back, "S5", f"{new.key}: dial {new.last_dial} was taken after a later one")
        lineage = self._truth.lineages.get(new.key)
        if lineage is None:
            return
        if new.online and (old is None or old.last_dial != new.last_dial):
            accepted = self._find_accepted(new.key, new.last_dial)
            # Its store has said a later hello, which only a ledger that was lost may have heard.
            late = accepted is not None and accepted.disk.state.agent.dial > new.last_dial
            lineage.unsure = late and self.was_restored
            if accepted is not None:
                lineage.accepted = accepted
            if accepted is not None and not lineage.unsure:
                self._check_welcomed(accepted, old, new)
        if new.final and (old is None or not old.final):
            # Of several stores the one that turned up first counts in full, the others on top.
            lineage.unsure = False
            last = [each for each in lineage.stores if each.disk.state.agent.store_id == new.store_id]
            lineage.accepted = last[0] if last else lineage.accepted

    def _check_welcomed(self, accepted: StoreTruth, old: Epoch | None, new: Epoch) -> None:
        self._check_noticed(accepted, old, new)
        fenced = accepted.disk.state.agent.fenced
        require(fenced is None, "S6", f"the fenced store {accepted.disk.number} was welcomed")
        adopted = old.adopted_generation if old is not None else 0
        met, generation = _welcomed_in(accepted), self.tables.meta.generation
        what = f"store {accepted.disk.number} has met generation {met}, the ledger began {generation} again"
        require(not adopted < generation <= met, "S3", what)

    def _check_noticed(self, store: StoreTruth, old: Epoch | None, new: Epoch) -> None:
        """A store that is ahead of a ledger that was put back begins the recovery (section 8)."""
        if not self.put_back_unseen or old is None or old.adopted_generation < new.adopted_generation:
            return  # or it is adopted in a recovery that had begun before the backup was made
        ahead = new.shown > max(old.shown, old.offered)
        changed = {record.key: was for was, record in self._pending if isinstance(record, Allocation)}
        for uid, quota in store.disk.state.quotas.items():
            key = AllocationKey(uid, *new.key)
            allocation = changed[key] if key in changed else self.tables.allocations.get(key)
            if isinstance(allocation, Allocation) and not allocation.settled:
                ahead |= quota.revision > allocation.revision
        require(
            not ahead,
            "S3",
            f"store {store.disk.number} is ahead of the ledger, and was welcomed all the same",
        )

    def _approve(self, override: Override) -> None:
        self._approved[override.override_id] = (override.quota_uid, override.amount)
        self._overrides_of.setdefault((override.agent, override.quota_uid), []).append(override.override_id)
        units = self._approved_units.get(override.quota_uid, 0)
        self._approved_units[override.quota_uid] = units + override.amount

    def _is_fact(self, old: Record | None, new: Record) -> bool:
        if not isinstance(new, Allocation):
            return False
        copies = old.copies if isinstance(old, Allocation) else 0
        forgotten = old is None and self.was_restored
        return new.final or new.copies > copies or self.tables.meta.recovering or forgotten

    def _check_allocation(self, old: Allocation | None, new: Allocation) -> None:
        what = f"allocation {new.key}"
        if new.settled and (old is None or not old.settled):
            uid = new.quota_uid
            self._ever_at_risk[uid] = self._ever_at_risk.get(uid, 0) + new.at_risk
        if self.put_back_unseen:
            return
        covered = new.settled or new.offered <= new.exposure
        require(covered, "S3", f"{what}: {new.offered} was offered, its exposure is {new.exposure}")
        if old is None or self.tables.meta.recovering:
            return
        require(new.totals.covers(old.totals), "S5", f"{what}: totals fell, {old.totals} to {new.totals}")
        require(new.revision >= old.revision, "S3", f"{what}: went back to revision {new.revision}")
        rose = new.exposure > old.exposure and new.revision == old.revision
        require(not rose, "S3", f"{what}: the exposure rose from {old.exposure} to {new.exposure} by itself")
        changed = new.offered > old.offered and new.revision == old.revision
        require(not changed, "S3", f"{what}: another limit under the same revision {new.revision}")

    def _check_quota(self, uid: str, before: int, decided: int, facts: int) -> None:
        quota = self.tables.quotas[uid]
        escrowed = self._escrowed.get(uid, 0)
        require(
            quota.escrowed == escrowed, "S2", f"{quota.name}: E is {escrowed}, its sums say {quota.escrowed}"
        )
        if decided > 0 and escrowed - facts > quota.target:
            what = f"{quota.name}: decisions raised E by {decided} ({before} to {escrowed})"
            require(False, "S2", f"{what}, the target is {quota.target}")

    def _check_recovery(self) -> None:
        """While everything recovers no limit grows, but where a store is adopted with a larger one (S2)."""
        if not self.tables.meta.recovering:
            return
        adopted = {
            new.key
            for old, new in self._pending
            if isinstance(new, Epoch)
            and isinstance(old, Epoch)
            and old.adopted_generation != new.adopted_generation
        }
        for old, new in self._pending:
            if not (isinstance(new, Allocation) and isinstance(old, Allocation)):
                continue
            if new.exposure > old.exposure and self.tables.quotas[new.quota_uid].recovering:
                what = f"{new.key}: its exposure grew to {new.exposure} while everything recovers"
                require(new.key.agent in adopted, "S2", what)

    def _check_settlements(self, book: Book) -> None:
        """Only what an operator knowingly risks is at risk (S2)."""
        assumed = {note.after.get("assume") for note in book.notes}
        if "SPENT_LIMIT" not in assumed:
            return
        for old, new in self._pending:
            if (
                isinstance(new, Allocation)
                and new.settled
                and not (isinstance(old, Allocation) and old.settled)
            ):
                what = f"{new.key} was ended as SPENT_LIMIT, and {new.at_risk} are at risk"
                require(new.at_risk == 0, "S2", what)

    def _check_cover(self, allocation: Allocation) -> None:
        lineage = self._truth.lineages.get(allocation.key.agent)
        store = lineage.accepted if lineage is not None else None
        quota = store.disk.state.quotas.get(allocation.quota_uid) if store is not None else None
        if store is not None and quota is not None:
            self.check_limit(store, quota.uid, quota.limit)

    def check_limit(self, store: StoreTruth, uid: str, limit: int) -> None:
        """No store enforces more than the ledger counts with (S3)."""
        what = f"store {store.disk.number} enforces a limit of {limit} in {uid}, more than the ledger counts with"
        require(self.covers_limit(store, uid, limit), "S3", what)


def _welcomed_in(store: StoreTruth) -> int:
    """The generation of the ledger that welcomed a store last."""
    agent = store.disk.state.agent
    return _MARKS.decode(AgentKey(agent.agent_uid, agent.epoch), agent.mark).generation


def _contribution(record: Record | None) -> tuple[int, int]:
    """What a record adds to E, and to what is known to be used."""
    match record:
        case Allocation(settled=True):
            charge = record.charge + record.copies
            return charge, charge
        case Allocation():
            used = record.totals.count + record.held
            return record.exposure + record.copies, used + record.copies
        case Assignment():
            return record.initial_count, record.initial_count
    return 0, 0


def _override_counts(override: Override) -> int:
    if override.state is OverrideState.USED:
        return override.spent
    return override.amount if override.state is OverrideState.APPROVED else 0
