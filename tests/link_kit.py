"""A ledger without a network, and sites that speak to it message by message as an honest agent would."""

from __future__ import annotations

import copy
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from quota_server.ledger.administration import Administration
from quota_server.ledger.calls import Call
from quota_server.ledger.effects import Effects
from quota_server.ledger.enrolment import Enrolments
from quota_server.ledger.events import FenceAckEvent, GoneEvent, HelloEvent, LinkEvent, Reply, ReportEvent
from quota_server.ledger.link_batch import LinkBatches
from quota_server.ledger.marks import Marks
from quota_server.ledger.model import AgentKey, Allocation, AllocationKey, Assignment, Epoch, Quota
from quota_server.ledger.policies import Policy
from quota_server.ledger.recovery import Recovery
from quota_server.ledger.store import LedgerStore
from quota_server.overrides.decisions import Overrides
from quotafleet.link.messages import (
    AllocationUpdate,
    Fence,
    FenceAck,
    FenceKind,
    FinalStanding,
    FromController,
    Hello,
    OpenRequest,
    OverrideStanding,
    Report,
    ReportAck,
    Revision,
    StaleHello,
    Standing,
    Totals,
    Welcome,
)
from tests.ledger_kit import open_migrated_store
from tests.memory_store import MemoryLedgerStore

HEARTBEAT_MS = 5_000


@dataclass
class Part:
    """What a site's store holds of one quota."""

    revision: Revision = Revision()
    wanted: int = 0
    limit: int = 0
    consumed: int = 0
    released: int = 0
    held: int = 0
    sequence: int = 0
    #: Totals beside the newest mark known to be shown, and beside the one held.
    marked: Totals = field(default_factory=Totals)
    marking: Totals = field(default_factory=Totals)
    open_requests: tuple[OpenRequest, ...] = ()
    override_consumed: int = 0

    @property
    def totals(self) -> Totals:
        return Totals(self.consumed, self.released, self.override_consumed)

    def apply(self, update: AllocationUpdate) -> None:
        if update.revision > self.revision:
            self.revision, self.wanted = update.revision, update.limit
            self.limit = max(update.limit, self.totals.count + self.held)
            self.sequence += 1

    def standing(self, quota_uid: str) -> Standing:
        return Standing(
            quota_uid,
            self.revision,
            self.limit,
            self.totals,
            self.held,
            self.sequence,
            self.open_requests,
        )


class Site:
    """An agent's store and its end of the link; `copy()` is a copied store."""

    def __init__(self, ledger: Ledger, key: AgentKey, name: str) -> None:
        self.ledger, self.key, self.name = ledger, key, name
        self.store_id = f"store-{name}"
        self.dial = 0
        self.online = False
        self.mark = b""
        self.parts: dict[str, Part] = {}
        self.numbers = itertools.count(1)
        self.overrides: tuple[OverrideStanding, ...] = ()
        self.fenced_kind: FenceKind | None = None

    def copy(self) -> Site:
        twin = Site(self.ledger, self.key, self.name)
        twin.dial, twin.mark, twin.store_id = self.dial, self.mark, self.store_id
        twin.parts = copy.deepcopy(self.parts)
        return twin

    @property
    def part(self) -> Part:
        """Its only part."""
        (part,) = self.parts.values()
        return part

    def spend(self, amount: int) -> int:
        """Grants what its limit allows of `amount`; the units granted."""
        part = self.part
        granted = min(amount, part.limit - part.totals.count - part.held)
        part.consumed += granted
        part.sequence += 1
        return granted

    def release(self, amount: int) -> None:
        part = self.part
        part.released += amount
        part.sequence += 1
        part.limit = min(part.limit, max(part.wanted, part.totals.count + part.held))

    # --- messages ----------------------------------------------------------------------------------------------------

    def hello_message(self) -> Hello:
        self.dial += 1
        standings = tuple(part.standing(uid) for uid, part in self.parts.items())
        return Hello(
            self.key.agent_uid,
            self.key.epoch,
            self.store_id,
            self.dial,
            self.mark,
            self.ledger.now_ms,
            standings,
            self.overrides,
            fenced=self.fenced_kind,
        )

    def report_message(self) -> Report:
        standings = tuple(part.standing(uid) for uid, part in self.parts.items())
        return Report(next(self.numbers), self.mark, self.ledger.now_ms, standings, self.overrides)

    def fence_ack(self, kind: FenceKind, store_id: str = "fresh") -> FenceAck:
        standings = tuple(FinalStanding(uid, part.totals, part.marked) for uid, part in self.parts.items())
        return FenceAck(kind, store_id, self.mark, standings, self.overrides)

    def take(self, message: FromController) -> None:
        """Makes what the controller said durable."""
        match message:
            case Welcome(mark=mark, allocations=allocations):
                self.online = True
                self.store_mark(mark)
                for update in allocations:
                    self.parts.setdefault(update.quota_uid, Part()).apply(update)
            case ReportAck(mark=bytes(mark)):
                self.store_mark(mark)
            case StaleHello(last_dial=last):
                self.dial = max(self.dial, last)

    def store_mark(self, mark: bytes) -> None:
        if mark == self.mark:
            return
        self.mark = mark
        for part in self.parts.values():
            part.marked, part.marking = part.marking, part.totals

    # --- exchanges ---------------------------------------------------------------------------------------------------

    async def hello(self) -> FromController:
        """Says hello and takes the answer; redials as the answer says."""
        reply = await self.ledger.send(HelloEvent(self.key, self.hello_message()))
        (message,) = reply.messages
        self.take(message)
        return message

    async def report(self) -> Reply:
        """Reports and takes the answer."""
        reply = await self.ledger.send(ReportEvent(self.key, self.dial, self.report_message()))
        for message in reply.messages:
            self.take(message)
        return reply

    async def fenced(self, message: FromController, store_id: str = "fresh") -> Reply:
        """Acknowledges a fence."""
        assert isinstance(message, Fence), message
        return await self.ledger.send(
            FenceAckEvent(self.key, self.dial, self.fence_ack(message.kind, store_id))
        )

    async def hang_up(self) -> None:
        self.online = False
        await self.ledger.send(GoneEvent(self.key, self.dial))

    async def sync(self) -> None:
        """Reports until there is nothing new to take."""
        while True:
            self.ledger.deliver()
            before = [part.revision for part in self.parts.values()]
            await self.report()
            self.ledger.deliver()
            if before == [part.revision for part in self.parts.values()]:
                return


class Ledger:
    """The controller's ledger on a real database, its outgoing updates kept until `deliver`."""

    def __init__(self, store: LedgerStore) -> None:
        numbers = itertools.count(1)
        self.store = store
        self.now_ms = 1_000_000
        new_id = lambda: f"id-{next(numbers):04}"  # noqa: E731
        self.marks = Marks(b"k" * 32)
        self.batches = LinkBatches(store, self.marks, HEARTBEAT_MS)
        self.administration = Administration(store, new_id)
        self.enrolments = Enrolments(store, new_id)
        self.overrides = Overrides(store, new_id, HEARTBEAT_MS)
        self.recovery = Recovery(store)
        self.sites: dict[AgentKey, Site] = {}
        self.outgoing: list[tuple[AgentKey, AllocationUpdate]] = []
        self.stale: set[str] = set()
        #: The highest target in force so far, by quota: what E may never pass by a decision.
        self.quota_uid = ""

    def call(self, **more: object) -> Call:
        return Call(actor="operator", now_ms=self.now_ms, **more)  # type: ignore[arg-type]

    async def quota(
        self, name: str = "q", target: int = 100, policy: Policy = Policy.EQUAL, **more: object
    ) -> str:
        quota = Quota(uid="", name=name, target=target, policy=policy, **more)  # type: ignore[arg-type]
        self.quota_uid = (await self.administration.create_quota(self.call(), quota)).quota.uid
        return self.quota_uid

    async def site(self, name: str, quota: str = "q", **part: object) -> Site:
        """Enrols an agent with a part in a quota; it has not called yet."""
        enrolment = await self.enrolments.create_agent(self.call(), name, active=True)
        site = Site(self, enrolment.agent.key, name)
        self.sites[site.key] = site
        await self.assign(site, quota, **part)
        return site

    async def assign(self, site: Site, quota: str = "q", **part: object) -> None:
        change = await self.enrolments.assign_quota(
            self.call(),
            quota,
            site.name,
            Assignment("", "", **part),  # type: ignore[arg-type]
            with_initial_count="initial_count" in part,
        )
        self.keep(change.effects)

    async def sites_of(self, *names: str) -> list[Site]:
        """Sites that have said hello and are at rest."""
        sites = [await self.site(name) for name in names]
        for site in sites:
            await site.hello()
        await self.settle_down(*sites)
        return sites

    async def settle_down(self, *sites: Site) -> None:
        """Exchanges messages until all is acknowledged and shared out."""
        while True:
            await self.follow_demand()
            before = [[part.revision for part in site.parts.values()] for site in sites]
            for site in sites:
                await site.sync()
            if (
                before == [[part.revision for part in site.parts.values()] for site in sites]
                and not self.stale
            ):
                return

    async def send(self, event: LinkEvent) -> Reply:
        """Handles one event; what it means for other agents waits for `deliver`."""
        result = await self.batches.handle([event], self.now_ms)
        self.keep(result.effects)
        return result.replies[0]

    def keep(self, effects: Effects) -> None:
        self.stale |= effects.stale
        for agent, updates in effects.updates.items():
            self.outgoing += [(agent, update) for update in updates]

    def deliver(self) -> None:
        """Hands over every update sent so far, in order."""
        outgoing, self.outgoing = self.outgoing, []
        for agent, update in outgoing:
            if agent in self.sites and self.sites[agent].online:
                self.sites[agent].parts.setdefault(update.quota_uid, Part()).apply(update)

    async def follow_demand(self) -> None:
        """Shares out anew where it is called for."""
        stale, self.stale = self.stale, set()
        for quota_uid in sorted(stale):
            change = await self.administration.follow_demand(quota_uid, self.now_ms)
            assert change is not None
            self.keep(change.effects)

    async def restart(self) -> None:
        """A controller begins: no stream is up."""
        async with self.store.transaction() as transaction:
            await transaction.load_epochs(self.sites.keys())
            for epoch in list(transaction.book.epochs.values()):
                transaction.book.decide(replace(epoch, online=False))

    async def set_target(self, target: int, quota: str = "q") -> None:
        change = await self.administration.set_target(self.call(), quota, target, None)
        self.keep(change.effects)

    async def rebalance(self, quota: str = "q") -> None:
        self.keep((await self.administration.rebalance(self.call(), quota)).effects)

    # --- looking -----------------------------------------------------------------------------------------------------

    async def get_quota(self, uid: str = "") -> Quota:
        async with self.store.transaction() as transaction:
            await transaction.load_quotas([uid or self.quota_uid])
            return transaction.book.quotas[uid or self.quota_uid]

    async def allocation(self, site: Site, uid: str = "") -> Allocation:
        key = AllocationKey(uid or self.quota_uid, *site.key)
        async with self.store.transaction() as transaction:
            await transaction.load_allocations([key])
            return transaction.book.allocations[key]

    async def epoch(self, site: Site) -> Epoch:
        async with self.store.transaction() as transaction:
            await transaction.load_epochs([site.key])
            return transaction.book.epochs[site.key]


@asynccontextmanager
async def open_ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    """A ledger on a real database in `tmp_path`."""
    async with open_migrated_store(tmp_path) as (store, _):
        yield Ledger(store)


def memory_ledger() -> Ledger:
    """A ledger on a store in memory."""
    return Ledger(MemoryLedgerStore())
