"""What every part of a run shares: the fleet, what clients were told, and the counts of what was done."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import grpc

from quotafleet.errors import QuotafleetError, from_rpc_error
from tests.chaos import images
from tests.chaos.bounds import Bounds
from tests.chaos.clock import Clock
from tests.chaos.disk import Disk
from tests.chaos.fleet import Controller, Credential, Store
from tests.chaos.history import History
from tests.chaos.images import Image
from tests.chaos.verdict import Violation

T = TypeVar("T")

#: Quotas by name; the last one is closed and created again now and then.
MAIN, EVEN, NAMED = "chaos/main", "chaos/even", "chaos/named"
QUOTAS = (MAIN, EVEN, NAMED)
#: Longer than anything takes on a slow machine once all faults are healed: what takes longer never comes.
PATIENCE_SECONDS = 60.0
CALL_SECONDS = 4.0
_POLL_SECONDS = 0.05
_RETRY_SECONDS = 0.2
#: Nobody knows what came of the call: the same request is sent again.
_NO_ANSWER = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.INTERNAL,
    }
)


class Pause:
    """Lets workers work, or waits until none of them is in the middle of something."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._open.set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._busy = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """One piece of work; waits while there is a pause."""
        await self._open.wait()
        self._busy += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._busy -= 1
            if not self._busy:
                self._idle.set()

    @asynccontextmanager
    async def held(self, what: str) -> AsyncIterator[None]:
        """Nobody works meanwhile."""
        self._open.clear()
        try:
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await self._idle.wait()
            except TimeoutError:
                seen = f"{self._busy} calls are still without one"
                raise Violation("RUN", f"{what} to get answers once all faults are healed", seen) from None
            yield
        finally:
            self._open.set()


@dataclass
class Tally:
    """Counts of what was done."""

    faults: Counter[str] = field(default_factory=Counter)
    #: By kind of call and outcome.
    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    checks: Counter[str] = field(default_factory=Counter)
    #: Kinds of fault that could not be had here.
    left_out: list[str] = field(default_factory=list)


class Slot:
    """A place for an agent: one enrolment after another."""

    def __init__(self, number: int, store: Store) -> None:
        self.number = number
        self.store = store
        #: Held by the fault that is upon it.
        self.lock = asyncio.Lock()
        self.enrolled = 1


class World:
    """One run."""

    def __init__(self, folder: Path, seed: int, library: Path | None) -> None:
        self.folder = folder
        self.seed = seed
        self.history = History()
        self.bounds = Bounds(self.history)
        self.tally = Tally()
        self.slots: list[Slot] = []
        self.stores: list[Store] = []
        #: Uid of the open quota of each name, and of those that were closed.
        self.uids: dict[str, str] = {}
        self.closed: list[str] = []
        #: Stores of enrolments that have ended; what a copy of a live one spent.
        self.ended: list[Store] = []
        self.losers: list[Store] = []
        #: Held by whatever changes who is enrolled, or which quotas there are.
        self.structure = asyncio.Lock()
        self.controller_lock = asyncio.Lock()
        self.clients = Pause()
        self.operators = Pause()
        self.failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        #: The next store that is inspected loses an entry first: the run has to notice.
        self.plants_lie = False
        self._library = library
        self._stack = AsyncExitStack()
        self.disk = Disk(folder / "disk")
        clock = Clock(folder / "controller.clock", library)
        self.controller = Controller(folder, self.disk.folder / "controller", clock, self.died)

    async def __aenter__(self) -> World:
        await self._stack.enter_async_context(self.controller.opened())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def backup(self) -> Path:
        """The newest backup of the controller's database."""
        return self.folder / "backup.db"

    def chance(self, what: str) -> random.Random:
        """A generator of its own for each part, so that one does not disturb another."""
        return random.Random(f"{self.seed}/{what}")

    def died(self, said: str) -> None:
        """A process ended that nobody had ended."""
        if not self.failed.done():
            self.failed.set_result(said)

    async def watch(self) -> None:
        """Raises Violation when a process ends by itself; waits for ever otherwise."""
        raise Violation("RUN", "programs to go on", await self.failed)

    async def add_store(self, credential: Credential, suffix: str = "", copy_of: Path | None = None) -> Store:
        """A store of its own for a credential, its line up and its agent not started; perhaps a copy of another."""
        key = f"{credential.agent}-{credential.epoch}{suffix}"
        folder = self.folder / key
        folder.mkdir()
        if copy_of is not None:
            shutil.copytree(copy_of, self.disk.folder / key)
        data = self.disk.folder / key
        store = Store(key, folder, data, credential, Clock(folder / "clock", self._library), self.died)
        await self._stack.enter_async_context(store.opened(self.controller.port))
        self.stores.append(store)
        return store

    async def kill(self, store: Store) -> Image:
        """SIGKILL, then hold the store's files to what its clients were told."""
        await store.process.kill()
        return await self.inspect(store)

    async def inspect(self, store: Store) -> Image:
        """Hold the files of a killed store to what its clients were told. Raises Violation: S1, S4, S6."""
        if self.plants_lie:
            self.plants_lie = not images.lose_entry(store.data)
        image = await asyncio.to_thread(images.load, store.data)
        images.audit(image, self.history, store.key, store.base)
        self.tally.checks["stores on disk audited"] += 1
        return image

    async def answered(
        self,
        kind: str,
        call: Callable[[], Awaitable[T]],
        goes_on: Callable[[], bool],
        was_put_back: Callable[[], bool] = lambda: False,
    ) -> T | QuotafleetError | None:
        """Call until there is an answer or a refusal; None if it is not to go on. Raises Violation (API).

        A store that was put back since may find that what it is asked makes no sense: a commit is forgotten, and the
        entry that is to be released is held.
        """
        while goes_on():
            try:
                answer = await call()
            except grpc.aio.AioRpcError as failure:
                error = from_rpc_error(failure)
                if error.code not in _NO_ANSWER:
                    if not was_put_back():
                        self._check_refusal(kind, error)
                    self.tally.calls[kind, error.reason] += 1
                    return error
                self.tally.calls[kind, "no answer: " + (error.reason or error.code.name)] += 1
                await asyncio.sleep(_RETRY_SECONDS)  # as a client does that does not hammer
                continue
            self.tally.calls[kind, "done"] += 1
            return answer
        return None

    def _check_refusal(self, kind: str, error: QuotafleetError) -> None:
        if not error.reason or error.reason in ("FIELD_INVALID", "REQUEST_ID_REUSED"):
            raise Violation("API", f"{kind} to be done, or refused for a reason of ours", repr(str(error)))


async def until(probe: Callable[[], Awaitable[Any]], guarantee: str, what: str) -> Any:
    """Ask until the answer is not None. Raises Violation if that takes longer than anything may."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (answer := await probe()) is None:  # noqa: ASYNC110 - it is the thing itself that is waited for
                await asyncio.sleep(_POLL_SECONDS)
            return answer
    except TimeoutError:
        raise Violation(guarantee, what, f"not within {PATIENCE_SECONDS:g} s") from None
