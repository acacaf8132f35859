"""What the messages of agents do to the ledger: pure, one event at a time, within a book (S3, S5, S6; section 4)."""

from __future__ import annotations

import logging
from typing import Any

from quota_server.errors import agent_unknown, field_invalid
from quota_server.ledger import escrow
from quota_server.ledger.book import Book
from quota_server.ledger.claims import (
    is_put_back,
    met_generation,
    refuse_finals,
    refuse_generations,
    refuse_standings,
    report_is_ahead,
)
from quota_server.ledger.events import FenceAckEvent, GoneEvent, HelloEvent, LinkEvent, Reply, ReportEvent
from quota_server.ledger.marks import MarkForged, Marks
from quota_server.ledger.model import (
    AgentKey,
    Allocation,
    AllocationKey,
    Assignment,
    Epoch,
    Mark,
)
from quota_server.ledger.override_events import OverrideEvents
from quota_server.ledger.replacing import replace
from quotafleet.link.messages import (
    Fence,
    FenceAck,
    FenceDone,
    FenceKind,
    Hello,
    Report,
    ReportAck,
    Revision,
    StaleHello,
    Standing,
    Totals,
)

_log = logging.getLogger(__name__)

_NOT_ENDED = (
    "this epoch has not ended; if this database was put back to before it did, settle or retire it again"
)


class LinkEvents:
    """Applies link events to a book, and remembers what they call for: funding, top-ups, redistribution."""

    def __init__(self, book: Book, marks: Marks, now_ms: int, controller: str = "") -> None:
        self._book = book
        self._marks = marks
        self._now_ms = now_ms
        self._controller = controller
        self._overrides = OverrideEvents(book, now_ms)
        #: Quotas in which escrow came free, or in which an agent came online that is short.
        self.freed: set[str] = set()
        #: Quotas that have to be shared out anew.
        self.stale: set[str] = set()
        #: Allocations whose agents ask for more.
        self.demanding: list[AllocationKey] = []
        #: What stores were found to have applied.
        self.acknowledged: list[tuple[AllocationKey, Revision]] = []

    def handle(self, event: LinkEvent) -> Reply:
        """Applies one event. The book holds what it names; see `link_batch.load`."""
        match event:
            case HelloEvent():
                return self._hello(event.agent, event.hello)
            case ReportEvent():
                return self._report(event.agent, event.dial, event.report)
            case FenceAckEvent():
                return self._fence_ack(event.agent, event.dial, event.ack)
            case GoneEvent():
                return self._gone(event.agent, event.dial)

    # --- hello -------------------------------------------------------------------------------------------------------

    def _hello(self, agent: AgentKey, hello: Hello) -> Reply:
        epoch = self._book.epochs.get(agent)
        if epoch is None:
            return Reply(refusal=agent_unknown(f"{agent.agent_uid} epoch {agent.epoch}"))
        if hello.dial <= epoch.last_dial:
            return Reply((StaleHello(epoch.last_dial),))
        if refusal := refuse_standings("hello", hello.standings):
            return Reply(refusal=refusal)
        mark = self._decode(agent, hello.mark)
        if mark is not None and (refusal := refuse_generations(hello, mark)):
            return Reply(refusal=refusal)
        epoch = replace(epoch, last_dial=hello.dial, online=False, fenced=False)
        self._book.decide(epoch)
        if mark is None:
            return self._fence(epoch, None, "its session mark is forged")
        known = mark in (epoch.shown, epoch.offered)
        ahead = mark > max(epoch.shown, epoch.offered)
        if mark in self._book.fenced_marks.get(agent, ()) or not (known or ahead):
            return self._fence(epoch, mark, "another store holds its session mark")
        if self._is_fork(agent, hello):
            return self._fence(epoch, mark, "its totals, revisions or overrides went back")
        if epoch.ended:
            return Reply((Fence(FenceKind.ENDED),))
        self._notice_restore(epoch, hello, mark)
        # A store that this ledger has forgotten to be fenced must not take the place of another.
        if hello.fenced is not None:
            self._book.decide(replace(self._book.epochs[epoch.key], fenced=True))
            return Reply((Fence(hello.fenced),))
        self._accept(epoch, mark, hello)
        return Reply(welcome=True)

    def _fence(self, epoch: Epoch, mark: Mark | None, why: str) -> Reply:
        """The fence is on the presented mark: copies share their store's id."""
        if mark is not None and mark not in self._book.fenced_marks.get(epoch.key, ()):
            self._book.fence_mark(epoch.key, mark)
            self._note_all(epoch.key, "fenced", why, {"mark": mark.number})
        self._book.decide(replace(self._book.epochs[epoch.key], online=False, fenced=True))
        _log.warning("store fenced as a copy: agent_uid=%s epoch=%d: %s", epoch.agent_uid, epoch.epoch, why)
        return Reply((Fence(FenceKind.COPY),))

    def _is_fork(self, agent: AgentKey, hello: Hello) -> bool:
        """Whether the store was put back: nothing it durably held can be gone from a later hello (S5)."""
        said = {standing.quota_uid: standing for standing in hello.standings}
        for allocation in self._book.allocations_of_agent(agent):
            standing = said.get(allocation.quota_uid)
            totals = standing.totals if standing else Totals()
            revision = standing.revision if standing else Revision()
            sequence = standing.sequence if standing else 0
            if escrow.is_fork(allocation, totals, hello.dial):
                return True
            if allocation.settled or hello.dial <= allocation.dial:
                continue
            if revision < allocation.acknowledged or sequence < allocation.sequence:
                return True
        return self._overrides.went_back(agent, hello.overrides)

    def _notice_restore(self, epoch: Epoch, hello: Hello, mark: Mark) -> None:
        """A store that is ahead of the ledger means that the ledger was put back (section 8)."""
        if not is_put_back(self._book, epoch, hello, mark):
            return
        why = "a store is ahead of this database"
        self._book.begin_recovery(self._now_ms, why, above=met_generation(hello, mark))
        _log.error(
            "a store is ahead of this database, which must have been put back: every quota recovers now; "
            "see quotactl recovery status"
        )

    def _accept(self, epoch: Epoch, mark: Mark, hello: Hello) -> None:
        generation = self._book.meta.generation
        adopting = self._book.meta.recovering and epoch.adopted_generation < generation
        epoch = replace(
            epoch,
            online=True,
            owner=self._controller,
            contact_ms=self._now_ms,
            store_id=hello.store_id,
            shown=mark,
            offered=Mark(generation, max(mark.number, epoch.offered.number) + 1),
            adopted_generation=max(epoch.adopted_generation, generation),
        )
        self._book.decide(epoch)
        self._book.linked.add(epoch.key)
        for standing in hello.standings:
            if adopting or AllocationKey(standing.quota_uid, *epoch.key) not in self._book.allocations:
                self._adopt(epoch, standing, hello.dial)
            else:
                self._standing(epoch.key, standing, hello.dial)
        if adopting:
            self._renew(epoch, {standing.quota_uid for standing in hello.standings})
        self._overrides.take(epoch.key, hello.overrides)
        for allocation in self._book.allocations_of_agent(epoch.key):
            quota = self._book.quotas[allocation.quota_uid]
            if allocation.short:
                self.freed.add(quota.uid)
            # What was shared out while it was away took its exposure for granted; that may be less now.
            if quota.overcommitted or allocation.wanted - allocation.exposure > quota.target - quota.escrowed:
                self.stale.add(quota.uid)
        self._heard(epoch.key)

    def _adopt(self, epoch: Epoch, standing: Standing, dial: int) -> None:
        """Takes a store's word for what the ledger does not remember."""
        if standing.quota_uid not in self._book.quotas:
            _log.error(
                "a store holds a quota that is not here: agent=%s epoch=%d quota_uid=%s count=%d held=%d limit=%d; "
                "if it is made again, give its count as this agent's initial count",
                self._book.agents[epoch.agent_uid].name,
                epoch.epoch,
                standing.quota_uid,
                standing.totals.count + standing.totals.overridden,
                standing.held,
                standing.limit,
            )
            return
        key = AllocationKey(standing.quota_uid, *epoch.key)
        before = self._known(key)
        if before.settled:
            return
        adopted = escrow.adopt(before, standing, dial, self._now_ms)
        self._note_overage(adopted, escrow.allocation_sums(before).exposure, adopted.exposure)
        what = {"limit": standing.limit, "count": standing.totals.count}
        self._note(key, "adopted", "the store is ahead of the restored database", what)

    def _renew(self, epoch: Epoch, stated: set[str]) -> None:
        """Gives every allocation a revision of the new generation, at the limit its store states: no limit grows."""
        for allocation in self._book.allocations_of_agent(epoch.key):
            if not allocation.settled:
                limit = allocation.offered if allocation.quota_uid in stated else 0
                self._book.decide(escrow.offer(allocation, limit, self._book.meta.generation))

    # --- report ------------------------------------------------------------------------------------------------------

    def _report(self, agent: AgentKey, dial: int, report: Report) -> Reply:
        epoch = self._owned(agent, dial)
        if epoch is None:
            return Reply(superseded=True)
        if epoch.ended:
            return Reply((Fence(FenceKind.ENDED),))
        if self._book.meta.recovering and epoch.adopted_generation < self._book.meta.generation:
            return Reply(superseded=True)  # it says hello again, and is adopted
        if refusal := refuse_standings("report", report.standings):
            return Reply(refusal=refusal)
        if self._report_is_fork(agent, dial, report):
            presented = self._decode(agent, report.mark) or epoch.shown
            return self._fence(epoch, presented, "its totals went back")
        presents_offered = report.mark == self._marks.encode(agent, epoch.offered)
        mark = epoch.offered if presents_offered else self._decode(agent, report.mark)
        if report_is_ahead(self._book, epoch, report, mark):
            return Reply(superseded=True)  # it says hello, and that this ledger was put back is noticed
        fresh = None
        epoch = replace(epoch, contact_ms=self._now_ms)
        if presents_offered:
            following = Mark(self._book.meta.generation, epoch.offered.number + 1)
            epoch = replace(epoch, shown=epoch.offered, offered=following)
            fresh = self._marks.encode(agent, following)
        self._book.decide(epoch)
        for standing in report.standings:
            self._standing(agent, standing, dial)
        self._overrides.take(agent, report.overrides)
        self._heard(agent)
        return Reply((ReportAck(report.number, self._now_ms, fresh),))

    def _decode(self, agent: AgentKey, mark: bytes) -> Mark | None:
        """None if the mark is forged."""
        try:
            return self._marks.decode(agent, mark)
        except MarkForged:
            return None

    def _report_is_fork(self, agent: AgentKey, dial: int, report: Report) -> bool:
        for standing in report.standings:
            allocation = self._book.allocations.get(AllocationKey(standing.quota_uid, *agent))
            if allocation is not None and escrow.is_fork(allocation, standing.totals, dial):
                return True
        return False

    def _standing(self, agent: AgentKey, standing: Standing, dial: int) -> None:
        key = AllocationKey(standing.quota_uid, *agent)
        before = self._book.allocations.get(key)
        if before is None or before.settled:
            return
        after = escrow.acknowledge(escrow.count(before, standing, dial, self._now_ms), standing)
        self._book.note_fact(after)
        if standing.revision == after.acknowledged:
            self.acknowledged.append((key, standing.revision))
            if standing.limit > after.wanted and before.acknowledged < standing.revision:
                self.stale.add(key.quota_uid)  # it could not shrink that far: the rest is shared out anew
        if after.exposure < before.exposure:
            self.freed.add(key.quota_uid)
        # Beyond the target limits stand at what is used: what came back must not be spent again.
        if after.used < before.used and self._book.quotas[key.quota_uid].overcommitted:
            self.stale.add(key.quota_uid)
        if after.demands:
            self.demanding.append(key)

    # --- fences ------------------------------------------------------------------------------------------------------

    def _fence_ack(self, agent: AgentKey, dial: int, ack: FenceAck) -> Reply:
        epoch = self._book.epochs.get(agent)
        if epoch is None or epoch.last_dial != dial:
            return Reply(superseded=True)
        if refusal := refuse_finals(ack.standings):
            return Reply(refusal=refusal)
        if ack.kind is FenceKind.ENDED and not epoch.ended:
            return Reply(refusal=field_invalid("fence_ack.kind", _NOT_ENDED))
        if ack.kind is FenceKind.COPY or (epoch.final and ack.store_id != epoch.store_id):
            self._charge_copy(agent, ack)  # also a second store of an epoch whose totals are in
        else:
            self._finalise(epoch, ack)
        return Reply((FenceDone(),))

    def _charge_copy(self, agent: AgentKey, ack: FenceAck) -> None:
        if not self._book.charge_copy_once(agent, ack.store_id):
            return
        was_heard = self._has_offered(agent, ack.mark)
        for final in ack.standings:
            key = AllocationKey(final.quota_uid, *agent)
            spent = final.totals.count + final.totals.overridden
            if was_heard:
                spent -= final.marked.count + final.marked.overridden
            if spent <= 0 or final.quota_uid not in self._book.quotas:
                continue
            self._book.note_fact(escrow.charge_copy(self._known(key), spent))
            self.stale.add(key.quota_uid)
            self._note(key, "overage", "a copied store spent this", {"overage": spent})

    def _has_offered(self, agent: AgentKey, mark: bytes) -> bool:
        """Whether this ledger has offered the mark that a copy holds, and so has heard what the copy says it showed.

        A ledger that was put back has forgotten what was shown since the backup, and may have adopted another store
        that never spent it. Then all that the copy spent is charged, what it shares with that store once too often.
        """
        held, offered = self._decode(agent, mark), self._book.epochs[agent].offered
        return held is not None and held.generation == offered.generation and held.number <= offered.number

    def _finalise(self, epoch: Epoch, ack: FenceAck) -> None:
        if epoch.final:
            return  # said again
        said = {final.quota_uid: final for final in ack.standings if final.quota_uid in self._book.quotas}
        held = {allocation.quota_uid for allocation in self._book.allocations_of_agent(epoch.key)}
        for quota_uid in sorted(held | said.keys()):
            before = self._known(AllocationKey(quota_uid, *epoch.key))
            after = escrow.finalise(before, said.get(quota_uid), self._now_ms)
            reserved = before.charge if before.settled else before.exposure
            self._note_overage(after, reserved, after.charge)
            self.freed.add(quota_uid)
            self.stale.add(quota_uid)
            self._note(after.key, "final", "its store turned up", {"charge": after.charge})
        self._overrides.take_last(epoch.key, ack.overrides)
        self._book.decide(replace(epoch, settled=True, final=True, store_id=ack.store_id))

    def _known(self, key: AllocationKey) -> Allocation:
        """The allocation; one that the ledger does not remember, for it was put back, begins empty."""
        if (key.quota_uid, key.agent_uid) not in self._book.assignments:
            self._book.decide(Assignment(key.quota_uid, key.agent_uid, assigned=False))
        return self._book.allocations.get(key) or Allocation(*key)

    def _gone(self, agent: AgentKey, dial: int) -> Reply:
        epoch = self._owned(agent, dial)
        # A copy may have said the same dial elsewhere, and nobody knew whether it was welcomed.
        if epoch is not None and epoch.owner == self._controller:
            self._book.decide(replace(epoch, online=False))
        return Reply()

    # --- shared ------------------------------------------------------------------------------------------------------

    def _owned(self, agent: AgentKey, dial: int) -> Epoch | None:
        """The epoch, if the stream that `dial` opened still owns it."""
        epoch = self._book.epochs.get(agent)
        return epoch if epoch is not None and epoch.last_dial == dial and epoch.online else None

    def _heard(self, agent: AgentKey) -> None:
        """Heard means: everything it has was acknowledged in this generation."""
        epoch, generation = self._book.epochs[agent], self._book.meta.generation
        if not self._book.meta.recovering or epoch.heard_generation >= generation:
            return
        pending = [
            a for a in self._book.allocations_of_agent(agent) if a.acknowledged.generation < generation
        ]
        if not [a for a in pending if not a.settled]:
            self._book.decide(replace(epoch, heard_generation=generation))

    def _note_overage(self, after: Allocation, reserved: int, taken: int) -> None:
        """Puts a fact; what it takes beyond what was reserved and the target covers is overage."""
        quota = self._book.quotas[after.quota_uid]
        rise = max(0, taken - reserved)
        over = min(rise, max(0, quota.escrowed + rise - quota.target))
        if not after.settled:  # adopted: while everything recovers nobody knows yet what the cap covered
            over = 0 if quota.recovering else min(over, after.used)
        self._book.note_fact(replace(after, overage=after.overage + over))

    def _note(self, key: AllocationKey, action: str, reason: str, after: dict[str, Any]) -> None:
        self._book.note_of_agent(key, self._now_ms, action, reason, after)

    def _note_all(self, agent: AgentKey, action: str, reason: str, after: dict[str, int]) -> None:
        for allocation in self._book.allocations_of_agent(agent):
            self._note(allocation.key, action, reason, after)
