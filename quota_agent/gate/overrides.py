"""Decisions on overrides: asks, and the controller's word on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from quota_agent.errors import Refusal, field_invalid
from quota_agent.gate import refusals
from quota_agent.gate.draft import Draft
from quota_agent.gate.model import OverrideView
from quota_agent.gate.operations import AskOverride
from quota_agent.gate.records import Ask, Override, State
from quotafleet.link.messages import (
    MAX_OVERRIDES,
    OverrideAsk,
    OverrideStanding,
    OverrideState,
    OverrideUpdate,
)

#: A message carries at most this many asks, the oldest; the rest follow as these are answered.
MAX_REPORTED_ASKS = 64
#: So many asks of one quota may wait for an answer; beyond them nobody would read the list either.
MAX_WAITING_ASKS = 1_000

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
    mine = (each for each in draft.state.asks.values() if each.quota_uid == quota.uid)
    waiting = sum(each.state is OverrideState.PENDING for each in mine)
    if waiting >= MAX_WAITING_ASKS:
        return field_invalid({"quota": f"{waiting} asks wait for the controller's answer already"})
    number = 1 + len(draft.state.asks) + len(draft.asks)
    made = Ask(quota.uid, operation.request_id, operation.amount, operation.reason, number)
    draft.asks[(quota.uid, operation.request_id)] = made
    return view_ask(made, None, operation.quota)


def hear(draft: Draft, updates: tuple[OverrideUpdate, ...], complete: bool) -> None:
    """Take the controller's word on overrides; `complete` if those not named do not exist for it.

    A complete word answers a hello, so it knows what that hello stated. Only that needs not be reported any more.
    """
    stated = {override.override_id for override in _hello_page(draft.all_overrides())} if complete else set()
    for update in updates:
        _hear_ask(draft, update)
        _hear_override(draft, update)
    if complete:
        named = {update.override_id for update in updates}
        for override in draft.all_overrides():
            if override.override_id not in named:
                # Nobody counts on what the controller does not know: it must not be spent.
                unheard = override.named and override.override_id not in stated
                _put(draft, replace(_closed(override), named=unheard))


def close_all(draft: Draft) -> None:
    """Close every override that is not spent."""
    for override in draft.all_overrides():
        _put(draft, _closed(override))


def renew(draft: Draft) -> None:
    """Begin a new generation: its ledger may have forgotten every override there is.

    So none may be spent any more, and all are reported again: what was spent of one that was approved after the backup
    counts only once the ledger has heard of it.
    """
    for override in draft.all_overrides():
        _put(draft, replace(_closed(override), named=True))


def _closed(override: Override) -> Override:
    return replace(override, state=OverrideState.DEAD) if override.state is _OPEN else override


def _put(draft: Draft, override: Override) -> None:
    """Write it if it is another now."""
    if override != draft.override(override.override_id):
        draft.overrides[override.override_id] = override


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
    _put(draft, replace(known, named=True, state=state))


def standings(overrides: Mapping[str, Override]) -> tuple[OverrideStanding, ...]:
    """What reports draw from: every override whose state is reported."""
    return tuple(override.standing() for override in overrides.values() if override.named)


def hello_standings(overrides: Iterable[Override]) -> tuple[OverrideStanding, ...]:
    """What a hello states of them; reports state the rest."""
    return tuple(override.standing() for override in _hello_page(overrides))


def _hello_page(overrides: Iterable[Override]) -> list[Override]:
    """By id alone: the answer to a hello has to find the same ones, whatever was spent meanwhile."""
    named = (override for override in overrides if override.named)
    return sorted(named, key=lambda override: override.override_id)[:MAX_OVERRIDES]


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
