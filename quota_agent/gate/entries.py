"""Decisions on entries: acquire, commit, cancel, release, and the end of a hold's time."""

from __future__ import annotations

from dataclasses import replace

from quota_agent.errors import Refusal, field_invalid
from quota_agent.gate import refusals
from quota_agent.gate.draft import Draft, Known, Unmet
from quota_agent.gate.model import MAX_TOTAL, AcquireMode, AcquireRequest, Entry, EntryState, Granted, Verb
from quota_agent.gate.operations import Batch, End, Retry
from quota_agent.gate.quota import Quota
from quotafleet.link.messages import OverrideState

_HELD, _COUNTED = EntryState.HELD, EntryState.COUNTED

#: What each verb makes of an entry, and from which state.
_STEPS = {
    Verb.COMMIT: (_HELD, _COUNTED),
    Verb.CANCEL: (_HELD, EntryState.CANCELLED),
    Verb.RELEASE: (_COUNTED, EntryState.RELEASED),
}


def acquire(draft: Draft, request: AcquireRequest) -> Granted | Refusal:
    """Grant or refuse. Who is willing to wait does not overtake those who wait already."""
    quota = draft.state.newest(request.quota)
    if quota is not None:
        uid = quota.uid
        entry = current_entry(draft, uid, request.request_id)
        quota = draft.quota(uid)
        if entry is not None:
            assert quota is not None
            return _repeat(quota, request, entry)
    refusal = refusals.refuses_acquire(
        draft.agent, quota, request.quota, draft.moment, draft.settings.clock_tolerance_ms
    )
    if refusal is not None:
        return refusal
    assert quota is not None
    if request.override_id is not None:
        return _spend_override(draft, request, quota)
    room = quota.limit - quota.used
    amount = request.amount
    if amount > room and request.mode is AcquireMode.UP_TO:
        amount = room
    waits_behind = request.max_wait_ms > 0 and quota.uid in draft.blocked
    if amount > room or amount <= 0 or waits_behind:
        return _reached(draft, request, quota)
    if quota.consumed > MAX_TOTAL - amount:
        return field_invalid({"amount": "the quota's running total would not fit 63 bits"})
    return _grant(draft, request, quota.uid, amount)


def retry(draft: Draft, operation: Retry) -> Granted | Refusal:
    """Try a request again that has waited: as one that waits no more, or it would wait behind itself."""
    return acquire(draft, operation.request._replace(max_wait_ms=0))


def acquire_batch(draft: Draft, batch: Batch) -> list[Granted | Refusal] | Refusal:
    """An answer for each item; or, if atomic and any is refused, its refusal, and nothing is kept."""
    if not batch.atomic:
        return [acquire(draft, item) for item in batch.items]
    fork = draft.fork()
    granted: list[Granted | Refusal] = []
    for index, item in enumerate(batch.items):
        answer = acquire(fork, item)
        if isinstance(answer, Refusal):
            draft.unmet += fork.unmet
            _keep_end(draft, item)
            return answer.of_item(index)
        granted.append(answer)
    draft.absorb(fork)
    return granted


def _keep_end(draft: Draft, item: AcquireRequest) -> None:
    """Keep the end of a hold that a fork found, and that its refusal spoke of: what was answered is final."""
    quota = draft.state.newest(item.quota)
    if quota is not None:
        current_entry(draft, quota.uid, item.request_id)


def end(draft: Draft, operation: End) -> Granted | Refusal:
    """Commit, cancel or release an entry; the same again answers the same."""
    refusal = refusals.refuses_all(draft.agent)
    if refusal is not None:
        return refusal
    uids = draft.state.names.get(operation.quota)
    if uids is None:
        return refusals.not_assigned(operation.quota)
    # A quota that was closed and created again under its name still owns its old entries.
    found = (current_entry(draft, uid, operation.request_id) for uid in uids)
    entry = next((entry for entry in found if entry is not None), None)
    if entry is None:
        return Refusal("ENTRY_UNKNOWN", "no entry with this request_id", {"quota": operation.quota})
    source, target = _STEPS[operation.verb]
    if entry.state is source:
        return _step(draft, entry, target)
    was_hold = entry.expire_ms is not None
    if entry.state is target and (was_hold or operation.verb is Verb.RELEASE):
        quota = draft.quota(entry.quota_uid)
        assert quota is not None
        return Granted(entry, quota.balance())
    if entry.state is _HELD:
        return field_invalid({"request_id": "the entry is held: give it back with Cancel"})
    if entry.state is _COUNTED:
        return field_invalid({"request_id": "the entry counts already: only Release gives it back"})
    return refusals.ended(entry)


def expire_due(draft: Draft, known: Known) -> None:
    """End the holds whose time is over, before anything else in the group can use their units."""
    if known.due is None:
        return
    draft.hold_due_ms = known.next_due_ms
    for entry in known.due:
        assert entry.expire_ms is not None
        if entry.expire_ms <= draft.moment.now_ms:
            _step(draft, entry, EntryState.EXPIRED)
        else:  # they were looked up before the group's own news put the clock right
            draft.expect_due(entry.expire_ms)


def current_entry(draft: Draft, uid: str, request_id: str) -> Entry | None:
    """The entry as it stands now: a hold whose time is over has ended, whether or not its turn has come."""
    entry = draft.entry((uid, request_id))
    if entry is None or entry.state is not _HELD:
        return entry
    assert entry.expire_ms is not None
    if entry.expire_ms > draft.moment.now_ms:
        return entry
    return _step(draft, entry, EntryState.EXPIRED).entry


def _repeat(quota: Quota, request: AcquireRequest, entry: Entry) -> Granted | Refusal:
    """The recorded answer, if the request is the one that was granted."""
    hold_ms = None if entry.expire_ms is None else entry.expire_ms - entry.create_ms
    recorded = (entry.requested, entry.mode, hold_ms, entry.override_id, entry.labels)
    labels = tuple(sorted(request.labels))
    if recorded != (request.amount, request.mode, request.hold_ms, request.override_id, labels):
        return refusals.reused()
    if entry.state is _HELD or entry.state is _COUNTED:
        return Granted(entry, quota.balance())
    return refusals.ended(entry)


def _reached(draft: Draft, request: AcquireRequest, quota: Quota) -> Refusal:
    if request.max_wait_ms > 0:
        draft.blocked.add(quota.uid)
    draft.unmet.append(Unmet(quota.uid, request.request_id, request.amount, request.max_wait_ms))
    return refusals.quota_reached(quota, request.quota, request.amount)


def _grant(draft: Draft, request: AcquireRequest, uid: str, amount: int) -> Granted:
    quota = draft.change(uid)
    now_ms = draft.moment.now_ms
    expire_ms = None
    state = _COUNTED
    if request.hold_ms is None:
        quota.consumed += amount
    else:
        quota.held += amount
        state = _HELD
        expire_ms = now_ms + request.hold_ms
        draft.expect_due(expire_ms)
    return _record(draft, quota, request, amount, state, now_ms, expire_ms)


def _spend_override(draft: Draft, request: AcquireRequest, quota: Quota) -> Granted | Refusal:
    """Spend an override: whole, once, for an amount up to its own. What it does not pay is gone with it."""
    assert request.override_id is not None
    override = draft.override(request.override_id)
    if override is None or override.quota_uid != quota.uid:
        return Refusal(
            "OVERRIDE_UNKNOWN", "no override with this id for this quota", {"quota": request.quota}
        )
    if override.state is not OverrideState.APPROVED:
        word = "spent" if override.state is OverrideState.USED else "closed"
        return Refusal("OVERRIDE_DECIDED", f"the override is {word} already", {"quota": request.quota})
    if request.amount > override.amount:
        return field_invalid({"amount": f"the override pays at most {override.amount}"})
    if quota.override_consumed > MAX_TOTAL - request.amount:
        return field_invalid({"amount": "the quota's running total would not fit 63 bits"})
    draft.overrides[override.override_id] = replace(override, state=OverrideState.USED, spent=request.amount)
    quota = draft.change(quota.uid)
    quota.override_consumed += request.amount
    return _record(draft, quota, request, request.amount, _COUNTED, draft.moment.now_ms, None)


def _record(
    draft: Draft,
    quota: Quota,
    request: AcquireRequest,
    granted: int,
    state: EntryState,
    now_ms: int,
    expire_ms: int | None,
) -> Granted:
    quota.last_entry += 1
    entry = Entry(
        quota.uid,
        request.request_id,
        request.amount,
        granted,
        request.mode,
        state,
        now_ms,
        expire_ms,
        request.override_id,
        tuple(sorted(request.labels)) if request.labels else (),
        quota.last_entry,
    )
    draft.created[(quota.uid, request.request_id)] = entry
    draft.asked[quota.uid] = draft.asked.get(quota.uid, 0) + (0 if entry.override_id else request.amount)
    return Granted(entry, quota.balance())


def _step(draft: Draft, entry: Entry, target: EntryState) -> Granted:
    """Take an entry to its next state, and its units with it."""
    quota = draft.change(entry.quota_uid)
    units = entry.granted
    if entry.state is _HELD:
        quota.held -= units
        if target is _COUNTED:
            quota.consumed += units
    else:
        if entry.override_id is not None:
            quota.override_released += units
        else:
            quota.released += units
        quota.lower_marks()
    quota.ratchet()
    entry = entry._replace(state=target)
    draft.put(entry)
    return Granted(entry, quota.balance())
