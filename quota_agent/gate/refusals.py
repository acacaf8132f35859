"""Why a new request is refused, in the order in which reasons are given."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from quota_agent.errors import Refusal
from quota_agent.gate.draft import Moment
from quota_agent.gate.model import Entry, EntryState
from quota_agent.gate.quota import Quota
from quota_agent.gate.records import Agent


def refuses_all(agent: Agent) -> Refusal | None:
    """The refusal of whatever would spend, on a store that is fenced or was never welcomed."""
    if agent.fenced is not None:
        kind = agent.fenced.value
        return Refusal(
            "AGENT_FENCED", "this agent's store is fenced: it spends nothing any more", {"kind": kind}
        )
    if not agent.welcomed:
        return Refusal("NOT_ENROLLED", "this agent has never been welcomed by a controller")
    return None


def not_assigned(name: str) -> Refusal:
    """The refusal of a quota that this agent has no part in."""
    return Refusal("NOT_ASSIGNED", f"this agent has no part in the quota {name!r}", {"quota": name})


def refuses_quota(quota: Quota | None, name: str) -> Refusal | None:
    """The refusal of a quota that this agent has no part in, that is closed, or of an agent switched off."""
    if quota is None or not quota.terms.assigned:
        return not_assigned(name)
    if quota.terms.closed:
        return Refusal("QUOTA_CLOSED", f"the quota {name!r} is closed", {"quota": name})
    if not quota.terms.active:
        return Refusal("AGENT_INACTIVE", "an operator switched this agent off", {"quota": name})
    return None


def refuses_acquire(
    agent: Agent, quota: Quota | None, name: str, moment: Moment, tolerance_ms: int
) -> Refusal | None:
    """The refusal of any new acquisition, whatever its amount; None where only the amount decides."""
    refusal = refuses_all(agent) or refuses_quota(quota, name)
    if refusal is not None:
        return refusal
    assert quota is not None
    terms = quota.terms
    if terms.suspended:
        return Refusal("QUOTA_SUSPENDED", f"an operator suspended the quota {name!r}", {"quota": name})
    if moment.wall_ms < agent.clock_mark_ms - tolerance_ms:
        seen = iso(agent.clock_mark_ms)
        message = f"the clock says {iso(moment.wall_ms)}, but this store has seen {seen}"
        return Refusal("CLOCK_WENT_BACK", message, {"clock": iso(moment.wall_ms), "seen": seen})
    if terms.start_ms is not None and moment.now_ms < terms.start_ms:
        start = iso(terms.start_ms)
        return Refusal(
            "QUOTA_NOT_STARTED", f"{name!r} begins at {start}", {"quota": name, "start_time": start}
        )
    if terms.end_ms is not None and moment.now_ms >= terms.end_ms:
        end = iso(terms.end_ms)
        return Refusal("QUOTA_EXPIRED", f"{name!r} ended at {end}", {"quota": name, "end_time": end})
    if terms.max_offline_ms is not None:
        contact = moment.last_contact_ms
        if contact is None or moment.now_ms - contact > terms.max_offline_ms:
            message = f"the last contact with the controller is longer ago than {name!r} allows"
            return Refusal("OFFLINE_TOO_LONG", message, {"quota": name})
    return None


def quota_reached(quota: Quota, name: str, requested: int) -> Refusal:
    """The refusal for want of units."""
    now = quota.balance()
    return Refusal(
        "QUOTA_REACHED",
        f"{requested} of {name!r} asked for, {now.remaining} of this agent's {now.limit} left",
        {
            "quota": name,
            "limit": str(now.limit),
            "count": str(now.count),
            "held": str(now.held),
            "requested": str(requested),
        },
    )


def ended(entry: Entry) -> Refusal:
    """The refusal of what can no longer be done with an entry that has ended."""
    if entry.state is EntryState.EXPIRED:
        return Refusal("HOLD_EXPIRED", "the time of this hold was over before it was committed")
    return Refusal("ENTRY_ENDED", f"this entry was {entry.state.value.lower()}; its request_id is used up")


def reused() -> Refusal:
    """The refusal of a request_id that came with other content before."""
    return Refusal("REQUEST_ID_REUSED", "this request_id was used for a request with other content")


def iso(at_ms: int) -> str:
    """A wall time as RFC 3339."""
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
