"""The faults after which somebody else is enrolled, or something was forgotten.

All but the first hold `World.structure`, and end with a backup: docs/operations.md has the operator make again what
was made since the backup, which for enrolments and names is avoided here by having nothing to make again.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, closing
from typing import Any, Final

import grpc

from quotafleet.agent.v1 import gate_service_pb2 as gate
from quotafleet.errors import QuotafleetError
from quotafleet.v1 import agent_admin_service_pb2 as admin
from tests.chaos import images, observer
from tests.chaos.clients import WORKERS, Worker
from tests.chaos.fleet import Credential, Store
from tests.chaos.operators import Operator
from tests.chaos.schedule import Fault, Kind
from tests.chaos.verdict import Violation
from tests.chaos.world import CALL_SECONDS, Slot, World, until

#: An agent logs it once its controller has recorded its final totals.
_CONFIRMED = "final totals"
_SOON_SECONDS = 5.0
#: Units at risk while it is not known how many they are.
_ANY = 10**15


async def put_database_back(world: World, operator: Operator, fault: Fault) -> None:
    """Put the controller's database back to the newest backup, and declare it, as docs/operations.md says."""
    await world.controller.process.kill()
    if fault.coin:
        await asyncio.sleep(fault.seconds)  # agents go on without it
    database = world.controller.database
    for suffix in ("-wal", "-shm"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)
    shutil.copyfile(world.backup, database)
    with closing(sqlite3.connect(f"file:{world.backup}?mode=ro", uri=True)) as connection:
        for uid, target in connection.execute("SELECT uid, target FROM quotas"):
            world.bounds.quotas[uid].targets.add(target)
            world.bounds.quotas[uid].changes += 2
    await world.controller.declare_restored()
    await world.controller.process.start()


async def recover(world: World, operator: Operator) -> None:
    """Wait until every enrolment is heard, and finish the recovery.

    After some time agents that were not heard are started again: their backoff may have grown to half a minute.
    """
    began = time.monotonic()

    async def heard() -> bool | None:
        nonlocal began
        answer = await operator.must("get recovery", operator.agents.GetRecovery, admin.GetRecoveryRequest())
        if time.monotonic() > began + _SOON_SECONDS:
            began = time.monotonic()
            unheard = {each.agent for each in answer.unheard}
            for slot in world.slots:
                async with slot.lock:
                    if slot.store.credential.agent in unheard:
                        await world.kill(slot.store)
                        await slot.store.process.start()
        return None if answer.unheard else True

    async def finished() -> bool | None:
        request = admin.FinishRecoveryRequest(confirm=True, reason="chaos")
        answer = await operator.call("finish recovery", operator.agents.FinishRecovery, request)
        return None if isinstance(answer, QuotafleetError) else True

    await until(heard, "L3", "every enrolment to be heard after the database was put back")
    await until(finished, "L3", "the recovery to be finished")
    await operator.back_up()


async def fill_disk(world: World, _: Operator, fault: Fault) -> None:
    """No space is left where the controller and all agents write; perhaps two of them are killed meanwhile."""
    async with AsyncExitStack() as stack:
        for lock in (world.controller_lock, *(slot.lock for slot in world.slots)):
            await stack.enter_async_context(lock)
        await asyncio.to_thread(world.disk.fill)
        await asyncio.sleep(fault.seconds)  # everybody is refused
        store = world.slots[fault.victim].store
        if fault.coin:
            await world.controller.process.kill()
            await world.kill(store)
        world.disk.empty()
        if fault.coin:
            await asyncio.gather(world.controller.process.start(), store.process.start())


async def put_store_back(world: World, operator: Operator, slot: Slot, fault: Fault) -> None:
    """Put an agent's store back to an older copy; it goes on unseen for a while, then calls, and is settled."""
    store = slot.store
    older = world.disk.folder / f"{store.key}.older"
    await world.kill(store)
    shutil.copytree(store.data, older)
    await store.process.start()
    await asyncio.sleep(fault.seconds)  # what is done now will be forgotten
    await world.kill(store)
    shutil.rmtree(store.data)
    older.rename(store.data)
    world.history.put_back(store.key)
    image = images.load(store.data)
    store.base = image.keys
    store.tainted = True
    if fault.coin:
        await store.line("up stall", "down stall")
    await store.process.start()
    await asyncio.sleep(fault.seconds)  # what is done now is in nobody's numbers
    await store.heal_line()
    if await _fenced_or_welcomed(store):
        await _fence_confirmed(world, operator, store)
        await _settle(world, operator, slot, fault, last_reported=False)
        store.put_away()
    else:  # nothing that anybody had heard of was forgotten
        world.history.lose(store.key, store.base)
        world.history.seen(store.key)
        store.tainted = False
    await operator.back_up()


async def clone(world: World, operator: Operator, slot: Slot, fault: Fault) -> None:
    """Copy an agent's machine while it is down. Both go on, one of them unseen; one of them will be fenced."""
    original = slot.store
    image = await world.kill(original)
    copy = await world.add_store(original.credential, f".copy-{fault.number}", original.data)
    copy.base = image.keys
    for store in (original, copy):
        store.tainted = True
        store.parted = image
        world.history.hide(store.key)
    unseen = original if fault.coin else copy
    await unseen.line("up stall", "down stall")
    await asyncio.gather(original.process.start(), copy.process.start())
    workers = [Worker(world, Slot(100 + fault.number, copy), number) for number in range(WORKERS)]
    tasks = [asyncio.create_task(worker.run(), name=f"client of {copy.key}") for worker in workers]
    try:
        await asyncio.sleep(1 + fault.seconds)  # both spend
        await unseen.heal_line()
        await world.kill(unseen)  # its backoff may have grown: a machine that is started again dials at once
        await unseen.process.start()
        loser = await until(lambda: _first_fenced(original, copy), "S6", "one of two copies to be fenced")
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    winner = original if loser is copy else copy
    slot.store = winner
    await _fence_confirmed(world, operator, loser)
    world.history.seen(winner.key)
    await close(world, loser)
    loser.put_away()
    world.losers.append(loser)
    await operator.back_up()


async def retire(world: World, operator: Operator, slot: Slot, fault: Fault) -> None:
    """End an agent for good, and enrol another in its place."""
    store = slot.store
    await _ended(world, operator, store, fault.coin, operator.agents.RetireAgent, admin.RetireAgentRequest)
    await until(lambda: _is_fenced(store), "S6", f"the retired {store.key} to be fenced")
    await _fence_confirmed(world, operator, store)
    slot.enrolled += 1
    credential = await operator.enrol(f"a{slot.number}.{slot.enrolled}")
    await _replace(world, slot, credential)
    store.put_away()
    await operator.back_up()


async def settle(world: World, operator: Operator, slot: Slot, fault: Fault) -> None:
    """Lose an agent's machine and settle it; another machine takes over; then the lost one turns up."""
    store = slot.store
    await world.kill(store)
    await _settle(world, operator, slot, fault, last_reported=fault.coin)
    await asyncio.sleep(fault.seconds)  # the lost one is away
    await store.process.start()
    await _fence_confirmed(world, operator, store)
    store.put_away()
    await operator.back_up()


async def _settle(world: World, operator: Operator, slot: Slot, fault: Fault, *, last_reported: bool) -> None:
    store = slot.store
    answer = await _ended(
        world, operator, store, last_reported, operator.agents.SettleAgent, admin.SettleAgentRequest
    )
    await _replace(world, slot, Credential.of(answer.credential))


async def _ended(
    world: World, operator: Operator, store: Store, last_reported: bool, method: Any, request_type: Any
) -> Any:
    """Retire or settle; what is put at risk is known to the checks before anybody can spend it."""
    assume = admin.ASSUME_LAST_REPORTED if last_reported else admin.ASSUME_SPENT_LIMIT
    request = request_type(agent=store.credential.agent, assume=assume, confirm=True, reason="chaos")
    allowances = world.bounds.quotas
    if last_reported:
        for allowance in allowances.values():
            allowance.at_risk += _ANY
    answer = await operator.must(f"end enrolment ({assume})", method, request)
    if last_reported:
        for allowance in allowances.values():
            allowance.at_risk -= _ANY
    for settlement in answer.settlements:
        allowances[settlement.quota_uid].at_risk += settlement.at_risk
    world.ended.append(store)
    return answer


async def _replace(world: World, slot: Slot, credential: Credential) -> None:
    old = slot.store
    await close(world, old)
    store = await world.add_store(credential)
    await store.process.start()
    slot.store = store


async def close(world: World, store: Store) -> None:
    """Nobody asks this store any more; its process ends, and its files are looked at."""
    store.closed = True
    if store.process.running:
        await world.kill(store)


async def _status(store: Store) -> gate.GetStatusResponse | None:
    try:
        answer: gate.GetStatusResponse = await store.stub.GetStatus(
            gate.GetStatusRequest(), timeout=CALL_SECONDS, wait_for_ready=True
        )
    except grpc.aio.AioRpcError:
        return None
    if answer.fenced:
        store.fenced = True
    return answer


async def _is_fenced(store: Store) -> bool | None:
    status = await _status(store)
    return True if status is not None and status.fenced else None


async def _first_fenced(*stores: Store) -> Store | None:
    for store in stores:
        if await _is_fenced(store):
            return store
    return None


async def _fenced_or_welcomed(store: Store) -> bool:
    """Wait until a controller has heard of the store; whether it was fenced."""

    async def heard() -> bool | None:
        status = await _status(store)
        if status is None:
            return None
        return True if status.fenced else False if status.connected else None

    return bool(await until(heard, "L1", f"{store.key} to be welcomed or fenced"))


async def _fence_confirmed(world: World, operator: Operator, store: Store) -> None:
    """Wait until the controller has the final totals of a fenced store, which then is in its numbers."""

    async def confirmed() -> bool | None:
        return True if _CONFIRMED in (store.folder / "agent.log").read_text(errors="replace") else None

    await until(confirmed, "S6", f"the final totals of {store.key} to be recorded")
    image = await world.kill(store)
    if not (image.fenced and image.confirmed):
        raise Violation("S6", f"the fence to be on the disk of {store.key}", f"fenced: {image.fenced}")
    for uid in (*world.uids.values(), *world.closed):
        while await observer.look(world, operator, uid) is None:  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.1)  # the controller is away for a moment
    world.history.seen(store.key)


ON_AGENT: Final[dict[Kind, Callable[[World, Operator, Slot, Fault], Awaitable[None]]]] = {
    Kind.STORE_PUT_BACK: put_store_back,
    Kind.STORE_CLONED: clone,
    Kind.AGENT_RETIRED: retire,
    Kind.AGENT_SETTLED: settle,
}
