"""The working copy on which a group of operations is decided; the state it starts from stays as it was."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from quota_agent.gate.model import Entry, GateSettings
from quota_agent.gate.quota import Quota
from quota_agent.gate.records import Agent, Ask, Audit, Key, Override, State, index_names
from quotafleet.link.messages import Terms


class Known(NamedTuple):
    """The entries that a group has to know."""

    #: Those that its operations name.
    entries: Mapping[Key, Entry]
    #: Open holds whose time is over, the earliest first, not necessarily all; None: nobody asked for them.
    due: Sequence[Entry] | None = None
    #: With `due`: no other open hold ends before this; None: there is no other.
    next_due_ms: int | None = None


class Moment(NamedTuple):
    """When a group is decided. All in milliseconds since 1970-01-01 UTC."""

    #: What the clock says.
    wall_ms: int
    #: The same, but never before the high-water mark: periods and holds go by this.
    now_ms: int
    last_contact_ms: int | None


class Unmet(NamedTuple):
    """A request that was refused with QUOTA_REACHED."""

    quota_uid: str
    request_id: str
    amount: int
    #: How long the caller is willing to wait for more limit.
    wait_ms: int


@dataclass(slots=True)
class Changes:
    """What a group writes, in one transaction or not at all."""

    created: Collection[Entry] = ()
    #: Entries whose state is another now.
    changed: Collection[Entry] = ()
    quotas: Collection[Quota] = ()
    overrides: Collection[Override] = ()
    asks: Collection[Ask] = ()
    audits: Collection[Audit] = ()
    agent: Agent | None = None
    #: Every open hold is cancelled, on top of `changed`.
    cancels_holds: bool = False
    #: False: nothing happened but the passing of time, which can be written later.
    needed: bool = False


class _Below(NamedTuple):
    """Where a draft looks for what it has not changed."""

    quota: Callable[[str], Quota | None]
    entry: Callable[[Key], Entry | None]
    override: Callable[[str], Override | None]
    ask: Callable[[Key], Ask | None]


@dataclass(slots=True)
class Draft:
    """Changes on top of a state, or on top of another draft, so that several can be dropped together."""

    state: State
    moment: Moment
    settings: GateSettings
    below: _Below
    agent: Agent
    hold_due_ms: int | None
    #: Quotas in which a waiting request was refused: whoever would wait too must not overtake it.
    blocked: set[str]
    quotas: dict[str, Quota] = field(default_factory=dict)
    #: How many of those are new to the store.
    met: int = 0
    created: dict[Key, Entry] = field(default_factory=dict)
    changed: dict[Key, Entry] = field(default_factory=dict)
    overrides: dict[str, Override] = field(default_factory=dict)
    asks: dict[Key, Ask] = field(default_factory=dict)
    audits: list[Audit] = field(default_factory=list)
    cancels_holds: bool = False
    agent_changed: bool = False
    #: Names may stand for other quotas now.
    renamed: bool = False
    #: Units asked for under the limit and granted, by quota uid, repeats left out.
    asked: dict[str, int] = field(default_factory=dict)
    unmet: list[Unmet] = field(default_factory=list)

    @classmethod
    def on(
        cls, state: State, known: Known, moment: Moment, settings: GateSettings, blocked: set[str]
    ) -> Draft:
        """A draft on top of a state and the entries that its operations need."""
        below = _Below(state.quotas.get, known.entries.get, state.overrides.get, state.asks.get)
        return cls(state, moment, settings, below, state.agent, state.hold_due_ms, blocked)

    def fork(self) -> Draft:
        """A draft on top of this one: drop it, or have it absorbed."""
        below = _Below(self.quota, self.entry, self.override, self.ask)
        return Draft(
            self.state, self.moment, self.settings, below, self.agent, self.hold_due_ms, self.blocked
        )

    def absorb(self, fork: Draft) -> None:
        """Take over what a fork decided on acquisitions."""
        self.quotas.update(fork.quotas)
        self.created.update(fork.created)
        assert not fork.changed, "an acquisition makes entries and changes none"
        self.overrides.update(fork.overrides)
        self.hold_due_ms = fork.hold_due_ms
        for uid, units in fork.asked.items():
            self.asked[uid] = self.asked.get(uid, 0) + units

    def quota(self, uid: str) -> Quota | None:
        """The quota as it stands; not to be changed."""
        return self.quotas.get(uid) or self.below.quota(uid)

    def change(self, uid: str) -> Quota:
        """The quota as it stands, to be changed."""
        quota = self.quotas.get(uid)
        if quota is None:
            before = self.below.quota(uid)
            assert before is not None, "only a known quota can change"
            quota = self.quotas[uid] = before.copy()
            quota.sequence += 1
        return quota

    def meet(self, uid: str, terms: Terms) -> None:
        """Begin a quota that this store has never seen."""
        self.met += 1
        self.renamed = True
        self.quotas[uid] = Quota(uid, len(self.state.quotas) + self.met, terms, sequence=1)

    def all_quotas(self) -> list[Quota]:
        """Every quota as it stands."""
        return list({**self.state.quotas, **self.quotas}.values())

    def entry(self, key: Key) -> Entry | None:
        """The entry as it stands."""
        return self.created.get(key) or self.changed.get(key) or self.below.entry(key)

    def put(self, entry: Entry) -> None:
        """Replace an entry that is there already."""
        key = (entry.quota_uid, entry.request_id)
        (self.created if key in self.created else self.changed)[key] = entry

    def expect_due(self, expire_ms: int) -> None:
        """Remember that an open hold ends at `expire_ms`."""
        if self.hold_due_ms is None or expire_ms < self.hold_due_ms:
            self.hold_due_ms = expire_ms

    def override(self, override_id: str) -> Override | None:
        """The override as it stands."""
        return self.overrides.get(override_id) or self.below.override(override_id)

    def all_overrides(self) -> list[Override]:
        """Every override as it stands."""
        return list({**self.state.overrides, **self.overrides}.values())

    def ask(self, key: Key) -> Ask | None:
        """The ask as it stands."""
        return self.asks.get(key) or self.below.ask(key)

    def set_agent(self, **values: Any) -> None:
        """Change fields of the agent that cannot be written later."""
        self.agent = replace(self.agent, **values)
        self.agent_changed = True

    def changes(self) -> Changes:
        """All that is to be written."""
        moved = bool(
            self.created or self.changed or self.quotas or self.overrides or self.asks or self.audits
        )
        needed = moved or self.agent_changed or self.cancels_holds
        if not needed:
            return Changes()
        return Changes(
            created=self.created.values(),
            changed=self.changed.values(),
            quotas=self.quotas.values(),
            overrides=self.overrides.values(),
            asks=self.asks.values(),
            audits=self.audits,
            agent=self.agent if self.agent != self.state.agent else None,
            cancels_holds=self.cancels_holds,
            needed=True,
        )

    def outcome(self, needed: bool) -> State:
        """The state once the changes are durable. Asserts what must hold in every durable state."""
        if not needed:
            return replace(self.state, hold_due_ms=self.hold_due_ms)
        before = self.state
        for quota in self.quotas.values():
            quota.check(before.quotas.get(quota.uid))
        for override in self.overrides.values():
            override.check(before.overrides.get(override.override_id))
        assert before.agent.fenced is None or not self.created, "S6: a fenced store grants nothing"
        quotas = {**before.quotas, **self.quotas} if self.quotas else before.quotas
        return State(
            self.agent,
            quotas,
            {**before.overrides, **self.overrides} if self.overrides else before.overrides,
            {**before.asks, **self.asks} if self.asks else before.asks,
            self.hold_due_ms,
            index_names(quotas.values()) if self.renamed else before.names,
        )
