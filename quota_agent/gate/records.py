"""What an agent's store durably holds, as values. Nobody changes one; a group of operations puts new ones in place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from quota_agent.gate.quota import Quota
from quotafleet.link.messages import FenceKind, OverrideStanding, OverrideState

#: quota uid and request_id: what an entry is found by.
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Agent:
    """What concerns the agent as a whole."""

    agent: str = ""
    #: Empty until the store is bound to an (agent, epoch), for good.
    agent_uid: str = ""
    epoch: int = 0
    store_id: str = ""
    #: The highest dial number used or heard of.
    dial: int = 0
    #: The session mark last stored; empty if none.
    mark: bytes = b""
    #: The highest generation of the controller's database that an update came from.
    generation: int = 0
    #: Whether a controller has ever accepted a hello of this store.
    welcomed: bool = False
    #: Set: the store spends nothing any more.
    fenced: FenceKind | None = None
    #: The controller has recorded the final totals.
    fence_confirmed: bool = False
    #: High-water mark of wall time.
    clock_mark_ms: int = 0
    last_contact_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Override:
    """A permission to spend beyond the limit, once. USED and DEAD are final and kept: an id never opens again."""

    override_id: str
    ask_id: str
    quota_uid: str
    amount: int
    #: APPROVED (may be spent), USED or DEAD.
    state: OverrideState
    spent: int = 0
    #: Its state is reported: the controller's last whole word named it, or a word since, or a new generation began and
    #: may not know it.
    named: bool = True

    def standing(self) -> OverrideStanding:
        """What the controller is told."""
        return OverrideStanding(self.override_id, self.state, self.spent, self.quota_uid, self.amount)

    def check(self, before: Override | None) -> None:
        """Assert that it is spent at most once, up to its amount (S1)."""
        assert self.state in (OverrideState.APPROVED, OverrideState.USED, OverrideState.DEAD)
        assert 0 <= self.spent <= self.amount, "S1: an override is spent up to its amount"
        assert (self.spent > 0) == (self.state is OverrideState.USED)
        if before is not None and before.state is not OverrideState.APPROVED:
            assert (before.state, before.spent) == (self.state, self.spent), "S1: an override ends once"


@dataclass(frozen=True, slots=True)
class Ask:
    """A request for an override, repeated to the controller until its word names it."""

    quota_uid: str
    ask_id: str
    amount: int
    reason: str
    #: Order in which they were made, from 1.
    number: int
    #: The controller's answer; PENDING until it decides.
    state: OverrideState = OverrideState.PENDING
    #: Whether the controller knows it; then it is not repeated any more.
    heard: bool = False
    #: Empty until the controller has named it.
    override_id: str = ""


@dataclass(frozen=True, slots=True)
class Audit:
    """A change that somebody may have to account for."""

    at_ms: int
    what: str
    before: int
    after: int
    reason: str


@dataclass(frozen=True, slots=True)
class State:
    """Everything that decisions are made on, apart from entries, which stay on disk."""

    agent: Agent = Agent()
    quotas: Mapping[str, Quota] = field(default_factory=dict)
    overrides: Mapping[str, Override] = field(default_factory=dict)
    asks: Mapping[Key, Ask] = field(default_factory=dict)
    #: No open hold ends before this; None: there is none. It may be early, so it is not compared.
    hold_due_ms: int | None = field(default=None, compare=False)
    #: uids by name, the one that Acquire uses first. Follows from the quotas.
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict, compare=False)

    def newest(self, name: str) -> Quota | None:
        """The quota that Acquire means by a name: open and assigned before others, then the newest."""
        uids = self.names.get(name)
        return self.quotas[uids[0]] if uids else None


def index_names(quotas: Iterable[Quota]) -> dict[str, tuple[str, ...]]:
    """The uids that each name stands for: those open here first, newer before older."""
    ordered = sorted(
        quotas, key=lambda quota: (quota.terms.closed or not quota.terms.assigned, -quota.number)
    )
    names: dict[str, tuple[str, ...]] = {}
    for quota in ordered:
        names[quota.terms.name] = (*names.get(quota.terms.name, ()), quota.uid)
    return names
