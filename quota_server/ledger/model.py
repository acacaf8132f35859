"""The ledger's records: plain, immutable values. Amounts are integers in the quota's smallest unit."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, NamedTuple

from quota_server.ledger.policies import Policy
from quotafleet.link.messages import OpenRequest, OverrideState, Revision, Totals


class QuotaState(enum.StrEnum):
    """Whether agents grant."""

    OPEN = "OPEN"
    SUSPENDED = "SUSPENDED"
    CLOSED = "CLOSED"


class OverridePolicy(enum.StrEnum):
    """What answers an agent that asks to go beyond its limit."""

    DENY = "DENY"
    FROM_RESERVE = "FROM_RESERVE"
    ASK = "ASK"


class Assume(enum.StrEnum):
    """What an (agent, epoch) that ends is charged until its store turns up."""

    SPENT_LIMIT = "SPENT_LIMIT"
    LAST_REPORTED = "LAST_REPORTED"


class AgentKey(NamedTuple):
    """One enrolment of one agent."""

    agent_uid: str
    epoch: int


class AllocationKey(NamedTuple):
    """One enrolment's part in one quota."""

    quota_uid: str
    agent_uid: str
    epoch: int

    @property
    def agent(self) -> AgentKey:
        """The enrolment."""
        return AgentKey(self.agent_uid, self.epoch)


class Mark(NamedTuple):
    """A session mark: later marks of an (agent, epoch) compare higher. (0, 0) is "none yet"."""

    generation: int = 0
    number: int = 0


@dataclass(frozen=True, slots=True)
class Sums:
    """Running sums of a quota over its allocations, assignments and overrides; see `escrow.contribution`."""

    exposure: int = 0
    charge: int = 0
    count: int = 0
    held: int = 0
    overridden: int = 0
    at_risk: int = 0
    overage: int = 0
    #: What is set aside for members beyond their exposures: funds nobody else.
    aside: int = 0
    #: Overrides from approval until reported dead; used ones for ever.
    overrides: int = 0

    def moved(self, out: Sums, into: Sums) -> Sums:
        """These sums with one contribution taken out and another put in."""
        return Sums(  # written out: a redistribution does it for every agent
            self.exposure - out.exposure + into.exposure,
            self.charge - out.charge + into.charge,
            self.count - out.count + into.count,
            self.held - out.held + into.held,
            self.overridden - out.overridden + into.overridden,
            self.at_risk - out.at_risk + into.at_risk,
            self.overage - out.overage + into.overage,
            self.aside - out.aside + into.aside,
            self.overrides - out.overrides + into.overrides,
        )


@dataclass(frozen=True, slots=True)
class Quota:
    """A named cap over one period."""

    uid: str
    name: str
    target: int
    decimals: int = 0
    start_ms: int | None = None
    end_ms: int | None = None
    policy: Policy = Policy.MAX_MIN
    reserve_percent: int = 0
    critical_percent: int = 0
    override_policy: OverridePolicy = OverridePolicy.ASK
    max_offline_ms: int | None = None
    state: QuotaState = QuotaState.OPEN
    #: The database was restored: no limit grows.
    recovering: bool = False
    #: Changes with every change of the settings above; the etag.
    version: int = 1
    create_ms: int = 0
    sums: Sums = Sums()

    @property
    def escrowed(self) -> int:
        """E: the sum of exposures and charges (S2)."""
        return self.sums.exposure + self.sums.charge

    @property
    def reserve(self) -> int:
        """Units kept back from sharing out."""
        return self.target * self.reserve_percent // 100

    @property
    def known_count(self) -> int:
        """What is known to be used: reported counts, holds and charges."""
        return self.sums.count + self.sums.held + self.sums.charge

    @property
    def upper_bound(self) -> int | None:
        """The true total is never above this (S7); None while recovering."""
        return None if self.recovering else self.escrowed + self.sums.overrides + self.sums.at_risk

    @property
    def overcommitted(self) -> bool:
        """Agents may still be enforcing more than the target in sum."""
        return self.escrowed > self.target


@dataclass(frozen=True, slots=True)
class Agent:
    """An enrolled client that enforces locally."""

    uid: str
    name: str
    epoch: int
    active: bool = True
    retired: bool = False
    create_ms: int = 0

    @property
    def key(self) -> AgentKey:
        """Its newest enrolment."""
        return AgentKey(self.uid, self.epoch)


@dataclass(frozen=True, slots=True)
class Epoch:
    """One enrolment of an agent, its session marks and who owns its stream."""

    agent_uid: str
    epoch: int
    #: Whether the stream of `last_dial` is up, as far as its controller knows.
    online: bool = False
    #: The highest dial seen; its stream owns the agent.
    last_dial: int = 0
    shown: Mark = Mark()
    offered: Mark = Mark()
    store_id: str = ""
    #: The store that dialled last is fenced as a copy, and no other has been welcomed since.
    fenced: bool = False
    #: It has ended: its store is fenced when it says hello.
    ended: bool = False
    #: Its exposures were replaced by charges.
    settled: bool = False
    #: Its store's final totals are in.
    final: bool = False
    #: Generation in which the ledger adopted its first hello after a restore.
    adopted_generation: int = 0
    #: Newest generation of which it has acknowledged everything.
    heard_generation: int = 0
    contact_ms: int | None = None
    #: The controller that accepted the stream of `last_dial`.
    owner: str = ""

    @property
    def key(self) -> AgentKey:
        """Its name in the ledger."""
        return AgentKey(self.agent_uid, self.epoch)


@dataclass(frozen=True, slots=True)
class Assignment:
    """An agent's part in a quota, whatever its epoch."""

    quota_uid: str
    agent_uid: str
    assigned: bool = True
    weight: int = 1
    min: int = 0
    max: int | None = None
    static_limit: int = 0
    #: Used before the agent was enrolled: a charge.
    initial_count: int = 0


@dataclass(frozen=True, slots=True)
class Allocation:
    """What the ledger knows of one (agent, epoch) in one quota."""

    quota_uid: str
    agent_uid: str
    epoch: int
    #: What the policy wants its limit to be.
    wanted: int = 0
    #: The limit in the newest revision.
    offered: int = 0
    #: The largest limit that the store may be enforcing at this moment.
    exposure: int = 0
    revision: Revision = Revision()
    #: The newest revision that the store is known to have applied.
    acknowledged: Revision = Revision()
    #: As last reported, with the sequence and the dial of that report.
    totals: Totals = Totals()
    held: int = 0
    sequence: int = 0
    dial: int = 0
    report_ms: int | None = None
    #: Demand as last reported.
    open_requests: tuple[OpenRequest, ...] = ()
    recent_demand: int = 0
    wanted_more: int = 0
    #: Until when a top-up is not taken back while there is demand, unless the target falls.
    protected_until_ms: int = 0
    #: Until when a limit raised from the reserve is not taken back, demand or not, unless the target falls.
    kept_until_ms: int = 0
    #: Settled: what it counts for; the exposure is gone then.
    charge: int = 0
    at_risk: int = 0
    settled: bool = False
    final: bool = False
    #: Charged for copies of its store, over and above `charge`.
    copies: int = 0
    #: Spending that no cap covered; part of the charges.
    overage: int = 0

    @property
    def key(self) -> AllocationKey:
        """Its name in the ledger."""
        return AllocationKey(self.quota_uid, self.agent_uid, self.epoch)

    @property
    def used(self) -> int:
        """Count + held as last reported."""
        return self.totals.count + self.held

    @property
    def short(self) -> bool:
        """Whether it waits for its limit to grow."""
        return self.wanted > self.offered

    @property
    def demands(self) -> bool:
        """Whether it asked for more in its last report."""
        return bool(self.open_requests) or self.wanted_more > 0


@dataclass(frozen=True, slots=True)
class Override:
    """Permission to spend an amount, once, beyond the limit; or the wish for it."""

    override_id: str
    #: Chosen by who asked; unique per (agent, epoch, quota). Empty: asked for at the controller.
    ask_id: str
    quota_uid: str
    agent_uid: str
    epoch: int
    amount: int
    reason: str
    state: OverrideState
    spent: int = 0
    revoked: bool = False
    #: Its enrolment was settled while it was open.
    settled: bool = False
    #: Settled at the last report: it may have been spent, and is not counted as if.
    at_risk: bool = False
    decision_reason: str = ""
    decided_by: str = ""
    create_ms: int = 0
    decide_ms: int | None = None

    @property
    def agent(self) -> AgentKey:
        """Who may spend it."""
        return AgentKey(self.agent_uid, self.epoch)

    @property
    def live(self) -> bool:
        """Whether the agent still has to hear of it, or to report on it."""
        return self.state in (OverrideState.PENDING, OverrideState.APPROVED) and not self.settled


@dataclass(frozen=True, slots=True)
class Note:
    """One entry of a quota's history, before it has a number."""

    quota_uid: str
    time_ms: int
    actor: str
    action: str
    reason: str
    before: dict[str, Any]
    after: dict[str, Any]
    #: Names the fan-out whose outcomes are added when they are known; empty for none.
    round_id: str = ""


@dataclass(frozen=True, slots=True)
class Meta:
    """The one row about the whole database."""

    generation: int = 0
    recovering: bool = False
    #: Of the master key that this database goes with; empty: none yet.
    key_fingerprint: str = ""
