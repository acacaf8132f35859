"""Rows for every table of every schema of the controller's database, as they were written when it was the newest.

A new schema needs an entry here: the rows of its tables, and what the columns that it adds hold in older rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from quota_server.storage.migrating import schemas

Row = dict[str, Any]
Rows = dict[str, list[Row]]

_AREA: Final = (
    '{"kind":"geographical_area","sid":11,"area_id":"A11","area_code":0,'
    '"valid_between":{"start":"2020-01-01","end":null},"elements":{}}'
)

#: Rows by table as the schema has them that brought the table; each names all the columns it had then.
_BROUGHT: Final[Mapping[str, Rows]] = {
    "0001": {
        "meta": [{"id": 1, "generation": 2, "recovering": False, "key_fingerprint": "print"}],
        "agents": [
            {"uid": "a-1", "name": "anne", "epoch": 2, "active": True, "retired": False, "create_ms": 11},
            {"uid": "a-0", "name": "anne", "epoch": 1, "active": False, "retired": True, "create_ms": 1},
        ],
        "answers": [
            {
                "request_id": "r-1",
                "method": "/SetTarget",
                "fingerprint": b"\x00\xff",
                "answer": b"\x01",
                "create_ms": 1_700_000_000_000,
            }
        ],
        "quotas": [
            {
                "uid": "q-1",
                "name": "visits",
                "target": 2**62,
                "decimals": 3,
                "start_ms": 1_700_000_000_000,
                "end_ms": None,
                "policy": "WEIGHTED",
                "reserve_percent": 10,
                "critical_percent": 90,
                "override_policy": "ASK",
                "max_offline_ms": 60_000,
                "state": "OPEN",
                "recovering": False,
                "version": 4,
                "create_ms": 1_600_000_000_000,
                "sum_exposure": 40,
                "sum_charge": 12,
                "sum_count": 25,
                "sum_held": 3,
                "sum_overridden": 2,
                "sum_at_risk": 0,
                "sum_overage": 1,
                "sum_aside": 10,
                "sum_overrides": 5,
            }
        ],
        "assignments": [
            {
                "quota_uid": "q-1",
                "agent_uid": "a-1",
                "assigned": True,
                "weight": 3,
                "min": 1,
                "max": None,
                "static_limit": 0,
                "initial_count": 2,
            }
        ],
        "epochs": [
            {
                "agent_uid": uid,
                "epoch": number,
                "online": number == 2,
                "last_dial": 7,
                "shown_generation": 2,
                "shown_number": 8,
                "offered_generation": 2,
                "offered_number": 9,
                "store_id": "store",
                "fenced": False,
                "ended": number == 1,
                "settled": number == 1,
                "final": False,
                "adopted_generation": 2,
                "heard_generation": 2,
                "contact_ms": None,
            }
            for uid, number in (("a-0", 1), ("a-1", 1), ("a-1", 2))
        ],
        "history": [
            {
                "number": number,
                "quota_uid": "q-1",
                "time_ms": 5,
                "actor": "Åsa",
                "action": "set-target",
                "reason": "why",
                "before": '{"target":1}',
                "after": '{"target":2}',
                "round_id": f"round-{number}",
                "reached": "[]",
            }
            for number in (3, 5)
        ],
        "allocations": [
            {
                "quota_uid": "q-1",
                "agent_uid": "a-1",
                "epoch": 2,
                "wanted": 50,
                "offered": 40,
                "exposure": 40,
                "revision_generation": 2,
                "revision_number": 6,
                "acknowledged_generation": 2,
                "acknowledged_number": 5,
                "totals_consumed": 30,
                "totals_released": 5,
                "totals_override_consumed": 2,
                "totals_override_released": 0,
                "held": 3,
                "sequence": 77,
                "dial": 7,
                "report_ms": 1_700_000_000_001,
                "open_requests": "[[5,1000]]",
                "recent_demand": 9,
                "wanted_more": 5,
                "protected_until_ms": 0,
                "kept_until_ms": 0,
                "charge": 0,
                "at_risk": 0,
                "settled": False,
                "final": False,
                "copies": 0,
                "overage": 0,
            },
            {
                "quota_uid": "q-1",
                "agent_uid": "a-1",
                "epoch": 1,
                "wanted": 0,
                "offered": 0,
                "exposure": 0,
                "revision_generation": 1,
                "revision_number": 1,
                "acknowledged_generation": 1,
                "acknowledged_number": 1,
                "totals_consumed": 9,
                "totals_released": 0,
                "totals_override_consumed": 0,
                "totals_override_released": 0,
                "held": 0,
                "sequence": 9,
                "dial": 1,
                "report_ms": None,
                "open_requests": "[]",
                "recent_demand": 0,
                "wanted_more": 0,
                "protected_until_ms": 0,
                "kept_until_ms": 0,
                "charge": 9,
                "at_risk": 0,
                "settled": True,
                "final": False,
                "copies": 1,
                "overage": 1,
            },
        ],
        "charged_copies": [{"agent_uid": "a-1", "epoch": 1, "store_id": "twin"}],
        "fenced_marks": [{"agent_uid": "a-1", "epoch": 1, "mark_generation": 1, "mark_number": 4}],
        "overrides": [
            {
                "override_id": "o-1",
                "ask_id": "ask",
                "quota_uid": "q-1",
                "agent_uid": "a-1",
                "epoch": 2,
                "amount": 5,
                "reason": "a bus came",
                "state": "APPROVED",
                "spent": 0,
                "revoked": False,
                "settled": False,
                "at_risk": False,
                "decision_reason": "fine",
                "decided_by": "bill",
                "create_ms": 6,
                "decide_ms": 7,
            }
        ],
    },
    "0002": {
        "tariff_transactions": [{"number": 1, "create_ms": 9, "actor": "anne", "reason": "new year"}],
        "tariff_versions": [
            {
                "number": 1,
                "position": 0,
                "kind": "geographical_area",
                "place": "0000000000000000011",
                "deleted": False,
                "valid_start": "2020-01-01",
                "valid_end": None,
                "content": _AREA,
            }
        ],
    },
    "0003": {"controllers": [{"uid": "c-1", "address": "127.0.0.1:1", "start_ms": 1, "lease_until_ms": 2}]},
}
#: Columns that a schema added to tables that were there: what every older row has in them.
_ADDED: Final[Mapping[str, Mapping[str, Row]]] = {"0003": {"epochs": {"owner": ""}}}


def rows_of(version: str) -> Rows:
    """Rows for every table of a schema."""
    rows: Rows = {}
    for schema in schemas()[: schemas().index(version) + 1]:
        for table, more in _ADDED.get(schema, {}).items():
            rows[table] = [{**row, **more} for row in rows[table]]
        rows |= _BROUGHT.get(schema, {})
    return rows
