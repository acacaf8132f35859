"""How waiting ends: repeats, a name that stands for another quota, a store that fails, and a gate that closes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from quota_agent.errors import StoreUnavailable
from quota_agent.gate.draft import Known
from quota_agent.gate.gate import Gate
from quota_agent.gate.model import AcquireRequest, EntryState, Granted
from quota_agent.gate.state import Lookup
from quota_agent.store.sqlite import SqliteStore
from quotafleet.link.messages import Terms
from tests.gate_kit import grant, open_gate, want


class FailingStore(SqliteStore):
    """Refuses the groups that its `fails` says, by their number, and counts them; of `broken` ones it keeps silent."""

    groups = 0

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.fails: Callable[[int], bool] = lambda _: False
        #: Those that are on disk, and look as if they might not be.
        self.broken: set[int] = set()

    async def transact(self, lookup: Lookup, decide: Callable[[Known], Any]) -> Any:
        """As the real one, and counted."""
        self.groups += 1
        if self.fails(self.groups):
            raise StoreUnavailable("as told", clean=True)
        answer = await super().transact(lookup, decide)
        if self.groups in self.broken:
            raise StoreUnavailable("after the commit", clean=False)
        return answer


@pytest.fixture
def store(tmp_path: Path) -> FailingStore:
    return FailingStore(tmp_path / "agent.db")


@pytest.fixture
async def gate(tmp_path: Path, store: FailingStore) -> AsyncIterator[Gate]:
    async with open_gate(tmp_path, store=store) as opened:
        await grant(opened, "q", 0)
        yield opened


async def waiting(gate: Gate, *requests: AcquireRequest) -> list[asyncio.Task[Granted]]:
    """Callers who wait, in this order. Each is in line when a later group has been answered."""
    tasks = []
    for request in requests:
        tasks.append(asyncio.create_task(gate.acquire(request)))
        await asyncio.sleep(0)
        await gate.touch()
    return tasks


def later(request_id: str, amount: int, wait_ms: int = 10_000) -> AcquireRequest:
    """A request that waits."""
    return want("q", request_id, amount, max_wait_ms=wait_ms)


def reasons(answers: Iterable[object]) -> list[str | None]:
    """Why each was refused; None for those that were not."""
    return [getattr(answer, "reason", None) for answer in answers]


async def test_all_who_wait_with_one_request_id_get_the_one_answer(gate: Gate) -> None:
    first, repeat = await waiting(gate, later("same", 5), later("same", 5))
    first.cancel()
    await grant(gate, "q", 5)
    assert (await asyncio.wait_for(repeat, 5)).balance.count == 5
    assert (await gate.entry("q", "same")).state is EntryState.COUNTED


async def test_who_waits_gets_the_answer_of_a_repeat_that_did_not_wait(gate: Gate) -> None:
    (big, same) = await waiting(gate, later("big", 50), later("same", 5))
    await grant(gate, "q", 5)
    assert not same.done(), "it stands behind the big one"
    granted = await gate.acquire(want("q", "same", 5))
    assert (await asyncio.wait_for(same, 5)).entry == granted.entry
    assert not big.done()


async def test_other_content_under_a_request_id_that_waits_is_refused_when_it_is_granted(gate: Gate) -> None:
    first, other = await waiting(gate, later("same", 5), later("same", 4))
    await grant(gate, "q", 5)
    assert reasons(await asyncio.gather(first, other, return_exceptions=True)) == [None, "REQUEST_ID_REUSED"]


async def test_the_last_answer_comes_from_the_store_not_from_memory(gate: Gate, store: FailingStore) -> None:
    """Its time being over says nothing about what is counted: while the store is down, nobody knows."""
    (task,) = await waiting(gate, later("a", 5, wait_ms=50))
    store.fails = lambda _: True
    assert reasons(await asyncio.gather(task, return_exceptions=True)) == ["STORE_UNAVAILABLE"]


async def test_closing_refuses_nobody_who_is_granted(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as gate:
        await grant(gate, "q", 5)
        tasks = await waiting(gate, later("big", 9), later("small", 3))
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    async with open_gate(tmp_path) as gate:
        counted = {entry.request_id for entry in await gate.entries("q")}
    granted = {answer.entry.request_id for answer in answers if isinstance(answer, Granted)}
    assert counted == granted == {"small"}, "whose waiting is over takes what is there"
    assert reasons(answers) == ["QUOTA_REACHED", None]


async def test_those_who_wait_are_served_after_a_group_that_failed(gate: Gate, store: FailingStore) -> None:
    first, second = await waiting(gate, later("w1", 10), later("w2", 1))
    failing = store.groups + 2  # the first is the limit's
    store.fails = lambda number: number == failing
    await grant(gate, "q", 10)
    assert reasons(await asyncio.gather(first, return_exceptions=True)) == ["STORE_UNAVAILABLE"]
    assert (await asyncio.wait_for(second, 5)).balance.count == 1


async def test_who_is_tried_and_finds_less_than_was_known_of_goes_on_waiting(
    gate: Gate, store: FailingStore
) -> None:
    """The group that took the rest was written and could not be answered: memory hears of it from the disk."""
    first, second = await waiting(gate, later("w1", 5), later("w2", 2))
    store.broken = {store.groups + 2}  # the first is the limit's
    await grant(gate, "q", 6)
    assert reasons(await asyncio.gather(first, return_exceptions=True)) == ["STORE_UNAVAILABLE"]
    await gate.touch()
    assert gate.balance("q")[0].remaining == 1
    assert not second.done(), "2 would not fit"
    await grant(gate, "q", 8)
    assert (await asyncio.wait_for(second, 5)).balance.count == 7
    assert (await gate.acquire(want("q", "w1", 5))).balance.count == 7, "once, though it was answered late"


async def test_who_waits_for_a_name_waits_for_the_quota_that_it_stands_for_now(
    gate: Gate, store: FailingStore
) -> None:
    (task,) = await waiting(gate, later("w", 5))
    await grant(gate, "q", 0, uid="u2")
    before = store.groups
    await grant(gate, "q", 9, uid="uid:q")
    await gate.touch()
    assert store.groups == before + 2, "the older quota serves nobody, and is not tried again and again"
    await grant(gate, "q", 5, uid="u2")
    assert (await asyncio.wait_for(task, 5)).entry.quota_uid == "u2"


async def test_who_waits_for_a_quota_that_was_renamed_is_told(gate: Gate) -> None:
    (task,) = await waiting(gate, later("w", 5))
    await grant(gate, "q", 0, terms=Terms("other"))
    assert reasons(await asyncio.gather(task, return_exceptions=True)) == ["NOT_ASSIGNED"]
