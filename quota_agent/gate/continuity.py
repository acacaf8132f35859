"""Whether what is read back from disk goes on from what is known, or is an older or another store."""

from __future__ import annotations

from quota_agent.gate.records import State
from quotafleet.link.messages import OverrideState


def missing(known: State, found: State) -> str | None:
    """What is not in `found` although it was durable in `known`; None if nothing.

    `found` may be ahead by a group that was written and not answered. Whatever was answered or reported has a number
    that only grows, or is final.
    """
    return (
        _missing_of_agent(known, found)
        or _missing_of_quotas(known, found)
        or _missing_of_overrides(known, found)
    )


def _missing_of_agent(known: State, found: State) -> str | None:
    old, new = known.agent, found.agent
    if old.agent_uid and (old.agent_uid, old.epoch) != (new.agent_uid, new.epoch):
        return "it is another agent's, or of another epoch"
    if old.fenced is not None and new.fenced is not old.fenced:
        return "it is not fenced any more"
    # A fence draws another id, and may be what was written last.
    if old.agent_uid and old.store_id != new.store_id and (old.fenced is not None or new.fenced is None):
        return "it has another id"
    if new.dial < old.dial:
        return "its dial number is older"
    if new.generation < old.generation:
        return "its generation is older"
    return None


def _missing_of_quotas(known: State, found: State) -> str | None:
    for uid, old in known.quotas.items():
        new = found.quotas.get(uid)
        if new is None or new.sequence < old.sequence or not new.totals.covers(old.totals):
            return f"the quota {old.terms.name!r} is older"
    return None


def _missing_of_overrides(known: State, found: State) -> str | None:
    for override_id, old in known.overrides.items():
        new = found.overrides.get(override_id)
        is_final = old.state is not OverrideState.APPROVED
        if new is None or (is_final and (new.state, new.spent) != (old.state, old.spent)):
            return "an override that had ended is open or gone"
    for key in known.asks:
        if key not in found.asks:
            return "an ask for an override is gone"
    return None
