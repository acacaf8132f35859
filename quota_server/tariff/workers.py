"""Where long work is done, so that the event loop goes on; given up when nobody waits for it any more."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class GivenUp(Exception):
    """Nobody waits for this work any more."""


class Workers:
    """A few threads. Work gets a function to call every now and then, which ends it once its caller is gone."""

    def __init__(self, threads: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="tariff")

    async def do(self, work: Callable[[Callable[[], None]], T]) -> T:
        """The result of `work(go_on)`, done in a thread. Once this is cancelled, as by a deadline, `go_on` raises."""
        given_up = threading.Event()

        def go_on() -> None:
            if given_up.is_set():
                raise GivenUp

        future = asyncio.get_running_loop().run_in_executor(self._threads, work, go_on)
        try:
            return await future
        except asyncio.CancelledError:
            given_up.set()
            raise

    def close(self) -> None:
        """Takes no more work; what is under way ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)
