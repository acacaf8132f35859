"""Two controllers in one process on one database: what is lost between them, and who is taken for gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from quota_server.clock import SystemClock
from quota_server.errors import StoreConflict, StoreUnavailable
from quota_server.fleet.again import TRIES, again
from quota_server.fleet.connection import Connection
from quota_server.fleet.protocol import AgentSession
from quota_server.storage.notices import PostgresNotices
from quotafleet.v1 import quota_service_pb2 as pb
from tests.databases import on_postgres
from tests.postgres_kit import shared_server
from tests.server_kit import Agent, Fleet, Served, open_controller, until

pytestmark = on_postgres

#: Long enough that nobody looks unreachable on a busy machine.
BEAT_MS = 1_000


async def stored(two: Two, sql: str, *values: object) -> list[Any]:
    """What the database holds."""
    server = await asyncio.to_thread(shared_server)
    return list(await server.fetch(two.first.app.config.database.rpartition("/")[2], sql, *values))


async def until_stored(two: Two, sql: str, *values: object) -> None:
    """Waits until a query of one value answers true."""
    async with asyncio.timeout(20):
        while not (await stored(two, sql, *values))[0][0]:  # noqa: ASYNC110 - of the database
            await asyncio.sleep(0.02)


class Two:
    """Two controllers, and an agent on each."""

    def __init__(self, first: Served, second: Served, fleet: Fleet) -> None:
        self.first, self.second, self.fleet = first, second, fleet
        self.agents: list[Agent] = []

    async def link(self) -> None:
        """An agent on each controller."""
        for name, served in (("a", self.first), ("b", self.second)):
            self.fleet.served = served
            self.agents.append(await self.fleet.agent(name))
        self.fleet.served = self.first


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[Two]:
    async with (
        open_controller(tmp_path, BEAT_MS) as first,
        open_controller(tmp_path, BEAT_MS) as second,
        AsyncExitStack() as stack,
    ):
        fleet = Fleet(tmp_path, first, stack)
        await fleet.quota(target=100)
        yield Two(first, second, fleet)


@pytest.fixture
def deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    """No notice ever arrives."""
    monkeypatch.setattr(PostgresNotices, "_heard", lambda *_: None)


async def outcomes(served: Served, target: int) -> dict[str, Any]:
    response = await served.quotas.SetTarget(pb.SetTargetRequest(quota="q", target=target))
    return {outcome.agent: outcome.outcome for outcome in response.outcomes}


# --- what is lost ----------------------------------------------------------------------------------------------------


async def test_a_change_reaches_the_agents_of_the_other_controller(two: Two) -> None:
    await two.link()
    assert await outcomes(two.second, 150) == dict.fromkeys("ab", pb.OUTCOME_APPLIED)
    assert await outcomes(two.first, 90) == dict.fromkeys("ab", pb.OUTCOME_APPLIED)


@pytest.mark.usefixtures("deaf")
async def test_a_change_reaches_them_too_when_every_notice_is_lost(two: Two) -> None:
    await two.link()
    assert await outcomes(two.second, 150) == dict.fromkeys("ab", pb.OUTCOME_APPLIED)
    assert await outcomes(two.first, 90) == dict.fromkeys("ab", pb.OUTCOME_APPLIED)


async def test_a_refresh_hears_the_agents_of_both(two: Two) -> None:
    await two.link()
    assert [await agent.spend("q", 7) for agent in two.agents] == [7, 7]
    for served in (two.first, two.second):
        request = pb.GetCountRequest(quota="q", refresh=True, page_size=10)
        answer = await served.quotas.GetCount(request)
        assert answer.count.count == 14
        assert {a.agent: a.outcome for a in answer.agents} == dict.fromkeys("ab", pb.OUTCOME_APPLIED)


async def test_a_refresh_whose_answers_were_lost_is_asked_again(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    await two.link()
    take = PostgresNotices._take
    lost: list[Any] = []

    def losing(self: PostgresNotices, notice: Any) -> None:
        if notice.answers and not lost:
            lost.append(notice)
        else:
            take(self, notice)

    monkeypatch.setattr(PostgresNotices, "_take", losing)
    answer = await two.first.quotas.GetCount(pb.GetCountRequest(quota="q", refresh=True, page_size=10))
    assert lost
    assert {a.agent: a.outcome for a in answer.agents} == dict.fromkeys("ab", pb.OUTCOME_APPLIED)


async def test_units_freed_on_one_controller_serve_who_waits_on_the_other(two: Two) -> None:
    await two.link()
    spent = await two.fleet.hungry(two.agents[0], total=100)
    assert spent == 100
    assert (await two.fleet.count()).count == 100


async def dial(served: Served, agent: Agent) -> Connection:
    """A stream of an agent that says hello, and nothing else."""
    connection = Connection(AgentSession(BEAT_MS, SystemClock().monotonic_ms()))
    event = connection.session.received(await agent.gate.hello(), 0)
    assert event is not None
    await served.app.fleet.handle(connection, event)
    assert connection.welcomed
    return connection


async def test_a_newer_stream_on_the_other_controller_ends_the_older_one(two: Two) -> None:
    agent = await two.fleet.agent("a", connect=False)
    older = await dial(two.first, agent)
    newer = await dial(two.second, agent)
    await until(lambda: older.session.ending is not None, "the older stream is ended")
    assert newer.session.ending is None
    for connection, served in ((older, two.first), (newer, two.second)):
        await served.app.fleet.closed(connection)


# --- who is gone -----------------------------------------------------------------------------------------------------


async def test_a_controller_that_was_taken_for_gone_has_its_agents_say_hello_again(two: Two) -> None:
    """It was silent for too long, and comes back: nobody has lost anything by it."""
    await two.link()
    dials = await stored(two, "SELECT agent_uid, last_dial FROM epochs")
    first = await stored(
        two, "SELECT owner FROM epochs ORDER BY agent_uid = $1 DESC", two.agents[0].credential.agent_uid
    )
    # As the other one does when a lease has lapsed.
    await stored(two, "DELETE FROM controllers WHERE uid = $1", first[0][0])
    await stored(two, "UPDATE epochs SET online = false WHERE owner = $1", first[0][0])
    await until_stored(
        two, "SELECT bool_and(online) AND sum(last_dial) > $1 FROM epochs", sum(d[1] for d in dials)
    )
    assert len(await stored(two, "SELECT uid FROM controllers")) == 2
    assert await outcomes(two.second, 140) == dict.fromkeys("ab", pb.OUTCOME_APPLIED)


async def test_a_controller_that_stops_leaves_nobody_who_looks_connected(tmp_path: Path) -> None:
    async with open_controller(tmp_path) as first, AsyncExitStack() as stack:
        fleet = Fleet(tmp_path, first, stack)
        await fleet.quota(target=100)
        async with open_controller(tmp_path) as second:
            fleet.served = second
            agent = await fleet.agent("b")
            assert (await first.quotas.GetCount(pb.GetCountRequest(quota="q"))).count.connected_agents == 1
        await agent.cut()
        fleet.served = first
        assert (await fleet.count(refresh=False)).connected_agents == 0


# --- trying again ----------------------------------------------------------------------------------------------------


async def test_what_was_in_the_way_is_tried_again_and_what_is_unclear_never() -> None:
    tries: list[int] = []

    def failing(error: Exception, times: int) -> Callable[[], Any]:
        async def work() -> str:
            tries.append(1)
            if len(tries) <= times:
                raise error
            return "done"

        tries.clear()
        return work

    assert await again(failing(StoreConflict("deadlock", certain=True), TRIES - 1)) == "done"
    with pytest.raises(StoreConflict):
        await again(failing(StoreConflict("deadlock"), TRIES))
    assert len(tries) == TRIES
    with pytest.raises(StoreUnavailable):
        await again(failing(StoreUnavailable("lost in the commit", unclear=True), 1))
    assert len(tries) == 1
