"""Decisions on what comes from the controller, and what it is told."""

from __future__ import annotations

from dataclasses import replace

from quota_agent.gate import overrides
from quota_agent.gate.draft import Draft
from quota_agent.gate.operations import AdvanceDial, Apply, Bind, FenceConfirmed, FenceStore, SayHello
from quotafleet.link.messages import AllocationUpdate, FenceAck, FinalStanding, Hello


def bind(draft: Draft, operation: Bind) -> None:
    """Bind an empty store to its (agent, epoch); later calls may only bring another name."""
    agent = draft.agent
    if not agent.agent_uid:
        draft.set_agent(**operation._asdict())  # the fields are named alike
        return
    assert (agent.agent_uid, agent.epoch) == (operation.agent_uid, operation.epoch), "a store is bound once"
    if agent.agent != operation.agent:
        draft.set_agent(agent=operation.agent)


def hello(draft: Draft, _: SayHello) -> Hello:
    """Take the next dial number. The group is the only one under way, so what this says is what the disk holds."""
    draft.set_agent(dial=draft.agent.dial + 1)
    agent = draft.agent
    quotas = sorted(draft.all_quotas(), key=lambda quota: quota.number)
    return Hello(
        agent.agent_uid,
        agent.epoch,
        agent.store_id,
        agent.dial,
        agent.mark,
        draft.moment.wall_ms,
        tuple(quota.standing() for quota in quotas),
        overrides.hello_standings(draft.all_overrides()),
        overrides.open_asks(draft.state),
        fenced=agent.fenced,
    )


def advance_dial(draft: Draft, operation: AdvanceDial) -> None:
    """Leave behind the dials that the controller has seen."""
    if operation.last > draft.agent.dial:
        draft.set_agent(dial=operation.last)


def apply(draft: Draft, operation: Apply) -> None:
    """Take the controller's word. A fenced store takes none: its totals are final."""
    if draft.agent.fenced is not None:
        return
    if operation.complete and not draft.agent.welcomed:
        draft.set_agent(welcomed=True)
    generation = max((update.revision.generation for update in operation.allocations), default=0)
    renewed = generation > draft.agent.generation
    if renewed:
        draft.set_agent(generation=generation)
        overrides.renew(draft)
    for update in operation.allocations:
        _apply_allocation(draft, update)
    # The word that brings a generation was spoken before the store could state all its overrides in it.
    overrides.hear(draft, operation.overrides, operation.complete and not renewed)
    if operation.mark is not None and operation.mark != draft.agent.mark:
        _store_mark(draft, operation.mark)


def _apply_allocation(draft: Draft, update: AllocationUpdate) -> None:
    quota = draft.quota(update.quota_uid)
    if quota is None:
        draft.meet(update.quota_uid, update.terms)
    elif update.revision <= quota.revision:
        return
    changed = draft.change(update.quota_uid)
    old, new = changed.terms, update.terms
    if (old.name, old.closed, old.assigned) != (new.name, new.closed, new.assigned):
        draft.renamed = True
    changed.apply(update)


def _store_mark(draft: Draft, mark: bytes) -> None:
    """Store a new session mark and, beside it, the totals of this moment."""
    draft.set_agent(mark=mark)
    for quota in draft.all_quotas():
        if not quota.marked == quota.marking == quota.totals:
            draft.change(quota.uid).store_mark()


def fence(draft: Draft, operation: FenceStore) -> FenceAck:
    """End all spending: open holds and overrides are closed. The first fence counts.

    Whatever the kind, the store takes an id of its own: of an ended epoch, too, two copies may turn up, and each has to
    be counted.
    """
    if draft.agent.fenced is None:
        draft.set_agent(fenced=operation.kind, store_id=operation.store_id)
        draft.cancels_holds = True
        for quota in draft.all_quotas():
            if quota.held:
                changed = draft.change(quota.uid)
                changed.held = 0
                changed.ratchet()
        overrides.close_all(draft)
        draft.hold_due_ms = None
    return fence_ack(draft)


def fence_ack(draft: Draft) -> FenceAck:
    """The final word of a fenced store; always the same."""
    agent = draft.agent
    assert agent.fenced is not None
    quotas = sorted(draft.all_quotas(), key=lambda quota: quota.number)
    return FenceAck(
        agent.fenced,
        agent.store_id,
        agent.mark,
        tuple(FinalStanding(quota.uid, quota.totals, quota.marked) for quota in quotas),
        tuple(replace(override, named=True).standing() for override in draft.all_overrides()),
    )


def fence_confirmed(draft: Draft, _: FenceConfirmed) -> None:
    """Remember that the controller has the final totals."""
    if draft.agent.fenced is not None and not draft.agent.fence_confirmed:
        draft.set_agent(fence_confirmed=True)
