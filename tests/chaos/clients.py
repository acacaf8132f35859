"""The applications: on every agent several workers acquire, hold, commit, cancel, release and spend overrides."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

from google.protobuf.duration_pb2 import Duration

from quotafleet.agent.v1 import gate_service_pb2 as gate
from quotafleet.errors import QuotafleetError, from_status
from tests.chaos.fleet import Store
from tests.chaos.history import Answer, Ask, Told, Verb
from tests.chaos.verdict import Violation
from tests.chaos.world import CALL_SECONDS, MAIN, QUOTAS, Slot, World

WORKERS = 3
_LONGEST_PAUSE_SECONDS = 0.03
_HOLD_SECONDS = (2, 8)
_REQUESTS = {
    Verb.COMMIT: gate.CommitRequest,
    Verb.CANCEL: gate.CancelRequest,
    Verb.RELEASE: gate.ReleaseRequest,
}


class Worker:
    """One client of whatever store is in its slot."""

    def __init__(self, world: World, slot: Slot, number: int) -> None:
        self._world = world
        self._slot = slot
        self._chance = world.chance(f"client {slot.number}.{number}")
        self._ids = (f"r{slot.number}.{number}.{count}" for count in itertools.count(1))
        #: Entries to be ended one day: the store's key, the quota's name.
        self._mine: list[tuple[str, str, Told]] = []
        #: The override asked for: the store's key, the id and the amount.
        self._wish: tuple[str, str, int] | None = None

    async def run(self) -> None:
        """Work for ever."""
        deeds: list[tuple[Callable[[Store], Awaitable[None]], int]] = [
            (self._acquire, 8),
            (self._hold, 3),
            (self._end, 9),
            (self._repeat, 2),
            (self._batch, 2),
            (self._override, 2),
        ]
        calls, weights = zip(*deeds, strict=True)
        while True:
            async with self._world.clients.turn():
                await self._chance.choices(calls, weights)[0](self._slot.store)
            await asyncio.sleep(self._chance.uniform(0, _LONGEST_PAUSE_SECONDS))  # the pace of the load

    async def ask_for(self, store: Store, quota: str, amount: int) -> bool:
        """Ask once for an amount, ready to wait for it; what is granted is given back. Whether it was granted."""
        request = gate.AcquireRequest(quota=quota, request_id=next(self._ids), amount=amount)
        request.max_wait.CopyFrom(Duration(seconds=2))
        if not await self.send(store, request):
            return False
        _, _, told = self._mine.pop()
        await self._end_until_answered(store, quota, told, Verb.RELEASE)
        return True

    async def _acquire(self, store: Store) -> None:
        request = self._request(amount=self._chance.randint(1, 6))
        if self._chance.random() < 0.3:
            request.mode = gate.ACQUIRE_MODE_UP_TO
        if self._chance.random() < 0.4:
            request.max_wait.CopyFrom(Duration(seconds=1))
        await self.send(store, request)

    async def _hold(self, store: Store) -> None:
        request = self._request(amount=self._chance.randint(1, 4))
        request.hold.CopyFrom(Duration(seconds=self._chance.randint(*_HOLD_SECONDS)))
        await self.send(store, request)

    def _request(self, **fields: Any) -> gate.AcquireRequest:
        quota = self._chance.choices(QUOTAS, (3, 1, 1))[0]
        return gate.AcquireRequest(quota=quota, request_id=next(self._ids), **fields)

    async def send(self, store: Store, request: gate.AcquireRequest) -> bool:
        """Send it until it is answered; whether it was granted."""
        self._note(store, request)
        answer = await self._acquire_until_answered(store, request)
        if isinstance(answer, gate.AcquireResponse):
            self._granted(store, answer)
            return True
        if isinstance(answer, QuotafleetError):
            self._refused(store, request.request_id, answer)
        return False

    def _note(self, store: Store, request: gate.AcquireRequest) -> None:
        ask = Ask(
            request.quota,
            request.amount,
            up_to=request.HasField("mode") and request.mode == gate.ACQUIRE_MODE_UP_TO,
            hold=request.HasField("hold"),
            override_id=request.override_id,
            after_fence=store.fenced,
        )
        self._world.history.ask(store.key, request.request_id, ask)

    async def _acquire_until_answered(self, store: Store, request: gate.AcquireRequest) -> Any:
        def call() -> Awaitable[gate.AcquireResponse]:
            self._world.history.sent(store.key, request.request_id)
            return store.stub.Acquire(request, timeout=CALL_SECONDS, wait_for_ready=True)  # type: ignore[no-any-return]

        kind = "acquire"
        if request.HasField("hold"):
            kind = "acquire with hold"
        elif request.override_id:
            kind = "acquire by override"
        return await self._world.answered(kind, call, lambda: not store.closed)

    def _granted(self, store: Store, response: gate.AcquireResponse) -> None:
        entry = response.entry
        _check_balance(store, response.balance)
        held = entry.state == gate.ENTRY_STATE_HELD
        answer = Answer(entry.quota_uid, response.granted, held, entry.override_id)
        told = self._world.history.granted(store.key, entry.request_id, answer)
        self._world.bounds.check_cap(entry.quota_uid)
        self._mine.append((store.key, entry.quota, told))

    def _refused(self, store: Store, request_id: str, error: QuotafleetError) -> None:
        self._world.history.refused(store.key, request_id, error.reason)
        if error.reason == "AGENT_FENCED":
            store.fenced = True

    async def _end(self, store: Store) -> None:
        """Commit or cancel a hold, release what counts; some holds are left to expire, some entries stay."""
        if not self._mine:
            return
        key, quota, told = self._mine.pop(self._chance.randrange(len(self._mine)))
        if key != store.key or told.life != self._world.history.lives[key] or self._chance.random() < 0.1:
            return
        verb = Verb.RELEASE
        if told.held:
            verb = self._chance.choice((Verb.COMMIT, Verb.COMMIT, Verb.CANCEL))
        await self._end_until_answered(store, quota, told, verb)

    async def _end_until_answered(self, store: Store, quota: str, told: Told, verb: Verb) -> None:
        history, request_id = self._world.history, told.request_id
        history.end_asked(store.key, request_id, verb)
        method = {
            Verb.COMMIT: store.stub.Commit,
            Verb.CANCEL: store.stub.Cancel,
            Verb.RELEASE: store.stub.Release,
        }
        request = _REQUESTS[verb](quota=quota, request_id=request_id)
        answer = await self._world.answered(
            verb.value,
            lambda: method[verb](request, timeout=CALL_SECONDS, wait_for_ready=True),
            lambda: not store.closed,
            lambda: told.life != history.lives[store.key],
        )
        if answer is None or isinstance(answer, QuotafleetError):
            if answer is not None and answer.reason == "AGENT_FENCED":
                store.fenced = True
            return
        _check_balance(store, answer.balance)
        history.end_told(store.key, request_id, verb, answer.entry.quota_uid)
        self._world.bounds.check_cap(answer.entry.quota_uid)
        if verb is Verb.COMMIT:
            self._mine.append((store.key, quota, told))

    async def _repeat(self, store: Store) -> None:
        """Send a request again that was answered: it gets the same answer and counts nothing."""
        world = self._world
        mine = [(quota, told) for key, quota, told in self._mine if key == store.key and not told.held]
        if not mine:
            return
        quota, told = self._chance.choice(mine)
        ask = world.history.asked(store.key, told.request_id)
        if ask is None or told.uid != world.uids.get(quota) or told.life != world.history.lives[store.key]:
            return
        request = gate.AcquireRequest(quota=quota, request_id=told.request_id, amount=ask.amount)
        if ask.up_to:
            request.mode = gate.ACQUIRE_MODE_UP_TO
        if ask.override_id:
            request.override_id = ask.override_id
        if ask.hold or told.asked:
            return
        answer = await world.answered(
            "repeat",
            lambda: store.stub.Acquire(request, timeout=CALL_SECONDS, wait_for_ready=True),
            lambda: not store.closed,
        )
        if told.uid != world.uids.get(quota):  # closed meanwhile
            if isinstance(answer, gate.AcquireResponse):
                self._granted(store, answer)
        elif isinstance(answer, QuotafleetError):
            world.history.repeat_refused(store.key, told, answer.reason)
        elif answer is not None:
            entry = answer.entry
            same = Answer(entry.quota_uid, answer.granted, held=False, override_id=entry.override_id)
            world.history.granted(store.key, told.request_id, same)

    async def _batch(self, store: Store) -> None:
        atomic = self._chance.random() < 0.5
        items = [self._request(amount=self._chance.randint(1, 3)) for _ in range(self._chance.randint(2, 4))]
        for item in items:
            self._note(store, item)
        request = gate.AcquireBatchRequest(items=items, atomic=atomic)

        def call() -> Awaitable[gate.AcquireBatchResponse]:
            for item in items:
                self._world.history.sent(store.key, item.request_id)
            return store.stub.AcquireBatch(request, timeout=CALL_SECONDS, wait_for_ready=True)  # type: ignore[no-any-return]

        kind = "atomic batch" if atomic else "batch"
        answer = await self._world.answered(kind, call, lambda: not store.closed)
        if isinstance(answer, QuotafleetError):
            for item in items:
                self._refused(store, item.request_id, answer)
        elif answer is not None:
            for item, result in zip(items, answer.results, strict=True):
                if result.HasField("granted"):
                    self._granted(store, result.granted)
                else:
                    self._refused(store, item.request_id, from_status(result.refused))

    async def _override(self, store: Store) -> None:
        """Ask to go beyond the limit, ask again where that stands, and spend what was approved."""
        if self._wish is None or self._wish[0] != store.key:
            self._wish = (store.key, next(self._ids), self._chance.randint(1, 5))
        _, request_id, amount = self._wish
        request = gate.RequestOverrideRequest(
            quota=MAIN, amount=amount, reason="chaos", request_id=request_id
        )
        answer = await self._world.answered(
            "request override",
            lambda: store.stub.RequestOverride(request, timeout=CALL_SECONDS, wait_for_ready=True),
            lambda: not store.closed,
        )
        if answer is None or isinstance(answer, QuotafleetError):
            self._wish = None
            return
        found = answer.override
        if found.state == gate.OVERRIDE_STATE_PENDING:
            return
        self._wish = None
        if found.state == gate.OVERRIDE_STATE_APPROVED:
            self._world.history.overrides[found.override_id] = amount
            spend = gate.AcquireRequest(quota=MAIN, request_id=next(self._ids), amount=amount)
            spend.override_id = found.override_id
            await self.send(store, spend)


def _check_balance(store: Store, balance: gate.Balance) -> None:
    """Raises Violation (S1) if an answer's numbers are past the limit."""
    left = balance.limit - balance.count - balance.held
    if left < 0 or balance.remaining != left or min(balance.count, balance.held) < 0:
        raise Violation("S1", f"count + held <= limit in every answer of {store.key}", str(balance))
