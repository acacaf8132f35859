"""The faults that come and go: each is begun, lasts, and is healed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from tests.chaos import upheavals
from tests.chaos.operators import Operator
from tests.chaos.schedule import STRUCTURAL, Fault, Kind
from tests.chaos.verdict import Violation
from tests.chaos.world import Slot, World

#: Faults that may be upon the fleet at one moment, beside one that is structural.
AT_ONCE: Final = 3
_SLOW_SECONDS = 0.15


class Faults:
    """Makes faults happen."""

    def __init__(self, world: World, operator: Operator, told: Callable[[Fault, str], None]) -> None:
        """`told` hears of each fault when it begins (what: "") and when it is over ("healed")."""
        self._world = world
        self._operator = operator
        self._told = told
        #: The fault that was begun last, for reports.
        self.step = 0

    async def wave(self, faults: list[Fault]) -> None:
        """Let all of them happen, each lane in its order; returns when all are healed."""
        async with asyncio.TaskGroup() as lanes:
            lanes.create_task(self._lane([fault for fault in faults if fault.kind in STRUCTURAL], 1))
            lanes.create_task(
                self._lane([fault for fault in faults if fault.kind not in STRUCTURAL], AT_ONCE)
            )

    async def _lane(self, faults: list[Fault], at_once: int) -> None:
        room = asyncio.Semaphore(at_once)

        async def one(fault: Fault) -> None:
            try:
                await self._one(fault)
            finally:
                room.release()

        async with asyncio.TaskGroup() as tasks:
            for fault in faults:
                await asyncio.sleep(fault.gap_seconds)  # the schedule says when
                await room.acquire()
                tasks.create_task(one(fault), name=str(fault))

    async def _one(self, fault: Fault) -> None:
        slot = self._world.slots[fault.victim]
        if fault.kind in STRUCTURAL:
            async with self._world.structure:
                await self._structural(fault, slot)
        elif fault.kind in _ON_CONTROLLER:
            async with self._world.controller_lock:
                self._begin(fault)
                await _ON_CONTROLLER[fault.kind](self._world, fault)
        else:
            async with slot.lock:
                self._begin(fault)
                await _ON_AGENT[fault.kind](self._world, slot, fault)
        self._told(fault, "healed")

    async def _structural(self, fault: Fault, slot: Slot) -> None:
        if fault.kind is Kind.DATABASE_PUT_BACK:
            async with self._world.controller_lock:
                self._begin(fault)
                await upheavals.put_database_back(self._world, self._operator, fault)
            await upheavals.recover(self._world, self._operator)
            return
        if fault.kind is Kind.NO_SPACE:
            self._begin(fault)
            await upheavals.fill_disk(self._world, self._operator, fault)
            return
        async with slot.lock:
            self._begin(fault)
            await upheavals.ON_AGENT[fault.kind](self._world, self._operator, slot, fault)

    def _begin(self, fault: Fault) -> None:
        self.step = max(self.step, fault.number)
        self._world.tally.faults[fault.kind] += 1
        self._told(fault, "")


async def _last(fault: Fault) -> None:
    await asyncio.sleep(fault.seconds)  # the fault is upon the fleet meanwhile


async def _kill_agent(world: World, slot: Slot, fault: Fault) -> None:
    await world.kill(slot.store)
    if fault.coin:
        await _last(fault)
    await slot.store.process.start()


async def _stop_agent(_: World, slot: Slot, fault: Fault) -> None:
    slot.store.process.stop_short()
    await _last(fault)
    slot.store.process.go_on()


async def _cut(_: World, slot: Slot, __: Fault) -> None:
    await slot.store.line("cut")


def _stall(*orders: str) -> Callable[[World, Slot, Fault], Awaitable[None]]:
    async def stall(_: World, slot: Slot, fault: Fault) -> None:
        await slot.store.line(*orders)
        await _last(fault)
        if fault.coin:
            await slot.store.line("cut")
        await slot.store.heal_line()

    return stall


async def _jump_agent(_: World, slot: Slot, fault: Fault) -> None:
    slot.store.clock.jump(fault.jump_seconds)
    await _last(fault)
    if fault.coin:  # the next jump, or the next quiet point, puts it right
        slot.store.clock.jump(0)


async def _fill_agent(world: World, slot: Slot, fault: Fault) -> None:
    slot.store.process.fill_disk()
    await _last(fault)
    if fault.coin:
        await world.kill(slot.store)
        await slot.store.process.start()
    else:
        slot.store.process.empty_disk()


async def _kill_controller(world: World, fault: Fault) -> None:
    await world.controller.process.kill()
    if fault.coin:
        await _last(fault)
    await world.controller.process.start()


async def _stop_controller(world: World, fault: Fault) -> None:
    world.controller.process.stop_short()
    await _last(fault)
    world.controller.process.go_on()


async def _jump_controller(world: World, fault: Fault) -> None:
    world.controller.clock.jump(fault.jump_seconds)
    await _last(fault)
    if fault.coin:
        world.controller.clock.jump(0)


async def _fill_controller(world: World, fault: Fault) -> None:
    world.controller.process.fill_disk()
    await _last(fault)
    if fault.coin:
        await world.controller.process.kill()
        await world.controller.process.start()
    else:
        world.controller.process.empty_disk()


async def heal(world: World) -> None:
    """Put everything right that faults may have left: clocks, lines, disks. All processes run."""
    world.controller.clock.jump(0)
    world.controller.process.empty_disk()
    for slot in world.slots:
        slot.store.clock.jump(0)
        slot.store.process.empty_disk()
        await slot.store.heal_line()
        if not slot.store.process.running:
            raise Violation("RUN", "every agent to run", f"{slot.store.key} does not")


_ON_CONTROLLER: Final = {
    Kind.CONTROLLER_KILLED: _kill_controller,
    Kind.CONTROLLER_STOPPED: _stop_controller,
    Kind.CONTROLLER_CLOCK: _jump_controller,
    Kind.CONTROLLER_DISK: _fill_controller,
}
_ON_AGENT: Final = {
    Kind.AGENT_KILLED: _kill_agent,
    Kind.AGENT_STOPPED: _stop_agent,
    Kind.CONNECTIONS_CUT: _cut,
    Kind.STALLED_UP: _stall("up stall"),
    Kind.STALLED_DOWN: _stall("down stall"),
    Kind.STALLED_BOTH: _stall("up stall", "down stall"),
    Kind.LINE_SLOW: _stall(f"delay {_SLOW_SECONDS}"),
    Kind.AGENT_CLOCK: _jump_agent,
    Kind.AGENT_DISK: _fill_agent,
}
