"""The state of the gate as its callers see it."""

from __future__ import annotations

from collections.abc import Sequence

from quota_agent.gate import overrides, refusals
from quota_agent.gate.draft import Moment
from quota_agent.gate.model import GateSettings, GateStatus, OverrideView, QuotaView
from quota_agent.gate.quota import Quota
from quota_agent.gate.records import State
from quotafleet.link.messages import OverrideState

#: Overrides and asks that are listed of one quota.
MAX_LISTED = 100


def status(state: State, moment: Moment, settings: GateSettings, *, store_ok: bool) -> GateStatus:
    """Everything in `GetStatus` that the gate knows."""
    agent = state.agent
    views = overrides.views(state)
    newest = (state.quotas[uids[0]] for _, uids in sorted(state.names.items()))
    return GateStatus(
        agent.agent,
        agent.agent_uid,
        agent.epoch,
        moment.last_contact_ms,
        store_ok,
        agent.fenced is not None,
        tuple(
            _quota_view(state, quota, moment, settings, _listed(state, quota.uid, views.get(quota.uid, ())))
            for quota in newest
        ),
    )


def _quota_view(
    state: State,
    quota: Quota,
    moment: Moment,
    settings: GateSettings,
    views: tuple[OverrideView, ...],
) -> QuotaView:
    terms = quota.terms
    balance = quota.balance()
    refusal = refusals.refuses_acquire(
        state.agent, quota, terms.name, moment, settings.clock_tolerance_ms
    ) or (refusals.quota_reached(quota, terms.name, 1) if balance.remaining == 0 else None)
    reason = refusal.reason if refusal is not None else ""
    return QuotaView(terms.name, quota.uid, balance, quota.totals.overridden, terms.decimals, reason, views)


def _listed(state: State, uid: str, views: Sequence[OverrideView]) -> tuple[OverrideView, ...]:
    """As many as one wants to read: those that can be spent first, then the newest asks."""
    if len(views) <= MAX_LISTED:
        return tuple(views)

    def order(view: OverrideView) -> tuple[bool, int]:
        ask = state.asks.get((uid, view.request_id))
        return view.state is OverrideState.PENDING, -ask.number if ask is not None else 0

    return tuple(sorted(views, key=order)[:MAX_LISTED])
