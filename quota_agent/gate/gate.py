"""The gate: what applications and the uplink ask of this agent. Every answer is durable before it is given."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from types import TracebackType
from typing import Any

from quota_agent.clock import Clock
from quota_agent.errors import AgentError, Refusal
from quota_agent.gate import fields, moments, overrides, refusals
from quota_agent.gate.answers import Answers
from quota_agent.gate.binding import must_archive
from quota_agent.gate.model import (
    AcquireRequest,
    Balance,
    Entry,
    EntryState,
    GateSettings,
    GateStatus,
    Granted,
    OverrideView,
    Verb,
)
from quota_agent.gate.operations import (
    AdvanceDial,
    Apply,
    AskOverride,
    Batch,
    Bind,
    Contact,
    End,
    FenceConfirmed,
    FenceStore,
    Operation,
    ResetClock,
    SayHello,
    Touch,
)
from quota_agent.gate.quota import Quota
from quota_agent.gate.reporting import Reporting
from quota_agent.gate.status import status
from quota_agent.gate.store import GateStore
from quota_agent.gate.ticker import Ticker
from quota_agent.gate.writer import Action, Writer
from quotafleet.link.messages import (
    AllocationUpdate,
    FenceAck,
    FenceKind,
    Hello,
    OverrideAsk,
    OverrideStanding,
    OverrideUpdate,
    Standing,
)


class Gate:
    """Enforces this agent's share of each quota on its own store, with or without a connection.

    Use it within `async with`. `store` is open and belongs to this gate alone; `new_id` answers another random id, of
    at most 64 characters, at every call. Coroutines raise Refusal; one of its kinds, StoreUnavailable, means that the
    store took nothing. Cancelling a coroutine withdraws nothing: what was asked is carried out.
    """

    def __init__(
        self, store: GateStore, clock: Clock, settings: GateSettings, new_id: Callable[[], str]
    ) -> None:
        self._store = store
        self._clock = clock
        self._settings = settings
        self._new_id = new_id
        self._reporting = Reporting(clock, settings)
        self._writer = Writer(store, clock, settings)
        self._ticker = Ticker(self._writer, clock, settings)
        self._answers = Answers(self._writer, self._reporting, settings, after=self._ticker.look_again)
        self._task: asyncio.Task[None] | None = None
        self._writer.watch_health(self._follow_health)

    @classmethod
    @asynccontextmanager
    async def open(
        cls, store: GateStore, clock: Clock, settings: GateSettings, new_id: Callable[[], str]
    ) -> AsyncIterator[Gate]:
        """A gate over an open store, for as long as the context lasts."""
        async with cls(store, clock, settings, new_id) as gate:
            yield gate

    async def __aenter__(self) -> Gate:
        await self._writer.load()
        self._task = asyncio.create_task(self._writer.run(self._answers), name="gate-writer")
        self._ticker.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ticker.stop()
        self._answers.stop_waiting()
        self._writer.close()
        assert self._task is not None
        await self._task  # it answers what is queued; had it died before, this raises its error

    # --- for applications ---------------------------------------------------------------------------------------------

    async def acquire(self, request: AcquireRequest) -> Granted:
        """Grant units, or refuse and leave nothing. Waits up to `max_wait_ms` for more limit."""
        refusal = fields.check_acquire(request, self._settings)
        if refusal is not None:
            raise refusal
        granted: Granted = await self._ask(request)
        return granted

    async def acquire_batch(self, items: Sequence[AcquireRequest], atomic: bool) -> list[Granted | Refusal]:
        """An answer for each item, in order. If `atomic`, the first refused item refuses all: metadata `index`."""
        refusal = fields.check_batch(items, self._settings)
        if refusal is not None:
            raise refusal
        wrong: dict[int, Granted | Refusal] = {}
        for index, item in enumerate(items):
            refusal = fields.check_item(item, atomic, self._settings)
            if refusal is not None:
                if atomic:
                    raise refusal.of_item(index)
                wrong[index] = refusal
        sound = tuple(item for index, item in enumerate(items) if index not in wrong)
        answers = iter(await self._ask(Batch(sound, atomic)))
        return [wrong[index] if index in wrong else next(answers) for index in range(len(items))]

    async def commit(self, quota: str, request_id: str) -> Granted:
        """Make a hold count."""
        return await self._end(Verb.COMMIT, quota, request_id)

    async def cancel(self, quota: str, request_id: str) -> Granted:
        """Give a hold back."""
        return await self._end(Verb.CANCEL, quota, request_id)

    async def release(self, quota: str, request_id: str) -> Granted:
        """Give back what an entry counted."""
        return await self._end(Verb.RELEASE, quota, request_id)

    def check(self, quota: str, amount: int = 1) -> tuple[bool, Balance]:
        """Whether `amount` would be granted whole now, and the numbers. Raises whatever else Acquire would."""
        refusal = fields.check_amount(amount)
        state = self._writer.state
        found = state.newest(quota)
        refusal = refusal or refusals.refuses_acquire(
            state.agent, found, quota, self._writer.moment(), self._settings.clock_tolerance_ms
        )
        if refusal is not None:
            raise refusal
        assert found is not None
        balance = found.balance()
        return amount <= balance.remaining, balance

    def balance(self, quota: str) -> tuple[Balance, int]:
        """The durable numbers of a quota, and the units in use that overrides paid. NOT_ASSIGNED if unknown."""
        found = self._quota(quota)
        return found.balance(), found.totals.overridden

    async def entries(
        self, quota: str, after_number: int = 0, limit: int = 100, states: Collection[EntryState] = ()
    ) -> list[Entry]:
        """At most `limit` entries numbered above `after_number`, in the order they were granted."""
        return await self._store.entries(self._quota(quota).uid, after_number, limit, states)

    async def entry(self, quota: str, request_id: str) -> Entry:
        """One entry. ENTRY_UNKNOWN if it was never granted."""
        self._quota(quota)
        entry = await self._store.find(self._writer.state.names[quota], request_id)
        if entry is None:
            raise Refusal("ENTRY_UNKNOWN", "no entry with this request_id", {"quota": quota})
        return entry

    async def request_override(self, quota: str, amount: int, reason: str, request_id: str) -> OverrideView:
        """Ask to go beyond the limit, durably; the same again answers where the ask stands."""
        refusal = fields.check_ask(amount, reason, request_id, self._settings)
        if refusal is not None:
            raise refusal
        view: OverrideView = await self._ask(AskOverride(quota, amount, reason, request_id))
        return view

    def status(self) -> GateStatus:
        """The state of the agent, its store and its quotas."""
        return status(
            self._writer.state, self._writer.moment(), self._settings, store_ok=self._writer.healthy
        )

    async def reset_clock(self, reason: str) -> None:
        """Declare the present time to be right although the store has seen a later one; it is audited."""
        await self._ask(ResetClock(reason))

    # --- for the uplink -----------------------------------------------------------------------------------------------

    async def hello(self) -> Hello:
        """Take the next dial number and say what the store holds, at a moment when nothing is being written."""
        hello: Hello = await self._ask(SayHello())
        quotas = self._writer.state.quotas
        standings = (self._reporting.with_demand(quotas[each.quota_uid], each) for each in hello.standings)
        return replace(hello, standings=tuple(standings))

    async def advance_dial(self, last: int) -> None:
        """Let the next dial be above `last`."""
        await self._ask(AdvanceDial(last))

    async def apply(
        self,
        allocations: Sequence[AllocationUpdate],
        overrides: Sequence[OverrideUpdate],
        *,
        mark: bytes | None = None,
        controller_ms: int | None = None,
        complete: bool = False,
    ) -> None:
        """Take the controller's word, in one transaction; `complete` if it is the whole of it (a Welcome)."""
        if controller_ms is not None:
            self.contact(controller_ms)
        await self._ask(Apply(tuple(allocations), tuple(overrides), mark, complete))
        # An update that was not news is answered all the same: its sender has not heard of it.
        known = self._writer.state.quotas
        self._reporting.touch(each.quota_uid for each in allocations if each.quota_uid in known)

    async def fence(self, kind: FenceKind) -> FenceAck:
        """End all spending, for good, and say the final totals. A repeat answers the same."""
        ack: FenceAck = await self._ask(FenceStore(kind, self._new_id()))
        return ack

    async def fence_done(self) -> None:
        """The controller has recorded the FenceAck."""
        await self._ask(FenceConfirmed())

    def contact(self, controller_ms: int) -> None:
        """The controller has just spoken; `controller_ms` is its clock. Becomes durable with the next group."""
        contact = Contact(self._clock.wall_ms(), controller_ms)
        self._writer.note(contact)
        if moments.went_back(self._writer.state.agent, contact.wall_ms, self._settings):
            self._ticker.tick()  # this may put the clock right, and callers are being refused

    def follow_heartbeat(self, heartbeat_ms: int) -> None:
        """Reports are so far apart: what counts as recent demand goes by it."""
        self._reporting.follow_heartbeat(heartbeat_ms)

    def changes(self, after: int) -> tuple[tuple[Standing, ...], int]:
        """Standings of quotas that changed after the stamp `after`, and those with open requests; the newest stamp."""
        return self._reporting.changes(self._writer.state, after)

    def standing(self, quota_uid: str) -> Standing | None:
        """The standing of one quota; None if the store does not know it."""
        quota = self._writer.state.quotas.get(quota_uid)
        return None if quota is None else self._reporting.standing(quota)

    def override_standings(self) -> tuple[OverrideStanding, ...]:
        """Where every override stands that the controller's last word named."""
        return overrides.standings(self._writer.state.overrides)

    def open_asks(self) -> tuple[OverrideAsk, ...]:
        """Asks that the controller has not answered, the oldest first, at most as many as a message carries."""
        return overrides.open_asks(self._writer.state)

    @property
    def mark(self) -> bytes:
        """The session mark last stored; empty if none."""
        return self._writer.state.agent.mark

    @property
    def fence_confirmed(self) -> bool:
        """The controller has recorded the final totals of this fenced store."""
        return self._writer.state.agent.fence_confirmed

    @property
    def urgent(self) -> asyncio.Event:
        """Set when the uplink should report at once; the uplink clears it."""
        return self._reporting.urgent

    # --- for the program ----------------------------------------------------------------------------------------------

    async def bind(self, agent: str, agent_uid: str, epoch: int) -> None:
        """Make sure that the store is this (agent, epoch)'s: an empty one becomes it, a wrong one is StoreUnusable.

        A store that has reported its final totals under a lower epoch is put aside, and an empty one begun.
        """
        bind = Bind(agent, agent_uid, epoch, self._new_id())

        async def action() -> None:
            old = self._writer.state.agent
            if must_archive(old, bind):
                await self._writer.replace_store(f"epoch-{old.epoch}")
            await self._writer.write_alone(bind)

        await self._ask(Action(action))

    async def touch(self) -> None:
        """Write down the time and the last contact, and end the holds whose time is over."""
        await self._ask(Touch())

    async def watch_writer(self) -> None:
        """Never returns; raises if the writer has died, for then nothing can be granted any more."""
        assert self._task is not None
        await asyncio.shield(self._task)
        raise AgentError("the gate's writer has ended")

    @property
    def healthy(self) -> bool:
        """Whether the store takes what is to be written."""
        return self._writer.healthy

    def watch_health(self, watcher: Callable[[bool], None]) -> None:
        """Call `watcher` with the new health whenever it changes."""
        self._writer.watch_health(watcher)

    def _follow_health(self, healthy: bool) -> None:
        # What was read back from disk after a failure may be more than was answered: it has to be reported, and those
        # who wait may fit now.
        self._reporting.touch(self._writer.state.quotas)
        if healthy:
            self._answers.serve()
            self._ticker.look_again()

    async def _ask(self, operation: Operation | Action) -> Any:
        answer = await self._writer.submit(operation)
        if isinstance(answer, AgentError):
            raise answer
        return answer

    async def _end(self, verb: Verb, quota: str, request_id: str) -> Granted:
        granted: Granted = await self._ask(End(verb, quota, request_id))
        return granted

    def _quota(self, name: str) -> Quota:
        quota = self._writer.state.newest(name)
        if quota is None:
            raise refusals.not_assigned(name)
        return quota
