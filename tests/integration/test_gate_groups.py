"""The gate on a real store: groups, and what becomes of those that fail."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from quota_agent.errors import StoreUnavailable
from quota_agent.gate.draft import Changes, Known
from quota_agent.gate.gate import Gate
from quota_agent.gate.model import Balance, GateSettings
from quota_agent.gate.state import Lookup
from quota_agent.store.sqlite import SqliteStore
from quotafleet.link.messages import Terms, Totals
from tests.gate_kit import FakeClock, grant, open_gate, refused, uid_of, want


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def gate(tmp_path: Path, clock: FakeClock) -> AsyncIterator[Gate]:
    async with open_gate(tmp_path, clock) as opened:
        await grant(opened, "q", 10)
        yield opened


class SlowStore(SqliteStore):
    """A store whose writer stops before each group until it is let go, and fails the groups it is told to."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.go = threading.Semaphore(0)
        self.begun = threading.Semaphore(0)
        self.slow = False
        self.fail_next: str | None = None
        self.reopened = 0
        self.groups: list[int] = []

    async def transact(self, lookup: Lookup, decide: Callable[[Known], Any]) -> Any:
        """As the real one, but slower."""

        def slowly(known: Known) -> Any:
            if self.slow:
                self.begun.release()
                assert self.go.acquire(timeout=30)
            decided = decide(known)
            self.groups.append(len(decided.changes.created))
            failure, self.fail_next = self.fail_next, None
            if failure == "clean":
                raise StoreUnavailable("as told", clean=True)
            if failure == "unclean":
                raise StoreUnavailable("as told", clean=False)
            return decided

        return await super().transact(lookup, slowly)

    async def reopen(self) -> None:
        """As the real one, and counted."""
        self.reopened += 1
        await super().reopen()

    async def has_begun(self) -> None:
        """Wait until the writer is about to decide a group."""
        assert await asyncio.to_thread(self.begun.acquire, timeout=30)


class ProbedStore(SqliteStore):
    """A store that counts how often it was probed."""

    probes = 0

    async def probe(self) -> None:
        """As the real one, and counted."""
        self.probes += 1
        if self.probes == 3:
            self.probed_thrice.set()
        await super().probe()

    @functools.cached_property
    def probed_thrice(self) -> asyncio.Event:
        """Set at the third probe."""
        return asyncio.Event()


async def queued(*calls: Any) -> list[asyncio.Task[Any]]:
    """Tasks whose operations are in the gate's queue."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    await asyncio.sleep(0)
    return tasks


async def test_what_arrives_while_a_group_is_written_becomes_the_next_group(tmp_path: Path) -> None:
    store = SlowStore(tmp_path / "agent.db")
    async with open_gate(tmp_path, store=store) as gate:
        await grant(gate, "q", 100)
        store.slow, store.groups = True, []
        first = await queued(gate.acquire(want("q", "first")))
        await store.has_begun()
        later = await queued(*(gate.acquire(want("q", f"later-{number}")) for number in range(50)))
        assert not first[0].done(), "answered only when durable"
        store.go.release(2)
        await asyncio.gather(*first, *later)
        assert store.groups == [1, 50]


async def test_the_controllers_word_is_a_group_of_its_own(tmp_path: Path) -> None:
    """What a name means does not change within a group: the keys were looked up before it."""
    store = SlowStore(tmp_path / "agent.db")
    async with open_gate(tmp_path, store=store) as gate:
        await grant(gate, "q", 10, uid="first")
        await grant(gate, "q", 10, uid="second")
        await gate.acquire(want("q", "a", 3))
        await grant(gate, "q", 0, uid="second", terms=Terms("q", closed=True))
        await gate.acquire(want("q", "a", 5))
        store.slow, store.groups = True, []
        first = await queued(gate.acquire(want("q", "b")))
        await store.has_begun()
        later = await queued(
            gate.acquire(want("q", "c")),
            grant(gate, "q", 0, uid="first", terms=Terms("q", closed=True)),
            gate.acquire(want("q", "a", 3)),
        )
        store.go.release(4)
        await asyncio.gather(*first, *later)
        assert store.groups == [1, 1, 0, 0], "the last one is a repeat in the quota that the name means now"
        assert later[2].result().entry.quota_uid == "second"


@pytest.mark.parametrize("kind", ["clean", "unclean"])
async def test_a_failed_group_is_refused_whole_and_later_ones_stand_on_the_state_before_it(
    tmp_path: Path, kind: str
) -> None:
    store = SlowStore(tmp_path / "agent.db")
    async with open_gate(tmp_path, store=store) as gate:
        await grant(gate, "q", 10)
        await gate.acquire(want("q", "before", 2))
        store.slow, store.fail_next = True, kind
        failing = await queued(gate.acquire(want("q", "a", 8)), gate.acquire(want("q", "b", 9)))
        await store.has_begun()
        later = await queued(gate.acquire(want("q", "c", 8)))
        store.go.release(2)
        answers = await asyncio.gather(*failing, return_exceptions=True)
        assert [getattr(answer, "reason", None) for answer in answers] == ["STORE_UNAVAILABLE"] * 2
        assert (await later[0]).balance == Balance(count=10, held=0, remaining=0, limit=10)
        assert store.reopened == (kind == "unclean")
        assert [entry.request_id for entry in await gate.entries("q")] == ["before", "c"]


async def test_a_full_disk_counts_nothing_and_the_gate_recovers_when_there_is_room(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "agent.db", max_page_count=64)
    settings = GateSettings(heartbeat_ms=20)
    async with open_gate(tmp_path, store=store, settings=settings) as gate:
        await grant(gate, "q", 10**6)
        healths: list[bool] = []
        recovered = asyncio.Event()

        def watch(healthy: bool) -> None:
            healths.append(healthy)
            if healthy:
                recovered.set()

        gate.watch_health(watch)
        granted = []
        with pytest.raises(StoreUnavailable):  # noqa: PT012 - until the disk is full
            for number in range(100_000):
                request_id = f"{number:0100}"
                await gate.acquire(want("q", request_id, labels=(("why", "x" * 200),)))
                granted.append(request_id)
        assert not gate.healthy
        assert gate.balance("q")[0].count == len(granted) == len(await gate.entries("q", limit=100_000))
        async with refused("STORE_UNAVAILABLE"):
            await gate.acquire_batch([want("q", f"b{number:0100}") for number in range(1000)], atomic=True)
        assert gate.balance("q")[0].count == len(granted)
        await gate.release("q", granted[0])
        await store.limit_pages(100_000)
        await asyncio.wait_for(recovered.wait(), 30)
        assert gate.healthy
        await gate.acquire(want("q", "after"))
        assert healths == [False, True]


async def test_a_disk_that_stays_full_keeps_the_gate_unhealthy(tmp_path: Path) -> None:
    """Small writes may still find room; new entries need more."""
    store = ProbedStore(tmp_path / "agent.db", max_page_count=64)
    async with open_gate(tmp_path, store=store, settings=GateSettings(heartbeat_ms=10)) as gate:
        await grant(gate, "q", 10**6)
        with pytest.raises(StoreUnavailable):  # noqa: PT012 - until the disk is full
            for number in range(100_000):
                await gate.acquire_batch([want("q", f"{number}-{item}") for item in range(100)], atomic=True)
        await asyncio.wait_for(store.probed_thrice.wait(), 30)
        await gate.apply([], [], mark=b"small")
        assert not gate.healthy
        assert not gate.status().store_ok


async def test_cancelling_a_caller_withdraws_nothing(tmp_path: Path) -> None:
    store = SlowStore(tmp_path / "agent.db")
    async with open_gate(tmp_path, store=store) as gate:
        await grant(gate, "q", 10)
        store.slow = True
        (task,) = await queued(gate.acquire(want("q", "a", 3)))
        await store.has_begun()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        store.slow = False
        store.go.release()
        assert (await gate.acquire(want("q", "a", 3))).balance.count == 3


async def test_a_broken_invariant_refuses_its_group_and_the_gate_goes_on(gate: Gate, caplog: Any) -> None:
    quota = gate._writer.state.quotas[uid_of("q")]
    quota.limit, limit = 99, quota.limit
    quota.consumed = 100
    with pytest.raises(StoreUnavailable, match="nothing was counted"):
        await gate.apply([], [], mark=b"m")
    assert "S1: count + held <= limit" in caplog.text
    quota.limit, quota.consumed = limit, 0
    assert (await gate.acquire(want("q", "a"))).balance.count == 1


async def test_a_hello_is_built_with_no_write_in_flight(tmp_path: Path) -> None:
    """What was decided before it is durable and in it; what comes after it is not."""
    store = SlowStore(tmp_path / "agent.db")
    async with open_gate(tmp_path, store=store) as gate:
        await grant(gate, "q", 10)
        store.slow = True
        before = await queued(gate.acquire(want("q", "a", 3)))
        await store.has_begun()
        hello = await queued(gate.hello())
        after = await queued(gate.acquire(want("q", "b", 4)))
        store.go.release()
        await store.has_begun()
        assert before[0].done()
        assert not hello[0].done()
        store.go.release(2)
        (standing,) = (await hello[0]).standings
        assert standing.totals == Totals(consumed=3)
        assert (await after[0]).balance.count == 7


class Answer:
    """A decision that writes nothing."""

    changes = Changes()


async def test_a_group_looks_all_its_keys_up_in_one_statement(tmp_path: Path) -> None:
    async with (
        SqliteStore(tmp_path / "agent.db") as store,
        Gate.open(store, FakeClock(), GateSettings(), lambda: "id") as gate,
    ):
        await gate.bind("a", "u", 1)
        await grant(gate, "q", 10)
        await gate.acquire(want("q", "known"))
        seen: list[Known] = []
        requests = {uid_of("q"): [*map(str, range(4_096)), "known"], "unheard of": ["known"]}
        await store.transact(Lookup(requests), lambda known: (seen.append(known), Answer())[1])  # type: ignore[func-returns-value]
        assert list(seen[0].entries) == [(uid_of("q"), "known")]
