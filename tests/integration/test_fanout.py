"""A fan-out reaches everybody at once, and nobody's trouble is anybody else's."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

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
from tests.server_kit import Served, open_controller

AGENTS = 200


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


async def test_a_fan_out_to_200_agents_is_concurrent(tmp_path: Path) -> None:
    """No agent answers before all have been asked: one by one, it would never end."""
    async with (
        open_controller(tmp_path, heartbeat_ms=60_000) as served,
        scripted(served, AGENTS, AGENTS) as agents,
    ):
        everybody = asyncio.Barrier(AGENTS)

        async def answer(agent: ScriptedAgent) -> None:
            message = await agent.told.get()
            await everybody.wait()
            await agent.acknowledge(message)

        async with asyncio.TaskGroup() as answering:
            for agent in agents:
                answering.create_task(answer(agent))
            request = pb.SetTargetRequest(quota="q", target=2 * AGENTS)
            request.wait.FromSeconds(50)
            response = await served.quotas.SetTarget(request)
        assert len(response.outcomes) == AGENTS
        assert {o.outcome for o in response.outcomes} == {pb.OUTCOME_APPLIED}
        assert {agent.limit for agent in agents} == {2}


async def test_a_refresh_asks_everybody_at_once_too(tmp_path: Path) -> None:
    async with open_controller(tmp_path, heartbeat_ms=60_000) as served, scripted(served, 20, 100) as agents:
        everybody = asyncio.Barrier(len(agents))

        async def answer(agent: ScriptedAgent) -> None:
            message = await agent.told.get()
            assert isinstance(message, ReportRequest)
            await everybody.wait()
            await agent.acknowledge(message)

        async with asyncio.TaskGroup() as answering:
            for agent in agents:
                answering.create_task(answer(agent))
            request = pb.GetCountRequest(quota="q", refresh=True, page_size=1_000)
            request.wait.FromSeconds(50)
            response = await served.quotas.GetCount(request)
        assert [a.outcome for a in response.agents] == [pb.OUTCOME_APPLIED] * 20


async def test_a_gone_a_hung_and_a_slow_agent_delay_nobody_and_get_their_own_outcome(tmp_path: Path) -> None:
    async with open_controller(tmp_path, heartbeat_ms=60_000) as served, scripted(served, 10, 100) as agents:
        gone, hung, slow, *quick = agents
        gone.hang_up()
        reached = asyncio.Event()

        async def answer(agent: ScriptedAgent) -> None:
            await agent.acknowledge(await agent.told.get())

        async def answer_last() -> None:
            """Slow: answers when the others' answers are known to have arrived."""
            message = await slow.told.get()
            await reached.wait()
            await slow.acknowledge(message)

        async def look() -> None:
            """Watches the controller's own view until all the quick ones have applied the new limit."""
            while True:
                response = await served.quotas.GetCount(pb.GetCountRequest(quota="q", page_size=100))
                exposures = {a.agent: a.exposure for a in response.agents}
                if all(exposures[agent.name] == 5 for agent in quick):
                    reached.set()
                    return
                await asyncio.sleep(0)

        while True:  # the controller has seen that it is gone
            listed = await served.quotas.GetCount(pb.GetCountRequest(quota="q", page_size=100))
            if not next(a for a in listed.agents if a.agent == gone.name).connected:
                break
        async with asyncio.TaskGroup() as answering:
            for agent in quick:
                answering.create_task(answer(agent))
            answering.create_task(answer_last())
            answering.create_task(look())
            request = pb.SetTargetRequest(quota="q", target=55)  # gone keeps its 10: 5 for each other
            request.wait.FromSeconds(3)
            response = await served.quotas.SetTarget(request)
        outcomes = {o.agent: o for o in response.outcomes}
        assert outcomes[gone.name].outcome == pb.OUTCOME_PENDING_OFFLINE
        assert outcomes[hung.name].outcome == pb.OUTCOME_TIMED_OUT
        assert outcomes[slow.name].outcome == pb.OUTCOME_APPLIED
        assert {outcomes[agent.name].outcome for agent in quick} == {pb.OUTCOME_APPLIED}
        assert hung.told.qsize() >= 1
