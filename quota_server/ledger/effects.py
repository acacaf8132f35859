"""What a committed transaction means for the fleet."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from quota_server.ledger.book import Book
from quota_server.ledger.model import Agent, AgentKey, Allocation, AllocationKey, Epoch, Override
from quotafleet.link.messages import AllocationUpdate, OverrideUpdate, Revision


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """What a store was found to have applied, and where its allocation stands then."""

    key: AllocationKey
    revision: Revision
    wanted: int
    exposure: int


@dataclass(frozen=True, slots=True)
class Participant:
    """One agent in a fan-out: what it has to acknowledge."""

    agent: AgentKey
    name: str
    needed: Revision
    acknowledged: Revision
    fenced: bool
    wanted: int
    exposure: int
    #: The controller that its stream is on; empty: none.
    owner: str = ""


@dataclass(frozen=True, slots=True)
class RoundPlan:
    """A fan-out that nobody waits for; its outcomes go to the history entry of `round_id`."""

    quota_uid: str
    round_id: str
    participants: tuple[Participant, ...]


@dataclass(slots=True)
class Effects:
    """What is to be sent, shared out anew, and told to those who wait."""

    #: New state to send, by enrolment.
    updates: dict[AgentKey, list[AllocationUpdate]] = field(default_factory=dict)
    overrides: dict[AgentKey, list[OverrideUpdate]] = field(default_factory=dict)
    #: What stores were found to have applied.
    acknowledged: list[Acknowledged] = field(default_factory=list)
    #: Enrolments that have ended: their streams are to be told.
    ended: set[AgentKey] = field(default_factory=set)
    #: Fan-outs that nobody waits for.
    rounds: list[RoundPlan] = field(default_factory=list)
    #: Quotas whose numbers or settings changed.
    touched: set[str] = field(default_factory=set)
    #: Quotas that have to be shared out anew.
    stale: set[str] = field(default_factory=set)


def effects_of(book: Book, except_for: Collection[AgentKey] = ()) -> Effects:
    """The updates that a book's new revisions call for, and the quotas it touched."""
    effects = Effects(touched=set(book.touched))
    for key in sorted(book.revised):
        if key.agent not in except_for and not book.allocations[key].settled:
            effects.updates.setdefault(key.agent, []).append(book.update_of(key))
    return effects


def participants_of(book: Book, quota_uid: str) -> tuple[Participant, ...]:
    """Everybody whom a change of this quota is to reach, by name."""
    return tuple(
        participant(
            allocation,
            book.agents[allocation.agent_uid],
            book.epochs[allocation.key.agent],
            allocation.revision,
            allocation.acknowledged,
        )
        for allocation in book.allocations_of(quota_uid)
        if not allocation.settled
    )


def participant(
    allocation: Allocation, agent: Agent, epoch: Epoch, needed: Revision, acknowledged: Revision
) -> Participant:
    """An agent's part in a fan-out, with what it has to acknowledge."""
    return Participant(
        agent=epoch.key,
        name=agent.name,
        needed=needed,
        acknowledged=acknowledged,
        fenced=epoch.fenced or epoch.ended,
        wanted=allocation.wanted,
        exposure=allocation.exposure,
        owner=epoch.owner if epoch.online else "",
    )


def override_update(override: Override) -> OverrideUpdate:
    """What the agent is told of an override."""
    return OverrideUpdate(
        override_id=override.override_id,
        ask_id=override.ask_id,
        quota_uid=override.quota_uid,
        amount=override.amount,
        state=override.state,
        revoked=override.revoked,
    )
