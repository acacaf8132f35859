"""The gate on a real store against a model of a page: what may be granted, and what must be there afterwards.

The store fails when told to, cleanly or not, and the gate is closed and opened again: neither may show.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from quota_agent.errors import Refusal, StoreUnavailable
from quota_agent.gate.draft import Known
from quota_agent.gate.gate import Gate
from quota_agent.gate.model import AcquireMode, AcquireRequest, Granted, Verb
from quota_agent.gate.state import Lookup
from quota_agent.store.sqlite import SqliteStore
from tests.gate_kit import FakeClock, grant, open_gate

T = TypeVar("T")

QUOTAS = st.sampled_from(["a", "b"])
IDS = st.sampled_from([f"r{number}" for number in range(8)])
AMOUNTS = st.integers(1, 6)
HOLDS = st.sampled_from([None, None, 1_000, 5_000])
UP_TO = AcquireMode.UP_TO


class FailingStore(SqliteStore):
    """Fails the next group that writes: before its commit, or after it without saying so."""

    fails: str | None = None

    async def transact(self, lookup: Lookup, decide: Callable[[Known], Any]) -> Any:
        """As the real one, unless told otherwise."""
        fails = self.fails

        def failing(known: Known) -> Any:
            decided = decide(known)
            if decided.changes.needed and fails == "before":
                raise StoreUnavailable("as told", clean=True)
            return decided

        decided = await super().transact(lookup, failing)
        if decided.changes.needed and fails == "after":
            raise StoreUnavailable("as told", clean=False)
        return decided


@dataclass
class ModelEntry:
    """What the model remembers of an entry."""

    request: AcquireRequest
    granted: int
    state: str
    expire_ms: int | None


@dataclass
class ModelQuota:
    """A quota as the model sees it."""

    wanted: int = 0
    limit: int = 0
    entries: dict[str, ModelEntry] = field(default_factory=dict)

    @property
    def used(self) -> int:
        """Count + held."""
        return sum(each.granted for each in self.entries.values() if each.state in ("HELD", "COUNTED"))

    def fall(self) -> None:
        """Let the limit fall to what is wanted or used."""
        self.limit = min(self.limit, max(self.wanted, self.used))

    def expire(self, now_ms: int) -> None:
        """End the holds whose time is over."""
        for entry in self.entries.values():
            if entry.state == "HELD" and entry.expire_ms is not None and entry.expire_ms <= now_ms:
                entry.state = "EXPIRED"
        self.fall()

    def acquire(self, request: AcquireRequest, now_ms: int) -> str | int:
        """The reason of a refusal, or the units granted."""
        known = self.entries.get(request.request_id)
        if known is not None:
            if known.request != request:
                return "REQUEST_ID_REUSED"
            if known.state in ("HELD", "COUNTED"):
                return known.granted
            return "HOLD_EXPIRED" if known.state == "EXPIRED" else "ENTRY_ENDED"
        room = self.limit - self.used
        units = min(room, request.amount) if request.mode is UP_TO else request.amount
        if units < 1 or units > room:
            return "QUOTA_REACHED"
        held = request.hold_ms is not None
        expire_ms = now_ms + request.hold_ms if request.hold_ms is not None else None
        self.entries[request.request_id] = ModelEntry(
            request, units, "HELD" if held else "COUNTED", expire_ms
        )
        return units

    def end(self, verb: Verb, request_id: str) -> str:
        """The reason of a refusal, or the state of the entry."""
        entry = self.entries.get(request_id)
        if entry is None:
            return "ENTRY_UNKNOWN"
        target = {Verb.COMMIT: "COUNTED", Verb.CANCEL: "CANCELLED", Verb.RELEASE: "RELEASED"}[verb]
        source = "COUNTED" if verb is Verb.RELEASE else "HELD"
        repeats = entry.state == target and (target != "COUNTED" or entry.expire_ms is not None)
        if entry.state == source or repeats:
            entry.state = target
            self.fall()
            return target
        if entry.state in ("HELD", "COUNTED"):
            return "FIELD_INVALID"
        return "HOLD_EXPIRED" if entry.state == "EXPIRED" else "ENTRY_ENDED"


class GateMachine(RuleBasedStateMachine):
    """Whatever is asked of the gate, the model says what it answers."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = FakeClock()
        self.model = {"a": ModelQuota(), "b": ModelQuota()}
        self.open()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end."""
        return self.runner.run(work)

    def open(self) -> None:
        """Open the gate on what is on disk."""
        path = Path(self.folder.name)
        self.store = FailingStore(path / "agent.db")
        self.context = open_gate(path, self.clock, store=self.store)
        self.gate: Gate = self.run(self.context.__aenter__())
        self.gate._ticker.stop()  # it goes by real time; here the machine says when time is noticed

    def close(self) -> None:
        """Close the gate."""
        self.run(self.context.__aexit__(None, None, None))

    def teardown(self) -> None:
        """Leave nothing behind."""
        self.close()
        self.runner.close()
        self.folder.cleanup()

    def expire(self) -> None:
        """Every group ends the holds whose time is over first."""
        for quota in self.model.values():
            quota.expire(self.clock.wall)

    def ask(self, work: Coroutine[Any, Any, Granted]) -> str | Granted:
        """The answer, or the reason of the refusal."""
        try:
            return self.run(work)
        except Refusal as refusal:
            return refusal.reason

    @initialize(a=st.integers(0, 20), b=st.integers(0, 20))
    def begin(self, a: int, b: int) -> None:
        self.set_limit("a", a)
        self.set_limit("b", b)

    @rule(quota=QUOTAS, limit=st.integers(0, 20))
    def set_limit(self, quota: str, limit: int) -> None:
        self.expire()
        model = self.model[quota]
        model.wanted = limit
        model.limit = max(limit, model.used)
        self.run(grant(self.gate, quota, limit))

    @rule(quota=QUOTAS, request_id=IDS, amount=AMOUNTS, hold=HOLDS, up_to=st.booleans())
    def acquire(self, quota: str, request_id: str, amount: int, hold: int | None, up_to: bool) -> None:
        mode = UP_TO if up_to else AcquireMode.ALL_OR_NOTHING
        request = AcquireRequest(quota, request_id, amount, mode, hold)
        self.expire()
        expected = self.model[quota].acquire(request, self.clock.wall)
        answer = self.ask(self.gate.acquire(request))
        assert (answer.entry.granted if isinstance(answer, Granted) else answer) == expected

    @rule(items=st.lists(st.tuples(QUOTAS, IDS, AMOUNTS), min_size=1, max_size=4))
    def acquire_atomically(self, items: list[tuple[str, str, int]]) -> None:
        requests = [AcquireRequest(*item) for item in items]
        self.expire()
        before = {name: dict(quota.entries) for name, quota in self.model.items()}
        expected: list[str | int] = []
        for request in requests:
            expected.append(self.model[request.quota].acquire(request, self.clock.wall))
            if isinstance(expected[-1], str):
                for name, entries in before.items():
                    self.model[name].entries = entries
                break
        if isinstance(expected[-1], str):
            with pytest.raises(Refusal) as raised:
                self.run(self.gate.acquire_batch(requests, atomic=True))
            assert raised.value.reason == expected[-1]
            assert raised.value.metadata["index"] == str(len(expected) - 1)
        else:
            granted = self.run(self.gate.acquire_batch(requests, atomic=True))
            assert [each.entry.granted for each in granted if isinstance(each, Granted)] == expected

    @rule(quota=QUOTAS, ids=st.lists(IDS, min_size=2, max_size=6), amount=AMOUNTS)
    def acquire_together(self, quota: str, ids: list[str], amount: int) -> None:
        """Callers at the same time are decided in their order."""
        requests = [AcquireRequest(quota, request_id, amount) for request_id in ids]
        self.expire()
        expected = [self.model[quota].acquire(request, self.clock.wall) for request in requests]

        async def together() -> list[Granted | BaseException]:
            work = [self.gate.acquire(request) for request in requests]
            return await asyncio.gather(*work, return_exceptions=True)

        answers = [
            each.entry.granted if isinstance(each, Granted) else getattr(each, "reason", each)
            for each in self.run(together())
        ]
        assert answers == expected

    @rule(quota=QUOTAS, request_id=IDS, verb=st.sampled_from(Verb))
    def end(self, quota: str, request_id: str, verb: Verb) -> None:
        self.expire()
        expected = self.model[quota].end(verb, request_id)
        call = {Verb.COMMIT: self.gate.commit, Verb.CANCEL: self.gate.cancel, Verb.RELEASE: self.gate.release}
        answer = self.ask(call[verb](quota, request_id))
        assert (answer.entry.state.value if isinstance(answer, Granted) else answer) == expected

    @rule(ms=st.sampled_from([1, 999, 1_000, 4_000]))
    def time_passes(self, ms: int) -> None:
        self.clock.pass_time(ms)

    @rule()
    def touch(self) -> None:
        self.expire()
        self.run(self.gate.touch())

    @rule()
    def restart(self) -> None:
        """Binding the store to its agent is a group like any other."""
        self.close()
        self.expire()
        self.open()

    @rule(quota=QUOTAS, request_id=IDS, amount=AMOUNTS)
    def fail_before_the_commit(self, quota: str, request_id: str, amount: int) -> None:
        """Nothing was ever there. A group that has nothing to write cannot fail."""
        request = AcquireRequest(quota, request_id, amount)
        self.store.fails = "before"
        answer = self.ask(self.gate.acquire(request))
        self.store.fails = None
        if answer != "STORE_UNAVAILABLE":
            self.expire()
            expected = self.model[quota].acquire(request, self.clock.wall)
            assert (answer.entry.granted if isinstance(answer, Granted) else answer) == expected

    @rule(quota=QUOTAS, request_id=IDS, amount=AMOUNTS)
    def fail_after_the_commit(self, quota: str, request_id: str, amount: int) -> None:
        """It is there although nobody was told: memory is read back from disk, and a repeat finds it."""
        request = AcquireRequest(quota, request_id, amount)
        self.store.fails = "after"
        answer = self.ask(self.gate.acquire(request))
        self.store.fails = None
        self.expire()
        expected = self.model[quota].acquire(request, self.clock.wall)
        if answer == "STORE_UNAVAILABLE":
            self.touch()
        else:
            assert (answer.entry.granted if isinstance(answer, Granted) else answer) == expected

    @invariant()
    def the_numbers_agree(self) -> None:
        """What the gate says now is what the model says of the last group."""
        for name, model in self.model.items():
            standing = self.gate.standing(f"uid:{name}")
            if standing is None:
                continue
            assert standing.used <= standing.limit
            live = {key: each for key, each in model.entries.items() if each.state in ("HELD", "COUNTED")}
            assert standing.used == sum(each.granted for each in live.values())
            assert standing.limit == model.limit

    @invariant()
    def the_disk_agrees(self) -> None:
        """The entries on disk are those of the model, and add up to the totals."""
        for name, model in self.model.items():
            if self.gate.standing(f"uid:{name}") is None:
                continue
            entries = self.run(self.gate.entries(name))
            found = {each.request_id: (each.granted, each.state.value) for each in entries}
            assert found == {key: (each.granted, each.state) for key, each in model.entries.items()}


GateMachine.TestCase.settings = settings(
    max_examples=80, stateful_step_count=50, deadline=None, print_blob=True
)
TestGate = GateMachine.TestCase
