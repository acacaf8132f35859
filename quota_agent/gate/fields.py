"""Whether the fields of a request are within their bounds. Needs no state, so it is asked before anything is queued."""

from __future__ import annotations

from collections.abc import Sequence

from quota_agent.errors import Refusal, field_invalid
from quota_agent.gate.model import AcquireMode, AcquireRequest, GateSettings
from quotafleet.link.messages import MAX_UNITS


def check_acquire(request: AcquireRequest, settings: GateSettings) -> Refusal | None:
    """FIELD_INVALID with every bad field of the request, or None."""
    wrong: dict[str, str] = {}
    _check_id(request.request_id, settings, wrong)
    _check_amount(request.amount, wrong)
    if request.hold_ms is not None and not 0 < request.hold_ms <= settings.max_hold_ms:
        wrong["hold"] = f"from 1 to {settings.max_hold_ms} ms"
    if not 0 <= request.max_wait_ms <= settings.max_wait_ms:
        wrong["max_wait"] = f"from 0 to {settings.max_wait_ms} ms"
    if request.override_id is not None:
        if request.mode is not AcquireMode.ALL_OR_NOTHING:
            wrong["mode"] = "an override pays the whole amount or nothing"
        if request.hold_ms is not None:
            wrong["hold"] = "what an override pays cannot be held"
    if request.labels:
        _check_labels(request.labels, settings, wrong)
    return field_invalid(wrong) if wrong else None


def check_batch(items: Sequence[AcquireRequest], settings: GateSettings) -> Refusal | None:
    """FIELD_INVALID if the call itself is wrong, or None; items are checked one by one."""
    if not 1 <= len(items) <= settings.max_batch_items:
        return field_invalid({"items": f"from 1 to {settings.max_batch_items}"})
    return None


def check_item(item: AcquireRequest, atomic: bool, settings: GateSettings) -> Refusal | None:
    """FIELD_INVALID with every bad field of one item of a batch, or None."""
    refusal = check_acquire(item, settings)
    wrong = dict(refusal.fields) if refusal else {}
    if item.max_wait_ms:
        wrong["max_wait"] = "a batch does not wait"
    if atomic and item.mode is AcquireMode.UP_TO:
        wrong["mode"] = "an atomic batch grants whole amounts only"
    return field_invalid(wrong) if wrong else None


def check_ask(amount: int, reason: str, request_id: str, settings: GateSettings) -> Refusal | None:
    """FIELD_INVALID with every bad field of a request for an override, or None."""
    wrong: dict[str, str] = {}
    _check_id(request_id, settings, wrong)
    _check_amount(amount, wrong)
    if len(reason) > settings.max_override_reason:
        wrong["reason"] = f"at most {settings.max_override_reason} characters"
    return field_invalid(wrong) if wrong else None


def check_amount(amount: int) -> Refusal | None:
    """FIELD_INVALID if an amount is out of its bounds, or None."""
    wrong: dict[str, str] = {}
    _check_amount(amount, wrong)
    return field_invalid(wrong) if wrong else None


def _check_id(request_id: str, settings: GateSettings, wrong: dict[str, str]) -> None:
    if not (0 < len(request_id) <= settings.max_request_id and request_id.isprintable()):
        wrong["request_id"] = f"from 1 to {settings.max_request_id} printable characters"


def _check_amount(amount: int, wrong: dict[str, str]) -> None:
    if not 1 <= amount <= MAX_UNITS:
        wrong["amount"] = f"from 1 to {MAX_UNITS}"


def _check_labels(labels: tuple[tuple[str, str], ...], settings: GateSettings, wrong: dict[str, str]) -> None:
    if len(labels) > settings.max_labels:
        wrong["labels"] = f"at most {settings.max_labels}"
    elif len({key for key, _ in labels}) < len(labels):
        wrong["labels"] = "a key is given twice"
    elif not all(0 < len(key) <= settings.max_label_key for key, _ in labels):
        wrong["labels"] = f"keys of 1 to {settings.max_label_key} characters"
    elif not all(len(value) <= settings.max_label_value for _, value in labels):
        wrong["labels"] = f"values of at most {settings.max_label_value} characters"
