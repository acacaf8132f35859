"""Real processes: started, waited for, killed by their own pid, and never left behind."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from examples.demo.common import PATIENCE_SECONDS, DemoFailed

#: Lines of a log that are shown when something goes wrong.
_TAIL_LINES = 12
_MAX_LINE_BYTES = 1024 * 1024
#: The first and the last port that the system gives out by itself.
_DIALLING_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
#: Above what needs privileges and most of what has a name.
_LOWEST_PORT = 10_000


def program(name: str) -> str:
    """The command that was installed beside the Python that runs this."""
    path = Path(sys.executable).with_name(name)
    if not path.exists():
        raise DemoFailed(f"there is no {path}: run `make .venv`")
    return str(path)


def port_to_keep() -> int:
    """A port of 127.0.0.1 where nobody listens, for a program that is stopped and comes back at the same address.

    It is below those that the system gives to whoever dials or asks for any port: nobody gets it meanwhile.
    """
    above = int(_DIALLING_PORTS.read_text().split()[0])
    while True:
        address = ("127.0.0.1", random.SystemRandom().randrange(_LOWEST_PORT, above))
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(address)
            return address[1]


class Process:
    """One program, which may be started again after it was stopped or killed. Its output goes to `log`."""

    def __init__(
        self, name: str, command: Sequence[str], log: Path, ready: str, died: Callable[[str], None]
    ) -> None:
        """`ready` is a pattern of the line that says that it serves; `died` hears of an end that nobody asked for."""
        self.name = name
        self.command = list(command)
        self._log = log
        self._ready = re.compile(ready)
        self._died = died
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._wanted = False

    @property
    def running(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> re.Match[str]:
        """Start it and wait until it is ready; answers what its line matched."""
        # A session of its own: Ctrl-C is for the demo alone, which then stops everything in order.
        self._process = await asyncio.create_subprocess_exec(
            *self.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            limit=_MAX_LINE_BYTES,
        )
        self._wanted = True
        ready: asyncio.Future[re.Match[str]] = asyncio.get_running_loop().create_future()
        self._reader = asyncio.create_task(self._read(self._process, ready), name=f"log of {self.name}")
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await ready
        except TimeoutError:
            raise DemoFailed(f"{self.name} was not ready in {PATIENCE_SECONDS:g} s; {self._tail()}") from None

    async def kill(self) -> None:
        """SIGKILL: no farewell, nothing flushed."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL if that does not help."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._end(signal.SIGTERM)
        except TimeoutError:
            await self._end(signal.SIGKILL)
        finally:
            self._send(signal.SIGKILL)  # for when even the waiting was interrupted

    async def _end(self, number: signal.Signals) -> None:
        self._wanted = False
        self._send(number)
        if self._reader is not None:
            await asyncio.shield(self._reader)

    def _send(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _read(self, process: asyncio.subprocess.Process, ready: asyncio.Future[re.Match[str]]) -> None:
        """Copy the output to the log until it ends, which is when the process has."""
        assert process.stdout is not None
        with self._log.open("ab") as log:
            while line := await process.stdout.readline():
                log.write(line)
                log.flush()
                if not ready.done() and (match := self._ready.search(line.decode(errors="replace"))):
                    ready.set_result(match)
        code = await process.wait()
        said = f"{self.name} ended with code {code}; {self._tail()}"
        if not ready.done():
            ready.set_exception(DemoFailed(said))
        elif self._wanted:
            self._died(said)

    def _tail(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines() if self._log.exists() else []
        return "\n".join([f"the end of its log {self._log}:", *lines[-_TAIL_LINES:]])
