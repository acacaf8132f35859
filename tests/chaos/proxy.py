"""`python -m tests.chaos.proxy`: the line between one agent and the controller, as a process that can misbehave.

It is told what to do over a unix socket, one line at a time: `up STATE` and `down STATE` (STATE: `pass` or `stall`),
`delay SECONDS` for both ways, and `cut`, which ends all connections. Each is answered with `ok`. Bytes that are
stalled wait, and nobody is told; they go on their way when the line passes again.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from collections.abc import Coroutine
from pathlib import Path

_CHUNK_BYTES = 64 * 1024


class Way:
    """One direction."""

    def __init__(self) -> None:
        self._passes = asyncio.Event()
        self._passes.set()
        self.delay_seconds = 0.0

    def set(self, state: str) -> None:
        """Pass, or stall."""
        if state == "pass":
            self._passes.set()
        else:
            self._passes.clear()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass bytes on until there are no more."""
        while data := await reader.read(_CHUNK_BYTES):
            if self.delay_seconds:
                await asyncio.sleep(self.delay_seconds)
            await self._passes.wait()
            writer.write(data)
            await writer.drain()


class Proxy:
    """Passes connections on to the controller's port."""

    def __init__(self, upstream_port: int) -> None:
        self._upstream_port = upstream_port
        self._ways = {"up": Way(), "down": Way()}
        self._connections: set[asyncio.Task[None]] = set()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """An agent dials."""
        task = asyncio.create_task(self._connect(reader, writer), name="connection")
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError):  # the controller is down, or one of the two hung up
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._upstream_port)
                try:
                    await self._both(
                        self._ways["up"].carry(reader, far_writer),
                        self._ways["down"].carry(far_reader, writer),
                    )
                finally:
                    far_writer.transport.abort()
        finally:
            writer.transport.abort()

    async def _both(self, *ways: Coroutine[None, None, None]) -> None:
        tasks = [asyncio.create_task(way) for way in ways]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Do as told, line by line."""
        while line := (await reader.readline()).decode().split():
            match line:
                case [("up" | "down") as way, ("pass" | "stall") as state]:
                    self._ways[way].set(state)
                case ["delay", seconds]:
                    for each in self._ways.values():
                        each.delay_seconds = float(seconds)
                case ["cut"]:
                    for connection in self._connections:
                        connection.cancel()
                case _:
                    raise ValueError(f"not understood: {line}")
            writer.write(b"ok\n")
            await writer.drain()
        writer.close()


async def serve(control: Path, upstream_port: int) -> None:
    """Serve until killed; says which port it listens on."""
    proxy = Proxy(upstream_port)
    async with (
        await asyncio.start_server(proxy.accept, "127.0.0.1", 0) as server,
        await asyncio.start_unix_server(proxy.control, control) as controls,
    ):
        print(f"proxy ready port={server.sockets[0].getsockname()[1]}", flush=True)
        await asyncio.gather(server.serve_forever(), controls.serve_forever())


async def tell(control: Path, *lines: str) -> None:
    """Tell the proxy behind `control` what to do; returns when it is done."""
    reader, writer = await asyncio.open_unix_connection(control)
    try:
        for line in lines:
            writer.write(f"{line}\n".encode())
            answer = await reader.readline()
            if answer != b"ok\n":
                raise OSError(f"the proxy did not do {line!r}: {answer!r}")
    finally:
        writer.close()


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.proxy")
    parser.add_argument(
        "--control", type=Path, required=True, help="unix socket on which it is told what to do"
    )
    parser.add_argument("--upstream", type=int, required=True, help="loopback port to pass connections on to")
    options = parser.parse_args()
    asyncio.run(serve(options.control, options.upstream))
    return 0


if __name__ == "__main__":
    sys.exit(main())
