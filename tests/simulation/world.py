"""The simulated world: every machine, what happens to them, and the checks that follow everything that is written."""

from __future__ import annotations

import zlib
from collections import deque
from random import Random

from quota_agent.gate.draft import Changes
from quota_agent.gate.records import State
from quota_server.ledger.book import Book
from quota_server.ledger.model import Assume, QuotaState
from quotafleet.link.messages import FenceKind
from tests.simulation import faults, people
from tests.simulation.clients import Clients
from tests.simulation.counts import Counts
from tests.simulation.database import Turn
from tests.simulation.disk import Disk, Moves
from tests.simulation.loop import owner
from tests.simulation.once import OnceChecks
from tests.simulation.operators import Operators
from tests.simulation.plan import Action, Plan
from tests.simulation.site import MAX_MACHINES, Site
from tests.simulation.store_checks import check_overrides, check_store
from tests.simulation.stream_checks import check_streams, check_welcomed
from tests.simulation.truth import Violation, require

#: Lines of the trace that are kept.
TRACE_LINES = 400


class World(Site):
    """Everything, on one loop."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.once = OnceChecks()
        self.clients = Clients()
        self.operators = Operators(self.controllers, Random(f"{plan.seed}/operators"), self.once)
        self.counts = Counts(self.controllers, self.truth, self.trouble)
        #: How often each kind of action happened: something broke or was mended, somebody was asked.
        self.done: dict[str, int] = {}
        self.digest = 0
        self.trace: deque[tuple[float, str, object]] = deque(maxlen=TRACE_LINES)
        #: Whether everything recovered before the transaction that is being written.
        self._recovers = False

    # --- what is written ---------------------------------------------------------------------------------------------

    def store_wrote(self, disk: Disk, before: State, changes: Changes, moves: Moves) -> None:
        """See `disk.Watcher`."""
        store = self.truth.follow(disk, moves)
        check_store(disk, store, before, changes, moves)
        check_overrides(disk, store, moves, self.ledger)
        if before.agent.fenced is None and disk.state.agent.fenced is FenceKind.COPY:
            self._check_fence(disk)
        for quota in changes.quotas:
            known = before.quotas.get(quota.uid)
            if known is None or quota.limit > known.limit:
                self.ledger.check_limit(store, quota.uid, quota.limit)
        for uid in {after.quota_uid for _, after in moves}:
            self.ledger.check_bound(uid)
            self.ledger.check_lineage(self.truth.lineage_of(disk), uid)
        if moves:
            self.trace.append((self.loop.time(), f"store {disk.number}", moves))

    def _check_fence(self, disk: Disk) -> None:
        """Only where there are copies is a store fenced as one."""
        lineage = self.truth.lineage_of(disk)
        honest = len(lineage.stores) == 1 and not self.ledger.was_restored
        require(not honest, "S6", f"store {disk.number} has no copies, and is fenced as one")

    def ledger_will_write(self, book: Book, turn: Turn) -> None:
        """See `database.LedgerWatcher`."""
        self.committing = turn
        self._recovers = self.database.tables.meta.recovering
        check_streams(self.database.tables.epochs, book, turn)
        self.ledger.will_write(book)

    def ledger_wrote(self, book: Book) -> None:
        """See `database.LedgerWatcher`."""
        assert self.committing is not None
        self.once.wrote(book.notes)
        self.ledger.wrote(book)
        if not self.ledger.put_back_unseen:
            check_welcomed(self.truth, self.database.tables, sorted(book.linked))
        if self._recovers and not self.database.tables.meta.recovering:
            self._check_recovered()
        who = f"ledger {self.committing.controller}".rstrip()
        self.trace.append((self.loop.time(), who, book.notes or book.touched))
        self.committing = None

    def was_put_back(self) -> None:
        """See `site.Site`."""
        super().was_put_back()
        self.once.restored(self.database.tables.history)

    def _check_recovered(self) -> None:
        """Once a recovery is over nothing is excused by it any more, not even where nothing happens."""
        for lineage in self.truth.lineages.values():
            store = lineage.accepted
            for uid in self.database.tables.quotas:
                self.ledger.check_lineage(lineage, uid)
                if store is not None and (quota := store.disk.state.quotas.get(uid)):
                    self.ledger.check_limit(store, uid, quota.limit)

    # --- time --------------------------------------------------------------------------------------------------------

    def step(self) -> bool:
        """One event and all that follows from it at once; whether there was one. Raises Violation."""
        handle = self.loop.step()
        if handle is None:
            return False
        what = f"{self.loop.time():.6f} {handle.label} {owner(handle)}"
        self.digest = zlib.crc32(what.encode(), self.digest)
        violation = self.clients.violation or self.operators.violation or self.counts.violation
        if violation is not None:
            raise violation
        if self.loop.failures:
            raise Violation("CRASH", f"a task failed: {self.loop.failures[0]}")
        return True

    def run_for(self, ms: int, most_events: int) -> None:
        """Let time pass, or so many events happen."""
        until = self.loop.time() + ms / 1000
        self.loop.at(until, "round", _nothing)
        while self.loop.time() < until and self.loop.events < most_events:
            self.step()

    def schedule(self, actions: list[Action]) -> None:
        """Have these happen from now on."""
        self.trouble.unclear_rate = self.plan.unclear_rate
        self.network.draw_weather = self.plan.draw_weather
        began = self.loop.time()
        for action in actions:
            self.loop.at(began + action.at_ms / 1000, action.kind, self._act, action)

    def finish(self) -> int:
        """Switch everything off; the digest of all that happened and all that is durable."""
        for machine in self.machines:
            if machine.process.alive:
                machine.kill(written=False)
        for controller in self.controllers:
            if controller.process.alive:
                controller.kill(written=False)
        for store in self.truth.stores.values():
            kept = repr(sorted(store.disk.state.quotas.items()))
            self.digest = zlib.crc32(kept.encode(), self.digest)
        return zlib.crc32(repr(sorted(self.database.tables.allocations.items())).encode(), self.digest)

    # --- actions -----------------------------------------------------------------------------------------------------

    def _act(self, action: Action) -> None:
        chance = Random(action.chance)
        self.trace.append((self.loop.time(), "action", action))
        if action.kind in faults.FAULTS:
            acted = bool(self.machines) and faults.FAULTS[action.kind](self, chance)
        else:
            acted = people.ACTS[action.kind](self, chance)
        if acted:
            self.done[action.kind] = self.done.get(action.kind, 0) + 1

    def begin(self) -> None:
        """The controllers, the first quotas and agents, all of it assigned."""
        chance = Random(f"{self.plan.seed} begin")
        self.start_controllers()
        self.loop.step()
        for name in self.quota_names():
            self.operators.create_quota(name, chance)
        for _ in range(self.plan.agents):
            self.create_agent()
        self.run_for(1_000, 10_000)
        for name in self.quota_names():
            for agent in self.agents():
                self.operators.assign(name, agent, chance)
        self.run_for(1_000, 20_000)
        self.install()

    def quota_names(self) -> list[str]:
        """The names in use, closed and created again or not."""
        return [f"q{number}" for number in range(self.plan.quotas)]

    def agents(self) -> list[str]:
        """Names of the agents that are enrolled."""
        return [agent.name for agent in self.database.tables.agents.values() if not agent.retired]

    def create_agent(self) -> None:
        """Enrol another one, unless there are enough."""
        if len(self.agents()) < MAX_MACHINES - 2:
            self._names += 1
            self.operators.create_agent(f"a{self._names}")

    def refresh(self, chance: Random, most_events: int) -> None:
        """What operators do between storms, so that there is something to storm at: all is open, on, and enrolled."""
        tables = self.database.tables
        open_now = {
            quota.name: quota for quota in tables.quotas.values() if quota.state is not QuotaState.CLOSED
        }
        for agent in list(tables.agents.values()):
            if not agent.retired and not self.machines_of(agent.key) and agent.key in self._installed:
                self.operators.settle(agent.name, 0, Assume.SPENT_LIMIT)
            if not agent.retired and not agent.active and chance.random() < 0.8:
                self.operators.switch_agent(agent.name, active=True)
        for _ in range(len(self.agents()), self.plan.agents):
            self.create_agent()
        self.run_for(1_000, min(self.loop.events + 1_000, most_events))
        for name in self.quota_names():
            if name not in open_now:
                self.operators.create_quota(name, chance)
            elif open_now[name].state is QuotaState.SUSPENDED and chance.random() < 0.8:
                self.operators.resume(name)
            parts = {part.agent_uid for part in tables.assignments.values() if part.assigned}
            for agent in list(tables.agents.values()):
                if not agent.retired and (agent.uid not in parts or name not in open_now):
                    self.operators.assign(name, agent.name, chance)
        self.run_for(1_000, min(self.loop.events + 1_000, most_events))
        self.install()


def _nothing() -> None:
    """Time has passed."""
