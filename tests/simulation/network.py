"""The network: streams whose messages are late, lost, said twice or out of order, and that break on one end or both.

Real streams keep their order and lose nothing while they stand. The protocol does not rely on it, so neither does the
simulation: a stream has a character of its own, drawn when it is opened.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

import grpc

from quota_agent.uplink.dialling import CannotConnect
from quotafleet.link.messages import Hello
from quotafleet.link.wire import from_request
from tests.simulation.disk import Disk
from tests.simulation.loop import Process, SimLoop, current_process

#: So many messages fit into a direction that does not flow; then its writer waits.
WINDOW = 16
#: What is said twice is said again so much later at most, when several reports have followed.
MOST_BEHIND_MS = 15_000


@dataclass(slots=True)
class Weather:
    """What happens to messages, per direction; probabilities are per message."""

    slowest_ms: int = 5
    loss: float = 0.0
    repeat: float = 0.0
    reorder: float = 0.0


class Host(Protocol):
    """A controller that takes streams."""

    name: str
    process: Process

    def connect(self, requests: AsyncIterator[Any], context: ServerContext) -> Coroutine[Any, Any, None]:
        """Serve one stream."""


class Aborted(Exception):
    """The service ended the call with an error."""

    def __init__(self, code: grpc.StatusCode, details: str, trailing: tuple[tuple[str, Any], ...]) -> None:
        super().__init__(details)
        self.error = rpc_error(code, details, trailing)


class Inbox:
    """What has arrived and was not read; an exception is raised where it is read."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop
        self._items: deque[Any] = deque()
        self._reader: asyncio.Future[None] | None = None

    def put(self, item: Any) -> None:
        self._items.append(item)
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def get(self) -> Any:
        while not self._items:
            self._reader = self._loop.create_future()
            await self._reader
        item = self._items.popleft()
        if isinstance(item, Exception):
            raise item
        return item


class Direction:
    """Messages from one end of a stream to the other."""

    def __init__(self, loop: SimLoop, chance: Random, weather: Weather, label: str) -> None:
        self.inbox = Inbox(loop)
        self.weather = weather
        self._loop = loop
        self._chance = chance
        self._label = label
        self._last = 0.0
        self._stuck: list[Any] | None = None
        self._room: asyncio.Future[None] | None = None
        self._cut = False

    @property
    def flows(self) -> bool:
        """Whether anything gets through."""
        return self._stuck is None and not self._cut

    async def write(self, message: Any) -> None:
        """Send; waits while the direction does not flow and is full."""
        self.send(message)
        if self._stuck is not None and len(self._stuck) >= WINDOW:
            self._room = self._room or self._loop.create_future()
            await asyncio.shield(self._room)

    def send(self, message: Any, *, surely: bool = False) -> None:
        """Send without waiting; `surely` for what is not lost or repeated."""
        if self._cut:
            return
        if self._stuck is not None:
            self._stuck.append(message)
            return
        chance, weather = self._chance, self.weather
        if not surely:
            if weather.loss and chance.random() < weather.loss:
                return
            if weather.repeat and chance.random() < weather.repeat:
                self._deliver(message, behind_ms=MOST_BEHIND_MS)
        self._deliver(message)

    def stall(self) -> None:
        """Let nothing through from now on."""
        if self._stuck is None:
            self._stuck = []

    def flow(self) -> None:
        """Let everything through that is stuck, in order."""
        stuck, self._stuck = self._stuck, None
        for message in stuck or ():
            self.send(message)
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        self._room = None

    def cut(self) -> None:
        """Lose whatever is sent from now on."""
        self._cut = True
        self.flow()

    def _deliver(self, message: Any, behind_ms: int = 0) -> None:
        chance, weather = self._chance, self.weather
        at = self._loop.time() + (0.1 + chance.random()) * weather.slowest_ms / 1000
        if not behind_ms and weather.reorder and chance.random() < weather.reorder:
            behind_ms = max(4 * weather.slowest_ms, 1_000)
        if behind_ms:
            at += chance.random() * behind_ms / 1000  # others overtake it
        else:
            at = self._last = max(at, self._last)
        self._loop.at(at, self._label, self.inbox.put, message)


class ServerContext:
    """What `AgentLinkService.Connect` uses of its `grpc.aio.ServicerContext`."""

    def __init__(self, stream: Stream, token: str) -> None:
        self._stream = stream
        self._metadata = (("authorization", f"Bearer {token}"),)

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self._metadata

    def peer(self) -> str:
        return self._stream.name

    async def write(self, message: Any) -> None:
        await self._stream.down.write(message)

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: tuple[tuple[str, Any], ...] = ()
    ) -> None:
        raise Aborted(code, details, trailing_metadata)


class AgentCall:
    """What `Conversation` uses of its `grpc.aio.StreamStreamCall`."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    async def read(self) -> Any:
        return await self._stream.down.inbox.get()

    async def write(self, message: Any) -> None:
        if not self._stream.agent_has_it:
            raise asyncio.InvalidStateError("the call is over")
        await self._stream.up.write(message)

    def cancel(self) -> None:
        process = current_process()
        if process is None or process.alive:  # what a dead process does reaches nobody
            self._stream.agent_leaves()


class Stream:
    """One call of `Connect`."""

    def __init__(
        self,
        loop: SimLoop,
        chance: Random,
        weather: Weather,
        name: str,
        host: Host,
        token: str,
        disk: Disk,
        heard: Callable[[Stream, Any], None],
    ) -> None:
        self.name = name
        #: The machine that dialled.
        self.agent = name.partition("/")[0]
        self.disk = disk
        self._heard = heard
        self.up = Direction(loop, chance, weather, f"up {name}")
        self.down = Direction(loop, chance, weather, f"down {name}")
        #: Whether each end still believes that the stream stands.
        self.agent_has_it = True
        self.server_has_it = True
        self.call = AgentCall(self)
        self._loop = loop
        self._slow_ms = weather.slowest_ms
        self.host = host
        self._host_process = host.process
        self._serving = host.process.spawn(self._serve(host, ServerContext(self, token)), f"stream {name}")

    def agent_leaves(self) -> None:
        """The agent's end is closed; the controller learns of it, if anything still gets through."""
        if self.agent_has_it:
            self.agent_has_it = False
            if self.up.flows:
                self._in_a_while(self.server_loses)

    def agent_loses(self) -> None:
        """The agent learns that the stream is broken."""
        if self.agent_has_it:
            self.agent_has_it = False
            self.down.inbox.put(rpc_error(grpc.StatusCode.UNAVAILABLE, "the connection broke", ()))

    def server_loses(self) -> None:
        """The controller learns that the stream is broken: gRPC cancels the call."""
        if self.server_has_it:
            self.server_has_it = False
            if self._host_process.alive:
                self._serving.cancel()

    def break_(self, *, agent_learns: bool, server_learns: bool) -> None:
        """Nothing gets through any more; who does not learn of it now finds out by the silence."""
        self.up.cut()
        self.down.cut()
        if agent_learns:
            self._in_a_while(self.agent_loses)
        if server_learns:
            self._in_a_while(self.server_loses)

    @property
    def over(self) -> bool:
        """Whether neither end has it any more."""
        return not (self.agent_has_it or self.server_has_it)

    def _in_a_while(self, then: Callable[[], None]) -> None:
        self._loop.at(self._loop.time() + self._slow_ms / 1000, f"end {self.name}", then)

    async def _serve(self, host: Host, context: ServerContext) -> None:
        end: Any = grpc.aio.EOF
        try:
            await host.connect(self._requests(), context)
        except Aborted as aborted:
            end = aborted.error
        finally:
            process = current_process()
            if process is not None and process.alive:
                self.server_has_it = False
                self.down.send(end, surely=True)

    async def _requests(self) -> AsyncIterator[Any]:
        while True:
            message = await self.up.inbox.get()
            self._heard(self, message)
            yield message


class Network:
    """Opens streams, knows those that stand, and cuts hosts off."""

    def __init__(self, loop: SimLoop, seed: str) -> None:
        self.streams: list[Stream] = []
        #: How streams opened from now on behave.
        self.draw_weather: Callable[[Random], Weather] = lambda _: Weather()
        #: From which disk each hello came that a controller has read.
        self.hellos: dict[Hello, Disk] = {}
        #: Agents that reach nobody, and those that do not reach one of the controllers.
        self.cut_off: set[str] = set()
        self.parted: set[tuple[str, str]] = set()
        self._loop = loop
        self._seed = seed
        self._opened = 0

    def dial(self, agent: str, token: str, disk: Disk, find: Callable[[str], Host | None]) -> Any:
        """A `quota_agent.uplink.dialling.Dial` for an agent that runs on `disk`."""

        @asynccontextmanager
        async def dial(target: str) -> AsyncIterator[Callable[[], AgentCall]]:
            await asyncio.sleep(0.002)
            if not self._reaches(agent, target) or find(target) is None:
                raise CannotConnect("the connection was refused or lost")
            opened: list[Stream] = []

            def begin() -> AgentCall:
                host = find(target)
                if host is None or not self._reaches(agent, target):
                    raise CannotConnect("the connection was lost")
                opened.append(self._open(agent, host, token, disk))
                return opened[0].call

            try:
                yield begin
            finally:
                for stream in opened:
                    stream.call.cancel()

        return dial

    def streams_of(self, agent: str) -> list[Stream]:
        """Streams of an agent that at least one end believes in."""
        self.streams = [stream for stream in self.streams if not stream.over]
        return [stream for stream in self.streams if stream.agent == agent]

    def _reaches(self, agent: str, target: str) -> bool:
        return agent not in self.cut_off and (agent, target) not in self.parted

    def _heard(self, stream: Stream, message: Any) -> None:
        if message.WhichOneof("message") == "hello":
            hello = from_request(message)
            assert isinstance(hello, Hello)
            self.hellos[hello] = stream.disk

    def all_streams(self) -> list[Stream]:
        """Every stream that at least one end believes in."""
        self.streams = [stream for stream in self.streams if not stream.over]
        return list(self.streams)

    def _open(self, agent: str, host: Host, token: str, disk: Disk) -> Stream:
        self._opened += 1
        chance = Random(f"{self._seed}/{agent}/{self._opened}")
        weather, name = self.draw_weather(chance), f"{agent}/{self._opened}"
        stream = Stream(self._loop, chance, weather, name, host, token, disk, self._heard)
        self.streams.append(stream)
        return stream


def rpc_error(
    code: grpc.StatusCode, details: str, trailing: tuple[tuple[str, Any], ...]
) -> grpc.aio.AioRpcError:
    """The error that a call ends with."""
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailing), details)
