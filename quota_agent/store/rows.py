"""The rows of the tables in schema.sql, from and to the gate's values."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from quota_agent.gate.model import AcquireMode, Entry, EntryState
from quota_agent.gate.quota import Quota
from quota_agent.gate.records import Agent, Ask, Audit, Override
from quotafleet.link.messages import FenceKind, OverrideState, Revision, Terms, Totals

Row = tuple[Any, ...]

#: As numbered in gate_service.proto.
STATE_CODES = {
    EntryState.HELD: 1,
    EntryState.COUNTED: 2,
    EntryState.RELEASED: 3,
    EntryState.CANCELLED: 4,
    EntryState.EXPIRED: 5,
}
_STATES = {code: state for state, code in STATE_CODES.items()}
_MODE_CODES = {AcquireMode.ALL_OR_NOTHING: 1, AcquireMode.UP_TO: 2}
_MODES = {code: mode for mode, code in _MODE_CODES.items()}


def entry_rows(entries: Iterable[Entry], numbers: Mapping[str, int]) -> Iterator[Row]:
    """Rows of the table entry; `numbers` are those of the quotas, by uid."""
    for uid, request_id, requested, granted, mode, state, create, expire, override, labels, number in entries:
        yield (
            numbers[uid],
            number,
            request_id,
            requested,
            granted,
            _MODE_CODES[mode],
            STATE_CODES[state],
            create,
            expire,
            override,
            json.dumps(labels) if labels else None,
        )


def entry_of(row: Row, uids: Mapping[int, str]) -> Entry:
    """The entry in a row; `uids` are those of the quotas, by number."""
    quota, number, request_id, requested, granted, mode, state, create, expire, override, labels = row
    return Entry(
        uids[quota],
        request_id,
        requested,
        granted,
        _MODES[mode],
        _STATES[state],
        create,
        expire,
        override,
        tuple((key, value) for key, value in json.loads(labels)) if labels else (),
        number,
    )


def quota_row(quota: Quota) -> Row:
    """The row of a quota."""
    terms = quota.terms
    return (
        quota.number,
        quota.uid,
        terms.name,
        terms.decimals,
        terms.start_ms,
        terms.end_ms,
        terms.suspended,
        terms.closed,
        terms.assigned,
        terms.active,
        terms.max_offline_ms,
        quota.revision.generation,
        quota.revision.number,
        quota.wanted,
        quota.limit,
        quota.consumed,
        quota.released,
        quota.override_consumed,
        quota.override_released,
        quota.held,
        quota.sequence,
        *_totals_row(quota.marked),
        *_totals_row(quota.marking),
        quota.last_entry,
    )


def quota_of(row: Row) -> Quota:
    """The quota in a row."""
    number, uid, *terms = row[:11]
    name, decimals, start_ms, end_ms, suspended, closed, assigned, active, max_offline_ms = terms
    generation, revision, wanted, limit, *numbers = row[11:21]
    consumed, released, override_consumed, override_released, held, sequence = numbers
    return Quota(
        uid,
        number,
        Terms(
            name,
            decimals,
            start_ms,
            end_ms,
            suspended=bool(suspended),
            closed=bool(closed),
            assigned=bool(assigned),
            active=bool(active),
            max_offline_ms=max_offline_ms,
        ),
        Revision(generation, revision),
        wanted,
        limit,
        consumed,
        released,
        override_consumed,
        override_released,
        held,
        sequence,
        Totals(*row[21:25]),
        Totals(*row[25:29]),
        row[29],
    )


def _totals_row(totals: Totals) -> tuple[int, int, int, int]:
    return totals.consumed, totals.released, totals.override_consumed, totals.override_released


def agent_row(agent: Agent) -> Row:
    """The row of the agent."""
    return (
        1,
        agent.agent,
        agent.agent_uid,
        agent.epoch,
        agent.store_id,
        agent.dial,
        agent.mark,
        agent.generation,
        agent.welcomed,
        agent.fenced.value if agent.fenced else None,
        agent.fence_confirmed,
        agent.clock_mark_ms,
        agent.last_contact_ms,
    )


def agent_of(row: Row) -> Agent:
    """The agent in its row."""
    _, agent, uid, epoch, store_id, dial, mark, generation, welcomed, fenced, confirmed, clock, contact = row
    return Agent(
        agent,
        uid,
        epoch,
        store_id,
        dial,
        mark,
        generation,
        bool(welcomed),
        FenceKind(fenced) if fenced else None,
        bool(confirmed),
        clock,
        contact,
    )


def override_row(override: Override) -> Row:
    """The row of an override."""
    return (
        override.override_id,
        override.ask_id,
        override.quota_uid,
        override.amount,
        override.state.value,
        override.spent,
        override.named,
    )


def override_of(row: Row) -> Override:
    """The override in a row."""
    override_id, ask_id, quota_uid, amount, state, spent, named = row
    return Override(override_id, ask_id, quota_uid, amount, OverrideState(state), spent, bool(named))


def ask_row(ask: Ask) -> Row:
    """The row of an ask."""
    return (
        ask.quota_uid,
        ask.ask_id,
        ask.amount,
        ask.reason,
        ask.number,
        ask.state.value,
        ask.heard,
        ask.override_id,
    )


def ask_of(row: Row) -> Ask:
    """The ask in a row."""
    quota_uid, ask_id, amount, reason, number, state, heard, override_id = row
    return Ask(quota_uid, ask_id, amount, reason, number, OverrideState(state), bool(heard), override_id)


def audit_row(audit: Audit) -> Row:
    """The row of an audited change."""
    return (None, audit.at_ms, audit.what, audit.before, audit.after, audit.reason)
