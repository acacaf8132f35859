"""Decisions on overrides: asks, and the controller's word on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from quota_agent.errors import Refusal
from quota_agent.gate import refusals
from quota_agent.gate.draft import Draft
from quota_agent.gate.model import OverrideView
from quota_agent.gate.operations import AskOverride
from quota_agent.gate.records import Ask, Override, State
from quotafleet.link.messages import OverrideAsk, OverrideStanding, OverrideState, OverrideUpdate

#: A message carries at most this many asks, the oldest; the rest follow as these are answered.
MAX_REPORTED_ASKS = 64

_OPEN = OverrideState.APPROVED


def ask(draft: Draft, operation: AskOverride) -> OverrideView | Refusal:
    """Record an ask; the same again answers where it stands."""
    quota = draft.state.newest(operation.quota)
    if quota is not None:
        known = draft.ask((quota.uid, operation.request_id))
        if known is not None:
            if (known.amount, known.reason) != (operation.amount, operation.reason):
                return refusals.reused()
            return view_ask(known, draft.override(known.override_id), operation.quota)
    refusal = refusals.refuses_all(draft.agent) or refusals.refuses_quota(quota, operation.quota)
    if refusal is not None:
        return refusal
    assert quota is not None
    number = 1 + len(draft.state.asks) + len(draft.asks)
    made = Ask(quota.uid, operation.request_id, operation.amount, operation.reason, number)
    draft.asks[(quota.uid, operation.request_id)] = made
    return view_ask(made, None, operation.quota)


def hear(draft: Draft, updates: tuple[OverrideUpdate, ...], complete: bool) -> None:
    """Take the controller's word on overrides; `complete` if those not named do not exist for it."""
    for update in updates:
        _hear_ask(draft, update)
        _hear_override(draft, update)
    if complete:
        named = {update.override_id for update in updates}
        for override in draft.all_overrides():
            if override.override_id not in named and (override.named or override.state is _OPEN):
                # Nobody counts on what the controller does not know: it must not be spent.
                state = OverrideState.DEAD if override.state is _OPEN else override.state
                draft.overrides[override.override_id] = replace(override, state=state, named=False)


def close_all(draft: Draft) -> None:
    """Close every override that is not spent."""
    for override in draft.all_overrides():
        if override.state is _OPEN:
            draft.overrides[override.override_id] = replace(override, state=OverrideState.DEAD)


def _hear_ask(draft: Draft, update: OverrideUpdate) -> None:
    known = draft.ask((update.quota_uid, update.ask_id))
    if known is None:
        return
    heard = replace(known, state=update.state, heard=True, override_id=update.override_id)
    if heard != known:
        draft.asks[(update.quota_uid, update.ask_id)] = heard


def _hear_override(draft: Draft, update: OverrideUpdate) -> None:
    """Open an override at its first approval; close it when told to. What has ended stays as it is."""
    known = draft.override(update.override_id)
    approved = update.state is _OPEN and not update.revoked
    if known is None:
        if not approved and not update.revoked:
            return  # pending or denied: there is nothing to spend, and nothing to report
        state = _OPEN if approved else OverrideState.DEAD
        draft.overrides[update.override_id] = Override(
            update.override_id, update.ask_id, update.quota_uid, update.amount, state
        )
        return
    taken_back = update.revoked or update.state not in (_OPEN, OverrideState.PENDING)
    state = OverrideState.DEAD if known.state is _OPEN and taken_back else known.state
    heard = replace(known, named=True, state=state)
    if heard != known:
        draft.overrides[update.override_id] = heard


def standings(overrides: Mapping[str, Override]) -> tuple[OverrideStanding, ...]:
    """What the controller is told: every override that its last word named."""
    return tuple(override.standing() for override in overrides.values() if override.named)


def open_asks(state: State) -> tuple[OverrideAsk, ...]:
    """The oldest asks that the controller has not named yet."""
    waiting = sorted((ask for ask in state.asks.values() if not ask.heard), key=lambda ask: ask.number)
    return tuple(
        OverrideAsk(ask.ask_id, ask.quota_uid, ask.amount, ask.reason) for ask in waiting[:MAX_REPORTED_ASKS]
    )


def view_ask(known: Ask, override: Override | None, name: str) -> OverrideView:
    """An ask as its caller sees it; once there is an override, its state is the answer."""
    state = override.state if override is not None else known.state
    return OverrideView(known.override_id, name, known.amount, state, known.ask_id)


def views(state: State) -> dict[str, list[OverrideView]]:
    """The overrides that can be spent and the asks that wait, by quota uid."""
    found: dict[str, list[OverrideView]] = {}
    for override in state.overrides.values():
        if override.state is _OPEN and override.quota_uid in state.quotas:
            name = state.quotas[override.quota_uid].terms.name
            found.setdefault(override.quota_uid, []).append(
                OverrideView(override.override_id, name, override.amount, _OPEN, override.ask_id)
            )
    for known in state.asks.values():
        if known.state is OverrideState.PENDING:
            name = state.quotas[known.quota_uid].terms.name
            found.setdefault(known.quota_uid, []).append(view_ask(known, None, name))
    return found
