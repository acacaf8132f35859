"""The fleet between streams and ledger: what happens when a stream, the store or an ask breaks at a bad moment."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from quota_server.clock import SystemClock
from quota_server.errors import StoreUnavailable
from quota_server.fleet.connection import Connection
from quota_server.fleet.fleet import Fleet
from quota_server.fleet.ports import Asks
from quota_server.fleet.protocol import AgentSession, Ending
from quota_server.ledger.calls import Change
from quota_server.ledger.effects import Effects
from quota_server.ledger.events import LinkEvent
from quota_server.ledger.link_batch import BatchResult
from quota_server.ledger.model import AgentKey
from quotafleet.link.messages import OverrideAsk, OverrideUpdate, Welcome
from tests.link_kit import Ledger, Site, memory_ledger
from tests.server_kit import until

BEAT = 200


class Gated:
    """The ledger's batches behind a gate that a test opens, or that fails."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.entered = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()
        self.failing = False
        self.unclear = False
        #: Everything is committed, and nobody hears of it.
        self.mute = False

    async def handle(self, batch: list[LinkEvent], now_ms: int) -> BatchResult:
        self.entered.set()
        await self.open.wait()
        if self.failing:
            raise StoreUnavailable("the disk is full", unclear=self.unclear)
        result = await self._ledger.batches.handle(batch, now_ms)
        if self.mute:
            raise StoreUnavailable("the connection broke in the commit", unclear=True)
        return result


class BrokenAsks:
    """Cannot answer one ask, and answers the others with what it was asked."""

    async def answer_asks(
        self, asks: list[tuple[AgentKey, OverrideAsk]], now_ms: int
    ) -> tuple[dict[AgentKey, list[OverrideUpdate]], Effects]:
        if any(ask.ask_id == "bad" for _, ask in asks):
            raise OverflowError("no answer to this")
        return {}, Effects()


class Bench:
    """A fleet over a ledger in memory, with one site."""

    def __init__(self, ledger: Ledger, site: Site, gated: Gated, fleet: Fleet) -> None:
        self.ledger, self.site, self.gated, self.fleet = ledger, site, gated, fleet

    async def dial(self, **hello: object) -> Connection:
        connection = Connection(AgentSession(BEAT, SystemClock().monotonic_ms()))
        message = replace(self.site.hello_message(), **hello)  # type: ignore[arg-type]
        event = connection.session.received(message, SystemClock().monotonic_ms())
        assert event is not None
        await self.fleet.handle(connection, event)
        return connection

    async def online(self) -> bool:
        return (await self.ledger.epoch(self.site)).online


@asynccontextmanager
async def bench(asks: Asks | None = None) -> AsyncIterator[Bench]:
    ledger = memory_ledger()
    await ledger.quota(target=100)
    site = await ledger.site("a")
    gated = Gated(ledger)
    fleet = Fleet(gated, ledger.administration, asks or ledger.overrides, ledger.store, SystemClock(), BEAT)
    work = asyncio.create_task(fleet.run())
    try:
        yield Bench(ledger, site, gated, fleet)
        assert not work.done(), "the fleet goes on whatever happens"
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


async def test_a_stream_that_breaks_while_its_hello_is_decided_leaves_nothing_behind() -> None:
    async with bench() as at:
        at.gated.open.clear()
        at.gated.entered.clear()
        connection = Connection(AgentSession(BEAT, 0))
        event = connection.session.received(at.site.hello_message(), 0)
        assert event is not None
        read = asyncio.create_task(at.fleet.handle(connection, event))
        await at.gated.entered.wait()
        read.cancel()
        await at.fleet.closed(connection)
        at.gated.open.set()
        await until(lambda: connection.welcomed, "the hello is decided")
        other = await at.dial()  # whatever was queued before it is done now
        await at.fleet.closed(other)
        assert not at.fleet.is_connected(at.site.key)
        assert not await at.online()


async def test_that_a_stream_is_gone_is_not_forgotten_when_the_database_does_not_take_it() -> None:
    async with bench() as at:
        connection = await at.dial()
        at.gated.failing = True
        await at.fleet.closed(connection)
        assert await at.online()
        assert not at.fleet.store_ok
        at.gated.failing = False
        at.gated.entered.clear()
        at.fleet.store_recovered()
        await at.gated.entered.wait()
        other = await at.dial(dial=0)  # late, so that it changes nothing; it is handled after what was queued
        assert not at.fleet.is_connected(at.site.key)
        assert not await at.online()
        await at.fleet.closed(other)


async def test_an_ask_that_cannot_be_answered_takes_nothing_with_it() -> None:
    async with bench(BrokenAsks()) as at:
        asks = tuple(OverrideAsk(ask_id, at.ledger.quota_uid, 1, "") for ask_id in ("good", "bad"))
        connection = await at.dial(asks=asks)
        assert isinstance(connection.session.outgoing(0)[0], Welcome)
        assert at.fleet.is_connected(at.site.key)


async def test_the_end_of_a_stream_whose_hello_was_late_does_not_touch_the_stream_that_stands() -> None:
    async with bench() as at:
        await at.dial()
        late = await at.dial(dial=at.site.dial - 1)
        await at.fleet.closed(late)
        assert at.fleet.is_connected(at.site.key)
        assert await at.online()


async def test_after_a_commit_of_which_nobody_knows_every_agent_says_hello_again() -> None:
    """What was decided, if it was, no stream was told of; an agent that says hello is told everything."""
    async with bench() as at:
        connection = await at.dial()
        at.gated.failing = True
        other = Connection(AgentSession(BEAT, 0))
        event = other.session.received(replace(at.site.hello_message(), epoch=9), 0)
        assert event is not None
        await at.fleet.handle(other, event)
        assert connection.session.ending is None, "the disk was full: nothing was decided"
        at.gated.unclear = True
        await at.fleet.handle(other, event)
        assert connection.session.ending == Ending(None)


async def test_after_an_unclear_decision_of_an_operator_every_agent_says_hello_again() -> None:
    async with bench() as at:
        connection = await at.dial()

        async def decide() -> Change:
            raise StoreUnavailable("the connection broke in the commit", unclear=True)

        with pytest.raises(StoreUnavailable):
            await at.fleet.carry_out(decide, 0)
        assert connection.session.ending == Ending(None)


async def test_the_end_of_a_stream_that_may_have_been_welcomed_is_said_to_the_ledger() -> None:
    """Else an agent that does not come back would be taken for reachable for ever."""
    async with bench() as at:
        at.gated.mute = True
        connection = await at.dial()
        at.gated.mute = False
        assert connection.session.ending is not None
        assert await at.online()
        await at.fleet.closed(connection)
        assert not await at.online()
