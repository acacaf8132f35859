"""Two controllers on one PostgreSQL database, deciding at the same moment: there is one order, and nothing is lost."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from quota_server.errors import AlreadyAnswered, LedgerRefusal, StoreConflict
from quota_server.fleet.again import again
from quota_server.ledger.administration import Administration
from quota_server.ledger.calls import Call
from quota_server.ledger.enrolment import Enrolments
from quota_server.ledger.model import Assignment, Assume, Quota
from quota_server.ledger.recovery import Recovery
from quota_server.storage.connected import Database
from quota_server.storage.database import open_database
from quota_server.storage.ledger_store import SqlLedgerStore, SqlTransaction
from quota_server.storage.views import SqlLedgerViews
from tests import databases
from tests.databases import on_postgres
from tests.ledger_kit import ANNE, fill
from tests.link_kit import Ledger
from tests.postgres_kit import shared_server

pytestmark = on_postgres

_numbers = itertools.count(1)


class Controller:
    """What one controller does, with a pool and ids of its own."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.store = SqlLedgerStore(database)
        self.views = SqlLedgerViews(database)
        new_id = lambda: f"id-{next(_numbers):05}"  # noqa: E731
        self.administration = Administration(self.store, new_id)
        self.enrolments = Enrolments(self.store, new_id)
        self.ledger = Ledger(self.store)

    async def raise_target(self) -> None:
        async with self.store.transaction() as transaction:
            quota = await transaction.find_quota("one")
            assert quota is not None
            transaction.book.decide(replace(quota, target=quota.target + 1))

    async def target(self) -> int:
        quota = await self.views.quota("one")
        assert quota is not None
        return quota.target


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[tuple[Controller, Controller]]:
    where = await databases.put(tmp_path / "ledger.db")
    async with open_database(where) as one, open_database(where) as other:
        yield Controller(one), Controller(other)


async def until_somebody_waits(controller: Controller) -> None:
    """Until a statement of this database waits for a lock."""
    query = text("SELECT count(*) FROM pg_locks WHERE NOT granted AND pid <> pg_backend_pid()")

    def count(connection: Connection) -> int:
        return int(connection.execute(query).scalar_one())

    async with asyncio.timeout(30):
        while not await controller.database.read(count):
            pass


def meet_before_writing(monkeypatch: pytest.MonkeyPatch, parties: int = 2) -> None:
    """The first transactions write when all of them have read and decided."""
    write, barrier, met = SqlTransaction.write, asyncio.Barrier(parties), itertools.count(1)

    async def after_all(transaction: SqlTransaction) -> None:
        if next(met) <= parties:
            await barrier.wait()
        await write(transaction)

    monkeypatch.setattr(SqlTransaction, "write", after_all)


async def outcomes(*works: Callable[[], Awaitable[Any]]) -> list[Any]:
    return await asyncio.gather(*(again(work) for work in works), return_exceptions=True)


def call(request_id: str = "", actor: str = "operator") -> Call:
    return Call(actor, 1_000, "why", request_id, "Method", b"content", lambda _: b"the answer")


async def unsummed(database: Database) -> list[Any]:
    """Quotas whose sums are not those of their allocations."""

    def find(connection: Connection) -> list[Any]:
        return list(
            connection.execute(
                text(
                    "SELECT uid FROM quotas WHERE sum_exposure <>"
                    " (SELECT coalesce(sum(exposure), 0) FROM allocations WHERE quota_uid = uid)"
                    " OR sum_charge <> (SELECT coalesce(sum(charge + copies), 0) FROM allocations"
                    " WHERE quota_uid = uid)"
                    " OR sum_aside <> (SELECT coalesce(sum(greatest(wanted - exposure, 0)), 0) FROM allocations"
                    " WHERE quota_uid = uid AND NOT settled)"
                )
            )
        )

    return await database.read(find)


# --- one quota -------------------------------------------------------------------------------------------------------


async def test_who_comes_second_sees_what_the_first_has_written(pair: tuple[Controller, Controller]) -> None:
    one, other = pair
    await fill(one.store)
    async with one.store.transaction() as transaction:
        quota = await transaction.find_quota("one")
        assert quota is not None
        second = asyncio.create_task(other.raise_target())
        await until_somebody_waits(other)
        transaction.book.decide(replace(quota, target=quota.target + 1))
    await second
    assert await one.target() == 1002


async def test_no_update_is_lost_whoever_comes_when(pair: tuple[Controller, Controller]) -> None:
    await fill(pair[0].store)
    raises = [again(controller.raise_target) for controller in pair for _ in range(25)]
    await asyncio.gather(*raises)
    assert await pair[0].target() == 1050


async def test_reports_of_many_agents_through_two_controllers_add_up(
    pair: tuple[Controller, Controller],
) -> None:
    one, other = pair
    await one.ledger.quota(target=1000)
    sites = [await one.ledger.site(f"agent-{number}") for number in range(8)]
    for site in sites:
        await site.hello()
    for site in sites:  # a report of each agent by either controller: its stream may have moved
        site.ledger = one.ledger if site.key.agent_uid < sites[4].key.agent_uid else other.ledger
        other.ledger.sites[site.key] = site
    one.ledger.deliver()

    async def spend(site: Any) -> None:
        for _ in range(5):
            site.spend(3)
            await again(site.report)

    await asyncio.gather(*map(spend, sites))
    quota = await one.views.quota("q")
    assert quota is not None
    assert quota.sums.count == sum(site.part.totals.count for site in sites)
    assert await unsummed(one.database) == []


# --- the same thing twice --------------------------------------------------------------------------------------------


async def test_of_two_agents_of_one_name_made_at_once_there_is_one(
    pair: tuple[Controller, Controller], monkeypatch: pytest.MonkeyPatch
) -> None:
    meet_before_writing(monkeypatch)
    ends = await outcomes(*(partial(c.enrolments.create_agent, call(), "anne", True) for c in pair))
    (refusal,) = [end for end in ends if isinstance(end, Exception)]
    assert isinstance(refusal, LedgerRefusal)
    assert refusal.reason == "AGENT_EXISTS"
    assert len(await pair[0].views.agents(None, 10, include_retired=True)) == 1


async def test_of_two_quotas_of_one_name_made_at_once_there_is_one(
    pair: tuple[Controller, Controller], monkeypatch: pytest.MonkeyPatch
) -> None:
    meet_before_writing(monkeypatch)
    ends = await outcomes(
        *(partial(c.administration.create_quota, call(), Quota("", "visits", 5)) for c in pair)
    )
    (refusal,) = [end for end in ends if isinstance(end, Exception)]
    assert isinstance(refusal, LedgerRefusal)
    assert refusal.reason == "QUOTA_EXISTS"
    assert len(await pair[0].views.quotas(None, 10, include_closed=True)) == 1


async def test_without_another_try_who_comes_second_is_in_conflict_and_certain_of_it(
    pair: tuple[Controller, Controller], monkeypatch: pytest.MonkeyPatch
) -> None:
    meet_before_writing(monkeypatch)
    ends = await asyncio.gather(
        *(c.enrolments.create_agent(call(), "anne", active=True) for c in pair), return_exceptions=True
    )
    (conflict,) = [end for end in ends if isinstance(end, Exception)]
    assert isinstance(conflict, StoreConflict)
    assert conflict.certain


async def test_a_request_id_that_comes_in_at_two_controllers_at_once_is_carried_out_once(
    pair: tuple[Controller, Controller],
) -> None:
    ends = await outcomes(*(partial(c.enrolments.create_agent, call("r-1"), "anne", True) for c in pair))
    (repeat,) = [end for end in ends if isinstance(end, Exception)]
    assert isinstance(repeat, AlreadyAnswered)
    assert repeat.answer == b"the answer"


async def test_a_repeat_that_waited_for_the_quota_behind_the_first_is_not_carried_out(
    pair: tuple[Controller, Controller],
) -> None:
    """It finds the answer, and not that the quota has changed since it was read."""
    one, other = pair
    await fill(one.store)
    async with shared_server().connected(await database_name(one)) as holder:
        async with holder.transaction():
            await holder.execute("SELECT 1 FROM quotas WHERE uid = 'q-one' FOR UPDATE")
            repeated = [partial(c.administration.set_target, call("r-1"), "one", 900, 1) for c in pair]
            both = asyncio.create_task(outcomes(*repeated))
            await until_somebody_waits(other)
        ends = await both
    (repeat,) = [end for end in ends if isinstance(end, Exception)]
    assert isinstance(repeat, AlreadyAnswered)
    entries = await one.views.history("q-one", None, 10)
    assert [entry.note.action for entry in entries] == ["set-target"]


async def database_name(controller: Controller) -> str:
    def ask(connection: Connection) -> str:
        return str(connection.execute(text("SELECT current_database()")).scalar_one())

    return await controller.database.read(ask)


# --- agents ----------------------------------------------------------------------------------------------------------


async def test_an_agent_is_switched_off_and_settled_at_once_and_both_are_done(
    pair: tuple[Controller, Controller],
) -> None:
    one, other = pair
    for quota in ("q", "r"):
        await one.ledger.quota(quota, target=100)
    for name in ("anne", "bill"):
        site = await one.ledger.site(name)
        await one.ledger.assign(site, "r")
        await site.hello()
    for turn in range(6):
        ends = await outcomes(
            lambda: one.enrolments.update_agent(call(), "anne", False),
            lambda: other.enrolments.settle_agent(call(), "anne", 0, Assume.SPENT_LIMIT, False),
            lambda: other.enrolments.update_agent(call(), "bill", True),
            lambda: one.administration.set_target(call(), "q", 200, None),
        )
        assert [end for end in ends if isinstance(end, Exception)] == []
        found = await one.views.agent("anne")
        assert found is not None
        agent, epoch, _ = found
        assert (agent.active, agent.epoch, epoch.epoch) == (False, turn + 2, turn + 2)
        assert await unsummed(one.database) == []
        await one.enrolments.update_agent(call(), "anne", active=True)


async def test_an_agent_is_assigned_while_it_is_retired_and_the_end_is_sound(
    pair: tuple[Controller, Controller],
) -> None:
    one, other = pair
    await one.ledger.quota(target=100)
    for turn in range(6):
        name = f"agent-{turn}"
        await one.enrolments.create_agent(call(), name, active=True)
        assigned, retired = await outcomes(
            partial(
                one.enrolments.assign_quota, call(), "q", name, Assignment("", ""), with_initial_count=False
            ),
            partial(other.enrolments.retire_agent, call(), name, Assume.SPENT_LIMIT, False),
        )
        assert not isinstance(retired, Exception)
        assert not isinstance(assigned, Exception) or getattr(assigned, "reason", "") == "AGENT_UNKNOWN"
        for view in await one.views.allocations((await one.ledger.get_quota()).uid, None, 100):
            assert not (view.agent.retired and view.assignment.assigned), view
        assert await unsummed(one.database) == []


# --- everything at once ----------------------------------------------------------------------------------------------


async def test_a_recovery_takes_in_a_quota_that_is_made_meanwhile(
    pair: tuple[Controller, Controller],
) -> None:
    """Either the quota was there before and recovers too, or it knows the new generation."""
    one, other = pair
    await fill(one.store)
    async with one.store.transaction() as transaction:
        await transaction.load_epochs([ANNE])
        begun = asyncio.create_task(again(lambda: Recovery(other.store).begin(1)))
        await until_somebody_waits(other)
        transaction.book.decide(Quota("q-new", "new", 5))
    assert await begun == 1
    quotas = await one.views.quotas(None, 10, include_closed=True)
    assert sorted(quota.uid for quota in quotas if quota.recovering) == ["q-new", "q-old", "q-one", "q-two"]
    meta = await one.views.meta()
    assert (meta.generation, meta.recovering) == (1, True)


async def test_of_recoveries_begun_at_once_each_has_its_generation(
    pair: tuple[Controller, Controller], monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(pair[0].store)
    meet_before_writing(monkeypatch, 3)
    begun = await outcomes(*(partial(Recovery(c.store).begin, 1) for c in (*pair, pair[0])))
    assert sorted(begun) == [1, 2, 3]
