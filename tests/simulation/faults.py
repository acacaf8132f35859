"""What happens to machines, disks, clocks and the network. Each fault says whether it changed anything."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from tests.simulation.clocks import MachineClock
from tests.simulation.loop import Process
from tests.simulation.network import Stream, Weather

if TYPE_CHECKING:
    from tests.simulation.machines import AgentMachine, ControllerMachine
    from tests.simulation.world import World

Fault = Callable[["World", Random], bool]


def kill_agent(world: World, chance: Random) -> bool:
    """Kill -9, or the power is gone: then the controller does not learn of it."""
    machine = _running(world, chance)
    return machine is not None and world.kill_agent(
        machine, written=chance.random() < 0.5, noticed=chance.random() < 0.6
    )


def start_agents(world: World, chance: Random) -> bool:
    """Systemd does its work."""
    acted = False
    for machine in world.machines:
        if chance.random() < 0.7:
            acted |= world.start_agent(machine)
    return acted


def kill_controller(world: World, chance: Random) -> bool:
    """Kill -9, or the power is gone: then the agents do not learn of it."""
    return world.kill_controller(
        _controller(world, chance), written=chance.random() < 0.5, noticed=chance.random() < 0.6
    )


def kill_writing(world: World, chance: Random) -> bool:
    """Kill -9 in the middle of a commit: of the next one that any controller writes."""
    written, noticed, after_s = chance.random() < 0.5, chance.random() < 0.6, 0.0005 * chance.random()

    def kill(process: Process) -> None:
        for controller in world.controllers:
            if controller.process is process:
                world.kill_controller(controller, written=written, noticed=noticed)

    armed = world.database.when_written is not None
    world.database.when_written = lambda process: world.loop.at(
        world.loop.time() + after_s, "kill_writing", kill, process
    )
    return not armed


def kill_controllers(world: World, chance: Random) -> bool:
    """All of them at one moment."""
    return world.kill_controllers(written=chance.random() < 0.5, noticed=chance.random() < 0.6)


def start_controller(world: World, chance: Random) -> bool:
    """Those that are down come back with what their database holds, or most of them."""
    if len(world.controllers) == 1:
        return world.start_controllers()
    return world.start_controllers(lambda: chance.random() < 0.7)


def pause_agent(world: World, chance: Random) -> bool:
    """SIGSTOP."""
    machine = _running(world, chance)
    if machine is None or machine.process.paused:
        return False
    machine.process.paused = True
    return True


def pause_controller(world: World, chance: Random) -> bool:
    """SIGSTOP; another controller takes it for gone."""
    process = _controller(world, chance).process
    was_paused, process.paused = process.paused, process.alive
    return process.paused and not was_paused


def resume(world: World, chance: Random) -> bool:
    """SIGCONT, to all."""
    acted = False
    for machine in _everybody(world):
        process = machine.process
        if process.alive and process.paused:
            process.resume()
            acted = True
    return acted


def break_stream(world: World, chance: Random) -> bool:
    """Both ends learn of it."""
    if stream := _stream(world, chance):
        stream.break_(agent_learns=True, server_learns=True)
    return stream is not None


def half_break_stream(world: World, chance: Random) -> bool:
    """One end learns of it, or none."""
    if stream := _stream(world, chance):
        agent_learns = chance.random() < 0.4
        stream.break_(agent_learns=agent_learns, server_learns=not agent_learns and chance.random() < 0.7)
    return stream is not None


def stall(world: World, chance: Random) -> bool:
    """Nothing gets through one way, or both, for a while."""
    acted = False
    if stream := _stream(world, chance):
        for direction in chance.choice(((stream.up,), (stream.down,), (stream.up, stream.down))):
            acted |= direction.flows
            direction.stall()
    return acted


def flow(world: World, chance: Random) -> bool:
    """What was stuck arrives."""
    acted = False
    for stream in world.network.all_streams():
        if chance.random() < 0.7:
            for direction in (stream.up, stream.down):
                flowed = direction.flows
                direction.flow()
                acted |= direction.flows and not flowed
    return acted


def cut_off(world: World, chance: Random) -> bool:
    """An agent reaches nobody, and nobody reaches it."""
    machine = chance.choice(world.machines)
    acted = machine.name not in world.network.cut_off
    world.network.cut_off.add(machine.name)
    for stream in world.network.streams_of(machine.name):
        stream.break_(agent_learns=chance.random() < 0.5, server_learns=chance.random() < 0.5)
    return acted


def part(world: World, chance: Random) -> bool:
    """An agent does not reach one of the controllers, nor that one the agent."""
    machine, controller = chance.choice(world.machines), _controller(world, chance)
    acted = (machine.name, controller.name) not in world.network.parted
    world.network.parted.add((machine.name, controller.name))
    for stream in world.network.streams_of(machine.name):
        if stream.host is controller:
            stream.break_(agent_learns=chance.random() < 0.5, server_learns=chance.random() < 0.5)
    return acted


def reach(world: World, chance: Random) -> bool:
    """The network is back, for some."""
    network = world.network
    before = network.cut_off, network.parted
    network.cut_off = {name for name in sorted(network.cut_off) if chance.random() < 0.4}
    network.parted = {pair for pair in sorted(network.parted) if chance.random() < 0.4}
    return (network.cut_off, network.parted) != before


def fill_disk(world: World, chance: Random) -> bool:
    """An agent's disk takes no new entries."""
    disk = chance.choice(world.machines).disk
    was_full, disk.full = disk.full, True
    return not was_full


def fill_database(world: World, chance: Random) -> bool:
    """The controller's disk takes nothing."""
    was_full, world.database.full = world.database.full, True
    return not was_full


def empty_disks(world: World, chance: Random) -> bool:
    """There is room again."""
    acted, world.database.full = world.database.full, False
    for machine in world.machines:
        acted |= machine.disk.full
        machine.disk.full = False
    return acted


def clock_jump(world: World, chance: Random) -> bool:
    """Somebody sets a clock."""
    by_ms = chance.choice((-1, 1)) * chance.choice((500, 90_000, 600_000, 90_000_000))
    _clock(world, chance).jump(by_ms)
    return True


def clock_drift(world: World, chance: Random) -> bool:
    """A clock runs slow, or fast, or stops."""
    _clock(world, chance).run_at(chance.choice((0.0, 0.5, 0.99, 1.5, 20.0)))
    return True


def clock_right(world: World, chance: Random) -> bool:
    """A clock is put right."""
    clock = _clock(world, chance)
    before_ms = clock.wall_ms()
    clock.put_right()
    return abs(clock.wall_ms() - before_ms) > 1  # less is rounding


def backup_store(world: World, chance: Random) -> bool:
    """Somebody copies an agent's store away."""
    world.backup_store(chance.choice(world.machines))
    return True


def restore_store(world: World, chance: Random) -> bool:
    """An agent's store is put back to an older copy."""
    machine = chance.choice(world.machines)
    return world.restore_store(machine, chance)


def clone(world: World, chance: Random) -> bool:
    """A second machine runs on a copy of the first one's disk; perhaps nobody hears of it for a while."""
    return world.clone(chance.choice(world.machines), unheard=chance.random() < 0.5)


def lose_store(world: World, chance: Random) -> bool:
    """A disk is lost, and an empty one put in its place."""
    world.lose_store(chance.choice(world.machines))
    return True


def new_credential(world: World, chance: Random) -> bool:
    """An agent gets the credential of its newest epoch, if there is another one than it has."""
    return world.renew_credential(chance.choice(world.machines))


def backup_database(world: World, chance: Random) -> bool:
    """The controller's database is backed up."""
    world.backup_database()
    return True


def restore_database(world: World, chance: Random) -> bool:
    """It is put back to the backup, and `quota-server recover` is run."""
    return world.restore_database(declared=True)


def restore_database_unseen(world: World, chance: Random) -> bool:
    """It is put back, and nobody says so."""
    return world.restore_database(declared=False)


def fail_over(world: World, chance: Random) -> bool:
    """A replica that was not synchronous is promoted: the same, and the controllers go on."""
    return world.fail_over()


def heal(world: World) -> None:
    """Nothing is broken any more, but what is lost.

    Notices, on which nothing depends, go on being lost, and transactions go on being in each other's way.
    """
    chance = Random(0)
    resume(world, chance)
    empty_disks(world, chance)
    world.trouble.unclear_rate = 0
    world.database.when_written = None
    world.network.cut_off.clear()
    world.network.parted.clear()
    world.network.draw_weather = lambda _: Weather()
    for stream in world.network.all_streams():
        for direction in (stream.up, stream.down):
            direction.weather = Weather()
            direction.flow()
    for machine in _everybody(world):
        machine.clock.put_right()


def _running(world: World, chance: Random) -> AgentMachine | None:
    running = [machine for machine in world.machines if machine.process.alive]
    return chance.choice(running) if running else None


def _controller(world: World, chance: Random) -> ControllerMachine:
    return world.controllers[0] if len(world.controllers) == 1 else chance.choice(world.controllers)


def _everybody(world: World) -> list[ControllerMachine | AgentMachine]:
    return [*world.controllers, *world.machines]


def _stream(world: World, chance: Random) -> Stream | None:
    streams = world.network.all_streams()
    return chance.choice(streams) if streams else None


def _clock(world: World, chance: Random) -> MachineClock:
    return chance.choice(_everybody(world)).clock


FAULTS: dict[str, Fault] = {
    fault.__name__: fault
    for fault in (
        kill_agent,
        start_agents,
        kill_controller,
        kill_controllers,
        kill_writing,
        start_controller,
        pause_agent,
        pause_controller,
        resume,
        break_stream,
        half_break_stream,
        stall,
        flow,
        cut_off,
        part,
        reach,
        fill_disk,
        fill_database,
        empty_disks,
        clock_jump,
        clock_drift,
        clock_right,
        backup_store,
        restore_store,
        clone,
        lose_store,
        new_credential,
        backup_database,
        restore_database,
        restore_database_unseen,
        fail_over,
    )
}
