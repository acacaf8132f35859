"""A batch of link events, handled in one transaction: one commit for all that arrived meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from quota_server.ledger import sharing
from quota_server.ledger.book import Book
from quota_server.ledger.effects import Acknowledged, Effects, effects_of, override_update
from quota_server.ledger.events import FenceAckEvent, HelloEvent, LinkEvent, Reply, ReportEvent
from quota_server.ledger.link_events import LinkEvents
from quota_server.ledger.marks import Marks
from quota_server.ledger.model import AgentKey, AllocationKey, Note
from quota_server.ledger.store import LedgerStore, Transaction
from quotafleet.link.messages import Welcome


@dataclass(frozen=True, slots=True)
class BatchResult:
    """The replies to a batch, in its order, and what else follows."""

    replies: list[Reply]
    effects: Effects


class LinkBatches:
    """Handles batches of link events against the store; streams that are welcomed belong to this `controller`."""

    def __init__(self, store: LedgerStore, marks: Marks, heartbeat_ms: int, controller: str = "") -> None:
        self._store = store
        self._controller = controller
        self._marks = marks
        self._heartbeat_ms = heartbeat_ms

    async def handle(self, batch: Sequence[LinkEvent], now_ms: int) -> BatchResult:
        """Handles the events in order. Either all of it is durable, or an exception says that nothing is."""
        async with self._store.transaction() as transaction:
            book = transaction.book
            await _load(transaction, batch)
            events = LinkEvents(book, self._marks, now_ms, self._controller)
            replies = [events.handle(event) for event in batch]
            # While E is above the target no limit grows, so there is nobody to look for.
            fundable = {uid for uid in events.freed if not book.quotas[uid].overcommitted}
            if fundable:
                await transaction.load_short_allocations(fundable)
            self._top_up(book, events, now_ms)
            for quota_uid in sorted(fundable):
                sharing.fund(book, quota_uid)
            welcomed = self._welcome(book, batch, replies, now_ms)
            effects = effects_of(book, except_for=welcomed)
            effects.stale = events.stale
            effects.acknowledged = [
                Acknowledged(key, revision, book.allocations[key].wanted, book.allocations[key].exposure)
                for key, revision in events.acknowledged
            ]
        return BatchResult(replies, effects)

    def _top_up(self, book: Book, events: LinkEvents, now_ms: int) -> None:
        for key in dict.fromkeys(events.demanding):
            before = book.allocations[key]
            enough = sharing.top_up(book, before, now_ms, protect_ms=self._heartbeat_ms)
            after = book.allocations[key]
            if after.offered > before.offered:
                agent = book.agents[key.agent_uid].name
                book.note(
                    Note(
                        key.quota_uid,
                        now_ms,
                        "controller",
                        "top-up",
                        f"{agent} asked for more",
                        {"limits": {agent: before.offered}},
                        {"limits": {agent: after.offered}},
                    )
                )
            if not enough and sharing.could_be_served(book, after):
                events.stale.add(key.quota_uid)

    def _welcome(
        self, book: Book, batch: Sequence[LinkEvent], replies: list[Reply], now_ms: int
    ) -> set[AgentKey]:
        """Builds the Welcomes when all is decided, so that each carries the newest state."""
        welcomed = set()
        for event, reply in zip(batch, replies, strict=True):
            if isinstance(event, HelloEvent) and reply.welcome:
                reply.messages = (self._welcome_message(book, event.agent, now_ms),)
                welcomed.add(event.agent)
        return welcomed

    def _welcome_message(self, book: Book, agent: AgentKey, now_ms: int) -> Welcome:
        allocations = [a for a in book.allocations_of_agent(agent) if not a.settled]
        live = sorted(
            (o for o in book.overrides.values() if o.agent == agent and o.live),
            key=lambda override: override.override_id,
        )
        return Welcome(
            mark=self._marks.encode(agent, book.epochs[agent].offered),
            generation=book.meta.generation,
            clock_ms=now_ms,
            heartbeat_ms=self._heartbeat_ms,
            allocations=tuple(book.update_of(allocation.key) for allocation in allocations),
            overrides=tuple(override_update(override) for override in live),
        )


async def _load(transaction: Transaction, batch: Sequence[LinkEvent]) -> None:
    """Loads what the events name, epochs first: a few statements for the whole batch."""
    agents = {event.agent for event in batch}
    await transaction.load_epochs(agents)
    whole = {event.agent for event in batch if isinstance(event, HelloEvent | FenceAckEvent)}
    if transaction.book.meta.recovering:
        whole = agents
    quotas, allocations, override_ids = set(), set(), set()
    for event in batch:
        match event:
            case HelloEvent(agent=agent, hello=hello):
                # Named one by one too: a restored ledger may have assignments without an allocation.
                allocations |= {AllocationKey(s.quota_uid, *agent) for s in hello.standings}
                quotas |= {standing.quota_uid for standing in hello.standings}
                override_ids |= {standing.override_id for standing in hello.overrides}
            case ReportEvent(agent=agent, report=report):
                allocations |= {AllocationKey(s.quota_uid, *agent) for s in report.standings}
                override_ids |= {standing.override_id for standing in report.overrides}
            case FenceAckEvent(agent=agent, ack=ack):
                allocations |= {AllocationKey(s.quota_uid, *agent) for s in ack.standings}
                quotas |= {standing.quota_uid for standing in ack.standings}
                override_ids |= {standing.override_id for standing in ack.overrides}
    if quotas:
        await transaction.load_quotas(quotas)
    if whole:
        await transaction.load_allocations_of_agents(whole)
        await transaction.load_live_overrides(whole)
    if allocations:
        await transaction.load_allocations(allocations)
    if override_ids:
        await transaction.load_overrides(override_ids)
