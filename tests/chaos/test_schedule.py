"""The schedule of faults, and the proxy that makes some of them."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.chaos import proxy
from tests.chaos.clock import Clock
from tests.chaos.schedule import CLOCKS, Kind, waves


def test_the_same_seed_gives_the_same_faults() -> None:
    """And another seed others."""

    def first(seed: int) -> list[object]:
        return list(itertools.islice(waves(seed, 3), 5))

    assert first(7) == first(7)
    assert first(7) != first(8)


def test_every_wave_has_every_kind_of_fault() -> None:
    """In the first one once; victims are agents that there are."""
    for seed in range(20):
        found = list(itertools.islice(waves(seed, 3), 3))
        assert sorted(fault.kind for fault in found[0]) == sorted(Kind)
        for wave in found:
            assert {fault.kind for fault in wave} == set(Kind)
            assert all(0 <= fault.victim < 3 for fault in wave)
        assert [fault.number for wave in found for fault in wave] == list(range(1, 1 + sum(map(len, found))))


def test_faults_that_are_left_out_are_left_out() -> None:
    """As --without-clock does."""
    kinds = frozenset(Kind) - CLOCKS
    for wave in itertools.islice(waves(1, 3, kinds), 3):
        assert {fault.kind for fault in wave} == kinds


def test_a_clock_is_changed_through_its_file(tmp_path: Path) -> None:
    """The file is what the processes read; without a library nothing is put before a command."""
    clock = Clock(tmp_path / "clock", tmp_path / "library.so")
    assert (tmp_path / "clock").read_text() == "+0\n"
    clock.jump(-3_600)
    assert (tmp_path / "clock").read_text() == "-3600\n"
    assert f"LD_PRELOAD={tmp_path / 'library.so'}" in clock.prefix
    assert Clock(tmp_path / "other", None).prefix == []


@asynccontextmanager
async def echo() -> AsyncIterator[int]:
    """A server that says everything back; answers its port."""

    async def say_back(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1_000):
            writer.write(data)
        writer.close()

    async with await asyncio.start_server(say_back, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def line(control: Path, upstream: int) -> AsyncIterator[int]:
    """The proxy as a process; answers its port."""
    command = [sys.executable, "-P", proxy.__file__, "--control", str(control), "--upstream", str(upstream)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield int((await process.stdout.readline()).decode().rpartition("=")[2])
    finally:
        process.kill()
        await process.wait()


async def test_a_stalled_line_holds_bytes_back_and_loses_none(tmp_path: Path) -> None:
    """Either way stalls by itself; what waited comes when the line passes again."""
    control = tmp_path / "line"
    async with echo() as upstream, line(control, upstream) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"1")
        assert await reader.readexactly(1) == b"1"
        for way in ("up", "down"):
            await proxy.tell(control, f"{way} stall")
            writer.write(b"2")
            waiting = asyncio.create_task(reader.readexactly(1))
            # Asked on another line, the proxy has had every chance to pass the byte on.
            await proxy.tell(control, "delay 0", "delay 0")
            assert not waiting.done()
            await proxy.tell(control, f"{way} pass")
            assert await waiting == b"2"
        writer.close()


async def test_a_cut_ends_connections_and_takes_new_ones(tmp_path: Path) -> None:
    """As when a router is switched off and on."""
    control = tmp_path / "line"
    async with echo() as upstream, line(control, upstream) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"1")
        assert await reader.readexactly(1) == b"1"
        await proxy.tell(control, "cut")
        assert await _rest(reader) == b""
        writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"2")
        assert await reader.readexactly(1) == b"2"
        writer.close()


async def _rest(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""
