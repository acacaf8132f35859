"""What time it is for a group, and what the store remembers of time."""

from __future__ import annotations

from dataclasses import replace

from quota_agent.gate.draft import Draft, Moment
from quota_agent.gate.model import GateSettings
from quota_agent.gate.operations import Contact, ResetClock, Touch
from quota_agent.gate.records import Agent, Audit

#: The high-water mark moves in steps: finer ones would write the agent's row with every group.
MARK_STEP_MS = 1_000


def moment(agent: Agent, wall_ms: int, contact: Contact | None) -> Moment:
    """The time by which a group is decided."""
    now_ms = max(wall_ms, agent.clock_mark_ms)
    last = agent.last_contact_ms
    if contact is not None:
        last = max(contact.wall_ms, agent.clock_mark_ms)
    return Moment(wall_ms, now_ms, last)


def went_back(agent: Agent, wall_ms: int, settings: GateSettings) -> bool:
    """Whether the clock is further behind the latest time seen than a clock may be put right."""
    return wall_ms < agent.clock_mark_ms - settings.clock_tolerance_ms


def believe_controller(agent: Agent, contact: Contact | None, settings: GateSettings) -> int | None:
    """The controller's time, if it and the agent's clock agree that the latest time seen was wrong."""
    if contact is None or not went_back(agent, contact.wall_ms, settings):
        return None
    if abs(contact.wall_ms - contact.controller_ms) > settings.clock_tolerance_ms:
        return None
    return contact.controller_ms


def put_right(agent: Agent, mark_ms: int) -> Agent:
    """The agent with its high-water mark moved back; a contact that seemed later was at that time at the latest."""
    contact = agent.last_contact_ms
    return replace(
        agent,
        clock_mark_ms=mark_ms,
        last_contact_ms=None if contact is None else min(contact, mark_ms),
    )


def keep_time(draft: Draft) -> None:
    """Let the group take the time along, should it write anything."""
    agent, when = draft.agent, draft.moment
    if when.now_ms >= agent.clock_mark_ms + MARK_STEP_MS:
        agent = replace(agent, clock_mark_ms=when.now_ms)
    if when.last_contact_ms != agent.last_contact_ms:
        agent = replace(agent, last_contact_ms=when.last_contact_ms)
    draft.agent = agent


def audit_reset(draft: Draft, before: Agent, reason: str) -> None:
    """Leave a trace of a high-water mark that was moved back."""
    after = draft.agent.clock_mark_ms
    draft.audits.append(Audit(draft.moment.wall_ms, "clock_reset", before.clock_mark_ms, after, reason))


def touch(draft: Draft, _: Touch) -> None:
    """Write the time even if nothing else happened."""
    draft.agent_changed = draft.agent_changed or draft.agent != draft.state.agent


def reset_clock(draft: Draft, operation: ResetClock) -> None:
    """Move the high-water mark back to the present, on an operator's word."""
    before = draft.agent
    if draft.moment.wall_ms < before.clock_mark_ms:
        draft.agent = put_right(before, draft.moment.wall_ms)
        draft.agent_changed = True
        audit_reset(draft, before, operation.reason)
