"""The gate's values as they are answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from quota_agent.errors import Refusal
from quota_agent.gate.model import (
    AcquireRequest,
    Balance,
    Entry,
    EntryState,
    Granted,
    OverrideView,
    QuotaView,
)
from quotafleet.agent.v1 import gate_service_pb2 as pb
from quotafleet.errors import to_status
from quotafleet.link.messages import OverrideState

ENTRY_STATES: Final[Mapping[EntryState, pb.EntryState.ValueType]] = {
    state: pb.EntryState.Value(f"ENTRY_STATE_{state.name}") for state in EntryState
}
OVERRIDE_STATES: Final[Mapping[OverrideState, pb.OverrideState.ValueType]] = {
    state: pb.OverrideState.Value(f"OVERRIDE_STATE_{state.name}") for state in OverrideState
}
#: Once it counts, an entry has no end.
_ENDLESS: Final = frozenset({EntryState.COUNTED, EntryState.RELEASED})


def acquired(quota: str, granted: Granted) -> pb.AcquireResponse:
    """The answer to an acquisition."""
    response = pb.AcquireResponse()
    fill_acquired(response, quota, granted)
    return response


def fill_acquired(out: pb.AcquireResponse, quota: str, granted: Granted) -> None:
    """Write a granted acquisition."""
    entry = granted.entry
    fill_entry(out.entry, quota, entry)
    out.granted = entry.granted
    fill_balance(out.balance, granted.balance)


def batch(items: Sequence[AcquireRequest], answers: Sequence[Granted | Refusal]) -> pb.AcquireBatchResponse:
    """The answers to the items of a batch."""
    response = pb.AcquireBatchResponse()
    add = response.results.add
    model = pb.AcquireResponse()
    model_of: tuple[object, ...] = ()
    for item, answer in zip(items, answers, strict=True):
        if not isinstance(answer, Granted):
            status = to_status(answer.reason, answer.message, answer.metadata, answer.fields.items())
            add().refused.CopyFrom(status)
            continue
        granted, (entry, balance) = add().granted, answer
        # Most items of a batch differ in three fields: a copy of the last one costs half as much as another.
        alike = (
            item.quota,
            entry.quota_uid,
            entry.granted,
            entry.state,
            entry.create_ms,
            entry.expire_ms,
            entry.override_id,
            entry.labels,
            balance.held,
            balance.limit,
        )
        if alike == model_of:
            granted.CopyFrom(model)
            granted.entry.request_id = entry.request_id
            out = granted.balance
            out.count, out.remaining = balance.count, balance.remaining
        else:
            fill_acquired(granted, item.quota, answer)
            model, model_of = granted, alike
    return response


def fill_entry(out: pb.Entry, quota: str, entry: Entry) -> None:
    """Write an entry; `quota` is the name by which the caller knows it."""
    out.quota = quota
    out.request_id = entry.request_id
    out.granted = entry.granted
    out.state = ENTRY_STATES[entry.state]
    out.quota_uid = entry.quota_uid
    _fill_time(out.create_time, entry.create_ms)
    if entry.expire_ms is not None and entry.state not in _ENDLESS:
        _fill_time(out.expire_time, entry.expire_ms)
    if entry.override_id is not None:
        out.override_id = entry.override_id
    if entry.labels:
        out.labels.update(entry.labels)


def fill_balance(out: pb.Balance, balance: Balance) -> None:
    """Write the numbers of a quota, all zero included."""
    out.count = balance.count
    out.held = balance.held
    out.remaining = balance.remaining
    out.limit = balance.limit
    out.SetInParent()


def fill_override(out: pb.Override, view: OverrideView) -> None:
    """Write an override."""
    out.override_id = view.override_id
    out.quota = view.quota
    out.amount = view.amount
    out.state = OVERRIDE_STATES[view.state]
    out.request_id = view.request_id


def fill_quota(out: pb.QuotaStatus, view: QuotaView) -> None:
    """Write one quota of the agent's status."""
    out.quota = view.quota
    out.quota_uid = view.quota_uid
    fill_balance(out.balance, view.balance)
    out.overridden = view.overridden
    out.decimals = view.decimals
    out.refusal = view.refusal
    for override in view.overrides:
        fill_override(out.overrides.add(), override)


def fill_contact(out: pb.GetStatusResponse, last_contact_ms: int) -> None:
    """Write when the controller was last heard."""
    _fill_time(out.last_contact_time, last_contact_ms)


def _fill_time(out: Timestamp, milliseconds: int) -> None:
    out.seconds, rest = divmod(milliseconds, 1000)
    out.nanos = rest * 1_000_000
