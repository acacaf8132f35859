"""Reading counts: once, after asking the agents, or again and again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress

from quota_server.clock import Clock
from quota_server.errors import quota_unknown
from quota_server.fleet.fanout import AgentOutcome
from quota_server.fleet.fleet import Fleet
from quota_server.ledger.effects import Participant, participant
from quota_server.ledger.model import AgentKey
from quota_server.ledger.store import AllocationView, LedgerViews
from quota_server.services import convert
from quota_server.services.paging import ALLOCATIONS, cut
from quota_server.services.requests import Page
from quotafleet.link.messages import Revision
from quotafleet.v1 import quota_service_pb2 as pb

#: A watcher gets at most one answer per this time: changes in quick succession come as one.
WATCH_PAUSE_MS = 200
#: Who is connected changes without a word from the ledger: a watch looks again at least this often.
WATCH_LOOK_MS = 5_000
_ALL_AT_ONCE = 1_000
#: No report acknowledges this: only an answer to the question does.
_UNANSWERED = Revision(0, 1)


class Counts:
    """The numbers of quotas."""

    def __init__(self, views: LedgerViews, fleet: Fleet, clock: Clock) -> None:
        self._views = views
        self._fleet = fleet
        self._clock = clock
        self._watching: set[asyncio.Event] = set()
        self._over = False

    async def read(self, quota_uid: str) -> pb.Count:
        """As the ledger knows them now. Raises QUOTA_UNKNOWN."""
        numbers = await self._views.numbers(quota_uid)
        if numbers is None:
            raise quota_unknown(quota_uid)
        return convert.count(numbers, self._clock.wall_ms())

    async def refresh(self, quota_uid: str, wait_ms: int) -> dict[AgentKey, AgentOutcome]:
        """Asks every connected agent of a quota for a report, at once; what became of it."""
        participants = [_participant(view) async for view in self._unsettled(quota_uid)]
        outcomes = await self._fleet.refresh(quota_uid, participants, wait_ms)
        return {outcome.agent: outcome for outcome in outcomes}

    async def page(
        self, quota_uid: str, page: Page, asked: dict[AgentKey, AgentOutcome]
    ) -> tuple[list[pb.AgentCount], str]:
        """A page of the numbers of single agents, and the token of the next one."""
        views = await self._views.allocations(quota_uid, page.after, page.size + 1)
        rows, token = cut(
            views, page.size, ALLOCATIONS, lambda v: (v.agent.name, v.allocation.epoch, v.agent.uid)
        )
        return [convert.agent_count(row, asked.get(row.allocation.key.agent)) for row in rows], token

    async def watch(self, quota_uid: str) -> AsyncGenerator[pb.Count, None]:
        """The numbers now and after every change, until `end_watches`. Must be closed."""
        changed = self._fleet.watch(quota_uid)
        self._watching.add(changed)
        last: pb.Count | None = None
        try:
            while not self._over:
                changed.clear()
                count = await self.read(quota_uid)
                read_ms = self._clock.monotonic_ms()
                if (seen := _ageless(count)) != last:
                    yield count
                    last = seen
                with suppress(TimeoutError):
                    async with asyncio.timeout(WATCH_LOOK_MS / 1000):
                        await changed.wait()
                pause_ms = read_ms + WATCH_PAUSE_MS - self._clock.monotonic_ms()
                await asyncio.sleep(max(0, pause_ms) / 1000)
        finally:
            self._watching.discard(changed)
            self._fleet.unwatch(quota_uid, changed)

    def end_watches(self) -> None:
        """Ends every watch: this controller stops."""
        self._over = True
        for changed in self._watching:
            changed.set()

    async def _unsettled(self, quota_uid: str) -> AsyncIterator[AllocationView]:
        after: tuple[str, int, str] | None = None
        while True:
            views = await self._views.allocations(quota_uid, after, _ALL_AT_ONCE)
            for view in views:
                if not view.allocation.settled:
                    yield view
            if len(views) < _ALL_AT_ONCE:
                return
            last = views[-1]
            after = (last.agent.name, last.allocation.epoch, last.agent.uid)


def _ageless(count: pb.Count) -> pb.Count:
    """The numbers without the one that changes by itself."""
    seen = pb.Count()
    seen.CopyFrom(count)
    seen.ClearField("oldest_report_age")
    return seen


def _participant(view: AllocationView) -> Participant:
    return participant(view.allocation, view.agent, view.epoch, _UNANSWERED, Revision())
