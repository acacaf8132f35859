"""A process full of agents that are as light as the protocol allows: they load a controller, and hold a few numbers.

`python -m benchmarks.agents FOLDER` takes commands as JSON lines on stdin and answers each on stdout. The folder holds
`agents.json`; see `fleet.open_fleet`.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from quotafleet.link.messages import PROTOCOL_VERSION
from quotafleet.v1 import agent_link_service_pb2 as pb
from quotafleet.v1 import agent_link_service_pb2_grpc as pb_grpc

#: How many streams share a connection, where each has not one of its own.
STREAMS_PER_CHANNEL = 100
#: So often is looked which agents have been silent for a heartbeat.
_LOOKS_PER_HEARTBEAT = 10
_PATIENCE_SECONDS = 120


@dataclass
class Pace:
    """What all agents of the process share: whether they report as fast as they can, and how often they did."""

    busy: bool = False
    acknowledged: int = 0


class LightAgent:
    """One agent's end of its stream. It says what an agent with one quota has to, and stores nothing."""

    def __init__(self, uid: str, epoch: int, token: str, pace: Pace) -> None:
        self._uid, self._epoch, self._token, self._pace = uid, epoch, token, pace
        self._dial = 0
        self._call: Any = None
        self._turn = asyncio.Lock()
        self._mark = b""
        self._standing = pb.Standing()
        #: The newest report, the one in which the standing as it is now was said first, the newest that is recorded.
        self._number = self._stated = self._recorded = 0
        self._changed = False
        self.said_seconds = 0.0

    @property
    def settled(self) -> bool:
        """Whether all that it said is recorded."""
        return self._recorded == self._number

    async def connect(self, channel: grpc.aio.Channel) -> int:
        """Dials, says hello and acknowledges the welcome; the heartbeat, in milliseconds."""
        metadata = (("authorization", f"Bearer {self._token}"),)
        self._call = pb_grpc.AgentLinkServiceStub(channel).Connect(metadata=metadata)
        self._dial += 1
        self._number = self._stated = self._recorded = 0
        hello = pb.Hello(
            agent_uid=self._uid,
            epoch=self._epoch,
            store_id=self._uid,
            dial=self._dial,
            mark=self._mark,
            protocol_version=PROTOCOL_VERSION,
            standings=[self._standing] if self._standing.quota_uid else [],
        )
        hello.clock_time.GetCurrentTime()
        await self._call.write(pb.ConnectRequest(hello=hello))
        welcome = (await self._read()).welcome
        if not welcome.heartbeat.ToMilliseconds():
            raise RuntimeError("the answer to a hello was no welcome")
        self._mark = welcome.mark
        self._apply(welcome.allocations)
        await self.report()
        return int(welcome.heartbeat.ToMilliseconds())

    async def listen(self) -> None:
        """Does what the controller says, until it is cancelled."""
        while True:
            response = await self._read()
            match response.WhichOneof("message"):
                case "report_ack":
                    await self._acknowledged(response.report_ack)
                case "update":
                    self._apply(response.update.allocations)
                    await self.report()
                case "report_request":
                    await self.report(response.report_request.request)
                case other:
                    raise RuntimeError(f"the controller said {other}")

    async def spend(self) -> None:
        """Uses one unit and reports that."""
        totals = self._standing.totals
        if totals.consumed >= self._standing.limit:
            raise RuntimeError("the limit is used up; measure with a larger target")
        totals.consumed += 1
        self._change()
        await self.report()

    async def report(self, *answers: int) -> None:
        """Says what is not recorded yet."""
        async with self._turn:
            self._number += 1
            if self._changed:
                self._changed, self._stated = False, self._number
            report = pb.Report(number=self._number, mark=self._mark, answers=answers)
            report.clock_time.GetCurrentTime()
            if self._recorded < self._stated:
                report.standings.append(self._standing)
            self.said_seconds = time.monotonic()
            await self._call.write(pb.ConnectRequest(report=report))

    def hang_up(self) -> None:
        """Drops the stream."""
        self._call.cancel()

    async def _read(self) -> pb.ConnectResponse:
        response = await self._call.read()
        if not isinstance(response, pb.ConnectResponse):
            raise RuntimeError(f"a stream ended: {await self._call.code()}: {await self._call.details()}")
        return response

    async def _acknowledged(self, ack: pb.ReportAck) -> None:
        self._pace.acknowledged += ack.number - self._recorded
        self._recorded = ack.number
        if ack.mark:
            self._mark = ack.mark
        if self._pace.busy:
            await self.spend()

    def _apply(self, updates: Iterable[pb.AllocationUpdate]) -> None:
        mine = self._standing
        for update in updates:
            new, old = update.revision, mine.revision
            if (new.generation, new.number) > (old.generation, old.number):
                mine.quota_uid = update.quota_uid
                mine.revision.CopyFrom(new)
                mine.limit = max(update.limit, mine.totals.consumed)
                self._change()

    def _change(self) -> None:
        self._standing.sequence += 1
        self._changed = True


class Agents:
    """All agents of the process, and what is done with them."""

    def __init__(self, address: str, agents: list[LightAgent], pace: Pace) -> None:
        self._address = address
        self._agents = agents
        self._pace = pace

    @asynccontextmanager
    async def connected(self, count: int, *, own_channels: bool) -> AsyncIterator[None]:
        """So many of them dial at once, and stay until the context is left."""
        agents = self._agents[:count]
        streams = 1 if own_channels else STREAMS_PER_CHANNEL
        # Channels to one address share a connection otherwise.
        options = (("grpc.use_local_subchannel_pool", 1),)
        async with AsyncExitStack() as stack:
            channels = [
                await stack.enter_async_context(grpc.aio.insecure_channel(self._address, options))
                for _ in range(0, count, streams)
            ]
            dialled = (agent.connect(channels[index // streams]) for index, agent in enumerate(agents))
            (heartbeat_ms,) = set(await asyncio.gather(*dialled))
            async with asyncio.TaskGroup() as tasks:
                work = [tasks.create_task(agent.listen()) for agent in agents]
                work.append(tasks.create_task(_beat(agents, heartbeat_ms / 1000)))
                await _until_settled(agents)
                # It stays as it is, and is no business of the garbage collector.
                gc.collect()
                gc.freeze()
                yield
                for task in work:
                    task.cancel()
            for agent in agents:
                agent.hang_up()

    async def report(self, count: int, warm_up_seconds: float, seconds: float) -> dict[str, float]:
        """Each reports again as soon as it is acknowledged; how many were acknowledged, in how many seconds."""
        agents = self._agents[:count]
        self._pace.busy = True
        await asyncio.gather(*(agent.spend() for agent in agents))
        await asyncio.sleep(warm_up_seconds)
        _answer({"begun": True})
        before, begun = self._pace.acknowledged, time.perf_counter()
        await asyncio.sleep(seconds)
        acknowledged, taken = self._pace.acknowledged - before, time.perf_counter() - begun
        _answer({"ended": True})
        self._pace.busy = False
        await _until_settled(agents)
        return {"acknowledged": acknowledged, "seconds": taken}


async def _beat(agents: list[LightAgent], heartbeat_seconds: float) -> None:
    """Has everybody report who has said nothing for a heartbeat."""
    while True:
        await asyncio.sleep(heartbeat_seconds / _LOOKS_PER_HEARTBEAT)
        due = time.monotonic() - heartbeat_seconds
        for agent in agents:
            if agent.said_seconds < due:
                await agent.report()


async def _until_settled(agents: list[LightAgent]) -> None:
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while not all(agent.settled for agent in agents):  # noqa: ASYNC110 - of a thousand it costs nothing
            await asyncio.sleep(0.01)


async def serve(folder: Path) -> None:
    """Follows the commands on stdin until it ends."""
    given = json.loads((folder / "agents.json").read_text())
    pace = Pace()
    enrolled = [LightAgent(uid, epoch, token, pace) for uid, epoch, token in given["agents"]]
    agents = Agents(given["address"], enrolled, pace)
    while command := await _next_command():
        count = command["connect"]
        async with agents.connected(count, own_channels=command["own_channels"]):
            _answer({"connected": count})
            while (command := await _next_command()) and "report" in command:
                _answer(await agents.report(count, **command["report"]))
        _answer({"connected": 0})


async def _next_command() -> Any:
    """The next line, or None at the end."""
    line = await asyncio.to_thread(sys.stdin.readline)
    return json.loads(line) if line else None


def _answer(what: dict[str, Any]) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
