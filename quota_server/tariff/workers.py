"""Where long work is done, so that the event loop goes on; given up when nobody waits for it any more."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

T = TypeVar("T")

#: Of each sort. More would not judge faster, and leave less to the event loop.
_THREADS: Final = 2


class GivenUp(Exception):
    """Nobody waits for this work any more."""


class Workers:
    """A few threads. Work gets a function to call every now and then, which ends it once its caller is gone."""

    def __init__(self) -> None:
        self._short = ThreadPoolExecutor(_THREADS, thread_name_prefix="tariff-short")
        self._long = ThreadPoolExecutor(_THREADS, thread_name_prefix="tariff-long")
        #: Commits come one after the other, and wait for nobody's judgement.
        self._commits = ThreadPoolExecutor(1, thread_name_prefix="tariff-commit")
        self._closed = threading.Event()

    async def do(
        self, work: Callable[[Callable[[], None]], T], *, short: bool = False, commit: bool = False
    ) -> T:
        """The result of `work(go_on)`, done in a thread; what is short, or of a commit, does not wait for what is long.

        Once the call is cancelled, as by its deadline, `go_on` raises.
        """
        given_up = threading.Event()

        def go_on() -> None:
            if given_up.is_set() or self._closed.is_set():
                raise GivenUp

        threads = self._commits if commit else self._short if short else self._long
        future = asyncio.get_running_loop().run_in_executor(threads, work, go_on)
        try:
            return await future
        except asyncio.CancelledError:
            given_up.set()
            raise

    def close(self) -> None:
        """Takes no more work; what is under way gives up by itself."""
        self._closed.set()
        for threads in (self._short, self._long, self._commits):
            threads.shutdown(wait=False, cancel_futures=True)
