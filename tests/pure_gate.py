"""The gate's decisions without the gate: a state, the entries as a dictionary, and a clock that is an argument."""

from __future__ import annotations

from typing import Any

from quota_agent.errors import Refusal
from quota_agent.gate.draft import Changes, Known
from quota_agent.gate.model import AcquireRequest, Balance, Entry, EntryState, GateSettings, Granted, Verb
from quota_agent.gate.operations import Apply, Bind, Contact, End, Operation
from quota_agent.gate.records import Audit, Key, State
from quota_agent.gate.state import Decision, Group, decide, lookup
from quotafleet.link.messages import (
    AllocationUpdate,
    FenceAck,
    OverrideState,
    OverrideUpdate,
    Revision,
    Terms,
)
from tests.gate_kit import START_MS, uid_of


class PureGate:
    """Decides groups and keeps what they write, as a store would."""

    def __init__(self, *, welcomed: bool = True) -> None:
        self.state = State()
        self.entries: dict[Key, Entry] = {}
        self.audits: list[Audit] = []
        self.now = START_MS
        self.settings = GateSettings()
        self.contact: Contact | None = None
        self.last: Decision | None = None
        self.one(Bind("school-7", "agent-uid-7", 1, "store-1"))
        if welcomed:
            self.one(Apply((), (), None, complete=True))

    def group(self, *operations: Operation, waited: frozenset[str] = frozenset()) -> list[Any]:
        """The answers to a group."""
        asked = Group(operations, self.now, self.contact, waited)
        wanted = lookup(self.state, asked)
        entries = {
            (uid, request_id): self.entries[uid, request_id]
            for uid, named in wanted.requests.items()
            for request_id in named
            if (uid, request_id) in self.entries
        }
        known = Known(entries)
        if wanted.due_ms is not None:
            held = [entry for entry in self.entries.values() if entry.state is EntryState.HELD]
            due = [entry for entry in held if (entry.expire_ms or 0) <= wanted.due_ms]
            rest = [entry.expire_ms or 0 for entry in held if (entry.expire_ms or 0) > wanted.due_ms]
            known = Known(entries, due, min(rest, default=None))
        self.last = decide(self.state, asked, known, self.settings)
        if self.last.changes.needed:
            self.contact = None
        self._write(self.last.changes)
        self.state = self.last.state
        return list(self.last.answers)

    def one(self, operation: Operation) -> Any:
        """The answer to a single operation."""
        return self.group(operation)[0]

    def granted(self, operation: Operation) -> Granted:
        """The answer to an operation that is granted."""
        answer = self.one(operation)
        assert isinstance(answer, Granted), answer
        return answer

    def refused(self, operation: Operation) -> Refusal:
        """The answer to an operation that is refused."""
        answer = self.one(operation)
        assert isinstance(answer, Refusal), answer
        return answer

    def end(self, verb: Verb, request_id: str, quota: str = "q") -> Granted | Refusal:
        """Commit, cancel or release."""
        answer = self.one(End(verb, quota, request_id))
        assert isinstance(answer, Granted | Refusal)
        return answer

    def limit(
        self,
        limit: int,
        name: str = "q",
        *,
        uid: str | None = None,
        generation: int = 0,
        **terms: Any,
    ) -> None:
        """Apply the next revision of a quota."""
        self.apply(self.update(limit, name, uid=uid, generation=generation, **terms))

    def update(
        self, limit: int, name: str = "q", *, uid: str | None = None, generation: int = 0, **terms: Any
    ) -> AllocationUpdate:
        """The next revision of a quota."""
        uid = uid or uid_of(name)
        known = self.state.quotas.get(uid)
        last = known.revision if known else Revision()
        revision = last.next(max(generation, last.generation))
        return AllocationUpdate(uid, revision, limit, Terms(name, **terms))

    def apply(
        self,
        *updates: AllocationUpdate | OverrideUpdate,
        mark: bytes | None = None,
        complete: bool = False,
    ) -> None:
        """Take the controller's word."""
        allocations = tuple(each for each in updates if isinstance(each, AllocationUpdate))
        overrides = tuple(each for each in updates if isinstance(each, OverrideUpdate))
        self.one(Apply(allocations, overrides, mark, complete))

    def balance(self, name: str = "q") -> Balance:
        """The numbers of a quota."""
        quota = self.state.newest(name)
        assert quota is not None
        return quota.balance()

    def _write(self, changes: Changes) -> None:
        for entry in changes.created:
            key = (entry.quota_uid, entry.request_id)
            assert key not in self.entries, "an id is granted once"
            self.entries[key] = entry
        for entry in changes.changed:
            self.entries[entry.quota_uid, entry.request_id] = entry
        if changes.cancels_holds:
            for key, entry in self.entries.items():
                if entry.state is EntryState.HELD:
                    self.entries[key] = entry._replace(state=EntryState.CANCELLED)
        self.audits += changes.audits


def approval(
    override_id: str = "o-1",
    amount: int = 5,
    *,
    state: OverrideState = OverrideState.APPROVED,
    revoked: bool = False,
    ask_id: str = "",
    name: str = "q",
) -> OverrideUpdate:
    """The controller's word on an override."""
    return OverrideUpdate(override_id, ask_id, uid_of(name), amount, state, revoked)


def named(ack: FenceAck) -> dict[str, Any]:
    """The final standings by quota uid."""
    return {standing.quota_uid: standing for standing in ack.standings}


def acquire(request_id: str, amount: int = 1, **more: Any) -> AcquireRequest:
    """A request for units of the quota `q`."""
    return AcquireRequest("q", request_id, amount)._replace(**more)
