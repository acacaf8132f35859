"""An event loop on simulated time: asyncio's tasks and futures run on it unchanged, and in the same order every time.

It runs several processes. A process can be paused, and killed: then nothing of it ever runs again. To whom a callback
belongs is kept in its context, so whatever a process sets off belongs to it.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import itertools
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

T = TypeVar("T")

_process: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)


class Process:
    """A program that runs on the loop."""

    def __init__(self, loop: SimLoop, name: str) -> None:
        self.name = name
        self.alive = True
        self.paused = False
        self._loop = loop
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._held_back: list[SimHandle] = []
        self._context = contextvars.copy_context()
        self._context.run(_process.set, self)

    def spawn(self, work: Coroutine[Any, Any, T], name: str = "") -> asyncio.Task[T]:
        """Begin a task of this process."""
        return self._context.copy().run(self._loop.create_task, work, name=name or self.name)

    def begin(self, work: Coroutine[Any, Any, None], name: str = "") -> None:
        """Begin a task that nobody waits for."""
        task = self.spawn(work, name)
        assert task is not None

    def adopt(self, task: asyncio.Task[Any]) -> None:
        """Remember a task, so that it can be killed; forget those that are done now and then."""
        self._tasks[task] = None
        if len(self._tasks) % 256 == 0:
            self._tasks = {each: None for each in self._tasks if not each.done()}

    def hold_back(self, handle: SimHandle) -> None:
        """Keep what the process would do now until it goes on."""
        self._held_back.append(handle)

    def resume(self) -> None:
        """Go on after a pause."""
        self.paused = False
        held_back, self._held_back = self._held_back, []
        self._loop.run_soon(held_back)

    def kill(self) -> None:
        """End at once, as by kill -9: nothing of the process runs any more, its clean-up has no effect."""
        self.alive = False
        self._held_back.clear()
        tasks, self._tasks = list(self._tasks), {}
        for task in tasks:
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                self._context.run(_take_apart, task.get_coro())


class SimHandle:
    """A callback that waits for its turn, or for its time."""

    __slots__ = ("_args", "_callback", "_when", "context", "is_cancelled", "label")

    def __init__(
        self,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: contextvars.Context,
        when: float,
        label: str,
    ) -> None:
        self._callback = callback
        self._args = args
        self.context = context
        self._when = when
        self.label = label
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True

    def cancelled(self) -> bool:
        return self.is_cancelled

    def when(self) -> float:
        return self._when

    def run(self) -> None:
        self.context.run(self._callback, *self._args)


class SimLoop(asyncio.AbstractEventLoop):
    """Time stands still while anything can run, and then jumps to the next timer: that is one event."""

    def __init__(self) -> None:
        self.events = 0
        self.failures: list[dict[str, Any]] = []
        self._now = 0.0
        self._ready: deque[SimHandle] = deque()
        self._timers: list[tuple[float, int, SimHandle]] = []
        self._numbers = itertools.count()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Be the running loop of this thread."""
        before = events._get_running_loop()
        events._set_running_loop(self)
        try:
            yield
        finally:
            events._set_running_loop(before)

    def step(self) -> SimHandle | None:
        """Go on to the next timer and run what follows from it at once; None if there is nothing to wait for."""
        self.drain()
        while self._timers:
            when, _, handle = heapq.heappop(self._timers)
            if handle.is_cancelled or not _is_alive(handle):
                continue
            self._now = max(self._now, when)
            self.events += 1
            self._ready.append(handle)
            self.drain()
            return handle
        return None

    def drain(self) -> None:
        """Run everything that can run without time passing."""
        ready = self._ready
        while ready:
            handle = ready.popleft()
            if handle.is_cancelled:
                continue
            process = handle.context.get(_process)
            if process is not None and (process.paused or not process.alive):
                if process.alive:
                    process.hold_back(handle)
                continue
            handle.run()

    def run_soon(self, handles: list[SimHandle]) -> None:
        """Have these run next, in order."""
        self._ready.extend(handles)

    def at(self, when: float, label: str, callback: Callable[..., object], *args: Any) -> SimHandle:
        """Call back at a time, on behalf of the world outside all processes."""
        return self._timer(when, label, callback, args, _OUTSIDE)

    # --- what asyncio calls ------------------------------------------------------------------------------------------

    def time(self) -> float:
        return self._now

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> SimHandle:
        context = context if context is not None else contextvars.copy_context()
        handle = SimHandle(callback, args, context, self._now, "")
        process = context.get(_process)
        if process is None or process.alive:
            self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> SimHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> SimHandle:
        context = context if context is not None else contextvars.copy_context()
        return self._timer(when, "timer", callback, args, context)

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
    ) -> asyncio.Task[T]:
        process = (context or contextvars.copy_context()).get(_process)
        if process is not None and not process.alive:
            coro.close()
            return self.create_future()  # type: ignore[return-value]  # nothing waits for it
        task: asyncio.Task[T] = asyncio.Task(coro, loop=self, name=name, context=context)
        if process is not None:
            process.adopt(task)
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.failures.append(context)

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def _timer(
        self,
        when: float,
        label: str,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: contextvars.Context,
    ) -> SimHandle:
        handle = SimHandle(callback, args, context, when, label)
        heapq.heappush(self._timers, (when, next(self._numbers), handle))
        return handle


def current_process() -> Process | None:
    """The process that runs now; None: the world outside."""
    return _process.get()


def owner(handle: SimHandle) -> str:
    """The name of the process that a callback belongs to."""
    process = handle.context.get(_process)
    return process.name if process is not None else "world"


def _take_apart(work: Any) -> None:
    """Take a dead process's coroutine apart. What it still does reaches nobody, and nobody cares if it fails."""
    with suppress(Exception):  # "coroutine ignored GeneratorExit", mostly
        work.close()


def _is_alive(handle: SimHandle) -> bool:
    process = handle.context.get(_process)
    return process is None or process.alive


_OUTSIDE = contextvars.Context()
