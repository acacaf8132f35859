"""The uplink: keeps one stream to a controller open, for as long as there is anything to say.

Local enforcement never depends on it: whatever goes wrong here is logged, and the next dial is tried after a while.
"""

from __future__ import annotations

import asyncio
import logging
import random as chance
from collections.abc import Callable, Sequence
from typing import Final

import grpc

from quota_agent.clock import Clock
from quota_agent.errors import AgentError
from quota_agent.uplink.actions import Close
from quota_agent.uplink.backoff import Attempt, Backoff
from quota_agent.uplink.conversation import Conversation, GatePort
from quotafleet.errors import FieldError, from_rpc_error
from quotafleet.v1 import agent_link_service_pb2_grpc as link_grpc

log = logging.getLogger(__name__)

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

_REJECTED: Final = frozenset({grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED})


class CannotConnect(AgentError):
    """The controller cannot be reached."""


class Uplink:
    """Dials the controllers in turn, for ever, and runs one conversation at a time."""

    def __init__(
        self,
        gate: GatePort,
        clock: Clock,
        *,
        targets: Sequence[str],
        token: str,
        credentials: grpc.ChannelCredentials | None = None,
        random: Callable[[], float] = chance.random,
    ) -> None:
        """`targets` are gRPC addresses. Without `credentials` the token travels in the clear: for loopback only."""
        self._gate = gate
        self._clock = clock
        self._metadata = (("authorization", f"Bearer {token}"),)
        self._credentials = credentials
        self._backoff = Backoff(targets, random)
        self._conversation: Conversation | None = None
        self._redialled = False
        self._last_trouble = ""

    @property
    def connected(self) -> bool:
        """Whether a controller has welcomed this agent on a stream that still stands."""
        return self._conversation is not None and self._conversation.up

    async def run(self) -> None:
        """Dial for ever; returns only when a fence is recorded and there is nothing left to say."""
        attempt = self._backoff.first()
        while not self._gate.fence_confirmed:
            await asyncio.sleep(attempt.delay_ms / 1000)
            attempt = await self._dial(attempt.target)
        log.warning("this store is fenced, and the controller knows its final totals: dialling has ended")

    async def _dial(self, target: str) -> Attempt:
        """One stream; answers what to try next."""
        try:
            close = await self._converse(target)
        except grpc.aio.AioRpcError as error:
            return self._broken(target, error)
        except (AgentError, FieldError) as error:
            self._trouble(target, f"{type(error).__name__}: {error}")
            return self._next()
        except Exception:
            log.exception("the link failed in an unexpected way controller=%s", target)
            return self._next()
        if self._gate.fence_confirmed:
            log.info("the controller has recorded this agent's final totals controller=%s", target)
            return self._next()
        if close.redial_at_once and not self._redialled:
            self._redialled = True
            return self._backoff.again()
        self._trouble(target, close.reason)
        return self._next()

    def _broken(self, target: str, error: grpc.aio.AioRpcError) -> Attempt:
        """The transport or the controller ended the call with an error."""
        told = from_rpc_error(error)
        if told.code not in _REJECTED:
            self._trouble(target, str(told))
            return self._next()
        log.error(
            "the controller rejects this agent's credential controller=%s error=%r: enrol the agent again, or give it"
            " the newest credential file",
            target,
            str(told),
        )
        self._conversation = None
        return self._backoff.rejected()

    def _next(self) -> Attempt:
        """The next dial after a stream that ended, and whether that stream counts as a success."""
        if self._conversation is not None and self._conversation.held:
            self._backoff.succeeded()
        self._conversation, self._redialled = None, False
        return self._backoff.failed()

    def _trouble(self, target: str, what: str) -> None:
        """Log why a stream ended; the same trouble over and over only once."""
        line = f"no link to the controller controller={target} reason={what!r}"
        log.log(logging.DEBUG if line == self._last_trouble else logging.WARNING, line)
        self._last_trouble = line

    async def _converse(self, target: str) -> Close:
        async with self._open(target) as channel:
            await _connect(channel)
            # Only now, so that an agent that is offline for months does not write a dial every few seconds.
            hello = await self._gate.hello()
            call = link_grpc.AgentLinkServiceStub(channel).Connect(metadata=self._metadata)
            conversation = Conversation(self._gate, self._clock, call, lambda: self._welcomed(target))
            self._conversation = conversation
            return await conversation.run(hello)

    def _welcomed(self, target: str) -> None:
        log.info("linked to the controller controller=%s", target)
        self._last_trouble = ""

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
