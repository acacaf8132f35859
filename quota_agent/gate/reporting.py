"""What the uplink reports: durable standings, the demand beside them, and which of them are news."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace

from quota_agent.clock import Clock
from quota_agent.gate.demand import NO_DEMAND, DemandView, QuotaDemand
from quota_agent.gate.model import GateSettings
from quota_agent.gate.quota import Quota
from quota_agent.gate.records import State
from quota_agent.gate.state import Decision
from quotafleet.link.messages import Standing


class Reporting:
    """Keeps a stamp for each quota that changed, durably or in its demand; stamps only grow, within one process."""

    def __init__(self, clock: Clock, settings: GateSettings) -> None:
        #: Set when the uplink should report at once; the uplink clears it.
        self.urgent = asyncio.Event()
        self._clock = clock
        self._beat_ms = settings.heartbeat_ms
        self._demand: dict[str, QuotaDemand] = {}
        #: What the last report said of demand, ages left out.
        self._told: dict[str, tuple[bool, int, int]] = {}
        self._stamps: dict[str, int] = {}
        self._stamp = 0

    def follow_heartbeat(self, heartbeat_ms: int) -> None:
        """Count demand in heartbeats of this length from now on."""
        if heartbeat_ms != self._beat_ms:
            self._beat_ms = heartbeat_ms
            for demand in self._demand.values():
                demand.follow(heartbeat_ms)

    def touch(self, uids: Iterable[str]) -> None:
        """Have these quotas reported, whether or not they changed."""
        for uid in uids:
            self._stamp += 1
            self._stamps[uid] = self._stamp

    def settled(self, decision: Decision) -> None:
        """Take note of a group that is durable."""
        changes = decision.changes
        self.touch(quota.uid for quota in changes.quotas)
        if changes.asks:
            self.urgent.set()
        now_ms = self._clock.monotonic_ms()
        for uid, units in decision.asked.items():
            demand = self._demand_of(uid)
            if demand.open:
                demand.grant(
                    (
                        (entry.request_id, 0 if entry.override_id else entry.requested)
                        for entry in changes.created
                        if entry.quota_uid == uid
                    ),
                    now_ms,
                )
            else:
                demand.ask(units, now_ms)
        for unmet in decision.unmet:
            self.refused(unmet.quota_uid, unmet.request_id, unmet.amount, unmet.wait_ms)

    def refused(self, uid: str, request_id: str, amount: int, wait_ms: int = 0) -> None:
        """Take note of a request that is open: it waits for up to `wait_ms`, or was refused."""
        if self._demand_of(uid).refuse(request_id, amount, self._clock.monotonic_ms(), wait_ms):
            self.urgent.set()

    def changes(self, state: State, after: int) -> tuple[tuple[Standing, ...], int]:
        """Standings of the quotas that changed after a stamp or have open requests, and the newest stamp."""
        now_ms = self._clock.monotonic_ms()
        views = {uid: self._view(state.quotas[uid], now_ms) for uid in list(self._demand)}
        standings = tuple(
            _standing(state.quotas[uid], views.get(uid, NO_DEMAND))
            for uid, stamp in self._stamps.items()
            if stamp > after or (uid in views and views[uid].open_requests)
        )
        return standings, self._stamp

    def standing(self, quota: Quota) -> Standing:
        """The standing of one quota."""
        return self.with_demand(quota, quota.standing())

    def with_demand(self, quota: Quota, standing: Standing) -> Standing:
        """A standing of `quota`, with the demand of this moment."""
        demand = self._demand.get(quota.uid)
        if demand is None:
            return standing
        view = demand.view(quota.balance().remaining, self._clock.monotonic_ms())
        return replace(standing, **view._asdict())

    def _view(self, quota: Quota, now_ms: int) -> DemandView:
        """The demand of a quota; when it is another one than was told last, that is news, its end included."""
        view = self._demand[quota.uid].view(quota.balance().remaining, now_ms)
        tell = (bool(view.open_requests), view.recent_demand, view.wanted_more)
        if tell != self._told.get(quota.uid):
            self._told[quota.uid] = tell
            self.touch([quota.uid])
        if view == NO_DEMAND:
            del self._demand[quota.uid], self._told[quota.uid]
        return view

    def _demand_of(self, uid: str) -> QuotaDemand:
        demand = self._demand.get(uid)
        if demand is None:
            demand = self._demand[uid] = QuotaDemand(self._beat_ms)
        return demand


def _standing(quota: Quota, view: DemandView) -> Standing:
    return replace(quota.standing(), **view._asdict())
