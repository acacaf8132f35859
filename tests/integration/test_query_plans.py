"""How SQLite goes about the statements: what is asked for costs what it is, in a fleet of any size."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

from sqlalchemy import CompoundSelect, Connection, Select

from quota_server.storage import loading, sessions, tariff_store, tariff_views
from quota_server.storage.database import open_database
from quota_server.storage.tables import metadata
from rules.records import RecordRef


def tariff_plans(connection: Connection) -> dict[str, str]:
    """How SQLite goes about each statement about tariff data."""
    pages = [
        tariff_views.page(7, kind, valid_on, after, 100, include_deleted)
        for kind in (None, "measure")
        for valid_on in (None, date(2026, 1, 1))
        for after in (None, ("measure", "1"))
        for include_deleted in (False, True)
    ]
    statements = {
        "newest": tariff_store.NEWEST,
        "after": tariff_store.versions_after(1, 1, 100),
        "before": tariff_views.before(1),
        "one": tariff_views.one(RecordRef("measure", 1), 7),
        **{f"page {number}": statement for number, statement in enumerate(pages)},
    }
    found = {}
    for name, statement in statements.items():
        filled = statement.compile(connection, compile_kwargs={"literal_binds": True})
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {filled}")
        found[name] = "; ".join(row.detail for row in rows)
    return found


async def test_tariff_data_is_read_in_the_order_of_its_indexes(tmp_path: Path) -> None:
    """However much is stored, a page costs what is on it: nothing is sorted, and no table is read as a whole."""
    async with open_database(tmp_path / "ledger.db") as database:
        plans = await database.read(tariff_plans)
    for name, plan in plans.items():
        assert "TEMP B-TREE" not in plan, (name, plan)
        for scan in re.findall(r"SCAN \w+[^;]*", plan):
            # From the first row of an index on, and no further than the page.
            assert re.match(r"SCAN tariff_(versions|transactions) USING (COVERING )?INDEX", scan), (
                name,
                plan,
            )


def plans(connection: Connection) -> dict[str, list[str]]:
    """How SQLite goes about each statement that loads."""
    values = {"quota_uid": "q", "agent_uid": "a", "epoch": 1, "ask_id": "x", "name": "n", "generation": 1}
    found = {}
    for name, statement in {**vars(loading), **vars(sessions)}.items():
        if isinstance(statement, Select | CompoundSelect):
            keys = {"_ALLOCATIONS": ("q", "a", 1), "_ASSIGNMENTS": ("q", "a")}.get(name, ("a", 1))
            of_one = (
                "_QUOTAS",
                "_AGENTS",
                "_ALLOCATIONS_SHORT",
                "_OVERRIDES",
                "_OVERRIDES_STAND_ON",
                "_UNACKNOWLEDGED_OF",
            )
            key = keys[0] if name in of_one else keys
            bound = {each: values.get(each, "r") for each in statement.compile().params if each != "keys"}
            if "keys" in statement.compile().params:
                bound["keys"] = [key]
            filled = statement.params(bound).compile(connection, compile_kwargs={"literal_binds": True})
            rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {filled}")
            found[name] = [row.detail for row in rows]
    return found


async def test_no_verb_scans_a_table(tmp_path: Path) -> None:
    """What is loaded for a report or a redistribution is found by an index, in a fleet of any size."""
    async with open_database(tmp_path / "ledger.db") as database:
        found = await database.read(plans)
    assert len(found) > 20
    tables = "|".join(table for table in metadata.tables if table != "meta")
    scans = {name: plan for name, plan in found.items() if re.search(f"SCAN ({tables})", " ".join(plan))}
    # All of an index that holds nothing else.
    whole = {
        "_QUOTAS_RECOVERING": "quotas USING INDEX ix_quotas_recovering",
        "_UNACKNOWLEDGED": "allocations USING INDEX ix_allocations_unacknowledged",
        "_OVERRIDES_OPEN": "overrides USING INDEX ix_overrides_open",
        "_TO_BE_FENCED": "epochs USING INDEX ix_epochs_to_be_fenced",
    }
    assert {name: plan[0] for name, plan in scans.items()} == {n: f"SCAN {what}" for n, what in whole.items()}
