"""What a call ends with when it cannot be done: a status with its reason, never a detail of a failure inside."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, Final, TypeVar

import grpc

from quota_server.errors import LedgerRefusal, field_invalid
from quotafleet import errors

_log = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
Service = TypeVar("Service")
Request = TypeVar("Request")
Answer = TypeVar("Answer")
Method = Callable[[Service, Request, Context], Awaitable[Answer]]

#: The call metadata that names who acts.
ACTOR_KEY: Final = "quotafleet-actor"
MAX_ACTOR_CHARS: Final = 128
UNKNOWN_ACTOR: Final = "unknown"


def guarded(method: Method[Service, Request, Answer]) -> Method[Service, Request, Answer]:
    """Lets a method raise LedgerRefusal; whatever else it raises is logged here and shows as INTERNAL outside."""

    @wraps(method)
    async def call(self: Service, request: Request, context: Context) -> Answer:
        try:
            return await method(self, request, context)
        except LedgerRefusal as refusal:
            await errors.abort(
                context, refusal.reason, refusal.message, refusal.metadata, tuple(refusal.fields.items())
            )
        except (
            grpc.aio.AbortError,
            grpc.aio.UsageError,
        ):  # ended by the method itself, or its client is gone
            raise
        except Exception:
            _log.exception("rpc=%s failed", method.__name__)
            await context.abort(
                grpc.StatusCode.INTERNAL, "the controller failed to handle this call; its log says why"
            )

    return call


def actor_of(context: Context) -> str:
    """Who calls, for the history. Raises FIELD_INVALID if the name is too long."""
    for key, value in context.invocation_metadata() or ():
        if key == ACTOR_KEY and isinstance(value, str) and value:
            if len(value) > MAX_ACTOR_CHARS:
                raise field_invalid(ACTOR_KEY, f"must have at most {MAX_ACTOR_CHARS} characters")
            return value
    return UNKNOWN_ACTOR
