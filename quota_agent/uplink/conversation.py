"""One stream to a controller: performs what its machine asks for, until the machine or the transport ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import grpc

from quota_agent.clock import Clock
from quota_agent.uplink.actions import (
    Action,
    AdvanceDial,
    Apply,
    ApplyFence,
    Close,
    Command,
    Contact,
    FenceConfirmed,
    MakeReport,
    ReportSource,
    Send,
    Store,
    make_report,
)
from quota_agent.uplink.protocol import AgentLink
from quotafleet.link.messages import AllocationUpdate, FenceAck, FenceKind, Hello, OverrideUpdate
from quotafleet.link.wire import from_response, to_request

#: Both directions of `AgentLinkService.Connect`; the generic parameters are known at run time to neither.
Call = Any


class GatePort(ReportSource, Protocol):
    """What the uplink needs of the gate. Each coroutine returns when its effect is durable."""

    @property
    def urgent(self) -> asyncio.Event:
        """Set while somebody waits for more limit or for an override; the uplink clears it."""

    @property
    def fence_confirmed(self) -> bool:
        """The controller has recorded the final totals: there is nothing left to say."""

    async def hello(self) -> Hello:
        """Take the next dial number, and say what the store holds."""

    async def advance_dial(self, last: int) -> None:
        """Let the next dial be above `last`."""

    async def apply(
        self,
        allocations: tuple[AllocationUpdate, ...],
        overrides: tuple[OverrideUpdate, ...],
        *,
        mark: bytes | None = None,
        controller_ms: int | None = None,
        complete: bool = False,
    ) -> None:
        """Store what the controller wants, in one transaction."""

    async def fence(self, kind: FenceKind) -> FenceAck:
        """End all spending. A repeat answers the same."""

    async def fence_done(self) -> None:
        """The controller has recorded the FenceAck."""

    def contact(self, controller_ms: int) -> None:
        """The controller has just spoken; `controller_ms` is its clock."""

    def follow_heartbeat(self, heartbeat_ms: int) -> None:
        """Reports are so far apart: what counts as recent demand goes by it."""


class Conversation:
    """One stream, from its hello to its end."""

    def __init__(self, gate: GatePort, clock: Clock, call: Call, on_up: Callable[[], None]) -> None:
        """`on_up` is called once, when the welcome is durable."""
        self._gate = gate
        self._clock = clock
        self._call = call
        self._on_up = on_up
        self._link = AgentLink()
        # Neither queue grows: the machine has one store command and one report under way, and repeats a FenceAck only
        # while the controller is heard.
        self._outbox: asyncio.Queue[Send | MakeReport] = asyncio.Queue()
        self._commands: asyncio.Queue[Command] = asyncio.Queue()
        self._over: asyncio.Future[Close] = asyncio.get_running_loop().create_future()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ms: int | None = None
        #: When the welcome was durable, on the monotonic clock; None before.
        self.up_since_ms: int | None = None

    @property
    def up(self) -> bool:
        """Whether the controller has welcomed this store, and the stream goes on."""
        return self._link.up and not self._over.done()

    @property
    def held(self) -> bool:
        """Whether the stream was up for a heartbeat, so that it was worth dialling."""
        if self.up_since_ms is None:
            return False
        return self._clock.monotonic_ms() - self.up_since_ms >= self._link.heartbeat_ms

    async def run(self, hello: Hello) -> Close:
        """Say hello, and go on until the stream is over. Raises what broke it."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._guard(work), name=f"uplink {name}")
                    for name, work in (
                        ("reader", self._read()),
                        ("writer", self._write()),
                        ("store", self._run_commands()),
                        ("urgency", self._watch_urgency()),
                    )
                ]
                self._perform(self._link.opened(hello, self._clock.monotonic_ms()))
                await asyncio.wait([self._over])
                for task in tasks:
                    task.cancel()
        finally:
            if self._timer is not None:
                self._timer.cancel()
            self._call.cancel()
            if not self._over.cancel():
                self._over.exception()  # seen, even if this task is being cancelled
        return self._over.result()

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        """Whatever fails ends the stream; the first failure is its reason."""
        try:
            await work
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if not self._over.done():
            self._over.set_exception(error)

    async def _read(self) -> None:
        while (envelope := await self._call.read()) is not grpc.aio.EOF:
            self._perform(self._link.received(from_response(envelope), self._clock.monotonic_ms()))
        self._perform([Close("the controller ended the stream")])

    async def _write(self) -> None:
        while True:
            action = await self._outbox.get()
            if isinstance(action, Send):
                written = await self._put(action.message)
            else:
                report, stamp = make_report(self._gate, action, self._clock.wall_ms())
                self._link.made(report.number, stamp, report.overrides)
                written = await self._put(report)
                self._perform(self._link.written(self._clock.monotonic_ms()))
            if not written:
                return  # the reader knows why

    async def _put(self, message: Any) -> bool:
        """Write; False if the call has ended."""
        try:
            await self._call.write(to_request(message))
        except asyncio.InvalidStateError:
            return False
        return True

    async def _run_commands(self) -> None:
        while True:
            result = await self._run_command(await self._commands.get())
            now_ms = self._clock.monotonic_ms()
            self._perform(self._link.stored(result, now_ms))
            if self._link.up and self.up_since_ms is None:
                self.up_since_ms = now_ms
                self._gate.follow_heartbeat(self._link.heartbeat_ms)
                self._on_up()

    async def _run_command(self, command: Command) -> FenceAck | None:
        match command:
            case Apply():
                await self._gate.apply(
                    command.allocations,
                    command.overrides,
                    mark=command.mark,
                    controller_ms=command.controller_ms,
                    complete=command.complete,
                )
            case AdvanceDial():
                await self._gate.advance_dial(command.last)
            case ApplyFence():
                return await self._gate.fence(command.kind)
            case FenceConfirmed():
                await self._gate.fence_done()
        return None

    async def _watch_urgency(self) -> None:
        while True:
            await self._gate.urgent.wait()
            self._gate.urgent.clear()
            self._perform(self._link.urgent(self._clock.monotonic_ms()))

    def _perform(self, actions: list[Action]) -> None:
        """Set off what the machine asks for, and its next tick."""
        for action in actions:
            match action:
                case Send() | MakeReport():
                    self._outbox.put_nowait(action)
                case Store():
                    self._commands.put_nowait(action.command)
                case Contact():
                    self._gate.contact(action.controller_ms)
                case Close():
                    if not self._over.done():
                        self._over.set_result(action)
        if self._link.wake_at_ms != self._timer_ms:
            self._set_timer(self._link.wake_at_ms)

    def _set_timer(self, at_ms: int | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_ms, self._timer = at_ms, None
        if at_ms is not None and not self._over.done():
            delay_ms = max(0, at_ms - self._clock.monotonic_ms())
            self._timer = asyncio.get_running_loop().call_later(delay_ms / 1000, self._tick)

    def _tick(self) -> None:
        self._timer = self._timer_ms = None
        try:
            self._perform(self._link.tick(self._clock.monotonic_ms()))
        except Exception as error:
            self._fail(error)
