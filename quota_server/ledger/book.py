"""The part of the ledger that one transaction holds: records come in, change, and go out again together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from quota_server.ledger import escrow
from quota_server.ledger.model import (
    Agent,
    AgentKey,
    Allocation,
    AllocationKey,
    Assignment,
    Epoch,
    Mark,
    Meta,
    Note,
    Override,
    Quota,
    QuotaState,
    Sums,
)
from quota_server.ledger.replacing import replace
from quotafleet.link.messages import AllocationUpdate, Revision, Terms

Record = Quota | Agent | Epoch | Assignment | Allocation | Override


class Book:
    """Records by key, with a quota's sums kept equal to what its records add to them.

    `decide` is for decisions, `note_fact` for facts: only a fact may raise E above the target (S2). The store fills a
    book before the pure functions work on it and writes `changes()` afterwards, all in one transaction.
    """

    def __init__(self, meta: Meta) -> None:
        self.meta = meta
        self.quotas: dict[str, Quota] = {}
        self.agents: dict[str, Agent] = {}
        self.epochs: dict[AgentKey, Epoch] = {}
        self.assignments: dict[tuple[str, str], Assignment] = {}
        self.allocations: dict[AllocationKey, Allocation] = {}
        self.overrides: dict[str, Override] = {}
        #: Marks that a fence is on.
        self.fenced_marks: dict[AgentKey, set[Mark]] = {}
        #: Store ids that copies drew, whose overage is charged already.
        self.charged_copies: set[tuple[AgentKey, str]] = set()
        self.notes: list[Note] = []
        self.new_fenced_marks: list[tuple[AgentKey, Mark]] = []
        self.new_charged_copies: list[tuple[AgentKey, str]] = []
        #: Allocations that got a new revision in this transaction.
        self.revised: set[AllocationKey] = set()
        #: Enrolments whose new stream was accepted in this transaction.
        self.linked: set[AgentKey] = set()
        #: Quotas whose sums or settings changed.
        self.touched: set[str] = set()
        self.meta_changed = False
        self.everything_recovers = False
        #: For the history of every quota, without its uid.
        self.recovery_note: Note | None = None
        self._dirty: dict[tuple[type, object], Record] = {}
        self._by_agent: dict[AgentKey, set[AllocationKey]] = {}
        self._by_quota: dict[str, set[AllocationKey]] = {}

    # --- filling -----------------------------------------------------------------------------------------------------

    def load(self, records: Iterable[Record]) -> None:
        """Takes records as they are stored; one that is here already stays as it is, it may have changed."""
        for record in records:
            table, key = self._place(record)
            if key not in table:
                if self.everything_recovers and isinstance(record, Quota):
                    record = replace(record, recovering=True)  # noqa: PLW2901 - it is stored so with the rest
                table[key] = record
                self._index(record)

    # --- changing ----------------------------------------------------------------------------------------------------

    def decide(self, record: Record) -> None:
        """Puts a record by a decision. E is not above the target afterwards unless it was, and did not rise (S2)."""
        self._put(record, fact=False)

    def note_fact(self, record: Record) -> None:
        """Puts a record that states what has happened; E may rise above the target."""
        self._put(record, fact=True)

    def note(self, note: Note) -> None:
        """Appends to a quota's history."""
        self.notes.append(note)

    def note_of_agent(
        self, key: AllocationKey, time_ms: int, action: str, reason: str, after: Mapping[str, Any]
    ) -> None:
        """Appends what an agent's message did to its part in a quota."""
        agent = self.agents[key.agent_uid].name
        numbers = {"agent": agent, "epoch": key.epoch, **after}
        self.note(Note(key.quota_uid, time_ms, f"agent {agent}", action, reason, {}, numbers))

    def fence_mark(self, agent: AgentKey, mark: Mark) -> None:
        """Remembers for ever that a store presenting `mark` is a copy."""
        if mark not in self.fenced_marks.setdefault(agent, set()):
            self.fenced_marks[agent].add(mark)
            self.new_fenced_marks.append((agent, mark))

    def charge_copy_once(self, agent: AgentKey, store_id: str) -> bool:
        """Whether the copy with this new store id is yet to be charged; it is from now on."""
        if (agent, store_id) in self.charged_copies:
            return False
        self.charged_copies.add((agent, store_id))
        self.new_charged_copies.append((agent, store_id))
        return True

    def begin_recovery(self, time_ms: int, reason: str, above: int = 0) -> None:
        """A new generation begins, above `above`; every quota recovers, also those that are not here (section 8)."""
        generation = max(self.meta.generation, above) + 1
        self.meta = replace(self.meta, generation=generation, recovering=True)
        self.meta_changed = self.everything_recovers = True
        after = {"generation": generation, "recovering": True}
        self.recovery_note = Note("", time_ms, "controller", "begin-recovery", reason, {}, after)
        for uid, quota in self.quotas.items():
            self.quotas[uid] = replace(quota, recovering=True)
            self._mark_dirty(self.quotas[uid])
            self.touched.add(uid)

    def go_with_key(self, fingerprint: str) -> bool:
        """Whether the database goes with the master key of this fingerprint; a new one does from now on."""
        if not self.meta.key_fingerprint:
            self.meta = replace(self.meta, key_fingerprint=fingerprint)
            self.meta_changed = True
        return self.meta.key_fingerprint == fingerprint

    def end_recovery(self) -> None:
        """Limits grow again; the quotas are told apart by the caller."""
        self.meta = replace(self.meta, recovering=False)
        self.meta_changed = True

    def changes(self) -> list[Record]:
        """Every record that differs from what is stored."""
        return list(self._dirty.values())

    # --- reading -----------------------------------------------------------------------------------------------------

    def allocations_of(self, quota_uid: str) -> list[Allocation]:
        """The allocations of a quota that are here, by agent name and epoch."""
        found = [self.allocations[key] for key in self._by_quota.get(quota_uid, ())]
        return sorted(found, key=lambda a: (self.agents[a.agent_uid].name, a.epoch))

    def allocations_of_agent(self, agent: AgentKey) -> list[Allocation]:
        """The allocations of an enrolment that are here, by quota."""
        return [self.allocations[key] for key in sorted(self._by_agent.get(agent, ()))]

    def is_member(self, allocation: Allocation) -> bool:
        """Whether the policy shares out to it: assigned, active, its agent's newest epoch, not ended."""
        agent = self.agents[allocation.agent_uid]
        assignment = self.assignments[allocation.quota_uid, allocation.agent_uid]
        return (
            assignment.assigned
            and agent.active
            and not agent.retired
            and agent.epoch == allocation.epoch
            and not self.epochs[allocation.key.agent].ended
            and not allocation.settled
            and self.quotas[allocation.quota_uid].state is not QuotaState.CLOSED
        )

    def update_of(self, key: AllocationKey) -> AllocationUpdate:
        """What the agent has to know of an allocation."""
        allocation, quota = self.allocations[key], self.quotas[key.quota_uid]
        agent, assignment = self.agents[key.agent_uid], self.assignments[key.quota_uid, key.agent_uid]
        terms = Terms(
            name=quota.name,
            decimals=quota.decimals,
            start_ms=quota.start_ms,
            end_ms=quota.end_ms,
            suspended=quota.state is QuotaState.SUSPENDED,
            closed=quota.state is QuotaState.CLOSED,
            assigned=assignment.assigned,
            active=agent.active and not agent.retired,
            max_offline_ms=quota.max_offline_ms,
        )
        return AllocationUpdate(key.quota_uid, allocation.revision, allocation.offered, terms)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _put(self, record: Record, *, fact: bool) -> None:
        table, key = self._place(record)
        before = table.get(key)
        if before == record:
            return
        table[key] = record
        if before is None:
            self._index(record)
        self._dirty[type(record), key] = record
        if isinstance(record, Quota):
            assert not isinstance(before, Quota) or record.sums == before.sums, "a stale copy of a quota"
            self._check_target(before, record)
            self.touched.add(record.uid)
        elif isinstance(record, Allocation | Assignment | Override):
            self._move_sums(record.quota_uid, _sums(before), _sums(record), fact=fact)
        if isinstance(record, Allocation):
            escrow.check(record)
            known = before.revision if isinstance(before, Allocation) else Revision()
            if record.revision != known:
                self.revised.add(record.key)

    def _move_sums(self, quota_uid: str, out: Sums, into: Sums, *, fact: bool) -> None:
        if out == into:
            return
        quota = self.quotas[quota_uid]
        after = replace(quota, sums=quota.sums.moved(out, into))
        rises = after.escrowed > quota.escrowed
        assert fact or not rises or after.escrowed <= after.target, "S2: a decision raised E above the target"
        assert min(after.sums.exposure, after.sums.charge, after.sums.count, after.sums.held) >= 0
        self.quotas[quota_uid] = after
        self._mark_dirty(after)
        self.touched.add(quota_uid)

    @staticmethod
    def _check_target(before: object, after: Quota) -> None:
        if isinstance(before, Quota) and after.target < before.target:
            assert after.target >= after.known_count, "S2: the target fell below the known count"

    def _index(self, record: Record) -> None:
        if isinstance(record, Allocation):
            self._by_agent.setdefault(record.key.agent, set()).add(record.key)
            self._by_quota.setdefault(record.quota_uid, set()).add(record.key)

    def _mark_dirty(self, quota: Quota) -> None:
        self._dirty[Quota, quota.uid] = quota

    def _place(self, record: Record) -> tuple[dict[object, Record], object]:
        """The table of a record and its key there."""
        match record:
            case Allocation():  # the most frequent first
                return self.allocations, record.key  # type: ignore[return-value]
            case Quota():
                return self.quotas, record.uid  # type: ignore[return-value]
            case Agent():
                return self.agents, record.uid  # type: ignore[return-value]
            case Epoch():
                return self.epochs, record.key  # type: ignore[return-value]
            case Assignment():
                return self.assignments, (record.quota_uid, record.agent_uid)  # type: ignore[return-value]
            case Override():
                return self.overrides, record.override_id  # type: ignore[return-value]


def _sums(record: object) -> Sums:
    match record:
        case Allocation():
            return escrow.allocation_sums(record)
        case Assignment():
            return escrow.assignment_sums(record)
        case Override():
            return escrow.override_sums(record)
        case _:
            return Sums()
