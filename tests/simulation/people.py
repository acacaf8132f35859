"""What people do: callers at the agents, operators at the controllers. Each act says whether anything was asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import TYPE_CHECKING, ParamSpec

from quota_server.ledger.model import Assume, QuotaState
from tests.simulation.machines import AgentMachine, ControllerMachine, Program

if TYPE_CHECKING:
    from tests.simulation.world import World

P = ParamSpec("P")

Act = Callable[["World", Random], bool]


def _asked(
    machine: AgentMachine | Sequence[ControllerMachine],
    ask: Callable[P, object],
    *args: P.args,
    **named: P.kwargs,
) -> bool:
    """Have somebody ask a machine's program, or that of any controller; whether a call began."""
    machines = [machine] if isinstance(machine, AgentMachine) else machine
    before = _begun(machines)
    ask(*args, **named)
    return _begun(machines) > before


def _begun(machines: Sequence[AgentMachine | ControllerMachine]) -> int:
    programs = [machine.process for machine in machines]
    return sum(program.begun for program in programs if isinstance(program, Program))


def _up(world: World, chance: Random) -> AgentMachine | None:
    """Somebody whom a caller can reach; mostly one whose store may still spend."""
    running = [machine for machine in world.machines if machine.up and not machine.process.paused]
    able = [machine for machine in running if machine.disk.state.agent.fenced is None]
    if able and chance.random() < 0.97:
        running = able
    return chance.choice(running) if running else None


def acquire(world: World, chance: Random) -> bool:
    """A request of any kind."""
    machine = _up(world, chance)
    return machine is not None and _asked(
        machine, world.clients.acquire, machine, world.quota_names(), chance
    )


def batch(world: World, chance: Random) -> bool:
    """Several at once."""
    machine = _up(world, chance)
    return machine is not None and _asked(machine, world.clients.batch, machine, world.quota_names(), chance)


def repeat(world: World, chance: Random) -> bool:
    """A request that was made before."""
    machine = _up(world, chance)
    return machine is not None and _asked(machine, world.clients.repeat, machine, chance)


def end(world: World, chance: Random) -> bool:
    """Commit, cancel or release something."""
    machine = _up(world, chance)
    return machine is not None and _asked(machine, world.clients.end, machine, chance)


def ask_override(world: World, chance: Random) -> bool:
    """An agent asks to go beyond its limit."""
    machine = _up(world, chance)
    return machine is not None and _asked(
        machine, world.clients.ask_override, machine, world.quota_names(), chance
    )


def reset_clock(world: World, chance: Random) -> bool:
    """Somebody says that an agent's clock is right."""
    machine = _up(world, chance)
    return machine is not None and _asked(machine, world.clients.reset_clock, machine)


def set_target(world: World, chance: Random) -> bool:
    """Another cap."""
    return _asked(world.controllers, world.operators.set_target, chance.choice(world.quota_names()), chance)


def update_quota(world: World, chance: Random) -> bool:
    """Other settings."""
    return _asked(world.controllers, world.operators.update_quota, chance.choice(world.quota_names()), chance)


def rebalance(world: World, chance: Random) -> bool:
    """Share out anew."""
    return _asked(world.controllers, world.operators.rebalance, chance.choice(world.quota_names()))


def close_quota(world: World, chance: Random) -> bool:
    """The end of a quota."""
    return _asked(world.controllers, world.operators.close_quota, chance.choice(world.quota_names()))


def create_quota(world: World, chance: Random) -> bool:
    """A quota, perhaps under a name that was used before, with everybody in it."""
    name = chance.choice(world.quota_names())
    acted = _asked(world.controllers, world.operators.create_quota, name, chance)
    for agent in world.agents():
        world.operators.assign(name, agent, chance)
    return acted


def set_agent_target(world: World, chance: Random) -> bool:
    """One agent's limit is fixed."""
    agents = world.agents()
    return bool(agents) and _asked(
        world.controllers,
        world.operators.set_agent_target,
        chance.choice(world.quota_names()),
        chance.choice(agents),
        chance,
    )


def assign(world: World, chance: Random) -> bool:
    """An agent gets a part, or another one."""
    agents = world.agents()
    return bool(agents) and _asked(
        world.controllers,
        world.operators.assign,
        chance.choice(world.quota_names()),
        chance.choice(agents),
        chance,
    )


def unassign(world: World, chance: Random) -> bool:
    """An agent loses its part."""
    agents = world.agents()
    return bool(agents) and _asked(
        world.controllers, world.operators.unassign, chance.choice(world.quota_names()), chance.choice(agents)
    )


def switch_agent(world: World, chance: Random) -> bool:
    """An agent is switched off or on."""
    agents = world.agents()
    return bool(agents) and _asked(
        world.controllers, world.operators.switch_agent, chance.choice(agents), active=chance.random() < 0.8
    )


def create_agent(world: World, chance: Random) -> bool:
    """Another agent."""
    return _asked(world.controllers, world.create_agent)


def retire(world: World, chance: Random) -> bool:
    """The end of an agent."""
    agents = world.agents()
    return bool(agents) and _asked(
        world.controllers, world.operators.retire, chance.choice(agents), chance.choice(list(Assume))
    )


def settle(world: World, chance: Random) -> bool:
    """The end of an epoch."""
    agents = world.agents()
    return bool(agents) and _asked(
        world.controllers, world.operators.settle, chance.choice(agents), 0, chance.choice(list(Assume))
    )


def request_override(world: World, chance: Random) -> bool:
    """An operator asks for an agent."""
    agents = world.agents()
    return bool(agents) and _asked(
        world.controllers,
        world.operators.request_override,
        chance.choice(world.quota_names()),
        chance.choice(agents),
        chance,
    )


def decide_override(world: World, chance: Random) -> bool:
    """An operator decides."""
    return _asked(world.controllers, world.operators.decide_override, chance)


def ask_again(world: World, chance: Random) -> bool:
    """Calls that were not answered are repeated."""
    return _asked(world.controllers, world.operators.ask_again, chance)


def finish_recovery(world: World, chance: Random) -> bool:
    """An operator ends the recovery, perhaps settling who is lost."""
    return _asked(
        world.controllers,
        world.operators.finish_recovery,
        lambda epoch: not world.machines_of(epoch.key) and chance.random() < 0.5,
    )


def count(world: World, chance: Random) -> bool:
    """Somebody wants to know what is used by now."""
    quotas = [each for each in world.database.tables.quotas.values() if each.state is not QuotaState.CLOSED]
    return bool(quotas) and _asked(world.controllers, world.counts.refresh, chance.choice(quotas), chance)


def install(world: World, chance: Random) -> bool:
    """Agents that have no machine get one."""
    return world.install()


ACTS: dict[str, Act] = {
    act.__name__: act
    for act in (
        acquire,
        batch,
        repeat,
        end,
        ask_override,
        reset_clock,
        set_target,
        update_quota,
        rebalance,
        close_quota,
        create_quota,
        set_agent_target,
        assign,
        unassign,
        switch_agent,
        create_agent,
        retire,
        settle,
        request_override,
        decide_override,
        ask_again,
        finish_recovery,
        count,
        install,
    )
}
