"""A real controller on a loopback port, with stubs; and real agents beside it, in this process."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import grpc

from quota_agent.clock import SystemClock
from quota_agent.errors import Refusal
from quota_agent.gate.gate import Gate
from quota_agent.gate.model import GateSettings
from quota_agent.local.server import LocalServer
from quota_agent.local.service import GateServicer
from quota_agent.store.sqlite import SqliteStore
from quota_agent.uplink.dialling import GrpcDial
from quota_agent.uplink.stream import Uplink
from quota_server.app import Controller
from quota_server.app import open_controller as open_app
from quota_server.config import ServerConfig
from quota_server.keys import load_or_create
from quotafleet.agent.v1 import gate_service_pb2 as gate_pb
from quotafleet.agent.v1 import gate_service_pb2_grpc as gate_grpc
from quotafleet.errors import QuotafleetError, from_rpc_error
from quotafleet.v1 import agent_admin_service_pb2 as admin_pb
from quotafleet.v1 import agent_admin_service_pb2_grpc as admin_grpc
from quotafleet.v1 import agent_link_service_pb2_grpc as link_grpc
from quotafleet.v1 import quota_service_pb2 as quota_pb
from quotafleet.v1 import quota_service_pb2_grpc as quota_grpc
from quotafleet.v1 import rules_service_pb2_grpc as rules_grpc
from tests import databases

HEARTBEAT_MS = 200
#: A server beside the controller makes everything slower on a busy machine; nobody is to look unreachable for it.
POSTGRES_HEARTBEAT_MS = 600


@dataclass
class Served:
    """A controller that serves, and stubs that speak to it."""

    app: Controller
    quotas: quota_grpc.QuotaServiceAsyncStub
    agents: admin_grpc.AgentAdminServiceAsyncStub
    links: link_grpc.AgentLinkServiceAsyncStub
    rules: rules_grpc.RulesServiceAsyncStub
    channel: grpc.aio.Channel

    @property
    def address(self) -> str:
        return self.app.address


@asynccontextmanager
async def open_controller(
    folder: Path, heartbeat_ms: int = HEARTBEAT_MS, listen: str = "127.0.0.1:0"
) -> AsyncIterator[Served]:
    """A controller on the data in `folder`, opened or opened again."""
    data_dir = folder / "controller"
    is_new = not data_dir.exists()
    where = await databases.put(data_dir / "quotafleet.db")
    if isinstance(where, str) and heartbeat_ms == HEARTBEAT_MS:
        heartbeat_ms = POSTGRES_HEARTBEAT_MS
    config = ServerConfig(data_dir, listen, heartbeat_ms, where if isinstance(where, str) else "")
    if is_new:
        config.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        load_or_create(config.key_file)
    async with open_app(config) as app, grpc.aio.insecure_channel(app.address) as channel:
        yield Served(
            app,
            quota_grpc.QuotaServiceStub(channel),
            admin_grpc.AgentAdminServiceStub(channel),
            link_grpc.AgentLinkServiceStub(channel),
            rules_grpc.RulesServiceStub(channel),
            channel,
        )


class Agent:
    """A real agent: gate, uplink and local server. `cut` takes the cable out, `connect` puts it back."""

    def __init__(self, name: str, gate: Gate, credential: admin_pb.AgentCredential, *addresses: str) -> None:
        self.name = name
        self.gate = gate
        self.credential = credential
        #: Of the controllers that it tries, in this order.
        self.addresses = addresses
        self.stub: gate_grpc.GateServiceAsyncStub
        self.uplink = self._new_uplink()
        self._task: asyncio.Task[None] | None = None
        self._numbers = itertools.count(1)

    def _new_uplink(self) -> Uplink:
        return Uplink(
            self.gate,
            SystemClock(),
            targets=self.addresses,
            dial=GrpcDial(self.credential.token),
            random=lambda: 0.1,
        )

    def connect(self, *addresses: str) -> None:
        """Dials from now on, these controllers if there are any, else those of before."""
        self.addresses = addresses or self.addresses
        self.uplink = self._new_uplink()
        self._task = asyncio.create_task(self.uplink.run(), name=f"uplink of {self.name}")

    async def cut(self) -> None:
        """Stops dialling and drops the stream."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def linked(self) -> None:
        """Waits until a controller has welcomed it."""
        await until(lambda: self.uplink.connected, f"{self.name} is linked")

    async def acquire(self, quota: str, amount: int = 1, request_id: str = "", **more: object) -> int:
        """Acquires through the real service; the units granted. Raises QuotafleetError."""
        request = gate_pb.AcquireRequest(
            quota=quota,
            amount=amount,
            request_id=request_id or f"{self.name}-{next(self._numbers)}",
            **more,  # type: ignore[arg-type]
        )
        try:
            return (await self.stub.Acquire(request)).granted
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error

    async def spend(self, quota: str, most: int = 10_000) -> int:
        """Acquires one by one until refused for want of limit, at most `most`; how many were granted."""
        for granted in range(most):
            try:
                await self.acquire(quota)
            except QuotafleetError as error:
                if error.reason != "QUOTA_REACHED":
                    raise
                return granted
        return most

    async def count(self, quota: str) -> gate_pb.Balance:
        """Its own numbers."""
        return (await self.stub.GetCount(gate_pb.GetCountRequest(quota=quota))).balance


class Fleet:
    """A controller and its agents, with the operators' verbs as short as a story needs them."""

    def __init__(self, folder: Path, served: Served, stack: AsyncExitStack) -> None:
        self.folder = folder
        self.served = served
        self.agents: dict[str, Agent] = {}
        self._stack = stack

    async def quota(self, name: str = "q", target: int = 100, **more: object) -> quota_pb.Quota:
        quota = quota_pb.Quota(name=name, target=target, **more)  # type: ignore[arg-type]
        return (await self.served.quotas.CreateQuota(quota_pb.CreateQuotaRequest(quota=quota))).quota

    async def agent(
        self, name: str, quota: str | None = "q", *, connect: bool = True, **part: object
    ) -> Agent:
        """Enrols an agent, gives it a part and starts it."""
        created = await self.served.agents.CreateAgent(admin_pb.CreateAgentRequest(name=name))
        if quota is not None:
            await self.assign(name, quota, **part)
        agent = await self.start(name, created.credential)
        if connect:
            agent.connect()
            await agent.linked()
        return agent

    async def assign(self, agent: str, quota: str = "q", **part: object) -> None:
        assignment = admin_pb.Assignment(quota=quota, agent=agent, **part)  # type: ignore[arg-type]
        await self.served.agents.AssignQuota(admin_pb.AssignQuotaRequest(assignment=assignment))

    async def start(self, name: str, credential: admin_pb.AgentCredential) -> Agent:
        """Opens the store, the gate and the local server of an agent."""
        folder = self.folder / f"agent-{name}"
        folder.mkdir(exist_ok=True)
        store = await self._stack.enter_async_context(SqliteStore(folder / "agent.sqlite"))
        gate = await self._stack.enter_async_context(
            Gate.open(store, SystemClock(), GateSettings(heartbeat_ms=HEARTBEAT_MS), _ids(name))
        )
        await gate.bind(credential.agent, credential.agent_uid, credential.epoch)
        agent = Agent(name, gate, credential, self.served.address)
        self._stack.push_async_callback(agent.cut)
        socket = folder / "s"
        await self._stack.enter_async_context(
            LocalServer(GateServicer(gate, lambda: agent.uplink.connected), socket)
        )
        channel = await self._stack.enter_async_context(grpc.aio.insecure_channel(f"unix:{socket}"))
        agent.stub = gate_grpc.GateServiceStub(channel)
        self.agents[name] = agent
        return agent

    async def set_target(
        self, target: int, quota: str = "q", wait_seconds: float | None = None
    ) -> quota_pb.SetTargetResponse:
        request = quota_pb.SetTargetRequest(quota=quota, target=target, reason="the story says so")
        if wait_seconds is not None:
            request.wait.FromMilliseconds(int(wait_seconds * 1000))
        try:
            return await self.served.quotas.SetTarget(request)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error

    async def rebalance(self, quota: str = "q") -> quota_pb.RebalanceResponse:
        return await self.served.quotas.Rebalance(quota_pb.RebalanceRequest(quota=quota))

    async def count(self, quota: str = "q", *, refresh: bool = True) -> quota_pb.Count:
        """The controller's numbers, every connected agent asked first."""
        response = await self.served.quotas.GetCount(quota_pb.GetCountRequest(quota=quota, refresh=refresh))
        return response.count

    async def true_total(self, quota: str = "q") -> int:
        """What the agents' own stores say they have spent."""
        totals = 0
        for agent in self.agents.values():
            with suppress(Refusal):  # it has not heard of the quota yet
                balance, overridden = agent.gate.balance(quota)
                totals += balance.count + overridden
        return totals

    async def hungry(self, *agents: Agent, total: int, quota: str = "q") -> int:
        """Lets agents spend until the true total is `total`, and then none gets one unit more; units they spent.

        Fails if that takes a minute. Asserts along the way that the true total is never above it.
        """
        async with asyncio.timeout(60):
            return sum(await asyncio.gather(*(self._eat(agent, total, quota) for agent in agents)))

    async def _eat(self, agent: Agent, total: int, quota: str) -> int:
        """One unit at a time, each waiting for two heartbeats and more; after a refusal that was too early, again."""
        eaten = 0
        while True:
            spent = await self.true_total(quota)
            assert spent <= total
            request = gate_pb.AcquireRequest(quota=quota, request_id=f"{agent.name}-h{next(_meals)}")
            request.max_wait.FromMilliseconds(3 * HEARTBEAT_MS)
            try:
                await agent.stub.Acquire(request)
            except grpc.aio.AioRpcError as error:
                if from_rpc_error(error).reason != "QUOTA_REACHED":
                    raise
                if spent == total:
                    return eaten
            else:
                eaten += 1


_meals = itertools.count(1)


@asynccontextmanager
async def open_fleet(folder: Path, heartbeat_ms: int = HEARTBEAT_MS) -> AsyncIterator[Fleet]:
    """A controller, and a place for agents."""
    async with open_controller(folder, heartbeat_ms) as served, AsyncExitStack() as stack:
        yield Fleet(folder, served, stack)


async def until(holds: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    """Waits for a condition of this process; fails saying which."""
    try:
        async with asyncio.timeout(seconds):
            while not holds():  # noqa: ASYNC110 - it is the thing itself that is waited for
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"did not come true in {seconds} s: {what}") from None


def _ids(prefix: str) -> Callable[[], str]:
    numbers = itertools.count(1)
    return lambda: f"{prefix}-{next(numbers)}"
