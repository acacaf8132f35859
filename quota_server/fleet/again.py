"""Tries again what another transaction was in the way of: nothing of it was changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from random import Random, SystemRandom
from typing import Final, TypeVar

from quota_server.errors import StoreConflict

_log = logging.getLogger(__name__)
T = TypeVar("T")

#: After so many tries the database is taken for one that does not work at the moment.
TRIES: Final = 8
#: Before the second try; then twice as long each time, and up to a third more by chance: two must not meet again.
FIRST_PAUSE_SECONDS: Final = 0.01

#: Another one is put here where a run has to be the same again.
chance: Random = SystemRandom()


async def again(work: Callable[[], Awaitable[T]]) -> T:
    """Runs `work`, which is one transaction, until nothing is in its way. Raises the last StoreConflict after 8 tries.

    Never after a commit whose outcome is not known: that may have been taken, and `work` would do it twice.
    """
    pause = FIRST_PAUSE_SECONDS
    for _ in range(TRIES - 1):
        try:
            return await work()
        except StoreConflict as conflict:
            _log.info("trying again: %s", conflict.message)
        await asyncio.sleep(pause * (1 + chance.random() / 3))
        pause *= 2
    return await work()
