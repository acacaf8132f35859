"""The decisions of the gate: a state and a group of operations in; answers, changes and the next state out.

Nothing here does I/O, reads a clock or draws a random number. A group is decided as a whole and becomes visible as a
whole, when the store has it; if the store fails, the state before it is still there and there is nothing to undo.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from quota_agent.gate import entries, link, moments, overrides
from quota_agent.gate.draft import Changes, Draft, Known, Unmet
from quota_agent.gate.model import AcquireRequest, GateSettings
from quota_agent.gate.operations import (
    AdvanceDial,
    Apply,
    AskOverride,
    Batch,
    Bind,
    Contact,
    End,
    FenceConfirmed,
    FenceStore,
    Operation,
    ResetClock,
    Retry,
    SayHello,
    Touch,
)
from quota_agent.gate.records import State

_HANDLERS: Mapping[type, Callable[[Draft, Any], Any]] = {
    AcquireRequest: entries.acquire,
    Retry: entries.retry,
    Batch: entries.acquire_batch,
    End: entries.end,
    AskOverride: overrides.ask,
    Touch: moments.touch,
    Bind: link.bind,
    SayHello: link.hello,
    AdvanceDial: link.advance_dial,
    Apply: link.apply,
    FenceStore: link.fence,
    FenceConfirmed: link.fence_confirmed,
    ResetClock: moments.reset_clock,
}


class Group(NamedTuple):
    """What is decided together: ordinary operations in their order, or a single exclusive one."""

    operations: Sequence[Operation]
    wall_ms: int
    #: The last word of the controller that no group has written yet.
    contact: Contact | None = None
    #: uids of quotas in which requests wait already.
    waited: frozenset[str] = frozenset()


class Decision(NamedTuple):
    """What became of a group. `state` holds once `changes` are durable, not before."""

    #: One for each operation, in order: its value, or a Refusal.
    answers: Sequence[Any]
    changes: Changes
    state: State
    #: Units granted to requests that are no repeats, as asked for, by quota uid.
    asked: Mapping[str, int]
    #: Requests refused with QUOTA_REACHED.
    unmet: Sequence[Unmet]


class Lookup(NamedTuple):
    """The entries that a group has to know before it can be decided."""

    #: request_ids by quota uid.
    requests: Mapping[str, Sequence[str]]
    #: Set: also open holds that end by then.
    due_ms: int | None = None


def decide(state: State, group: Group, known: Known, settings: GateSettings) -> Decision:
    """Decide a group. `known` answers `lookup(state, group)`."""
    agent = state.agent
    believed_ms = moments.believe_controller(agent, group.contact, settings)
    if believed_ms is not None:
        agent = moments.put_right(agent, believed_ms)
    moment = moments.moment(agent, group.wall_ms, group.contact)
    draft = Draft.on(state, known, moment, settings, set(group.waited))
    draft.agent = agent
    moments.keep_time(draft)
    if believed_ms is not None:
        moments.audit_reset(draft, state.agent, "the controller's time")
    entries.expire_due(draft, known)
    answers = [_HANDLERS[type(operation)](draft, operation) for operation in group.operations]
    changes = draft.changes()
    return Decision(answers, changes, draft.outcome(changes.needed), draft.asked, draft.unmet)


def lookup(state: State, group: Group) -> Lookup:
    """The entries that `decide` will need."""
    requests: dict[str, list[str]] = {}
    for operation in group.operations:
        if type(operation) is AcquireRequest:
            _name(state, operation, requests)
        elif type(operation) is Retry:
            _name(state, operation.request, requests)
        elif type(operation) is Batch:
            for item in operation.items:
                _name(state, item, requests)
        elif type(operation) is End:
            for uid in state.names.get(operation.quota, ()):
                requests.setdefault(uid, []).append(operation.request_id)
    now_ms = max(group.wall_ms, state.agent.clock_mark_ms)
    is_due = state.hold_due_ms is not None and state.hold_due_ms <= now_ms
    return Lookup(requests, now_ms if is_due else None)


def _name(state: State, request: AcquireRequest, requests: dict[str, list[str]]) -> None:
    uids = state.names.get(request.quota)
    if uids is not None:
        named = requests.get(uids[0])
        if named is None:
            requests[uids[0]] = [request.request_id]
        else:
            named.append(request.request_id)
