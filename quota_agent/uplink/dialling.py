"""A connection to a controller, and the stream on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

import grpc

from quota_agent.errors import AgentError
from quota_agent.uplink.conversation import Call
from quotafleet.v1 import agent_link_service_pb2_grpc as link_grpc

#: How long a controller may take to accept a connection.
CONNECT_SECONDS: Final = 10.0
MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024

OPTIONS: Final = (
    # Every dial is a connection of its own: gRPC's own waiting between attempts would come on top of ours.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
)

#: Connects to a target for as long as the context lasts, and answers what begins the stream on that connection.
#: Entering raises CannotConnect.
Dial = Callable[[str], AbstractAsyncContextManager[Callable[[], Call]]]


class CannotConnect(AgentError):
    """The controller cannot be reached."""


class GrpcDial:
    """Dials gRPC addresses, as the agent whose token this is."""

    def __init__(self, token: str, credentials: grpc.ChannelCredentials | None = None) -> None:
        """Without `credentials` the token travels in the clear: for loopback only."""
        self._metadata = (("authorization", f"Bearer {token}"),)
        self._credentials = credentials

    @asynccontextmanager
    async def __call__(self, target: str) -> AsyncIterator[Callable[[], Call]]:
        """See `Dial`."""
        async with self._open(target) as channel:
            await _connect(channel)
            yield lambda: link_grpc.AgentLinkServiceStub(channel).Connect(metadata=self._metadata)

    def _open(self, target: str) -> grpc.aio.Channel:
        if self._credentials is None:
            return grpc.aio.insecure_channel(target, options=OPTIONS)
        return grpc.aio.secure_channel(target, self._credentials, options=OPTIONS)


async def _connect(channel: grpc.aio.Channel) -> None:
    """Wait until the channel is connected; CannotConnect as soon as that fails."""
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            state = channel.get_state(try_to_connect=True)
            while state is not grpc.ChannelConnectivity.READY:
                if state in (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN):
                    raise CannotConnect("the connection was refused or lost")
                await channel.wait_for_state_change(state)
                state = channel.get_state(try_to_connect=True)
    except TimeoutError:
        raise CannotConnect(f"no connection within {CONNECT_SECONDS:g} s") from None
