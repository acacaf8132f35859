"""Agents at message level: they do what a script says, and nothing by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from quotafleet.link import wire
from quotafleet.link.messages import (
    FromAgent,
    Hello,
    Report,
    ReportRequest,
    Revision,
    Standing,
    Totals,
    Update,
    Welcome,
)
from quotafleet.v1 import agent_admin_service_pb2 as admin_pb
from quotafleet.v1 import agent_link_service_pb2 as link_pb
from quotafleet.v1 import agent_link_service_pb2_grpc as link_grpc
from quotafleet.v1 import quota_service_pb2 as pb
from tests.server_kit import Served


class ScriptedAgent:
    """An agent at message level: it acknowledges what it is told as its script says, or not at all."""

    def __init__(self, name: str, credential: admin_pb.AgentCredential, served: Served) -> None:
        self.name = name
        self.told: asyncio.Queue[Update | ReportRequest] = asyncio.Queue()
        self._credential = credential
        metadata = (("authorization", f"Bearer {credential.token}"),)
        self._call = link_grpc.AgentLinkServiceStub(served.channel).Connect(metadata=metadata)
        self._numbers = 0
        self._sequence = 0
        self.mark = b""
        self.quota_uid = ""
        self.revision = Revision()
        self.limit = 0

    async def send(self, message: FromAgent) -> None:
        await self._call.write(wire.to_request(message))

    async def hello(self) -> None:
        """Says hello, takes the welcome, reports, and reads from then on."""
        who = self._credential
        await self.send(Hello(who.agent_uid, who.epoch, f"store-{self.name}", 1, b"", 1, ()))
        response = await self._call.read()
        assert isinstance(response, link_pb.ConnectResponse)
        welcome = wire.from_response(response)
        assert isinstance(welcome, Welcome)
        self.mark = welcome.mark
        await self.acknowledge(Update(welcome.allocations))

    async def listen(self) -> None:
        """Puts what it is told into `told`, for ever."""
        while isinstance(response := await self._call.read(), link_pb.ConnectResponse):
            message = wire.from_response(response)
            if isinstance(message, Update | ReportRequest):
                self.told.put_nowait(message)

    async def acknowledge(self, message: Update | ReportRequest) -> None:
        """Applies an update, or answers a question."""
        answers: tuple[int, ...] = ()
        if isinstance(message, ReportRequest):
            answers = (message.request,)
        else:
            for update in message.allocations:
                self.quota_uid, self.revision, self.limit = update.quota_uid, update.revision, update.limit
        self._numbers += 1
        self._sequence += 1
        standing = Standing(self.quota_uid, self.revision, self.limit, Totals(), 0, self._sequence)
        await self.send(Report(self._numbers, self.mark, 1, (standing,), answers=answers))

    def hang_up(self) -> None:
        self._call.cancel()


@asynccontextmanager
async def scripted(served: Served, count: int, target: int) -> AsyncIterator[list[ScriptedAgent]]:
    """`count` agents that share a quota and have acknowledged what they were first told."""
    await served.quotas.CreateQuota(
        pb.CreateQuotaRequest(quota=pb.Quota(name="q", target=target, policy=pb.POLICY_EQUAL))
    )
    agents = []
    for index in range(count):
        name = f"agent-{index:03}"
        created = await served.agents.CreateAgent(admin_pb.CreateAgentRequest(name=name))
        assignment = admin_pb.Assignment(quota="q", agent=name)
        request = admin_pb.AssignQuotaRequest(assignment=assignment)
        request.wait.SetInParent()
        await served.agents.AssignQuota(request)
        agents.append(ScriptedAgent(name, created.credential, served))
    await asyncio.gather(*(agent.hello() for agent in agents))
    async with asyncio.TaskGroup() as listening:
        tasks = [listening.create_task(agent.listen()) for agent in agents]
        yield agents
        for task in tasks:
            task.cancel()
        for agent in agents:
            agent.hang_up()
