"""What is tried at quiet points: a restart, the loss of a controller and its agents, an agent that keeps asking."""

from __future__ import annotations

from random import Random

from quota_agent.errors import Refusal
from quota_agent.gate.model import AcquireRequest, Granted
from quota_server.fleet.others import LEASE_HEARTBEATS, LEAST_LEASE_MS, SWEEPS_PER_HEARTBEAT
from quota_server.ledger.model import Allocation, Quota, QuotaState
from quota_server.ledger.policies import Policy
from tests.simulation.machines import AgentMachine
from tests.simulation.quiet import CONNECT_MS, disagreements, not_connected
from tests.simulation.truth import require
from tests.simulation.world import World

#: So many hellos an agent has said at most when a controller takes it after a restart: one may have met its end.
MOST_DIALS = 2
#: An agent that keeps asking is served within so many heartbeats.
SERVE_BEATS = 20
#: Of what a controller decides the others know after so many heartbeats, though the notice was lost: limits are looked
#: at in every sweep, but once a heartbeat while a fan-out is under way.
SWEEP_BEATS = 1 + 1 / SWEEPS_PER_HEARTBEAT
#: So long a transaction takes at most that others are in the way of, now and then.
LATE_MS = 1_000


def check_restart(world: World, chance: Random, most_events: int) -> None:
    """After a restart the first hello of everybody is taken, there or elsewhere, and all is known (L3)."""
    dials = {
        machine.disk.number: machine.disk.state.agent.dial for machine in world.machines if machine.linked
    }
    if len(world.controllers) == 1 or chance.random() < 0.5:
        world.kill_controllers(written=True, noticed=True)
    else:
        world.kill_controller(chance.choice(world.controllers), written=True, noticed=True)
    world.start_controllers()
    beats = 2 + (SWEEP_BEATS if len(world.controllers) > 1 else 0)
    until = world.loop.time() + CONNECT_MS / 1000
    settled_by: float | None = None
    while True:
        world.step()
        if world.loop.events >= most_events:
            return
        away = next(not_connected(world), None)
        if away is None and settled_by is None:
            settled_by = world.loop.time() + beats * world.plan.heartbeat_ms / 1000
        open_ends = away or next(disagreements(world), None)
        if open_ends is None:
            break
        late = world.loop.time() > (settled_by or until)
        require(not late, "L3", f"open after a restart: {open_ends}")
    for machine in world.machines:
        dial = machine.disk.state.agent.dial
        dialled = dial - dials.get(machine.disk.number, dial)
        what = f"{machine.name} dialled {dialled} times until it was taken after a restart"
        require(dialled <= MOST_DIALS, "L3", what)


def check_lost(world: World, chance: Random, most_events: int) -> None:
    """A controller is lost and all its agents with it: nobody counts on them for longer than its lease (L1)."""
    lost = chance.choice(world.controllers)
    gone = lost.streams().keys()
    for machine in world.machines:
        if machine.linked and machine.credential.key in gone:
            world.kill_agent(machine, written=True, noticed=False)
    world.kill_controller(lost, written=True, noticed=False)
    beat_ms = world.plan.heartbeat_ms
    lease_ms = max(LEASE_HEARTBEATS * beat_ms, LEAST_LEASE_MS)
    world.run_for(lease_ms + beat_ms // SWEEPS_PER_HEARTBEAT + LATE_MS, most_events)
    if world.loop.events >= most_events:
        return
    for key in gone:
        epoch = world.database.tables.epochs[key]
        counted_on = epoch.online and epoch.owner == lost.uid
        what = f"{lost.uid} was lost more than {lease_ms} ms ago, and all its agents with it: {epoch}"
        require(not counted_on, "L1", what)


def check_demand(world: World, chance: Random, most_events: int) -> None:
    """An agent that keeps asking gets what the reachable fleet does not use (L2)."""
    asking = _who_can_be_served(world)
    if not asking:
        return
    machine, quota, amount = chance.choice(asking)
    gate = machine.gate
    assert gate is not None
    beat_ms = world.plan.heartbeat_ms
    answers: list[Granted] = []
    refused: list[str] = []

    async def ask() -> None:
        for number in range(SERVE_BEATS):
            request_id = f"probe-{world.loop.events}-{number}"
            try:
                wait_ms = min(2 * beat_ms, 10_000)
                answers.append(
                    await gate.acquire(AcquireRequest(quota.name, request_id, amount, max_wait_ms=wait_ms))
                )
                return
            except Refusal as refusal:
                refused.append(refusal.reason)

    task = machine.process.spawn(ask(), "probe")
    while not task.done() and world.loop.events < most_events:
        world.step()
    served = bool(answers) or not task.done()
    what = f"{machine.name} asked for {amount} of {quota.name} for {2 * SERVE_BEATS} heartbeats, and there was room"
    require(served, "L2", f"{what}: {refused}")


def _who_can_be_served(world: World) -> list[tuple[AgentMachine, Quota, int]]:
    """Agents with an amount that they cannot grant now, and that others who can be reached do not use."""
    tables = world.database.tables
    found = []
    for quota in tables.quotas.values():
        if quota.policy is not Policy.MAX_MIN or quota.state is not QuotaState.OPEN or quota.overcommitted:
            continue
        parts = [a for a in tables.allocations.values() if a.quota_uid == quota.uid and not a.settled]
        for machine in world.machines:
            mine = next((a for a in parts if a.key.agent == machine.credential.key), None)
            if (
                mine is not None
                and _may_grow(world, machine, quota, mine)
                and _idle(world, quota, parts, mine) > 0
            ):
                found.append((machine, quota, mine.exposure - mine.used + 1))
    return found


def _may_grow(world: World, machine: AgentMachine, quota: Quota, mine: Allocation) -> bool:
    tables = world.database.tables
    part, agent = tables.assignments[quota.uid, mine.agent_uid], tables.agents[mine.agent_uid]
    known = machine.disk.state.newest(quota.name)
    is_member = part.assigned and agent.active and agent.key == mine.key.agent and part.max is None
    is_linked = (
        machine.up and tables.epochs[mine.key.agent].online and machine.disk.state.agent.fenced is None
    )
    return is_member and is_linked and part.weight > 0 and known is not None and known.uid == quota.uid


def _idle(world: World, quota: Quota, parts: list[Allocation], mine: Allocation) -> int:
    """Units that nobody uses, is promised, or keeps."""
    tables = world.database.tables
    now_ms = min(controller.clock.wall_ms() for controller in world.controllers)
    idle = quota.target - quota.reserve - quota.escrowed
    for other in parts:
        if other is mine:
            continue
        least = tables.assignments[quota.uid, other.agent_uid].min
        if not tables.epochs[other.key.agent].online:
            idle -= max(0, least - other.exposure)
        elif other.kept_until_ms <= now_ms:
            idle += max(0, other.exposure - max(other.used, least))
        idle -= max(0, least - other.exposure)
    return idle
