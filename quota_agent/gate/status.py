"""The state of the gate as its callers see it."""

from __future__ import annotations

from quota_agent.gate import overrides, refusals
from quota_agent.gate.draft import Moment
from quota_agent.gate.model import GateSettings, GateStatus, OverrideView, QuotaView
from quota_agent.gate.quota import Quota
from quota_agent.gate.records import State


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
            _quota_view(state, quota, moment, settings, tuple(views.get(quota.uid, ()))) for quota in newest
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
