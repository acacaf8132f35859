"""The fleet under test: a controller and agents, each a process, each agent behind a proxy of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from examples.demo.processes import Process, program
from quotafleet.agent.v1 import gate_service_pb2_grpc as gate_grpc
from quotafleet.v1 import agent_admin_service_pb2 as admin
from tests.chaos import proxy
from tests.chaos.clock import Clock
from tests.chaos.images import Image
from tests.ports import free_port

HEARTBEAT_SECONDS = 0.5
CHANNEL_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 300),
)
#: Of a file: less than any store needs, and torn in the middle of a page's frame.
_FULL_BYTES = 4_096
_UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


class Program(Process):
    """A process that can also be stopped, continued and starved of disk."""

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None
        return self._process.pid

    def stop_short(self) -> None:
        """SIGSTOP: it is there, and does nothing."""
        self._send(signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT."""
        self._send(signal.SIGCONT)

    def fill_disk(self) -> None:
        """From now on no file of its may grow."""
        if self.running:
            resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (_FULL_BYTES, resource.RLIM_INFINITY))

    def empty_disk(self) -> None:
        """Files may grow again."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(self.pid, resource.RLIMIT_FSIZE, _UNLIMITED)


@dataclass(frozen=True, slots=True)
class Credential:
    """Who an agent is; the file is what `quota-agent run --credential` reads."""

    agent: str
    agent_uid: str
    epoch: int
    token: str

    @classmethod
    def of(cls, message: admin.AgentCredential) -> Credential:
        """As the controller answered it."""
        return cls(message.agent, message.agent_uid, message.epoch, message.token)

    def write(self, path: Path) -> None:
        """For its owner only."""
        path.touch(mode=0o600)
        fields = {"agent": self.agent, "agent_uid": self.agent_uid, "epoch": self.epoch, "token": self.token}
        path.write_text(json.dumps(fields))


class Store:
    """One store of one enrolment, with the agent's process on it, its line, its clock and a client's channel."""

    def __init__(
        self,
        key: str,
        folder: Path,
        data: Path,
        credential: Credential,
        clock: Clock,
        died: Callable[[str], None],
    ) -> None:
        """`folder` is for logs and sockets, `data` is the agent's data directory."""
        self.key = key
        self.folder = folder
        self.data = data
        self.credential = credential
        self.clock = clock
        #: Entries that it began with, as a copy.
        self.base: frozenset[tuple[str, str]] = frozenset()
        #: A client was told that it is fenced.
        self.fenced = False
        #: It forgot something, or parted with a copy of itself.
        self.tainted = False
        #: What was on its disk when it parted with a copy of itself.
        self.parted: Image | None = None
        #: Nobody asks it anything any more.
        self.closed = False
        self._died = died
        self._line: Program
        self.process: Program
        self.stub: Any

    @property
    def enrolment(self) -> tuple[str, int]:
        """Name of the agent, and epoch."""
        return self.credential.agent, self.credential.epoch

    @asynccontextmanager
    async def opened(self, controller_port: int) -> AsyncIterator[None]:
        """The line is up and the agent can be started; everything has ended afterwards."""
        credential = self.folder / "credential.json"
        self.credential.write(credential)
        control = self.folder / "line"
        command = [sys.executable, "-P", proxy.__file__, "--control", str(control)]
        command += ["--upstream", str(controller_port)]
        self._line = Program(
            f"line of {self.key}", command, self.folder / "line.log", r"port=(\d+)", self._died
        )
        try:
            port = int((await self._line.start())[1])
            socket = self.folder / "s"
            command = [
                *self.clock.prefix,
                program("quota-agent"),
                "run",
                "--grace",
                "1",
                "--log-level",
                "info",
            ]
            command += ["--data-dir", str(self.data), "--credential", str(credential)]
            command += ["--controller", f"127.0.0.1:{port}", "--socket", str(socket)]
            log = self.folder / "agent.log"
            self.process = Program(f"agent {self.key}", command, log, "quota-agent ready", self._died)
            async with grpc.aio.insecure_channel(f"unix:{socket}", options=CHANNEL_OPTIONS) as channel:
                self.stub = gate_grpc.GateServiceStub(channel)
                yield
        finally:
            self.closed = True
            with contextlib.suppress(AttributeError):
                await self.process.kill()
            await self._line.kill()

    async def line(self, *orders: str) -> None:
        """Tell the line what to do."""
        await proxy.tell(self.folder / "line", *orders)

    def put_away(self) -> None:
        """Its process has ended for good: its data need not be on the fleet's disk any more."""
        shutil.move(self.data, self.folder / "data")
        self.data = self.folder / "data"

    async def heal_line(self) -> None:
        """Everything passes at once."""
        await self.line("up pass", "down pass", "delay 0")


class Controller:
    """`quota-server` on a data directory, always on the same port."""

    def __init__(self, folder: Path, data: Path, clock: Clock, died: Callable[[str], None]) -> None:
        self.data = data
        self.database = self.data / "quotafleet.db"
        self.clock = clock
        self._log = folder / "controller.log"
        self._died = died
        self.process: Program
        self.port = free_port()

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"127.0.0.1:{self.port}"

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Serves; has ended afterwards."""
        command = [*self.clock.prefix, program("quota-server"), "serve", "--data-dir", str(self.data)]
        command += ["--heartbeat", str(HEARTBEAT_SECONDS), "--listen", self.address]
        self.process = Program("the controller", command, self._log, "quota-server ready", self._died)
        try:
            await self.process.start()
            yield
        finally:
            await self.process.kill()

    async def declare_restored(self) -> None:
        """`quota-server recover`, with the controller stopped."""
        command: Sequence[str] = (program("quota-server"), "recover", "--data-dir", str(self.data), "--yes")
        done = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        said, _ = await done.communicate()
        if done.returncode != 0:
            raise RuntimeError(f"quota-server recover: {said.decode()}")
