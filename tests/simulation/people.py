"""What people do: callers at the agents, operators at the controller."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from quota_server.ledger.model import Assume

if TYPE_CHECKING:
    from tests.simulation.machines import AgentMachine
    from tests.simulation.world import World

Act = Callable[["World", Random], None]


def _up(world: World, chance: Random) -> AgentMachine | None:
    """Somebody whom a caller can reach; mostly one whose store may still spend."""
    running = [machine for machine in world.machines if machine.up and not machine.process.paused]
    able = [machine for machine in running if machine.disk.state.agent.fenced is None]
    if able and chance.random() < 0.97:
        running = able
    return chance.choice(running) if running else None


def acquire(world: World, chance: Random) -> None:
    """A request of any kind."""
    if machine := _up(world, chance):
        world.clients.acquire(machine, world.quota_names(), chance)


def batch(world: World, chance: Random) -> None:
    """Several at once."""
    if machine := _up(world, chance):
        world.clients.batch(machine, world.quota_names(), chance)


def repeat(world: World, chance: Random) -> None:
    """A request that was made before."""
    if machine := _up(world, chance):
        world.clients.repeat(machine, chance)


def end(world: World, chance: Random) -> None:
    """Commit, cancel or release something."""
    if machine := _up(world, chance):
        world.clients.end(machine, chance)


def ask_override(world: World, chance: Random) -> None:
    """An agent asks to go beyond its limit."""
    if machine := _up(world, chance):
        world.clients.ask_override(machine, world.quota_names(), chance)


def reset_clock(world: World, chance: Random) -> None:
    """Somebody says that an agent's clock is right."""
    if machine := _up(world, chance):
        world.clients.reset_clock(machine)


def set_target(world: World, chance: Random) -> None:
    """Another cap."""
    world.operators.set_target(chance.choice(world.quota_names()), chance)


def update_quota(world: World, chance: Random) -> None:
    """Other settings."""
    world.operators.update_quota(chance.choice(world.quota_names()), chance)


def rebalance(world: World, chance: Random) -> None:
    """Share out anew."""
    world.operators.rebalance(chance.choice(world.quota_names()))


def close_quota(world: World, chance: Random) -> None:
    """The end of a quota."""
    world.operators.close_quota(chance.choice(world.quota_names()))


def create_quota(world: World, chance: Random) -> None:
    """A quota, perhaps under a name that was used before, with everybody in it."""
    name = chance.choice(world.quota_names())
    world.operators.create_quota(name, chance)
    for agent in world.agents():
        world.operators.assign(name, agent, chance)


def set_agent_target(world: World, chance: Random) -> None:
    """One agent's limit is fixed."""
    if agents := world.agents():
        world.operators.set_agent_target(chance.choice(world.quota_names()), chance.choice(agents), chance)


def assign(world: World, chance: Random) -> None:
    """An agent gets a part, or another one."""
    if agents := world.agents():
        world.operators.assign(chance.choice(world.quota_names()), chance.choice(agents), chance)


def unassign(world: World, chance: Random) -> None:
    """An agent loses its part."""
    if agents := world.agents():
        world.operators.unassign(chance.choice(world.quota_names()), chance.choice(agents))


def switch_agent(world: World, chance: Random) -> None:
    """An agent is switched off or on."""
    if agents := world.agents():
        world.operators.switch_agent(chance.choice(agents), active=chance.random() < 0.8)


def create_agent(world: World, chance: Random) -> None:
    """Another agent."""
    world.create_agent()


def retire(world: World, chance: Random) -> None:
    """The end of an agent."""
    if agents := world.agents():
        world.operators.retire(chance.choice(agents), chance.choice(list(Assume)))


def settle(world: World, chance: Random) -> None:
    """The end of an epoch."""
    if agents := world.agents():
        world.operators.settle(chance.choice(agents), 0, chance.choice(list(Assume)))


def request_override(world: World, chance: Random) -> None:
    """An operator asks for an agent."""
    if agents := world.agents():
        world.operators.request_override(chance.choice(world.quota_names()), chance.choice(agents), chance)


def decide_override(world: World, chance: Random) -> None:
    """An operator decides."""
    world.operators.decide_override(chance)


def ask_again(world: World, chance: Random) -> None:
    """Calls that were not answered are repeated."""
    world.operators.ask_again(chance)


def finish_recovery(world: World, chance: Random) -> None:
    """An operator ends the recovery, perhaps settling who is lost."""
    world.operators.finish_recovery(lambda epoch: not world.machines_of(epoch.key) and chance.random() < 0.5)


def install(world: World, chance: Random) -> None:
    """Agents that have no machine get one."""
    world.install()


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
        install,
    )
}
