"""The gate when one thing in it is broken, when its writer has died, and when more is asked than it can queue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from quota_agent.errors import AgentError, Refusal, StoreUnavailable, StoreUnusable
from quota_agent.gate.draft import Known
from quota_agent.gate.gate import Gate
from quota_agent.gate.model import GateSettings, Granted
from quota_agent.gate.state import Lookup
from quota_agent.store.sqlite import SqliteStore
from quotafleet.link.messages import FenceKind, OpenRequest
from tests.gate_kit import grant, open_gate, refused, uid_of, want


class Died(BaseException):
    """Nothing that anybody handles."""


class BrokenStore(SqliteStore):
    """Raises `error` in a group that would create the entry `bad`, and whatever it is told elsewhere."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.error: BaseException = ValueError("broken")
        self.archiving: Exception | None = None
        self.reopening: Exception | None = None

    async def transact(self, lookup: Lookup, decide: Callable[[Known], Any]) -> Any:
        """As the real one, but for the entry."""

        def decide_or_raise(known: Known) -> Any:
            decided = decide(known)
            if any(entry.request_id == "bad" for entry in decided.changes.created):
                raise self.error
            return decided

        return await super().transact(lookup, decide_or_raise)

    async def archive(self, label: str) -> None:
        """As the real one, unless told otherwise."""
        if self.archiving is not None:
            raise self.archiving
        await super().archive(label)

    async def reopen(self) -> None:
        """As the real one, unless told otherwise."""
        if self.reopening is not None:
            raise self.reopening
        await super().reopen()


@pytest.fixture
def store(tmp_path: Path) -> BrokenStore:
    return BrokenStore(tmp_path / "agent.db")


async def at_once(gate: Gate, *request_ids: str, **more: Any) -> list[asyncio.Task[Granted]]:
    """Acquisitions of one unit that are in the queue before the writer looks at it."""
    tasks = [asyncio.create_task(gate.acquire(want("q", each, **more))) for each in request_ids]
    await asyncio.sleep(0)
    return tasks


async def answers(tasks: list[asyncio.Task[Granted]]) -> list[str | None]:
    """Why each was refused; None for those that were granted."""
    done = await asyncio.gather(*tasks, return_exceptions=True)
    return [getattr(answer, "reason", None) for answer in done]


async def counted(gate: Gate) -> set[str]:
    return {entry.request_id for entry in await gate.entries("q")}


async def test_an_operation_that_cannot_be_decided_takes_no_other_with_it(
    tmp_path: Path, store: BrokenStore
) -> None:
    async with open_gate(tmp_path, store=store) as gate:
        await grant(gate, "q", 10)
        tasks = await at_once(gate, "a", "bad", "c")
        assert await answers(tasks) == [None, "STORE_UNAVAILABLE", None]
        assert await counted(gate) == {"a", "c"}
        assert gate.balance("q")[0].count == 2


async def test_more_than_can_be_queued_is_refused_and_nothing_of_it_counts(tmp_path: Path) -> None:
    async with open_gate(tmp_path, settings=GateSettings(max_queue=3)) as gate:
        await grant(gate, "q", 10)
        tasks = await at_once(gate, "a", "b", "c", "d", "e")
        assert await answers(tasks) == [None, None, None, "STORE_UNAVAILABLE", "STORE_UNAVAILABLE"]
        assert await counted(gate) == {"a", "b", "c"}
        assert (await gate.acquire(want("q", "d"))).balance.count == 4


async def test_an_action_that_fails_is_told_and_the_gate_goes_on(tmp_path: Path, store: BrokenStore) -> None:
    """Also if whoever asked for it has gone."""
    async with open_gate(tmp_path, store=store) as gate:
        await gate.fence(FenceKind.ENDED)
        await gate.fence_done()
        store.archiving = RuntimeError("no room for an archive")
        with pytest.raises(AgentError, match="no room for an archive"):
            await gate.bind("school-7", "agent-uid-7", 2)
        leaving = asyncio.create_task(gate.bind("school-7", "agent-uid-7", 2))
        await asyncio.sleep(0)
        leaving.cancel()
        await gate.touch()
        assert leaving.cancelled()
        store.archiving = None
        await gate.bind("school-7", "agent-uid-7", 2)
        await grant(gate, "q", 10)
        await gate.acquire(want("q", "a"))


async def test_a_store_that_cannot_be_opened_again_is_not_used_until_it_can(
    tmp_path: Path, store: BrokenStore
) -> None:
    async with open_gate(tmp_path, store=store) as gate:
        await grant(gate, "q", 10)
        store.error, store.reopening = StoreUnavailable("as told", clean=False), StoreUnusable("gone")
        for request_id in ("bad", "a"):
            async with refused("STORE_UNAVAILABLE"):
                await gate.acquire(want("q", request_id))
        store.reopening = None
        await gate.acquire(want("q", "a"))
        assert await counted(gate) == {"a"}


async def test_a_writer_that_died_grants_nothing_and_leaves_nobody_waiting(
    tmp_path: Path, store: BrokenStore
) -> None:
    """Who was in its group, who waits for more limit, and who comes later; and its error ends the gate."""
    store.error = Died()

    async def until_it_dies() -> None:
        async with open_gate(tmp_path, store=store) as gate:
            await grant(gate, "q", 2)
            watching = asyncio.create_task(gate.watch_writer())
            waiting = await at_once(gate, "waits", amount=5, max_wait_ms=300)
            await gate.touch()
            assert await answers(await at_once(gate, "a", "bad")) == ["STORE_UNAVAILABLE"] * 2
            assert await answers(await at_once(gate, "later")) == ["STORE_UNAVAILABLE"]
            assert await answers(waiting) == ["STORE_UNAVAILABLE"]
            assert not gate.status().store_ok
            with pytest.raises(Died):
                await watching

    with pytest.raises(Died):
        await until_it_dies()
    async with open_gate(tmp_path) as gate:
        assert await counted(gate) == set()


async def test_whoever_watches_the_writer_of_a_gate_that_closes_is_told(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as gate:
        watching = asyncio.create_task(gate.watch_writer())
        await asyncio.sleep(0)
    with pytest.raises(AgentError, match="writer has ended"):
        await watching


async def test_an_ask_for_an_override_with_bad_fields_leaves_nothing(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as gate:
        await grant(gate, "q", 2)
        with pytest.raises(Refusal) as raised:
            await gate.request_override("q", 0, "why", "")
        assert set(raised.value.fields) == {"amount", "request_id"}
        assert gate.status().quotas[0].overrides == ()


async def test_who_waits_is_reported_whatever_the_length_of_a_heartbeat_becomes(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as gate:
        await grant(gate, "q", 2)
        tasks = await at_once(gate, "waits", amount=5, max_wait_ms=10_000)
        await gate.touch()
        gate.follow_heartbeat(100)
        (standing,) = (await gate.hello()).standings
        assert (standing.quota_uid, standing.open_requests) == (uid_of("q"), (OpenRequest(5, 0),))
        await grant(gate, "q", 5)
        assert await answers(tasks) == [None]
