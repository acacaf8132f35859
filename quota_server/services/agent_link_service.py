"""AgentLinkService: one stream per agent, between gRPC and the session's state machine."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

import grpc

from quota_server.clock import Clock
from quota_server.errors import LedgerRefusal
from quota_server.fleet.connection import Connection
from quota_server.fleet.fleet import Fleet
from quota_server.fleet.protocol import AgentSession
from quota_server.keys import MasterKey, TokenInvalid
from quota_server.ledger.model import AgentKey
from quotafleet import errors
from quotafleet.link import wire
from quotafleet.link.messages import Hello
from quotafleet.v1 import agent_link_service_pb2 as pb
from quotafleet.v1 import agent_link_service_pb2_grpc as pb_grpc

_log = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[pb.ConnectRequest, pb.ConnectResponse]

#: Each stream is looked after so often per heartbeat.
_TICKS_PER_HEARTBEAT = 4
#: How long an agent without a valid token may take to say hello, and a held up one to take the last words.
_HEAR_OUT_SECONDS = 2.0
_LAST_WORDS_SECONDS = 2.0


class AgentLinkService(pb_grpc.AgentLinkServiceServicer):
    """Serves `Connect`."""

    def __init__(self, fleet: Fleet, keys: MasterKey, clock: Clock, heartbeat_ms: int) -> None:
        self._fleet = fleet
        self._keys = keys
        self._clock = clock
        self._heartbeat_ms = heartbeat_ms
        self._streams: set[Connection] = set()
        self._endings: set[asyncio.Task[None]] = set()
        self._closing = False

    async def Connect(  # type: ignore[override]
        self, request_iterator: AsyncIterator[pb.ConnectRequest], context: Context
    ) -> None:
        """Runs one stream until either side ends it."""
        try:
            agent = self._agent_of(context)
        except TokenInvalid as invalid:
            _log.warning("a link without a valid token was refused peer=%s", context.peer())
            await self._hear_out(request_iterator)
            await errors.abort(
                context, "TOKEN_INVALID", f"{invalid}: use the credential of `quotactl agent add`"
            )
        connection = Connection(AgentSession(self._heartbeat_ms, self._clock.monotonic_ms()))
        if self._closing:
            connection.session.supersede()
        self._streams.add(connection)
        read = asyncio.create_task(self._read(agent, request_iterator, connection), name="link: read")
        write = asyncio.create_task(self._write(connection, context), name="link: write")
        tick = asyncio.create_task(self._tick(connection), name="link: tick")
        try:
            await asyncio.wait((read, write, tick), return_when=asyncio.FIRST_COMPLETED)
            if not write.done():  # what was decided on the last message is still said, if the agent takes it
                connection.session.supersede()
                connection.wake.set()
                await asyncio.wait((write,), timeout=_LAST_WORDS_SECONDS)
        finally:
            for task in (read, write, tick):
                task.cancel()
            self._streams.discard(connection)
            # Whatever becomes of this call, the ledger learns that the stream is gone.
            gone = asyncio.create_task(self._fleet.closed(connection), name="link: gone")
            self._endings.add(gone)
            gone.add_done_callback(self._endings.discard)
            await asyncio.gather(read, write, tick, return_exceptions=True)
            await asyncio.shield(gone)
        await self._finish(connection, read, context)

    async def _hear_out(self, requests: AsyncIterator[pb.ConnectRequest]) -> None:
        """Lets the agent say its hello: one that is cut off while it writes may not see why it was refused."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_HEAR_OUT_SECONDS):
                async for _ in requests:
                    return

    def end_streams(self) -> None:
        """Ends every stream: the agents dial again, elsewhere or later."""
        self._closing = True
        for connection in self._streams:
            connection.session.supersede()
            connection.wake.set()

    async def _read(
        self, agent: AgentKey, requests: AsyncIterator[pb.ConnectRequest], connection: Connection
    ) -> None:
        """One message at a time: the next is read when the ledger has decided on the last."""
        async for request in requests:
            message = wire.from_request(request)
            if isinstance(message, Hello) and AgentKey(message.agent_uid, message.epoch) != agent:
                raise LedgerRefusal(
                    "NOT_YOUR_AGENT", "this token is for another agent, or another epoch of it"
                )
            event = connection.session.received(message, self._clock.monotonic_ms())
            if event is not None:
                await self._fleet.handle(connection, event)
            if connection.session.ending is not None:
                connection.wake.set()
                return

    async def _write(self, connection: Connection, context: Context) -> None:
        session = connection.session
        while True:
            connection.wake.clear()
            for message in session.outgoing(self._clock.monotonic_ms()):
                await context.write(wire.to_response(message))
            if session.ending is not None:
                return
            await connection.wake.wait()

    async def _tick(self, connection: Connection) -> None:
        """Says again what was not acknowledged, and ends a silent stream, also one whose writes are held up."""
        while connection.session.ending is None:
            await asyncio.sleep(self._heartbeat_ms / 1000 / _TICKS_PER_HEARTBEAT)
            connection.session.tick(self._clock.monotonic_ms())
            connection.wake.set()

    async def _finish(self, connection: Connection, read: asyncio.Task[None], context: Context) -> None:
        """Ends the call with the status that it deserves."""
        failure = read.exception() if read.done() and not read.cancelled() else None
        if isinstance(failure, errors.FieldError):
            await errors.abort(
                context, "FIELD_INVALID", str(failure), fields=[(failure.path, failure.problem)]
            )
        refusal = failure if isinstance(failure, LedgerRefusal) else None
        if refusal is None and connection.session.ending is not None:
            refusal = connection.session.ending.refusal
        if refusal is not None:
            await errors.abort(
                context, refusal.reason, refusal.message, refusal.metadata, tuple(refusal.fields.items())
            )
        if failure is not None and not isinstance(failure, grpc.RpcError | grpc.aio.UsageError):
            _log.error("a stream failed", exc_info=failure)
            await context.abort(grpc.StatusCode.INTERNAL, "this stream failed; dial again")

    def _agent_of(self, context: Context) -> AgentKey:
        """Whose token the call carries. Raises TokenInvalid."""
        for key, value in context.invocation_metadata() or ():
            if key == "authorization" and isinstance(value, str) and value.startswith("Bearer "):
                return self._keys.agent_of(value.removeprefix("Bearer "))
        raise TokenInvalid("the call carries no token")
