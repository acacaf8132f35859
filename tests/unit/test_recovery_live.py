"""A database put back under streams that stand: nobody says hello by himself, and yet it is noticed."""

import copy
from dataclasses import replace

from quota_server.ledger.events import ReportEvent
from tests.link_kit import Ledger, Site, memory_ledger
from tests.memory_store import MemoryLedgerStore, Tables


def backup(ledger: Ledger) -> Tables:
    """Everything that is stored; the records themselves never change."""
    store = ledger.store
    assert isinstance(store, MemoryLedgerStore)
    return Tables(**{name: copy.copy(value) for name, value in vars(store.tables).items()})


def put_back(ledger: Ledger, tables: Tables) -> None:
    store = ledger.store
    assert isinstance(store, MemoryLedgerStore)
    store.tables = tables


async def two_sites() -> tuple[Ledger, Site, Site]:
    ledger = memory_ledger()
    await ledger.quota(target=100)
    a, b = await ledger.sites_of("a", "b")
    return ledger, a, b


async def test_a_report_of_a_revision_that_the_ledger_never_gave_has_its_agent_say_hello() -> None:
    ledger, a, b = await two_sites()
    before = backup(ledger)
    await ledger.set_target(200)
    await ledger.settle_down(a, b)
    assert a.spend(100) == 100
    put_back(ledger, before)
    reply = await a.report()
    assert reply.superseded
    assert not reply.messages
    assert (await ledger.allocation(a)).totals.count == 0, "nothing of it is taken before it is adopted"
    await a.hello()
    assert (await ledger.get_quota()).recovering
    assert (await ledger.allocation(a)).exposure == 100


async def test_a_heartbeat_with_a_mark_that_the_ledger_never_offered_has_its_agent_say_hello() -> None:
    """Even if nothing has changed on the agent since the backup."""
    ledger, a, _ = await two_sites()
    before = backup(ledger)
    for _ in range(3):
        await a.report()
    put_back(ledger, before)
    heartbeat = replace(a.report_message(), standings=())
    assert (await ledger.send(ReportEvent(a.key, a.dial, heartbeat))).superseded
    await a.hello()
    assert (await ledger.get_quota()).recovering


async def test_a_report_of_what_the_ledger_knows_is_taken() -> None:
    ledger, a, b = await two_sites()
    before = backup(ledger)
    put_back(ledger, before)
    assert a.spend(10) == 10
    assert not (await a.report()).superseded
    assert not (await b.report()).superseded
    assert not (await ledger.get_quota()).recovering
    assert (await ledger.allocation(a)).totals.count == 10
