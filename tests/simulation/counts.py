"""Counts that are read after everybody was asked, at any controller: what was spent before is in them (S7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random

from quota_server.errors import StoreUnavailable
from quota_server.fleet.fanout import Outcome
from quota_server.ledger.model import AgentKey, AllocationKey, Quota
from quotafleet.link.messages import Revision, Totals
from tests.simulation.disk import Trouble
from tests.simulation.machines import ControllerMachine
from tests.simulation.operators import WAIT_MS
from tests.simulation.truth import StoreTruth, Truth, Violation, require

#: What stores held when the question was asked, by enrolment.
Held = Mapping[AgentKey, tuple[StoreTruth, Totals]]


class Counts:
    """People who want to know how many there are by now."""

    def __init__(self, controllers: Sequence[ControllerMachine], truth: Truth, trouble: Trouble) -> None:
        self._controllers = controllers
        self._trouble = trouble
        self._database = controllers[0].database
        self._truth = truth
        self.violation: Violation | None = None
        self.outcomes: dict[str, int] = {}

    def refresh(self, quota: Quota, chance: Random) -> None:
        """Ask all its agents, as `GetCount(refresh)` does."""
        able = [controller for controller in self._controllers if controller.up]
        if able:
            controller = chance.choice(able)
            controller.process.begin(self._watch(controller, quota), "operator: count")

    async def _watch(self, controller: ControllerMachine, quota: Quota) -> None:
        try:
            await self._refresh(controller, quota)
        except StoreUnavailable:
            self._count("STORE_UNAVAILABLE")
        except Violation as violation:
            self.violation = self.violation or violation

    async def _refresh(self, controller: ControllerMachine, quota: Quota) -> None:
        participants = [
            # As in `services.counts`: no report acknowledges this, only an answer to the question does.
            replace(each, needed=Revision(0, 1), acknowledged=Revision())
            for each in await controller.participants(quota.uid)
        ]
        held, backups = self._held(quota.uid), self._database.put_backs
        for each in await controller.fleet.refresh(quota.uid, participants, WAIT_MS):
            self._count(each.outcome.value)
            known = each.agent in held and self._database.put_backs == backups
            if each.outcome is Outcome.APPLIED and known:
                self._check(each.agent, quota, *held[each.agent])

    def _count(self, outcome: str) -> None:
        key = f"count: {outcome}"
        self.outcomes[key] = self.outcomes.get(key, 0) + 1

    def _held(self, uid: str) -> Held:
        held: dict[AgentKey, tuple[StoreTruth, Totals]] = {}
        if self._trouble.unclear_rate:
            return held  # an agent may not know what is on its disk before it has read it again
        for key, lineage in self._truth.lineages.items():
            store = lineage.accepted
            quota = store.disk.state.quotas.get(uid) if store is not None else None
            if store is not None and quota is not None and not lineage.unsure:
                held[key] = (store, quota.totals)
        return held

    def _check(self, agent: AgentKey, quota: Quota, store: StoreTruth, held: Totals) -> None:
        lineage = self._truth.lineages[agent]
        allocation = self._database.tables.allocations[AllocationKey(quota.uid, *agent)]
        if lineage.accepted is not store or lineage.unsure or allocation.settled:
            return  # another store answered, or nobody is asked any more
        what = (
            f"{agent} was counted in {quota.name} with {allocation.totals}, and had {held} when it was asked"
        )
        require(allocation.totals.covers(held), "S7", what)
