"""The gate on a real store: restarts, holds, fences, limits and time."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from quota_agent.errors import Refusal
from quota_agent.gate.gate import Gate
from quota_agent.gate.model import AcquireMode, Balance, EntryState
from quotafleet.link.messages import FenceKind, Terms, Totals
from tests.gate_kit import START_MS, FakeClock, grant, open_gate, refused, want


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def gate(tmp_path: Path, clock: FakeClock) -> AsyncIterator[Gate]:
    async with open_gate(tmp_path, clock) as opened:
        await grant(opened, "q", 10)
        yield opened


async def test_a_restart_rebuilds_the_same_state(tmp_path: Path, clock: FakeClock) -> None:
    async with open_gate(tmp_path, clock) as gate:
        await grant(gate, "q", 10, terms=Terms("q", 3, 1, 2**42, max_offline_ms=9_000))
        gate.contact(clock.wall_ms())
        await gate.acquire(want("q", "a", 3, labels=(("colour", "grün"), ("a", ""))))
        await gate.acquire(want("q", "b", 2, hold_ms=1000))
        await gate.acquire(want("q", "c", 2, mode=AcquireMode.UP_TO))
        await gate.request_override("q", 5, "more", "ask-1")
        await gate.apply([], [], mark=b"\x00mark")
        await grant(gate, "other", 7)
        before, entries = gate._writer.state, await gate.entries("q")
    async with open_gate(tmp_path, clock) as gate:
        assert gate._writer.state == before
        assert gate._writer.state.names == before.names
        assert await gate.entries("q") == entries
        assert (await gate.acquire(want("q", "b", 2, hold_ms=1000))).entry == entries[1]


async def test_a_hold_ends_although_the_agent_was_down_when_its_time_was_over(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with open_gate(tmp_path, clock) as gate:
        await grant(gate, "q", 10)
        await gate.acquire(want("q", "a", 10, hold_ms=60_000))
    clock.pass_time(60_000)
    async with open_gate(tmp_path, clock) as gate:
        async with refused("HOLD_EXPIRED"):
            await gate.commit("q", "a")
        assert (await gate.acquire(want("q", "b", 10))).balance.remaining == 0
        assert (await gate.entry("q", "a")).state is EntryState.EXPIRED


async def test_a_hold_ends_by_itself(tmp_path: Path, clock: FakeClock) -> None:
    """A hold of 20 ms, and a caller who waits for what it holds."""
    async with open_gate(tmp_path, clock) as gate:
        await grant(gate, "q", 10)
        await gate.acquire(want("q", "a", 10, hold_ms=20))
        waiting = asyncio.create_task(gate.acquire(want("q", "b", 10, max_wait_ms=10_000)))
        await asyncio.wait_for(gate.urgent.wait(), 9)
        clock.pass_time(20)
        assert (await asyncio.wait_for(waiting, 9)).balance == Balance(10, 0, 0, 10)


async def test_many_holds_that_end_together_all_end(tmp_path: Path, clock: FakeClock) -> None:
    async with open_gate(tmp_path, clock) as gate:
        await grant(gate, "q", 5_000)
        for first in range(0, 5_000, 1_000):
            items = [want("q", f"{first + number}", hold_ms=10_000) for number in range(1_000)]
            await gate.acquire_batch(items, atomic=True)
        clock.pass_time(10_000)
        async with refused("HOLD_EXPIRED"):
            await gate.commit("q", "4999")
        for _ in range(6):
            await gate.touch()
        assert gate.balance("q")[0] == Balance(0, 0, 5_000, 5_000)


async def test_a_copy_fence_is_durable_and_draws_a_new_id(tmp_path: Path, clock: FakeClock) -> None:
    async with open_gate(tmp_path, clock) as gate:
        await grant(gate, "q", 10)
        await gate.acquire(want("q", "a", 3))
        await gate.apply([], [], mark=b"m1")
        await gate.acquire(want("q", "b", 2))
        await gate.apply([], [], mark=b"m2")
        await gate.acquire(want("q", "c", 1, hold_ms=1000))
        old = (await gate.hello()).store_id
        ack = await gate.fence(FenceKind.COPY)
    async with open_gate(tmp_path, clock) as gate:
        assert await gate.fence(FenceKind.COPY) == ack
        assert ack.store_id == (await gate.hello()).store_id != old
        (final,) = ack.standings
        assert (final.totals, final.marked) == (Totals(consumed=5), Totals(consumed=3))
        assert gate.balance("q")[0].held == 0
        assert (await gate.entry("q", "c")).state is EntryState.CANCELLED
        async with refused("AGENT_FENCED"):
            await gate.acquire(want("q", "d"))
        async with refused("AGENT_FENCED"):
            await gate.release("q", "a")
        assert not gate.fence_confirmed
        await gate.fence_done()
        assert gate.fence_confirmed


async def test_a_limit_lowered_below_what_is_used_ratchets_down(gate: Gate) -> None:
    await gate.acquire(want("q", "a", 6))
    await gate.acquire(want("q", "b", 2, hold_ms=1000))
    await grant(gate, "q", 3)
    assert gate.balance("q")[0] == Balance(6, 2, 0, 8)
    assert (await gate.cancel("q", "b")).balance == Balance(6, 0, 0, 6)
    assert (await gate.release("q", "a")).balance == Balance(0, 0, 3, 3)


async def test_each_reason_of_period_state_and_clock_is_its_own(gate: Gate, clock: FakeClock) -> None:
    for reason, terms in {
        "QUOTA_NOT_STARTED": Terms("q", start_ms=START_MS + 1),
        "QUOTA_EXPIRED": Terms("q", end_ms=START_MS),
        "QUOTA_SUSPENDED": Terms("q", suspended=True),
        "QUOTA_CLOSED": Terms("q", closed=True),
        "AGENT_INACTIVE": Terms("q", active=False),
        "NOT_ASSIGNED": Terms("q", assigned=False),
        "OFFLINE_TOO_LONG": Terms("q", max_offline_ms=1_000),
    }.items():
        await grant(gate, "q", 10, terms=terms)
        async with refused(reason):
            await gate.acquire(want("q", "a"))
        async with refused(reason):
            gate.check("q")
        assert gate.status().quotas[0].refusal == reason
    gate.contact(clock.wall_ms())
    await gate.acquire(want("q", "a"))
    clock.pass_time(1_001)
    async with refused("OFFLINE_TOO_LONG"):
        await gate.acquire(want("q", "b"))


async def test_a_clock_that_went_back_is_refused_after_a_restart_until_the_controller_is_heard(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with open_gate(tmp_path, clock) as gate:
        await grant(gate, "q", 10)
    clock.wall -= 3_600_000
    async with open_gate(tmp_path, clock) as gate:
        async with refused("CLOCK_WENT_BACK"):
            await gate.acquire(want("q", "a"))
        gate.contact(clock.wall)
        await gate.touch()
        await gate.acquire(want("q", "a"))
    found = sqlite3.connect(tmp_path / "agent.db")
    assert found.execute("SELECT what, after FROM audit").fetchall() == [("clock_reset", clock.wall)]
    found.close()


async def test_an_operator_resets_the_clock(gate: Gate, clock: FakeClock) -> None:
    clock.wall -= 3_600_000
    await gate.reset_clock("the battery was empty")
    await gate.acquire(want("q", "a"))


async def test_bad_fields_are_named_before_anything_is_queued(gate: Gate) -> None:
    wrong = want("q", "", 0, hold_ms=10**12, max_wait_ms=-1, labels=(("k", "v"), ("k", "w")))
    with pytest.raises(Refusal) as raised:
        await gate.acquire(wrong)
    assert set(raised.value.fields) == {"request_id", "amount", "hold", "max_wait", "labels"}
    with pytest.raises(Refusal) as raised:
        await gate.acquire_batch([want("q", "a"), want("q", "b", 2, mode=AcquireMode.UP_TO)], atomic=True)
    assert (raised.value.metadata["index"], set(raised.value.fields)) == ("1", {"items[1].mode"})
    answers = await gate.acquire_batch([want("q", "a", 0), want("q", "b")], atomic=False)
    assert [isinstance(answer, Refusal) for answer in answers] == [True, False]
    async with refused("FIELD_INVALID"):
        await gate.acquire_batch([], atomic=False)


async def test_entries_are_paged_in_the_order_they_were_granted(gate: Gate) -> None:
    for number in range(5):
        await gate.acquire(want("q", f"r{number}"))
    await gate.release("q", "r1")
    page = await gate.entries("q", limit=3)
    rest = await gate.entries("q", after_number=page[-1].number)
    assert [entry.request_id for entry in (*page, *rest)] == ["r0", "r1", "r2", "r3", "r4"]
    ended = await gate.entries("q", states=[EntryState.RELEASED])
    assert [entry.request_id for entry in ended] == ["r1"]
    async with refused("ENTRY_UNKNOWN"):
        await gate.entry("q", "nobody")
    async with refused("NOT_ASSIGNED"):
        await gate.entry("missing", "r1")
