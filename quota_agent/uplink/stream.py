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
from quota_agent.uplink.dialling import Dial
from quotafleet.errors import FieldError, from_rpc_error

log = logging.getLogger(__name__)

_REJECTED: Final = frozenset({grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED})


class Uplink:
    """Dials the controllers in turn, for ever, and runs one conversation at a time."""

    def __init__(
        self,
        gate: GatePort,
        clock: Clock,
        *,
        targets: Sequence[str],
        dial: Dial,
        random: Callable[[], float] = chance.random,
    ) -> None:
        """`dial` connects to one of `targets`."""
        self._gate = gate
        self._clock = clock
        self._dial_target = dial
        self._backoff = Backoff(targets, random)
        self._conversation: Conversation | None = None
        self._redialled = False
        #: The last trouble with each controller.
        self._troubles: dict[str, str] = {}

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
        log.log(logging.DEBUG if line == self._troubles.get(target) else logging.WARNING, line)
        self._troubles[target] = line

    async def _converse(self, target: str) -> Close:
        async with self._dial_target(target) as begin:
            # Only now, so that an agent that is offline for months does not write a dial every few seconds.
            hello = await self._gate.hello()
            call = begin()
            conversation = Conversation(self._gate, self._clock, call, lambda: self._welcomed(target))
            self._conversation = conversation
            return await conversation.run(hello)

    def _welcomed(self, target: str) -> None:
        log.info("linked to the controller controller=%s", target)
        self._troubles.clear()
