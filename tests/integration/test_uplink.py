"""The uplink over real gRPC: what happens when the network or the controller misbehaves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from quota_agent.clock import SystemClock
from quota_agent.gate.gate import Gate
from quota_agent.store.sqlite import SqliteStore
from quota_agent.uplink.dialling import GrpcDial
from quota_agent.uplink.stream import Uplink
from quotafleet.link.messages import FromAgent, FromController, Hello, StaleHello, Update
from tests.agent_kit import TOKEN, FakeController, allocation, open_gate, serve
from tests.ports import free_port


class Proxy:
    """A TCP proxy that can stall: connections stay open, and no byte passes any more."""

    def __init__(self) -> None:
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.connections = 0

    @asynccontextmanager
    async def to(self, port: int) -> AsyncIterator[int]:
        """Stand before `port`; answers the proxy's own."""

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(self._pipe(reader, far_writer), self._pipe(far_reader, writer))

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        async with server:
            yield server.sockets[0].getsockname()[1]

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                await self.flowing.wait()
                writer.write(data)
                await writer.drain()
        writer.close()


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[Gate]:
    async with SqliteStore(tmp_path / "agent.sqlite") as store, open_gate(store, {"visits": 5}) as gate:
        yield gate


@asynccontextmanager
async def linked(gate: Gate, ports: Sequence[int], **options: Any) -> AsyncIterator[Uplink]:
    """Run an uplink to these controllers."""
    targets = [f"127.0.0.1:{port}" for port in ports]
    uplink = Uplink(gate, SystemClock(), targets=targets, dial=GrpcDial(TOKEN), random=lambda: 0.1, **options)
    task = asyncio.create_task(uplink.run())
    try:
        yield uplink
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert not uplink.connected


async def test_a_stalled_connection_is_left_after_two_heartbeats(gate: Gate) -> None:
    """Nothing breaks, nothing arrives: the agent dials again, and the numbers catch up."""
    controller, proxy = FakeController(heartbeat_ms=100), Proxy()
    controller.want("visits", 7)
    async with serve(controller) as port, proxy.to(port) as stalled, linked(gate, [stalled, port]) as uplink:
        await controller.until(lambda heard: len(heard.reports) > 1)
        assert uplink.connected
        before = len(controller.hellos)  # one, or more on a machine so busy that a connection seemed to stall
        proxy.flowing.clear()
        await controller.until(lambda heard: len(heard.hellos) > before)
        assert controller.hellos[before].dial > controller.hellos[before - 1].dial
        assert controller.hellos[before].mark == f"mark-{before}".encode()
        await controller.until(lambda heard: heard.reports[-1].mark == f"mark-{len(heard.hellos)}".encode())
        proxy.flowing.set()


async def test_a_controller_that_restarts_is_found_again(gate: Gate) -> None:
    """At the same address, by itself."""
    controller = FakeController(heartbeat_ms=100)
    port = free_port()
    async with linked(gate, [port]):
        async with serve(controller, port):
            await controller.until(lambda heard: bool(heard.hellos))
        async with serve(controller, port):
            await controller.until(lambda heard: len(heard.hellos) > 1)


async def test_a_message_that_breaks_the_contract_ends_the_stream_only(gate: Gate) -> None:
    """What it said is not applied; the next stream goes on."""
    controller = FakeController(heartbeat_ms=100)
    async with serve(controller) as port, linked(gate, [port]):
        await controller.until(lambda heard: bool(heard.reports))
        before = len(controller.hellos)
        controller.tell(Update((allocation("visits", -1, 2),)))
        await controller.until(lambda heard: len(heard.hellos) > before)
        assert gate.balance("visits")[0].limit == 5


async def test_a_stale_dial_is_raised_and_dialled_again_at_once(gate: Gate) -> None:
    """The third hello is above what the controller has seen."""

    class Elder(FakeController):
        def _hear(self, message: FromAgent) -> list[FromController]:
            if isinstance(message, Hello) and message.dial <= 40:
                return [StaleHello(40)]
            return super()._hear(message)

    controller = Elder()
    async with serve(controller) as port, linked(gate, [port]):
        await controller.until(lambda heard: bool(heard.hellos))
        assert controller.hellos[0].dial == 41


async def test_an_agent_without_a_controller_does_not_wear_out_its_disk(gate: Gate) -> None:
    """A dial number is taken, and written, only once there is a connection."""
    before = (await gate.hello()).dial
    closed, proxy = free_port(), Proxy()
    controller = FakeController()
    async with (
        serve(controller) as port,
        proxy.to(port) as open_port,
        linked(gate, [closed] * 20 + [open_port]),
    ):
        await controller.until(lambda heard: bool(heard.hellos))
    assert controller.hellos[0].dial == before + 1
