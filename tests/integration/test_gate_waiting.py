"""Acquisitions that wait for more limit, and what the uplink hears of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from quota_agent.errors import Refusal
from quota_agent.gate.gate import Gate
from quota_agent.gate.model import AcquireMode, Granted
from quotafleet.link.messages import AllocationUpdate, FenceKind, Terms
from tests.gate_kit import FakeClock, grant, open_gate, refused, uid_of, want

Q = uid_of("q")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def gate(tmp_path: Path, clock: FakeClock) -> AsyncIterator[Gate]:
    async with open_gate(tmp_path, clock) as opened:
        await grant(opened, "q", 2)
        await opened.acquire(want("q", "first", 2))
        yield opened


async def waiting(gate: Gate, *amounts: int, wait_ms: int = 10_000) -> list[asyncio.Task[Granted]]:
    """Callers who wait, in this order; the uplink has been told of each."""
    tasks = []
    for number, amount in enumerate(amounts):
        request = want("q", f"w{number}", amount, max_wait_ms=wait_ms)
        tasks.append(asyncio.create_task(gate.acquire(request)))
        gate.urgent.clear()
        await asyncio.wait_for(gate.urgent.wait(), 9)
    return tasks


async def test_a_caller_waits_until_the_limit_grows(gate: Gate) -> None:
    (task,) = await waiting(gate, 3)
    await grant(gate, "q", 4)
    await gate.touch()
    assert not task.done()
    await grant(gate, "q", 5)
    assert (await task).balance.count == 5


async def test_a_caller_waits_until_units_come_back(gate: Gate) -> None:
    (task,) = await waiting(gate, 2)
    await gate.release("q", "first")
    assert (await task).balance.count == 2


async def test_the_first_to_come_is_the_first_to_be_served(gate: Gate) -> None:
    big, small, last = await waiting(gate, 3, 1, 1)
    await grant(gate, "q", 4)
    await gate.touch()
    assert not small.done(), "a large request does not starve among small ones"
    await grant(gate, "q", 6)
    assert (await big).entry.number < (await small).entry.number
    await grant(gate, "q", 7)
    assert (await last).balance.remaining == 0


async def test_waiting_ends_with_its_time_and_the_next_is_served(gate: Gate) -> None:
    (big,) = await waiting(gate, 100, wait_ms=300)
    small = asyncio.create_task(gate.acquire(want("q", "small", 1, max_wait_ms=10_000)))
    gate.urgent.clear()
    await asyncio.wait_for(gate.urgent.wait(), 9)
    await grant(gate, "q", 3)
    with pytest.raises(Refusal, match="100 of 'q' asked for") as raised:
        await big
    assert raised.value.reason == "QUOTA_REACHED"
    assert (await small).balance.remaining == 0


async def test_who_does_not_wait_takes_what_is_there(gate: Gate) -> None:
    (big,) = await waiting(gate, 5)
    await grant(gate, "q", 3)
    await gate.acquire(want("q", "now"))
    await grant(gate, "q", 8)
    assert (await big).balance.remaining == 0


async def test_a_waiting_up_to_takes_what_comes(gate: Gate) -> None:
    task = asyncio.create_task(gate.acquire(want("q", "w", 9, mode=AcquireMode.UP_TO, max_wait_ms=10_000)))
    await asyncio.wait_for(gate.urgent.wait(), 9)
    await grant(gate, "q", 3)
    assert (await task).entry.granted == 1


async def test_those_who_wait_hear_at_once_when_there_is_nothing_to_wait_for(gate: Gate) -> None:
    tasks = await waiting(gate, 1, 1)
    await grant(gate, "q", 2, terms=Terms("q", suspended=True))
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [getattr(answer, "reason", None) for answer in answers] == ["QUOTA_SUSPENDED"] * 2


async def test_a_fence_ends_all_waiting(gate: Gate) -> None:
    (task,) = await waiting(gate, 1)
    await gate.fence(FenceKind.ENDED)
    async with refused("AGENT_FENCED"):
        await task


async def test_a_caller_who_gave_up_waiting_is_served_all_the_same(gate: Gate) -> None:
    (task,) = await waiting(gate, 1)
    task.cancel()
    await asyncio.wait([task])
    await grant(gate, "q", 3)
    await gate.touch()
    assert (await gate.entry("q", "w0")).granted == 1


async def test_nobody_is_left_waiting_when_the_gate_closes(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as gate:
        await grant(gate, "q", 0)
        tasks = await waiting(gate, 1, 1)
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [getattr(answer, "reason", None) for answer in answers] == ["QUOTA_REACHED"] * 2
    async with refused("STORE_UNAVAILABLE"):
        await gate.acquire(want("q", "late"))


# --- what the uplink hears --------------------------------------------------------------------------------------------


async def test_only_what_changed_after_a_stamp_is_reported(gate: Gate, clock: FakeClock) -> None:
    await grant(gate, "other", 5)
    standings, stamp = gate.changes(0)
    assert {standing.quota_uid for standing in standings} == {Q, uid_of("other")}
    assert gate.changes(stamp) == ((), stamp)
    await gate.release("q", "first")
    (standing,), newer = gate.changes(stamp)
    assert (standing.quota_uid, standing.totals.released) == (Q, 2)
    assert newer > stamp


async def test_open_requests_are_always_reported_and_their_end_once(gate: Gate, clock: FakeClock) -> None:
    async with refused("QUOTA_REACHED"):
        await gate.acquire(want("q", "a", 3))
    assert gate.urgent.is_set()
    (standing,), stamp = gate.changes(0)
    assert [request.amount for request in standing.open_requests] == [3]
    assert (standing.recent_demand, standing.wanted_more) == (5, 2)
    clock.pass_time(1_000)
    (standing,), stamp = gate.changes(stamp)
    assert standing.open_requests[0].age_ms == 1_000
    clock.pass_time(60_000)
    (standing,), stamp = gate.changes(stamp)
    assert (standing.open_requests, standing.recent_demand, standing.wanted_more) == ((), 0, 0)
    assert gate.changes(stamp) == ((), stamp)


async def test_a_granted_request_is_open_no_more(gate: Gate) -> None:
    async with refused("QUOTA_REACHED"):
        await gate.acquire(want("q", "a", 3))
    await grant(gate, "q", 5)
    await gate.acquire(want("q", "a", 3))
    standing = gate.standing(Q)
    assert standing is not None
    assert (standing.open_requests, standing.recent_demand) == ((), 5)


async def test_an_update_that_is_no_news_is_acknowledged_again(gate: Gate) -> None:
    await gate.apply([], [], mark=b"m")
    known, (_, stamp) = gate.standing(Q), gate.changes(0)
    assert known is not None
    await gate.apply([AllocationUpdate(Q, known.revision, 2, Terms("q"))], [])
    (standing,), _ = gate.changes(stamp)
    assert standing.quota_uid == Q
    assert gate.mark == b"m"


async def test_an_ask_for_an_override_is_urgent(gate: Gate) -> None:
    await gate.request_override("q", 5, "a late coach", "ask-1")
    assert gate.urgent.is_set()
    (ask,) = gate.open_asks()
    assert (ask.ask_id, ask.amount, ask.reason) == ("ask-1", 5, "a late coach")
