"""Quiet points: all is healed, nobody asks for anything; then ledger and agents have to agree (L1 to L3, S6, S7)."""

from __future__ import annotations

from collections.abc import Iterator

from quota_agent.gate.quota import Quota as AgentQuota
from quota_server.ledger.escrow import allocation_sums, assignment_sums, override_sums
from quota_server.ledger.model import (
    AgentKey,
    Allocation,
    AllocationKey,
    Assume,
    Epoch,
    Quota,
    Sums,
)
from quotafleet.link.messages import FenceKind, OverrideState
from tests.simulation import faults
from tests.simulation.machines import AgentMachine, Credential
from tests.simulation.truth import NOTHING, Lineage, StoreTruth, require
from tests.simulation.world import World

#: Everybody is back after this at the latest: the longest pause before a dial, the first answer, and some.
CONNECT_MS = 120_000
#: From then on everything has to have settled within so many heartbeats: what was raised from the reserve is kept for
#: twelve, the limits that shrink are acknowledged within one, those that grow on it within the next.
SETTLE_BEATS = 20


def become_quiet(world: World, most_events: int) -> bool:
    """Heal everything and wait until all agree; False if the events ran out first. Raises Violation."""
    faults.heal(world)
    mend(world)
    beat_ms = world.plan.heartbeat_ms
    began = world.loop.time()
    connected: float | None = None
    while True:
        world.run_for(beat_ms, most_events)
        if world.loop.events >= most_events:
            return False
        mend(world)
        away = next(not_connected(world), None)
        open_ends = away or next(disagreements(world), None)
        if open_ends is None:
            break
        if away is not None:
            connected = None  # something that was lost before shows only now
        elif connected is None:
            connected = world.loop.time()
        late = connected is None and world.loop.time() > began + CONNECT_MS / 1000 + 4 * beat_ms / 1000
        require(not late, "L1", f"not connected long after everything was healed: {open_ends}")
        unsettled = connected is not None and world.loop.time() > connected + SETTLE_BEATS * beat_ms / 1000
        require(not unsettled, "L1", f"not settled long after all were connected: {open_ends}")
    _check_sums(world)
    _check_counts(world)
    return True


def mend(world: World) -> None:
    """What operators do when something does not come back by itself."""
    if world.ledger.put_back_unseen and any(each.process.alive for each in world.controllers):
        world.kill_controllers(written=True, noticed=True)
        world.declare_restored()
    world.start_controllers()
    for machine in world.machines:
        agent = machine.disk.state.agent
        if not machine.process.alive and agent.agent_uid and agent.epoch != machine.credential.key.epoch:
            machine.credential = Credential(machine.credential.agent, _own_key(machine))
        world.start_agent(machine)
    world.install()
    if all(controller.up for controller in world.controllers):
        for machine in world.machines:
            _settle_again(world, machine)
        world.operators.finish_recovery(lambda epoch: not _may_be_heard(world, epoch))


def _settle_again(world: World, machine: AgentMachine) -> None:
    """An end that a ledger which was put back has forgotten: the store's refusals name it, an operator repeats it."""
    tables = world.database.tables
    agent = machine.disk.state.agent
    epoch = tables.epochs.get(_own_key(machine))
    if agent.fenced is FenceKind.ENDED and epoch is not None and not epoch.ended:
        enrolled = tables.agents[epoch.agent_uid]
        if not enrolled.retired:
            world.operators.settle(enrolled.name, epoch.epoch, Assume.SPENT_LIMIT)


def _own_key(machine: AgentMachine) -> AgentKey:
    agent = machine.disk.state.agent
    return AgentKey(agent.agent_uid, agent.epoch)


def _may_be_heard(world: World, epoch: Epoch) -> bool:
    return bool(world.machines_of(epoch.key))


def _is_done(machine: AgentMachine) -> bool:
    return machine.disk.state.agent.fence_confirmed


def not_connected(world: World) -> Iterator[str]:
    for controller in world.controllers:
        if not controller.up:
            yield f"{controller.name} is down"
    epochs = world.database.tables.epochs
    for machine in world.machines:
        key = machine.credential.key
        if _is_done(machine) or key not in epochs:
            continue
        store = world.truth.stores[machine.disk.number]
        lineage = world.truth.lineages.get(key)
        accepted = lineage is not None and lineage.accepted is store
        if epochs[key].ended and machine.disk.state.agent.fenced is None:
            yield f"{machine.name}: {key} has ended, and its store goes on"
        if not (machine.linked and accepted and epochs[key].online and _is_taken(world, epochs[key])):
            owner = lineage.accepted.disk.number if lineage is not None and lineage.accepted else None
            yield (
                f"{machine.name}, agent {machine.credential.agent} {key}, store {store.disk.number}, up={machine.up}, "
                f"store accepted last: {owner}, the ledger has {epochs[key]}, the store {store.disk.state.agent}"
            )


def _is_taken(world: World, epoch: Epoch) -> bool:
    """Whether the controller that the ledger names has the agent's stream."""
    return any(each.uid == epoch.owner and epoch.key in each.streams() for each in world.controllers)


def disagreements(world: World) -> Iterator[str]:
    tables = world.database.tables
    if tables.meta.recovering:
        yield "the ledger is recovering"
    yield from _unowned(world)
    yield from _beyond_the_target(world)
    for machine in world.machines:
        key = machine.credential.key
        if _is_done(machine) or key not in tables.epochs:
            continue
        state = machine.disk.state
        for allocation in tables.allocations.values():
            if allocation.key.agent == key and not allocation.settled:
                yield from _differences(machine, allocation, state.quotas.get(allocation.quota_uid))
                yield from _unreached(tables.quotas[allocation.quota_uid], allocation)
        for override in tables.overrides.values():
            if override.agent == key and override.state is OverrideState.APPROVED and not override.settled:
                known = state.overrides.get(override.override_id)
                if known is None or known.state is not OverrideState.APPROVED:
                    yield f"{machine.name}: {override.override_id} is APPROVED, the store has {known}"


def _unowned(world: World) -> Iterator[str]:
    """An agent has one stream: the one of its newest dial, on the controller that the ledger names (L1)."""
    epochs = world.database.tables.epochs
    streams = {controller.uid: controller.streams() for controller in world.controllers}
    for uid, mine in streams.items():
        for key, dial in mine.items():
            epoch = epochs.get(key)
            if epoch is None or (epoch.online, epoch.owner, epoch.last_dial) != (True, uid, dial):
                yield f"controller {uid!r} has a stream of {key} by dial {dial}, the ledger has {epoch}"
    for key, epoch in epochs.items():
        # A backup brings flags back, and of whom was settled nobody waits for a hello.
        forgotten = epoch.settled and world.ledger.was_restored
        if epoch.online and key not in streams.get(epoch.owner, ()) and not forgotten:
            yield f"{epoch} is online, and its controller has no stream of it"


def _differences(machine: AgentMachine, allocation: Allocation, quota: AgentQuota | None) -> Iterator[str]:
    where = f"{machine.name}, quota {allocation.quota_uid}"
    if quota is None:
        yield f"{where}: not on the store"
        return
    ledger = (allocation.revision, allocation.exposure, allocation.totals, allocation.held)
    store = (quota.revision, quota.limit, quota.totals, quota.held)
    if ledger != store:
        yield f"{where}: the ledger has {ledger}, the store {store}"


def _unreached(quota: Quota, allocation: Allocation) -> Iterator[str]:
    """A wanted limit that is not reached although there is room for it (L1)."""
    if allocation.short and quota.escrowed < quota.target:
        free = quota.target - quota.escrowed
        yield f"{allocation.key}: {allocation.offered} of {allocation.wanted} wanted, {free} units are free"


def _beyond_the_target(world: World) -> Iterator[str]:
    """Where agents may enforce more than the target, none that can be reached keeps what it does not use (L1)."""
    tables = world.database.tables
    for allocation in tables.allocations.values():
        quota, epoch = tables.quotas[allocation.quota_uid], tables.epochs[allocation.key.agent]
        if quota.overcommitted and epoch.online and not epoch.ended and allocation.exposure > allocation.used:
            spare = allocation.exposure - allocation.used
            yield f"{allocation.key} has {spare} to spare, {quota.escrowed} is shared out of {quota.target}"


def _check_sums(world: World) -> None:
    """The running sums are those of the rows (S2, S7)."""
    tables = world.database.tables
    sums: dict[str, Sums] = {}
    rows = [(a.quota_uid, allocation_sums(a)) for a in tables.allocations.values()]
    rows += [(a.quota_uid, assignment_sums(a)) for a in tables.assignments.values()]
    rows += [(o.quota_uid, override_sums(o)) for o in tables.overrides.values()]
    for uid, added in rows:
        sums[uid] = sums.get(uid, Sums()).moved(Sums(), added)
    for uid, quota in tables.quotas.items():
        found = sums.get(uid, Sums())
        require(quota.sums == found, "S7", f"{quota.name}: the sums are {quota.sums}, the rows say {found}")


def _check_counts(world: World) -> None:
    """Once everybody has reported, the count is the truth, less what nobody can know (S7)."""
    tables = world.database.tables
    for uid, quota in tables.quotas.items():
        lineages = world.truth.lineages_in(uid)
        counted = quota.sums.count + quota.sums.held + quota.sums.charge + quota.sums.overridden
        unheard = sum(_unheard(world, lineage, uid) for lineage in lineages)
        total = world.truth.total(uid)
        what = f"{quota.name} ({uid}): {total} given out, the ledger counts {counted}"
        require(
            total <= counted + unheard + quota.sums.at_risk, "S7", f"{what}, unheard of at most {unheard}"
        )
        for lineage in lineages:
            _check_ended(world, lineage, uid)
            store = lineage.accepted
            allocation = tables.allocations.get(AllocationKey(uid, *lineage.key))
            if store is None or allocation is None or allocation.settled or lineage.unsure:
                continue
            if store.alive and store.disk.state.agent.fenced is None:
                spent = store.spent.get(uid, NOTHING)
                said = (allocation.totals.count, allocation.held, allocation.totals.overridden)
                require(
                    said == tuple(spent), "S5", f"{allocation.key}: {said} reported, {tuple(spent)} spent"
                )


def _check_ended(world: World, lineage: Lineage, uid: str) -> None:
    """Final totals are the truth, and of each copy what it said beyond its baseline is charged, once (S6)."""
    tables, ledger = world.database.tables, world.ledger
    allocation, epoch = (
        tables.allocations.get(AllocationKey(uid, *lineage.key)),
        tables.epochs.get(lineage.key),
    )
    if allocation is None or epoch is None or lineage.unsure or ledger.put_back_unseen:
        return
    stores = {store.disk.state.agent.store_id: store for store in lineage.stores}
    if allocation.final and epoch.store_id in stores:
        counted = stores[epoch.store_id].spent.get(uid, NOTHING).counted
        what = f"{allocation.key}: its store counted {counted}, charged are {allocation.charge}"
        require(allocation.charge == counted, "S6", what)
    if not ledger.was_restored:
        charged = [
            store for store_id, store in stores.items() if (lineage.key, store_id) in tables.charged_copies
        ]
        beyond = sum(_beyond_its_baseline(store, uid) for store in charged)
        what = f"copies of {allocation.key} spent {beyond} beyond what they had shown, charged are {allocation.copies}"
        require(allocation.copies == beyond, "S6", what)


def _beyond_its_baseline(store: StoreTruth, uid: str) -> int:
    quota = store.disk.state.quotas.get(uid)
    if quota is None:
        return 0
    return max(0, store.total(uid) - quota.marked.count - quota.marked.overridden)


def _unheard(world: World, lineage: Lineage, uid: str) -> int:
    """What an enrolment spent and may not have been counted: all of it, if the ledger may have forgotten of it."""
    if not lineage.unsure:
        return world.ledger.excuse(lineage, uid) + _lost(world, lineage, uid)
    tables = world.database.tables
    allocation = tables.allocations.get(AllocationKey(uid, *lineage.key))
    overrides = [
        each for each in tables.overrides.values() if (each.agent, each.quota_uid) == (lineage.key, uid)
    ]
    parts = [allocation_sums(allocation)] if allocation is not None else []
    parts += map(override_sums, overrides)
    counted = sum(part.count + part.held + part.charge + part.overridden for part in parts)
    return max(world.ledger.excuse(lineage, uid), lineage.total(uid) - counted)


def _lost(world: World, lineage: Lineage, uid: str) -> int:
    """What a store spent that the ledger took last, and that was lost before it could say so."""
    store = lineage.accepted
    allocation = world.database.tables.allocations.get(AllocationKey(uid, *lineage.key))
    if store is None or store.alive or allocation is None or allocation.settled:
        return 0
    return max(0, store.total(uid) - allocation.used - allocation.totals.overridden)
