"""The ledger's arithmetic on a page: what was sent and what was said, added up with nothing of the ledger's own.

It decides nothing: limits come from the messages that went out. It says what they, and the words of the agents, have
to add up to.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from quota_server.ledger.model import AgentKey, Assume
from quotafleet.link.messages import (
    AllocationUpdate,
    FenceAck,
    FenceKind,
    FinalStanding,
    OverrideStanding,
    OverrideState,
    Revision,
    Standing,
    Totals,
)

Place = tuple[str, AgentKey]


@dataclass
class SmallPart:
    """One enrolment's part in one quota."""

    limit: int = 0
    exposure: int = 0
    newest: Revision = Revision()
    totals: Totals = Totals()
    held: int = 0
    sequence: int = 0
    #: Set when it has ended.
    charge: int | None = None
    at_risk: int = 0
    copies: int = 0


@dataclass
class SmallOverride:
    """An override, from when it was asked for."""

    quota_uid: str
    agent: AgentKey
    amount: int
    state: OverrideState
    spent: int = 0
    settled: bool = False
    at_risk: bool = False


@dataclass
class SmallLedger:
    """What is known of everything."""

    targets: dict[str, int] = field(default_factory=dict)
    parts: dict[Place, SmallPart] = field(default_factory=dict)
    initial: dict[tuple[str, str], int] = field(default_factory=dict)
    overrides: dict[str, SmallOverride] = field(default_factory=dict)
    is_recovering: bool = False
    recovering: set[str] = field(default_factory=set)
    generation: int = 0
    #: The generation in which each enrolment was last taken at its word.
    adopted: dict[AgentKey, int] = field(default_factory=dict)
    #: The store whose last word was taken for that of its enrolment; the copies whose last word was charged.
    finished_by: dict[AgentKey, str] = field(default_factory=dict)
    charged: set[tuple[AgentKey, str]] = field(default_factory=set)

    # --- what goes out -----------------------------------------------------------------------------------------------

    def sent(self, agent: AgentKey, updates: Iterable[AllocationUpdate]) -> None:
        """A limit may be in force from when it was sent; what it was before, until it is known to be gone (S3)."""
        for update in updates:
            part = self.parts.setdefault((update.quota_uid, agent), SmallPart())
            if update.revision > part.newest:
                part.newest, part.limit = update.revision, update.limit
                part.exposure = max(part.exposure, update.limit)

    # --- what is said ------------------------------------------------------------------------------------------------

    def heard(self, agent: AgentKey, standings: Iterable[Standing], *, hello: bool) -> None:
        """Totals count unless they are late; the newest revision alone lets an exposure fall (S3, S5)."""
        adopting = hello and self.is_recovering and self.adopted.get(agent, 0) < self.generation
        if hello:
            self.adopted[agent] = self.generation
        for standing in standings:
            part = self.parts[standing.quota_uid, agent]
            if part.charge is not None:
                continue
            if standing.totals.covers(part.totals) and (adopting or standing.sequence >= part.sequence):
                part.totals, part.held = standing.totals, standing.held
                part.sequence = standing.sequence
            if adopting:
                part.limit, part.exposure = standing.limit, max(part.exposure, standing.limit)
            elif standing.revision == part.newest and standing.limit <= part.exposure:
                part.exposure, part.limit = standing.limit, min(part.limit, standing.limit)

    def heard_of_overrides(self, agent: AgentKey, standings: Iterable[OverrideStanding]) -> None:
        """What was spent stays spent, what was closed stays closed."""
        for standing in standings:
            override = self.overrides[standing.override_id]
            if override.agent != agent or override.state is OverrideState.USED:
                continue
            if standing.state is not OverrideState.APPROVED:
                override.state, override.spent = standing.state, standing.spent
                override.at_risk = False

    # --- ends --------------------------------------------------------------------------------------------------------

    def settled(self, agent: AgentKey, assume: Assume) -> None:
        """Spent to the limit, or as last reported and the rest at risk."""
        for part in self.of_agent(agent):
            if part.charge is None:
                known = min(part.totals.count + part.held, part.exposure)
                part.charge = part.exposure if assume is Assume.SPENT_LIMIT else known
                part.at_risk = part.exposure - part.charge
                part.exposure = part.limit = part.held = 0
        for override in self.overrides.values():
            if override.agent == agent and not override.settled:
                if override.state is OverrideState.PENDING:
                    override.state, override.settled = OverrideState.DENIED, True
                elif override.state is OverrideState.APPROVED:
                    override.settled, override.at_risk = True, assume is Assume.LAST_REPORTED

    def last_word(self, agent: AgentKey, ack: FenceAck, mark_generation: int) -> None:
        """Of the store itself it replaces what was charged; of a copy it is charged beside that."""
        if ack.kind is FenceKind.COPY or self.finished_by.get(agent, ack.store_id) != ack.store_id:
            if (agent, ack.store_id) not in self.charged:
                self.charged.add((agent, ack.store_id))
                self._copied(agent, ack.standings, heard=mark_generation == self.adopted[agent])
        elif agent not in self.finished_by:
            self.finished_by[agent] = ack.store_id
            self._finished(agent, ack)

    def _finished(self, agent: AgentKey, ack: FenceAck) -> None:
        said = {final.quota_uid: final.totals for final in ack.standings}
        for (quota_uid, owner), part in self.parts.items():
            if owner == agent:
                part.totals = said.get(quota_uid, Totals())
                part.charge, part.at_risk = part.totals.count, 0
                part.exposure = part.limit = part.held = 0
        self.heard_of_overrides(agent, ack.overrides)
        named = {standing.override_id for standing in ack.overrides}
        for override_id, override in self.overrides.items():
            is_open = override.state in (OverrideState.APPROVED, OverrideState.PENDING)
            if override.agent == agent and override_id not in named and is_open:
                override.state, override.settled, override.at_risk = OverrideState.DEAD, True, False

    def _copied(self, agent: AgentKey, finals: Iterable[FinalStanding], *, heard: bool) -> None:
        """What it spent since its mark, if this ledger has heard what it had spent until then."""
        for final in finals:
            before = final.marked.count + final.marked.overridden if heard else 0
            part = self.parts[final.quota_uid, agent]
            part.copies += max(0, final.totals.count + final.totals.overridden - before)

    # --- sums --------------------------------------------------------------------------------------------------------

    def of_agent(self, agent: AgentKey) -> list[SmallPart]:
        return [part for (_, owner), part in self.parts.items() if owner == agent]

    def sums(self, quota_uid: str) -> dict[str, int]:
        """By the names that the ledger's own have."""
        parts = [part for (uid, _), part in self.parts.items() if uid == quota_uid]
        initial = sum(count for (uid, _), count in self.initial.items() if uid == quota_uid)
        overrides = [each for each in self.overrides.values() if each.quota_uid == quota_uid]
        approved = [each for each in overrides if each.state is OverrideState.APPROVED]
        used = [each for each in overrides if each.state is OverrideState.USED]
        return {
            "exposure": sum(part.exposure for part in parts),
            "charge": initial + sum((part.charge or 0) + part.copies for part in parts),
            "count": sum(part.totals.count for part in parts if part.charge is None),
            "held": sum(part.held for part in parts),
            "overridden": sum(part.totals.overridden for part in parts)
            + sum(each.amount for each in approved if each.settled and not each.at_risk),
            "at_risk": sum(part.at_risk for part in parts)
            + sum(each.amount for each in approved if each.at_risk),
            "overrides": sum(each.spent for each in used)
            + sum(each.amount for each in approved if not each.at_risk),
        }

    def escrowed(self, quota_uid: str) -> int:
        """E."""
        sums = self.sums(quota_uid)
        return sums["exposure"] + sums["charge"]

    def upper_bound(self, quota_uid: str) -> int | None:
        """What the true total is never above; nobody knows while it recovers."""
        sums = self.sums(quota_uid)
        if quota_uid in self.recovering:
            return None
        return self.escrowed(quota_uid) + sums["overrides"] + sums["at_risk"]
