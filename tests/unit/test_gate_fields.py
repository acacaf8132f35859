"""The bounds of every field that the gate takes: the last value that passes, and the first that does not."""

from __future__ import annotations

from typing import Any

import pytest

from quota_agent.errors import Refusal
from quota_agent.gate.fields import check_acquire, check_amount, check_ask, check_batch, check_item
from quota_agent.gate.model import AcquireMode, AcquireRequest, GateSettings
from quotafleet.link.messages import MAX_UNITS

SETTINGS = GateSettings(
    max_hold_ms=1_000,
    max_wait_ms=500,
    max_batch_items=3,
    max_labels=2,
    max_label_key=4,
    max_label_value=5,
    max_request_id=8,
    max_override_reason=10,
)
UP_TO = AcquireMode.UP_TO


def bad(refusal: Refusal | None) -> set[str]:
    """The fields that were refused."""
    if refusal is None:
        return set()
    assert refusal.reason == "FIELD_INVALID"
    return set(refusal.fields)


def asked(**fields: Any) -> AcquireRequest:
    return AcquireRequest("q", "id")._replace(**fields)


GOOD: list[dict[str, Any]] = [
    {},
    {"request_id": "x" * 8},
    {"amount": MAX_UNITS},
    {"hold_ms": 1},
    {"hold_ms": 1_000},
    {"max_wait_ms": 500},
    {"mode": UP_TO},
    {"override_id": "o"},
    {"labels": (("kkkk", "vvvvv"), ("b", ""))},
]
BAD: list[tuple[dict[str, Any], set[str]]] = [
    ({"request_id": ""}, {"request_id"}),
    ({"request_id": "x" * 9}, {"request_id"}),
    ({"request_id": "a\n"}, {"request_id"}),
    ({"amount": 0}, {"amount"}),
    ({"amount": MAX_UNITS + 1}, {"amount"}),
    ({"hold_ms": 0}, {"hold"}),
    ({"hold_ms": 1_001}, {"hold"}),
    ({"max_wait_ms": -1}, {"max_wait"}),
    ({"max_wait_ms": 501}, {"max_wait"}),
    ({"override_id": "o", "mode": UP_TO}, {"mode"}),
    ({"override_id": "o", "hold_ms": 5}, {"hold"}),
    ({"labels": (("a", ""), ("b", ""), ("c", ""))}, {"labels"}),
    ({"labels": (("a", "1"), ("a", "2"))}, {"labels"}),
    ({"labels": (("", "1"),)}, {"labels"}),
    ({"labels": (("kkkkk", "1"),)}, {"labels"}),
    ({"labels": (("k", "vvvvvv"),)}, {"labels"}),
    (
        {"request_id": "", "amount": 0, "max_wait_ms": -1, "labels": (("", ""),)},
        {"request_id", "amount", "max_wait", "labels"},
    ),
]


@pytest.mark.parametrize("fields", GOOD, ids=str)
def test_what_is_within_the_bounds_passes_alone_and_in_a_batch(fields: dict[str, Any]) -> None:
    assert check_acquire(asked(**fields), SETTINGS) is None
    assert check_item(asked(**{**fields, "max_wait_ms": 0}), False, SETTINGS) is None


@pytest.mark.parametrize(("fields", "wrong"), BAD, ids=lambda each: str(sorted(each)))
def test_every_bad_field_is_named_alone_and_in_a_batch(fields: dict[str, Any], wrong: set[str]) -> None:
    assert bad(check_acquire(asked(**fields), SETTINGS)) == wrong
    assert bad(check_item(asked(**fields), False, SETTINGS)) == wrong


def test_an_item_of_a_batch_does_not_wait() -> None:
    """Whatever else is wrong with it is named as well."""
    assert bad(check_item(asked(max_wait_ms=1), False, SETTINGS)) == {"max_wait"}
    assert bad(check_item(asked(max_wait_ms=1, amount=0), False, SETTINGS)) == {"max_wait", "amount"}


def test_an_atomic_batch_grants_whole_amounts_only() -> None:
    assert bad(check_item(asked(mode=UP_TO), True, SETTINGS)) == {"mode"}
    assert check_item(asked(), True, SETTINGS) is None


@pytest.mark.parametrize(("items", "wrong"), [(0, {"items"}), (1, set()), (3, set()), (4, {"items"})])
def test_a_batch_has_a_bounded_number_of_items(items: int, wrong: set[str]) -> None:
    assert bad(check_batch([asked()] * items, SETTINGS)) == wrong


def test_an_ask_for_an_override_has_an_id_an_amount_and_a_short_reason() -> None:
    assert check_ask(1, "x" * 10, "id", SETTINGS) is None
    assert bad(check_ask(0, "x" * 11, "", SETTINGS)) == {"amount", "reason", "request_id"}


@pytest.mark.parametrize(
    ("amount", "wrong"), [(0, {"amount"}), (1, set()), (MAX_UNITS, set()), (MAX_UNITS + 1, {"amount"})]
)
def test_an_amount_is_at_least_one_and_at_most_what_a_quota_can_hold(amount: int, wrong: set[str]) -> None:
    assert bad(check_amount(amount)) == wrong
