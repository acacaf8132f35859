"""What every part of the demo shares: its numbers, its error, its clock, and how it waits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

T = TypeVar("T")

QUOTA: Final = "trial/enrolment"
HEARTBEAT_SECONDS: Final = 0.5
#: How long a site waits for a place before it takes no for an answer.
MAX_WAIT_SECONDS: Final = 3.0
#: In how long a connected fleet has to find units for a request that waits: the agent's report (1 heartbeat), the
#: donors' acknowledgements (2, then they count as unreachable), and 2 until the limit has arrived (L1, L2).
FLEET_BOUND_SECONDS: Final = 5 * HEARTBEAT_SECONDS
#: How often the observer looks, and the longest time between two looks after which it says nothing of what was between.
LOOK_SECONDS: Final = 0.2
GAP_SECONDS: Final = 2 * HEARTBEAT_SECONDS
#: All rows are replayed in this time.
REPLAY_SECONDS: Final = 20.0
#: Longer than anything takes on a slow machine: what takes longer never comes.
PATIENCE_SECONDS: Final = 20.0
_POLL_SECONDS: Final = 0.05


class DemoFailed(Exception):
    """The demo cannot go on; the message says why."""


def now() -> float:
    """Seconds of a clock that only goes forward."""
    return time.monotonic()


async def until(probe: Callable[[], Awaitable[T | None]], what: str, seconds: float = PATIENCE_SECONDS) -> T:
    """Ask again and again, where nobody can be asked to call back; DemoFailed if the answer stays None."""
    try:
        async with asyncio.timeout(seconds):
            while True:
                if (answer := await probe()) is not None:
                    return answer
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError:
        raise DemoFailed(f"waited {seconds:g} s in vain for {what}") from None
