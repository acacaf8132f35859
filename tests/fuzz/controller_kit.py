"""A controller in memory, begun anew from the same state for each input; what it logs as an error is a finding."""

from __future__ import annotations

import asyncio
import copy
import functools
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final

from quota_server.fleet.fleet import Fleet
from quota_server.keys import MasterKey
from quota_server.ledger.administration import Administration
from quota_server.ledger.enrolment import Enrolments
from quota_server.ledger.link_batch import LinkBatches
from quota_server.ledger.marks import Marks
from quota_server.ledger.model import AgentKey, Assume, Quota
from quota_server.ledger.policies import Policy
from quota_server.ledger.recovery import Recovery
from quota_server.overrides.decisions import Overrides
from quota_server.services.agent_link_service import AgentLinkService
from quotafleet.link.messages import MAX_UNITS, OverrideAsk
from tests.gate_kit import FakeClock, ids
from tests.link_kit import Ledger, memory_ledger
from tests.memory_store import MemoryLedgerStore, Tables

HEARTBEAT_MS: Final = 60_000
KEYS: Final = MasterKey(b"k" * 32)
MARKS: Final = Marks(b"k" * 32)  # as those of `tests.link_kit`


@dataclass(frozen=True)
class Begun:
    """A state to begin with: two agents at work, one that has ended, a quota of each sort, an override."""

    tables: Tables
    agents: tuple[AgentKey, ...]
    quotas: tuple[str, ...]
    overrides: tuple[str, ...]


async def _begin() -> Begun:
    ledger = memory_ledger()
    keys, quotas, overrides = await fill(ledger)
    return Begun(_tables(ledger), keys, quotas, overrides)


async def fill(ledger: Ledger) -> tuple[tuple[AgentKey, ...], tuple[str, ...], tuple[str, ...]]:
    """Brings a ledger into that state; its agents, quotas and overrides."""
    quotas = [
        await ledger.quota("q", 100, Policy.MAX_MIN),
        await ledger.quota("r", 5_000, Policy.EQUAL, decimals=3, max_offline_ms=60_000, reserve_percent=10),
        await ledger.quota("old", 10),
    ]
    anne, bill = await ledger.sites_of("anne", "bill")
    cleo = await ledger.site("cleo")
    await ledger.assign(anne, "r", min=10, max=4_000)
    await ledger.assign(bill, "old")
    for site in (anne, bill, cleo):
        await site.hello()
    await ledger.settle_down(anne, bill, cleo)
    for site, amount in ((anne, 3), (cleo, 2)):
        part = site.parts[quotas[0]]
        part.consumed, part.sequence = part.consumed + amount, part.sequence + 1
        await site.report()
    asks = [(anne.key, OverrideAsk(f"ask-{number}", quotas[0], 4, "siblings")) for number in (1, 2)]
    answers, _ = await ledger.overrides.answer_asks(asks, ledger.now_ms)
    overrides = [each.override_id for each in answers[anne.key]]
    await ledger.overrides.decide(ledger.call(), overrides[0], approve=True)
    await ledger.enrolments.retire_agent(ledger.call(), "cleo", Assume.SPENT_LIMIT, confirm=False)
    await ledger.administration.close_quota(ledger.call(), "old")
    await anne.hello()
    return (anne.key, bill.key, cleo.key), tuple(quotas), tuple(overrides)


def _tables(ledger: Ledger) -> Tables:
    assert isinstance(ledger.store, MemoryLedgerStore)
    return ledger.store.tables


@functools.cache
def begun() -> Begun:
    """The same state at each call; not to be changed."""
    return asyncio.run(_begin())


class MemoryController:
    """What serves a fleet, without a network and without a disk."""

    def __init__(self) -> None:
        self.store = MemoryLedgerStore()
        self.store.tables = snapshot(begun().tables)
        self.clock = FakeClock()
        new_id = ids("new")
        self.administration = Administration(self.store, new_id)
        self.overrides = Overrides(self.store, new_id, HEARTBEAT_MS)
        self.enrolments = Enrolments(self.store, new_id)
        self.recovery = Recovery(self.store)
        batches = LinkBatches(self.store, MARKS, HEARTBEAT_MS)
        self.fleet = Fleet(batches, self.administration, self.overrides, self.store, self.clock, HEARTBEAT_MS)
        self.links = AgentLinkService(self.fleet, KEYS, self.clock, HEARTBEAT_MS)

    @property
    def tables(self) -> Tables:
        """What is stored now."""
        return self.store.tables

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """The fleet works."""
        work = asyncio.create_task(self.fleet.run(), name="fleet")
        try:
            yield
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)


def snapshot(tables: Tables) -> Tables:
    """A copy: records are frozen, the tables are not."""
    return Tables(**{name: copy.copy(value) for name, value in vars(tables).items()})


def exposures(tables: Tables) -> dict[str, int]:
    """The sum of exposures of each quota."""
    sums = dict.fromkeys(tables.quotas, 0)
    for allocation in tables.allocations.values():
        sums[allocation.quota_uid] += allocation.exposure
    return sums


def check_cap(before: Tables, after: Tables) -> None:
    """S2: no decision raises what may be spent above the target; facts may, while it is being recovered."""
    if after.meta.recovering or before.meta.recovering:
        return
    was, now = exposures(before), exposures(after)
    for uid, total in now.items():
        quota: Quota = after.quotas[uid]
        assert total <= max(quota.target, was.get(uid, 0)), f"E of {quota.name} rose to {total}"
        held = sum(a.exposure + a.charge + a.copies for a in after.allocations.values() if a.quota_uid == uid)
        assert held == quota.escrowed, f"the sums of {quota.name} are {quota.escrowed}, not {held}"


def check_bounds(tables: Tables) -> None:
    """Nothing is stored that no message may say."""
    numbers = [tables.meta.generation, *(each.last_dial for each in tables.epochs.values())]
    for allocation in tables.allocations.values():
        numbers += [*allocation.revision, *allocation.acknowledged, allocation.sequence, allocation.dial]
    assert max(numbers) < 2**63, f"a number has grown to {max(numbers)}"
    for override in tables.overrides.values():
        assert 1 <= override.amount <= MAX_UNITS, f"an override of {override.amount}"
        assert 0 <= override.spent <= override.amount, f"{override.spent} spent of {override.amount}"
    for allocation in tables.allocations.values():
        for name in ("wanted", "offered", "exposure", "charge", "at_risk", "held"):
            assert 0 <= getattr(allocation, name) <= MAX_UNITS, f"{name} is {getattr(allocation, name)}"


class _Errors(logging.Handler):
    """Keeps what is logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def failures(self) -> list[Exception]:
        """The exceptions that were logged."""
        found = [record.exc_info[1] for record in self.records if record.exc_info]
        return [each for each in found if isinstance(each, Exception)]


@contextmanager
def nothing_fails(logger: str) -> Iterator[None]:
    """Raises what was logged with an exception, which comes before what followed from it."""
    handler, log = _Errors(), logging.getLogger(logger)
    level, log.propagate = log.level, False
    log.addHandler(handler)
    log.setLevel(logging.ERROR)
    try:
        yield
    except Exception:
        if not handler.failures():
            raise
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        log.propagate = True
    for failure in handler.failures():
        raise failure
