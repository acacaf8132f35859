"""Requests as they arrive, checked and turned into the gate's own values.

Whatever is wrong is refused with FIELD_INVALID, every bad field named by its path in the proto (`items[3].amount`). The
text of a problem never repeats a value: labels and request ids go nowhere but back to who sent them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from quota_agent.errors import field_invalid
from quota_agent.gate.model import AcquireMode, AcquireRequest, EntryState
from quotafleet.agent.v1 import gate_service_pb2 as pb
from quotafleet.link.messages import MAX_UNITS

MAX_ID_CHARS: Final = 128
MAX_LABELS: Final = 16
MAX_KEY_CHARS: Final = 64
MAX_VALUE_CHARS: Final = 256
MAX_REASON_CHARS: Final = 1_024
MAX_BATCH: Final = 1_000
MAX_HOLD_MS: Final = 24 * 3_600_000
MAX_WAIT_MS: Final = 10_000
DEFAULT_PAGE: Final = 100
MAX_PAGE: Final = 1_000

_quota_name: Final = re.compile(r"[a-z0-9][a-z0-9._/-]{0,127}").fullmatch
_control: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]").search
_number_token: Final = re.compile(r"[1-9][0-9]{0,17}").fullmatch

_MODES: Final[Mapping[int, AcquireMode]] = {
    pb.ACQUIRE_MODE_ALL_OR_NOTHING: AcquireMode.ALL_OR_NOTHING,
    pb.ACQUIRE_MODE_UP_TO: AcquireMode.UP_TO,
}
_STATES: Final[Mapping[int, EntryState]] = {
    pb.EntryState.Value(f"ENTRY_STATE_{state.name}"): state for state in EntryState
}

#: Problems by the path of the field.
Problems = dict[str, str]


def acquire(message: pb.AcquireRequest) -> AcquireRequest:
    """One acquisition. Nearly all of them are plain: these are checked without looking at what they leave out."""
    quota, request_id = message.quota, message.request_id
    has = message.HasField
    amount = message.amount if has("amount") else 1
    if (
        0 < len(request_id) <= MAX_ID_CHARS
        and 0 < amount <= MAX_UNITS
        and request_id.isprintable()
        and _quota_name(quota)
        and not has("mode")
        and not has("hold")
        and not has("max_wait")
        and not message.override_id
        and not message.labels
    ):
        return AcquireRequest(quota, request_id, amount)
    problems: Problems = {}
    request = _acquire(message, "", problems)
    _refuse(problems)
    return request


def batch(message: pb.AcquireBatchRequest) -> list[AcquireRequest]:
    """The items of a batch; one bad field refuses all of them."""
    items, atomic = message.items, message.atomic
    if not 1 <= len(items) <= MAX_BATCH:
        raise field_invalid({"items": f"must be 1 to {MAX_BATCH}"})
    requests: list[AcquireRequest] = []
    problems: Problems = {}
    add = requests.append
    good_quota: str | None = None  # the last name that was found to be one
    for index, item in enumerate(items):
        quota, request_id = item.quota, item.request_id
        has = item.HasField
        amount = item.amount if has("amount") else 1
        if (
            0 < len(request_id) <= MAX_ID_CHARS
            and 0 < amount <= MAX_UNITS
            and request_id.isprintable()
            and (quota == good_quota or _quota_name(quota))
            and not has("mode")
            and not has("hold")
            and not has("max_wait")
            and not item.override_id
            and not item.labels
        ):
            add(AcquireRequest(quota, request_id, amount))
            good_quota = quota
            continue
        path = f"items[{index}]."
        request = _acquire(item, path, problems)
        if has("max_wait"):
            problems[f"{path}max_wait"] = "must be unset: a batch does not wait"
        if atomic and request.mode is AcquireMode.UP_TO:
            problems[f"{path}mode"] = "an atomic batch grants whole amounts only"
        add(request)
    _refuse(problems)
    return requests


def check(message: pb.CheckAvailabilityRequest) -> tuple[str, int]:
    """Quota and amount."""
    problems: Problems = {}
    amount = message.amount if message.HasField("amount") else 1
    _check_quota(message.quota, "", problems)
    _check_amount(amount, "", problems)
    _refuse(problems)
    return message.quota, amount


def entry_key(
    message: pb.CommitRequest | pb.CancelRequest | pb.ReleaseRequest | pb.GetEntryRequest,
) -> tuple[str, str]:
    """Quota and request_id."""
    quota, request_id = message.quota, message.request_id
    problems: Problems = {}
    _check_quota(quota, "", problems)
    _check_request_id(request_id, "", problems)
    _refuse(problems)
    return quota, request_id


def quota(message: pb.GetCountRequest) -> str:
    """The name of a quota."""
    problems: Problems = {}
    _check_quota(message.quota, "", problems)
    _refuse(problems)
    return message.quota


def entries(message: pb.ListEntriesRequest) -> tuple[str, int, int, list[EntryState]]:
    """Quota, number of the last entry of the page before, page size, states (none: all)."""
    problems: Problems = {}
    _check_quota(message.quota, "", problems)
    size = _page_size(message.page_size, problems)
    token = message.page_token
    if token and not _number_token(token):
        problems["page_token"] = "must be the next_page_token of an earlier answer"
    states = []
    for index, number in enumerate(message.states):
        if number in _STATES:
            states.append(_STATES[number])
        else:
            problems[f"states[{index}]"] = "must be one of the known states"
    _refuse(problems)
    return message.quota, int(token or 0), size, states


def status(message: pb.GetStatusRequest) -> tuple[str, int]:
    """Name of the last quota of the page before, and page size."""
    problems: Problems = {}
    size = _page_size(message.page_size, problems)
    if message.page_token and not _quota_name(message.page_token):
        problems["page_token"] = "must be the next_page_token of an earlier answer"
    _refuse(problems)
    return message.page_token, size


def override(message: pb.RequestOverrideRequest) -> tuple[str, int, str, str]:
    """Quota, amount, reason and request_id."""
    problems: Problems = {}
    _check_quota(message.quota, "", problems)
    _check_amount(message.amount, "", problems)
    if len(message.reason) > MAX_REASON_CHARS or _control(message.reason):
        problems["reason"] = (
            f"must have at most {MAX_REASON_CHARS} characters, none of them a control character"
        )
    _check_request_id(message.request_id, "", problems)
    _refuse(problems)
    return message.quota, message.amount, message.reason, message.request_id


def _acquire(message: pb.AcquireRequest, path: str, problems: Problems) -> AcquireRequest:
    """Any acquisition; what is wrong with it is added to `problems`."""
    has = message.HasField
    amount = message.amount if has("amount") else 1
    _check_quota(message.quota, path, problems)
    _check_request_id(message.request_id, path, problems)
    _check_amount(amount, path, problems)
    mode = _mode(message, path, problems)
    hold_ms = _milliseconds(message.hold, "hold", 1, MAX_HOLD_MS, path, problems) if has("hold") else None
    wait_ms = 0
    if has("max_wait"):
        wait_ms = _milliseconds(message.max_wait, "max_wait", 0, MAX_WAIT_MS, path, problems)
    override_id = message.override_id
    if override_id:
        _check_override(message, mode, path, problems)
    labels = _labels(message, path, problems) if message.labels else ()
    return AcquireRequest(
        message.quota, message.request_id, amount, mode, hold_ms, override_id or None, wait_ms, labels
    )


def _mode(message: pb.AcquireRequest, path: str, problems: Problems) -> AcquireMode:
    if not message.HasField("mode"):
        return AcquireMode.ALL_OR_NOTHING
    mode = _MODES.get(message.mode)
    if mode is None:
        problems[f"{path}mode"] = "must be ALL_OR_NOTHING or UP_TO; leave it out for the default"
    return mode or AcquireMode.ALL_OR_NOTHING


def _check_override(message: pb.AcquireRequest, mode: AcquireMode, path: str, problems: Problems) -> None:
    if len(message.override_id) > MAX_ID_CHARS or _control(message.override_id):
        problems[f"{path}override_id"] = f"must have at most {MAX_ID_CHARS} printable characters"
    if mode is AcquireMode.UP_TO:
        problems[f"{path}mode"] = "an override pays the whole amount or nothing"
    if message.HasField("hold"):
        problems[f"{path}hold"] = "what an override pays cannot be held"


def _labels(message: pb.AcquireRequest, path: str, problems: Problems) -> tuple[tuple[str, str], ...]:
    labels = message.labels
    if len(labels) > MAX_LABELS:  # before anything is copied: there may be very many
        problems[f"{path}labels"] = f"must be at most {MAX_LABELS}"
        return ()
    pairs = tuple(sorted(labels.items()))
    for key, value in pairs:
        if not 0 < len(key) <= MAX_KEY_CHARS or _control(key):
            problems[f"{path}labels"] = (
                f"keys must have 1 to {MAX_KEY_CHARS} characters, no control characters"
            )
        elif len(value) > MAX_VALUE_CHARS or _control(value):
            problems[f"{path}labels"] = (
                f"values must have at most {MAX_VALUE_CHARS} characters, no control ones"
            )
    return pairs


def _check_quota(name: str, path: str, problems: Problems) -> None:
    if not _quota_name(name):
        problems[f"{path}quota"] = "must match [a-z0-9][a-z0-9._/-]{0,127}"


def _check_request_id(request_id: str, path: str, problems: Problems) -> None:
    if not 0 < len(request_id) <= MAX_ID_CHARS or not request_id.isprintable():
        problems[f"{path}request_id"] = f"must have 1 to {MAX_ID_CHARS} printable characters"


def _check_amount(amount: int, path: str, problems: Problems) -> None:
    if not 0 < amount <= MAX_UNITS:
        problems[f"{path}amount"] = f"must be from 1 to {MAX_UNITS}"


def _milliseconds(duration: Any, name: str, least: int, most: int, path: str, problems: Problems) -> int:
    """A Duration, a part of a millisecond counted as a whole one."""
    seconds, nanos = duration.seconds, duration.nanos
    milliseconds: int = seconds * 1000 + -(-nanos // 1_000_000)
    if seconds < 0 or not 0 <= nanos < 1_000_000_000 or not least <= milliseconds <= most:
        bound = f"above 0 s, at most {most // 1000} s" if least else f"0 to {most // 1000} s"
        problems[f"{path}{name}"] = f"must be {bound}"
        return least
    return milliseconds


def _page_size(size: int, problems: Problems) -> int:
    if not 0 <= size <= MAX_PAGE:
        problems["page_size"] = f"must be 1 to {MAX_PAGE}, or 0 for {DEFAULT_PAGE}"
    return size or DEFAULT_PAGE


def _refuse(problems: Problems) -> None:
    if problems:
        raise field_invalid(problems)
