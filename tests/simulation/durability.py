"""The same writes on a real store and on the simulated one, to see that the simulation promises no more than SQLite.

`python -m tests.simulation.durability gate|ledger PATH SEED` writes on a real store, step by step, and says after each
how many are durable; whoever started it kills it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

from quota_agent.gate.draft import Changes
from quota_agent.gate.model import AcquireRequest, Entry, GateSettings, Verb
from quota_agent.gate.operations import Apply, AskOverride, Bind, End, FenceStore, Operation, SayHello, Touch
from quota_agent.gate.records import Key, State
from quota_agent.gate.state import Group, decide, lookup
from quota_agent.gate.store import GateStore
from quota_agent.store.sqlite import SqliteStore
from quota_server.ledger.model import Assignment, Assume
from quota_server.ledger.store import LedgerStore
from quotafleet.link.messages import (
    AllocationUpdate,
    FenceKind,
    OverrideState,
    OverrideUpdate,
    Revision,
    Terms,
)
from tests.ledger_kit import open_store
from tests.link_kit import Ledger, Site
from tests.simulation.clocks import START_MS
from tests.simulation.disk import Disk, Moves, SimGateStore, Trouble
from tests.simulation.loop import SimLoop

STEPS = 400
SETTINGS = GateSettings()
Steps = AsyncIterator[int]


# --- the gate's store -------------------------------------------------------------------------------------------------


def group_of(step: int, seed: int) -> Group:
    """What is decided in one step; the same for a seed on every store."""
    chance = Random(f"{seed} {step}")
    if step == 0:
        return Group((Bind("school-7", "agent-uid-7", 1, "store-1"),), START_MS)
    wall_ms = START_MS + step * 40
    if step == STEPS - 1:
        return Group((FenceStore(FenceKind.COPY, "drawn"),), wall_ms)
    roll = chance.random()
    operations: tuple[Operation, ...]
    if step == 1 or roll < 0.15:
        operations = (_word(step, chance),)
    elif roll < 0.25:
        operations = (SayHello(),)
    else:
        operations = tuple(_request(step, chance) for _ in range(chance.randint(1, 6)))
    return Group(operations, wall_ms)


def _word(step: int, chance: Random) -> Apply:
    names = ("q", "r")
    updates = [
        AllocationUpdate(f"uid-{n}", Revision(0, step), chance.randint(0, 40), Terms(n)) for n in names
    ]
    override = OverrideUpdate(f"o-{step}", "", "uid-q", 5, OverrideState.APPROVED)
    return Apply(tuple(updates), (override,), b"mark-%d" % step, complete=chance.random() < 0.3)


def _request(step: int, chance: Random) -> Any:
    name = chance.choice("qr")
    roll = chance.random()
    if roll < 0.5:
        request = AcquireRequest(name, f"{step}-{chance.randint(0, 9)}", chance.randint(1, 4))
        return request._replace(hold_ms=chance.choice((None, None, 100, 60_000)), labels=(("site", "a"),))
    if roll < 0.85:
        earlier = f"{max(1, step - chance.randint(0, 5))}-{chance.randint(0, 9)}"
        return End(chance.choice(list(Verb)), name, earlier)
    if roll < 0.95:
        return AskOverride(name, 3, "more came", f"ask-{step}-{chance.randint(0, 3)}")
    return Touch()


async def run_gate(store: GateStore, seed: int) -> Steps:
    """Decide and write every group; answers the number of those that are durable."""
    state = await store.load()
    for step in range(STEPS):
        group, before = group_of(step, seed), state
        decision = await store.transact(
            lookup(before, group),
            lambda known, g=group, s=before: decide(s, g, known, SETTINGS),  # type: ignore[misc]
        )
        state = decision.state
        yield step + 1


class _Unwatched:
    def store_wrote(self, disk: Disk, before: State, changes: Changes, moves: Moves) -> None:
        """Nobody looks."""


def gate_model(seed: int) -> list[tuple[State, dict[Key, Entry]]]:
    """What the simulated disk holds after no group, one, two, and so on."""
    loop, disk = SimLoop(), Disk(1, _Unwatched())  # type: ignore[abstract]
    store = SimGateStore(disk, loop, Random(0), Trouble(), lambda _: disk)
    held: list[tuple[State, dict[Key, Entry]]] = [(disk.state, {})]

    async def run() -> None:
        async for _ in run_gate(store, seed):
            held.append((disk.state, dict(disk.entries)))

    with loop.running():
        task = loop.create_task(run())
        while not task.done() and loop.step() is not None:
            pass
        task.result()
    return held


async def gate_on_disk(path: Path) -> tuple[State, dict[Key, Entry]]:
    """What is in a real store."""
    async with SqliteStore(path) as store:
        state = await store.load()
        found = [entry for uid in state.quotas for entry in await store.entries(uid, 0, 1_000_000, ())]
        return state, {(entry.quota_uid, entry.request_id): entry for entry in found}


# --- the ledger's store -----------------------------------------------------------------------------------------------


async def run_ledger(store: LedgerStore, seed: int) -> Steps:
    """Carry out operators' and agents' transactions; answers the number of steps that are durable."""
    ledger, chance = Ledger(store), Random(seed)
    await ledger.quota(target=100)
    sites: list[Site] = []
    for step in range(STEPS // 4):
        for act in _acts(ledger, sites, chance, step):
            await act()
        yield step + 1


def _acts(ledger: Ledger, sites: list[Site], chance: Random, step: int) -> list[Callable[[], Awaitable[Any]]]:
    """One transaction, or several that belong together."""

    async def join() -> None:
        sites.append(await ledger.site(f"s{step}"))
        await sites[-1].hello()

    async def retarget() -> None:
        await ledger.set_target(max(100, chance.randint(100, 200)))

    async def retire() -> None:
        site = sites.pop(chance.randrange(len(sites)))
        await ledger.enrolments.retire_agent(ledger.call(), site.name, Assume.SPENT_LIMIT, confirm=False)

    async def spend() -> None:
        site = chance.choice(sites)
        ledger.deliver()
        site.spend(chance.randint(1, 5))
        await site.report()

    async def ask() -> None:
        await ledger.overrides.request(ledger.call(), "q", chance.choice(sites).name, 3)

    async def reassign() -> None:
        part = Assignment("", "", weight=chance.randint(1, 3))
        name = chance.choice(sites).name
        await ledger.enrolments.assign_quota(ledger.call(), "q", name, part, with_initial_count=False)

    if len(sites) < 2:
        return [join]
    return [chance.choice((join, retarget, retire, spend, spend, spend, ask, reassign))]


async def ledger_records(store: LedgerStore) -> dict[Any, Any]:
    """Everything that is stored of the quota and its agents."""
    async with store.transaction() as transaction:
        quota = await transaction.find_quota("q")
        if quota is None:
            return {}
        await transaction.load_whole_quota(quota.uid)
        book = transaction.book
        for uid in sorted(book.agents):
            await transaction.load_agent(uid)
        await transaction.load_live_overrides(list(book.epochs))
        tables = (book.quotas, book.agents, book.epochs, book.assignments, book.allocations, book.overrides)
        return {key: record for table in tables for key, record in table.items()}


# --- the program that is killed ---------------------------------------------------------------------------------------


async def _write(what: str, path: Path, seed: int) -> None:
    if what == "gate":
        async with SqliteStore(path) as store:
            async for durable in run_gate(store, seed):
                print(durable, flush=True)
    else:
        async with open_store(path) as (ledger_store, _):
            async for durable in run_ledger(ledger_store, seed):
                print(durable, flush=True)


if __name__ == "__main__":
    asyncio.run(_write(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
