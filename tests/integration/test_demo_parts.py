"""What the demo plays with: processes that are killed, and lines that are cut."""

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from examples.demo.common import QUOTA, DemoFailed
from examples.demo.operator import Operator
from examples.demo.processes import Process, port_to_keep
from examples.demo.proxy import Line
from tests.server_kit import open_fleet

SERVES = "import signal; print('it is ready port=7', flush=True); signal.pause()"


class Deaths(list[str]):
    """Takes down who died, and lets a test wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.some = asyncio.Event()

    def __call__(self, said: str) -> None:
        self.append(said)
        self.some.set()


def process(script: str, folder: Path, died: Deaths) -> Process:
    return Process("it", [sys.executable, "-c", script], folder / "log", r"ready port=(\d+)", died)


async def test_a_process_is_killed_and_comes_back(tmp_path: Path) -> None:
    """It is ready twice; an end that was asked for is no death."""
    died = Deaths()
    it = process(SERVES, tmp_path, died)
    assert (await it.start())[1] == "7"
    await it.kill()
    assert not it.running
    assert (await it.start())[1] == "7"
    await it.stop()
    assert not it.running
    assert died == []


async def test_a_process_that_dies_is_noticed(tmp_path: Path) -> None:
    """With the end of its log."""
    died = Deaths()
    it = process("print('ready port=1', flush=True); input; raise SystemExit('no disk')", tmp_path, died)
    await it.start()
    async with asyncio.timeout(10):
        await died.some.wait()
    assert "it ended with code 1" in died[0]
    assert "no disk" in died[0]


async def test_a_process_that_never_serves_is_noticed(tmp_path: Path) -> None:
    """Starting it fails, and says why."""
    it = process("raise SystemExit('bad option')", tmp_path, Deaths())
    with pytest.raises(DemoFailed, match="bad option"):
        await it.start()


@contextlib.asynccontextmanager
async def echo() -> AsyncIterator[tuple[str, int]]:
    """A server that sends back whatever it gets."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        yield host, port


async def test_a_line_that_is_cut_holds_what_it_has() -> None:
    """Nothing passes while it is cut; all of it does when it is mended, also on connections made meanwhile."""
    async with echo() as upstream, Line(upstream) as line:
        host, _, port = line.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"one")
        assert await reader.readexactly(3) == b"one"
        line.cut()
        late_reader, late_writer = await asyncio.open_connection(host, int(port))
        late_writer.write(b"new")
        writer.write(b"two")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await reader.readexactly(1)
        line.mend()
        assert await reader.readexactly(3) == b"two"
        assert await late_reader.readexactly(3) == b"new"
        writer.close()
        late_writer.close()


async def test_a_line_to_nobody_hangs_up() -> None:
    """Whoever dials a controller that is down learns it at once."""
    async with echo() as upstream:
        pass
    async with Line(upstream) as line:
        host, _, port = line.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()


def test_a_port_to_keep_is_free_and_none_that_the_system_gives_out() -> None:
    """Whoever dials while its owner is down does not get it."""
    port = port_to_keep()
    with socket.socket() as owner, socket.socket() as other:
        owner.bind(("127.0.0.1", port))
        other.bind(("127.0.0.1", 0))
        lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
        assert port < lowest <= other.getsockname()[1]


@pytest.mark.parametrize(("spent", "target"), [(3, 5), (7, 7)])
async def test_a_target_that_is_cut_becomes_what_an_agent_has_used_by_then(
    tmp_path: Path, spent: int, target: int
) -> None:
    """It was on its own, and nobody knew: what is spent cannot be given up."""
    async with open_fleet(tmp_path) as fleet:
        await fleet.quota(QUOTA, 10)
        agent = await fleet.agent("site", QUOTA)
        await fleet.count(QUOTA)
        await agent.cut()
        assert await agent.spend(QUOTA, spent) == spent
        async with Operator(fleet.served.address) as operator:
            await operator.set_target(5, "a cut")
            agent.connect()
            await operator.targets_given_up()
            assert (operator.target, operator.allowed) == (target, target)
