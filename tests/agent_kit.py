"""What tests of the agent share: a gate with limits, an agent process, and a controller that does as it is told."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from quota_agent.clock import SystemClock
from quota_agent.gate.gate import Gate
from quota_agent.gate.model import GateSettings
from quota_agent.local.server import LocalServer
from quota_agent.local.service import GateServicer
from quota_agent.store.sqlite import SqliteStore
from quotafleet.agent.v1 import gate_service_pb2_grpc as gate_grpc
from quotafleet.errors import QuotafleetError, from_rpc_error
from quotafleet.link.messages import (
    AllocationUpdate,
    Fence,
    FenceAck,
    FenceDone,
    FenceKind,
    FromAgent,
    FromController,
    Hello,
    OverrideUpdate,
    Report,
    ReportAck,
    Revision,
    Standing,
    Terms,
    Update,
    Welcome,
)
from quotafleet.link.wire import from_request, to_response
from quotafleet.v1 import agent_link_service_pb2_grpc as link_grpc

AGENT, AGENT_UID, EPOCH, TOKEN = "site-a", "agent-uid-1", 1, "secret-token-of-site-a"
READY = "quota-agent ready"


def allocation(name: str, limit: int, number: int = 1, **terms: Any) -> AllocationUpdate:
    """Return an update of the quota `name`, whose uid is "uid-" and its name."""
    return AllocationUpdate(f"uid-{name}", Revision(0, number), limit, Terms(name, **terms))


# --- a gate in this process --------------------------------------------------------------------------------------


@asynccontextmanager
async def open_gate(store: SqliteStore, limits: Mapping[str, int]) -> AsyncIterator[Gate]:
    """Open a gate on a store that is open already, welcomed and with these limits."""
    async with Gate(store, SystemClock(), GateSettings(), lambda: uuid.uuid4().hex) as gate:
        await gate.bind(AGENT, AGENT_UID, EPOCH)
        updates = [allocation(name, limit) for name, limit in limits.items()]
        await gate.apply(updates, (), mark=b"mark", complete=True)
        yield gate


@dataclass
class ServedAgent:
    """An agent in this process, and a client's channel to it."""

    gate: Gate
    store: SqliteStore
    server: LocalServer
    channel: grpc.aio.Channel
    stub: Any
    path: Path


@asynccontextmanager
async def served_agent(folder: Path, limits: Mapping[str, int]) -> AsyncIterator[ServedAgent]:
    """Serve a gate with these limits on a unix socket and on loopback."""
    path = folder / "run" / "agent.sock"
    async with SqliteStore(folder / "agent.sqlite") as store, open_gate(store, limits) as gate:
        servicer = GateServicer(gate, lambda: False)
        async with (
            LocalServer(servicer, path, listen="127.0.0.1:0", grace_seconds=0) as server,
            grpc.aio.insecure_channel(f"unix:{path}") as channel,
        ):
            yield ServedAgent(gate, store, server, channel, gate_grpc.GateServiceStub(channel), path)


async def fails(call: Any) -> QuotafleetError:
    """Return the error that a call ends with."""
    try:
        await call
    except grpc.RpcError as error:
        return from_rpc_error(error)
    raise AssertionError("the call was answered")


# --- a controller in this process --------------------------------------------------------------------------------


@dataclass
class FakeController(link_grpc.AgentLinkServiceServicer):
    """Speaks AgentLinkService: welcomes everybody with what it wants, and remembers what it hears."""

    wanted: dict[str, AllocationUpdate] = field(default_factory=dict)
    overrides: dict[str, OverrideUpdate] = field(default_factory=dict)
    token: str = TOKEN
    heartbeat_ms: int = 500
    fence: FenceKind | None = None
    hellos: list[Hello] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)
    fence_acks: list[FenceAck] = field(default_factory=list)
    view: dict[str, Standing] = field(default_factory=dict)
    marks: int = 0
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    streams: set[asyncio.Queue[FromController]] = field(default_factory=set)

    def want(self, name: str, limit: int, **terms: Any) -> None:
        """Give the agent a limit; whoever is connected hears it at once."""
        uid = f"uid-{name}"
        number = self.wanted[uid].revision.number + 1 if uid in self.wanted else 1
        self.wanted[uid] = allocation(name, limit, number, **terms)
        self.tell(Update((self.wanted[uid],)))

    def tell(self, message: FromController) -> None:
        """Say something on every stream."""
        for outbox in self.streams:
            outbox.put_nowait(message)

    async def until(self, true: Callable[[FakeController], bool]) -> None:
        """Wait until something is so."""
        async with self.changed:
            await self.changed.wait_for(lambda: true(self))

    async def Connect(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:
        metadata = dict(context.invocation_metadata())
        if metadata.get("authorization") != f"Bearer {self.token}":
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "not a token of mine")
        outbox: asyncio.Queue[FromController] = asyncio.Queue()
        self.streams.add(outbox)
        reader = asyncio.create_task(self._hear_all(request_iterator, outbox))
        try:
            while True:
                yield to_response(await outbox.get())
        finally:
            reader.cancel()
            self.streams.discard(outbox)

    async def _hear_all(self, requests: Any, outbox: asyncio.Queue[FromController]) -> None:
        async for request in requests:
            for answer in self._hear(from_request(request)):
                outbox.put_nowait(answer)
            async with self.changed:
                self.changed.notify_all()

    def _hear(self, message: FromAgent) -> list[FromController]:
        match message:
            case Hello():
                self.hellos.append(message)
                self._see(message.standings)
                if self.fence is not None:
                    return [Fence(self.fence)]
                overrides = tuple(self.overrides.values())
                return [
                    Welcome(self._mark(), 0, 0, self.heartbeat_ms, tuple(self.wanted.values()), overrides)
                ]
            case Report():
                self.reports.append(message)
                self._see(message.standings)
                return [ReportAck(message.number, 0)]
        self.fence_acks.append(message)
        return [FenceDone()]

    def _see(self, standings: Sequence[Standing]) -> None:
        self.view.update({standing.quota_uid: standing for standing in standings})

    def _mark(self) -> bytes:
        self.marks += 1
        return f"mark-{self.marks}".encode()


@asynccontextmanager
async def serve(controller: FakeController, port: int = 0) -> AsyncIterator[int]:
    """Serve it on loopback; answers the port."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    link_grpc.add_AgentLinkServiceServicer_to_server(controller, server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


# --- an agent in its own process ----------------------------------------------------------------------------------


def write_credential(path: Path, token: str = TOKEN) -> Path:
    """Write the credential file of the agent."""
    fields = {"agent": AGENT, "agent_uid": AGENT_UID, "epoch": str(EPOCH), "token": token}
    path.touch(mode=0o600)
    path.write_text(json.dumps(fields))
    return path


@dataclass
class AgentProcess:
    """`quota-agent run` in its own process, ready."""

    process: subprocess.Popen[str]
    socket: Path
    #: What it logged until it was ready.
    log: list[str]

    def stop(self) -> str:
        """Send SIGTERM, and answer what it logged after it was ready."""
        self.process.terminate()
        _, errors = self.process.communicate(timeout=30)
        return errors

    def kill(self) -> None:
        """Send SIGKILL."""
        self.process.kill()
        self.process.communicate(timeout=30)


@contextmanager
def agent_process(folder: Path, *controllers: str, options: Sequence[str] = ()) -> Iterator[AgentProcess]:
    """Run an agent whose store, socket and credential are in `folder`, from ready to the end."""
    socket = folder / "agent.sock"
    credential = folder / "credential.json"
    if not credential.exists():
        write_credential(credential)
    dial = [part for target in controllers for part in ("--controller", target)]
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "quota_agent.cli.main", "run"),
            *("--data-dir", str(folder), "--socket", str(socket), "--credential", str(credential)),
            *dial,
            *options,
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield AgentProcess(process, socket, _until_ready(process))
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=30)


def _until_ready(process: subprocess.Popen[str]) -> list[str]:
    assert process.stderr is not None
    lines: list[str] = []
    for line in process.stderr:
        lines.append(line)
        if READY in line:
            return lines
    raise AssertionError(f"the agent did not start: {''.join(lines)}")


@dataclass(frozen=True)
class Ran:
    """What came of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its answer under --json."""
        return json.loads(self.out)


def quota_agent(socket: Path, *arguments: str) -> Ran:
    """Run `quota-agent` with a command and its arguments."""
    environment = {**os.environ, "QUOTA_AGENT_SOCKET": str(socket), "COLUMNS": "200"}
    command = [sys.executable, "-m", "quota_agent.cli.main", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)
    return Ran(done.returncode, done.stdout, done.stderr)


async def quota_agent_async(socket: Path, *arguments: str) -> Ran:
    """Run the same beside an event loop."""
    return await asyncio.to_thread(quota_agent, socket, *arguments)
