"""Whether a store holds only what an agent writes: from what a damaged disk or another program left nothing is spent.

A row is looked at as SQLite has it, before it becomes a value. The entries have to come to their quotas' totals, so
that no later step of one can break a total; that reads all of them.
"""

from __future__ import annotations

import json
import logging
import re
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from quota_agent.errors import StoreUnusable
from quota_agent.gate.model import MAX_TOTAL
from quotafleet.link.messages import MAX_UNITS, FenceKind, OverrideState

_log = logging.getLogger(__name__)

#: From so many on it is said that a start takes its time.
_MANY_ENTRIES: Final = 1_000_000
#: Ids and names have at most so many characters; so has whatever else is text, but for a reason and labels.
_MAX_CHARS: Final = 128
_MAX_REASON_CHARS: Final = 1_024
_MAX_MARK_BYTES: Final = 1_024
#: The end of the year 9999, and of the longest hold that begins then.
_MAX_MS: Final = 253_402_300_799_999
_MAX_EXPIRE_MS: Final = _MAX_MS + 24 * 3_600_000
_MAX_DURATION_MS: Final = 315_576_000_000_999


def _integer(column: str, low: int, high: int) -> str:
    return f"typeof({column}) = 'integer' AND {column} BETWEEN {low} AND {high}"


def _text(column: str, low: int, high: int = _MAX_CHARS) -> str:
    return f"typeof({column}) = 'text' AND length({column}) BETWEEN {low} AND {high}"


def _null_or(column: str, condition: str) -> str:
    return f"{column} IS NULL OR {condition}"


def _one_of(column: str, *values: str) -> str:
    return f"{column} IN ({', '.join(repr(str(value)) for value in values)})"


def _flags(*columns: str) -> dict[str, str]:
    return {column: _integer(column, 0, 1) for column in columns}


def _numbers(*columns: str) -> dict[str, str]:
    """Numbers that grow by one: there is room for it."""
    return {column: _integer(column, 0, MAX_TOTAL - 1) for column in columns}


def _baselines(*prefixes: str) -> dict[str, str]:
    """Totals as they were at some moment: none is above what it has grown to."""
    found = {}
    for prefix in prefixes:
        for total in ("", "override_"):
            consumed, released = f"{total}consumed", f"{total}released"
            found[f"{prefix}_{consumed}"] = _integer(f"{prefix}_{consumed}", 0, MAX_TOTAL) + (
                f" AND {prefix}_{consumed} <= {consumed}"
            )
            found[f"{prefix}_{released}"] = _integer(f"{prefix}_{released}", 0, MAX_TOTAL) + (
                f" AND {prefix}_{released} <= min({released}, {prefix}_{consumed})"
            )
    return found


#: Labels without a backslash, as nearly all are: a third of the time that it takes to read them.
_PAIR: Final = r'\["[^"\\\x00-\x1f]*", "[^"\\\x00-\x1f]*"\]'
_are_plain_labels: Final = re.compile(rf"\[{_PAIR}(?:, {_PAIR})*\]").fullmatch

#: By table: what must be true of each column of each row.
_CONDITIONS: Final[Mapping[str, Mapping[str, str]]] = {
    "agent": {
        "agent": _text("agent", 0),
        "agent_uid": _text("agent_uid", 0) + " AND (agent_uid = '') = (epoch = 0)",
        **_numbers("epoch", "dial", "generation"),
        "store_id": _text("store_id", 0) + " AND (agent_uid = '' OR store_id <> '')",
        "mark": f"typeof(mark) = 'blob' AND length(mark) <= {_MAX_MARK_BYTES}",
        **_flags("welcomed", "fence_confirmed"),
        "fenced": _null_or("fenced", _one_of("fenced", *FenceKind)),
        "clock_mark_ms": _integer("clock_mark_ms", 0, _MAX_MS),
        "last_contact_ms": _null_or("last_contact_ms", _integer("last_contact_ms", 0, _MAX_MS)),
    },
    "quota": {
        "number": "number BETWEEN 1 AND (SELECT count(*) FROM quota)",
        "uid": _text("uid", 1),
        "name": _text("name", 1) + " AND name GLOB '[a-z0-9]*' AND name NOT GLOB '*[^a-z0-9._/-]*'",
        "decimals": _integer("decimals", 0, 3),
        "start_ms": _null_or("start_ms", _integer("start_ms", 0, _MAX_MS)),
        "end_ms": _null_or("end_ms", _integer("end_ms", 0, _MAX_MS)),
        **_flags("suspended", "closed", "assigned", "active"),
        "max_offline_ms": _null_or("max_offline_ms", _integer("max_offline_ms", 0, _MAX_DURATION_MS)),
        **_numbers("generation", "revision", "sequence", "last_entry"),
        "wanted": _integer("wanted", 0, MAX_UNITS),
        "consumed": _integer("consumed", 0, MAX_TOTAL),
        "released": _integer("released", 0, MAX_TOTAL) + " AND released <= consumed",
        "override_consumed": _integer("override_consumed", 0, MAX_TOTAL),
        "override_released": _integer("override_released", 0, MAX_TOTAL)
        + " AND override_released <= override_consumed",
        "held": _integer("held", 0, MAX_UNITS),
        '"limit"': _integer('"limit"', 0, MAX_UNITS) + ' AND consumed - released + held <= "limit"',
        **_baselines("marked", "marking"),
    },
    "override": {
        "override_id": _text("override_id", 1),
        "ask_id": _text("ask_id", 0),
        "quota_uid": _text("quota_uid", 1),
        "amount": _integer("amount", 0, MAX_UNITS),
        "state": _one_of("state", OverrideState.APPROVED, OverrideState.USED, OverrideState.DEAD),
        "spent": _integer("spent", 0, MAX_UNITS) + " AND spent <= amount AND (spent > 0) = (state = 'USED')",
        **_flags("named"),
    },
    "ask": {
        # The plus makes it look at the rows: an index of a damaged file may say otherwise.
        "quota_uid": "quota_uid IN (SELECT +uid FROM quota NOT INDEXED)",
        "ask_id": _text("ask_id", 1),
        "amount": _integer("amount", 1, MAX_UNITS),
        "reason": _text("reason", 0, _MAX_REASON_CHARS),
        **_numbers("number"),
        "state": _one_of("state", *OverrideState),
        **_flags("heard"),
        "override_id": _text("override_id", 0),
    },
}

_ENTRY_CONDITIONS: Final[Mapping[str, str]] = {
    "quota": "quota IN (SELECT number FROM quota)",
    "number": _integer("number", 1, MAX_TOTAL - 1),
    "request_id": _text("request_id", 1),
    "requested": _integer("requested", 1, MAX_UNITS),
    "granted": _integer("granted", 1, MAX_UNITS) + " AND granted <= requested",
    "mode": _integer("mode", 1, 2) + " AND (mode = 2 OR granted = requested)",
    "state": _integer("state", 1, 5),
    "create_ms": _integer("create_ms", 0, _MAX_MS),
    # Only a hold is held, cancelled or expires.
    "expire_ms": "CASE WHEN expire_ms IS NULL THEN state IN (2, 3) ELSE "
    + _integer("expire_ms", 0, _MAX_EXPIRE_MS)
    + " AND expire_ms >= create_ms END",
    "override_id": _null_or("override_id", _text("override_id", 1) + " AND expire_ms IS NULL"),
    "labels": _null_or("labels", "are_labels(labels)"),
}

#: What each quota's entries come to, in the order of the columns compared: see STATE_CODES in rows.py.
_SUMS: Final = """
SELECT quota.number FROM quota LEFT JOIN (
    SELECT quota AS number,
        sum(iif(state = 1, granted, 0)) AS held,
        sum(iif(state IN (2, 3) AND override_id IS NULL, granted, 0)) AS consumed,
        sum(iif(state = 3 AND override_id IS NULL, granted, 0)) AS released,
        sum(iif(state IN (2, 3) AND override_id IS NOT NULL, granted, 0)) AS override_consumed,
        sum(iif(state = 3 AND override_id IS NOT NULL, granted, 0)) AS override_released,
        max(number) AS last_entry
    FROM entry GROUP BY quota
) AS entries USING (number)
WHERE (quota.held, quota.consumed, quota.released, quota.override_consumed, quota.override_released, quota.last_entry)
    <> (ifnull(entries.held, 0), ifnull(entries.consumed, 0), ifnull(entries.released, 0),
        ifnull(entries.override_consumed, 0), ifnull(entries.override_released, 0), ifnull(entries.last_entry, 0))
LIMIT 1
"""


def check_state(connection: sqlite3.Connection, path: Path) -> None:
    """Raise StoreUnusable if a row beside the entries is none that an agent writes: it is named, its values are not."""
    for table, conditions in _CONDITIONS.items():
        _check(connection, path, table, conditions)


def check_entries(connection: sqlite3.Connection, path: Path) -> None:
    """Raise StoreUnusable if an entry cannot be, or if entries do not come to the totals of their quota."""
    entries = connection.execute("SELECT ifnull(sum(last_entry), 0) FROM quota").fetchone()[0]
    if entries >= _MANY_ENTRIES:
        _log.info(
            "the store is being checked, which takes a few seconds per million entries: entries=%d", entries
        )
    connection.create_function("are_labels", 1, _are_labels, deterministic=True)
    _check(connection, path, "entry", _ENTRY_CONDITIONS)
    found = connection.execute(_SUMS).fetchone()
    if found is not None:
        raise _unusable(path, f"the entries of row {found[0]} of the table quota do not come to its totals")


def _check(connection: sqlite3.Connection, path: Path, table: str, conditions: Mapping[str, str]) -> None:
    """Names a row that breaks a condition, and the column."""
    place = "quota || '/' || number" if table == "entry" else "row_number() OVER ()"  # there may be very many
    wrong = " ".join(
        f"""WHEN ({condition}) IS NOT TRUE THEN '{column.strip('"')}'"""
        for column, condition in conditions.items()
    )
    statement = f"SELECT place, bad FROM (SELECT {place} AS place, CASE {wrong} END AS bad FROM {table})"
    found = connection.execute(f"{statement} WHERE bad IS NOT NULL LIMIT 1").fetchone()
    if found is not None:
        raise _unusable(path, f"{found[1]} in row {found[0]} of the table {table} is not what it can be")


def _unusable(path: Path, what: str) -> StoreUnusable:
    return StoreUnusable(
        f"the store {path} was damaged or changed: {what}. Move it away with {path}-wal and {path}-shm, and settle the"
        " agent as if its machine were lost: `quotactl agent settle` gives it another credential"
    )


def _are_labels(text: object) -> bool:
    """Whether the text of the column is a list of pairs of texts that UTF-8 can hold."""
    if isinstance(text, str) and _are_plain_labels(text):
        return True
    try:
        pairs = json.loads(text) if isinstance(text, str) else None
        return isinstance(pairs, list) and all(
            isinstance(pair, list)
            and len(pair) == 2
            and all(isinstance(part, str) and part.encode() is not None for part in pair)
            for pair in pairs
        )
    except (ValueError, RecursionError):
        return False
