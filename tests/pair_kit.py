"""Controllers as processes on one PostgreSQL database, to be killed and started again; agents that know them all."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from quota_server.storage.upkeep import migrate_database
from quotafleet.v1 import agent_admin_service_pb2 as admin_pb
from quotafleet.v1 import agent_admin_service_pb2_grpc as admin_grpc
from quotafleet.v1 import agent_link_service_pb2_grpc as link_grpc
from quotafleet.v1 import quota_service_pb2_grpc as quota_grpc
from quotafleet.v1 import rules_service_pb2_grpc as rules_grpc
from tests.ports import free_port
from tests.postgres_kit import PostgresServer
from tests.server_kit import HEARTBEAT_MS, Agent, Fleet, Served

READY = b"quota-server ready"


class ControllerProcess:
    """`quota-server serve` as a process that can be killed, always on the same port."""

    def __init__(self, folder: Path, database: str = "", heartbeat_ms: int = HEARTBEAT_MS) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self.log = folder / f"{self.address.rpartition(':')[2]}.log"
        self._command = [sys.executable, "-m", "quota_server.cli.server", "serve", "--data-dir", str(folder)]
        self._command += ["--listen", self.address, "--heartbeat", str(heartbeat_ms / 1000)]
        self._database = database
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Returns when it serves."""
        self.log.parent.mkdir(mode=0o700, exist_ok=True)
        environment = {**os.environ, "QUOTAFLEET_DATABASE": self._database}
        if not self._database:
            del environment["QUOTAFLEET_DATABASE"]
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, stderr=asyncio.subprocess.PIPE, env=environment
            )
            assert self._process.stderr is not None
            async for line in self._process.stderr:
                log.write(line)
                if line.startswith(READY):
                    break
            else:
                raise AssertionError(f"the controller did not start:\n{self.log.read_text()}")
        self._reading = asyncio.create_task(self._read(self._process.stderr))

    async def kill(self) -> None:
        """As if the machine had failed."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """As an operator does."""
        await self._end(signal.SIGTERM)

    async def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            await self._process.wait()
            if self._reading is not None:
                await self._reading
            self._process = None

    async def _read(self, stream: asyncio.StreamReader) -> None:
        """Its log, so that it never waits for a reader."""
        with self.log.open("ab") as log:
            async for line in stream:
                log.write(line)


class ServedElsewhere(Served):
    """Stubs of a controller that is another process."""

    def __init__(self, address: str, channel: grpc.aio.Channel) -> None:
        self._address = address
        self.quotas = quota_grpc.QuotaServiceStub(channel)
        self.agents = admin_grpc.AgentAdminServiceStub(channel)
        self.links = link_grpc.AgentLinkServiceStub(channel)
        self.rules = rules_grpc.RulesServiceStub(channel)
        self.health = health_pb2_grpc.HealthStub(channel)
        self.channel = channel

    @property
    def address(self) -> str:
        return self._address

    async def serving(self) -> bool:
        """What its health says; False if nobody answers."""
        try:
            answer = await self.health.Check(health_pb2.HealthCheckRequest(), timeout=2)
        except grpc.aio.AioRpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


class PairFleet(Fleet):
    """Several controllers on one database, and agents in this process. The operators' verbs go to the first one."""

    def __init__(
        self,
        folder: Path,
        server: PostgresServer,
        database: str,
        controllers: Sequence[ControllerProcess],
        served: Sequence[ServedElsewhere],
        stack: AsyncExitStack,
    ) -> None:
        super().__init__(folder, served[0], stack)
        self.server = server
        #: Its name.
        self.database = database
        self.controllers = controllers
        self.every_served = served

    def at(self, number: int) -> ServedElsewhere:
        """Where operators speak to this controller."""
        return self.every_served[number]

    @property
    def url(self) -> str:
        """Of the database."""
        return self.server.url(self.database)

    async def streams_elsewhere(self, controller: ControllerProcess) -> int:
        """Agents with a stream on another controller than this one, as the database has it."""
        [row] = await self.server.fetch(
            self.database,
            "SELECT count(*) FROM epochs JOIN controllers ON owner = controllers.uid WHERE online AND address <> $1",
            controller.address,
        )
        return int(row[0])

    async def start(self, name: str, credential: admin_pb.AgentCredential) -> Agent:
        agent = await super().start(name, credential)
        addresses = [controller.address for controller in self.controllers]
        turn = len(self.agents) % len(addresses)  # they begin at different ones
        agent.addresses = tuple(addresses[turn:] + addresses[:turn])
        return agent


@asynccontextmanager
async def open_pair(
    folder: Path, server: PostgresServer, *, heartbeat_ms: int = HEARTBEAT_MS, controllers: int = 2
) -> AsyncIterator[PairFleet]:
    """Controllers that serve, on a new database of a server."""
    name = f"pair_{free_port()}"
    await server.create_database(name)
    url = server.url(name)
    await migrate_database(url)
    processes = [ControllerProcess(folder / "controller", url, heartbeat_ms) for _ in range(controllers)]
    async with AsyncExitStack() as stack:
        served = []
        for process in processes:
            stack.push_async_callback(process.kill)
            await process.start()
            channel = await stack.enter_async_context(
                grpc.aio.insecure_channel(process.address, options=_SOON)
            )
            served.append(ServedElsewhere(process.address, channel))
        yield PairFleet(folder, server, name, processes, served, stack)


#: A controller that was killed is dialled again soon.
_SOON = (("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 500))
