"""How the databases go about the statements: what is asked for costs what it is, in a fleet of any size."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any, Final

from sqlalchemy import CompoundSelect, Connection, Select

from quota_server.storage import keyed, loading, sessions, tariff_store, tariff_views
from quota_server.storage.database import open_database
from quota_server.storage.tables import metadata
from rules.records import RecordRef
from tests import databases
from tests.databases import on_postgres
from tests.postgres_kit import shared_server

#: Where all of an index is read, for it holds nothing else: by statement its table and the index.
WHOLE: Final = {
    "_QUOTAS_RECOVERING": ("quotas", "ix_quotas_recovering"),
    "_UNACKNOWLEDGED": ("allocations", "ix_allocations_unacknowledged"),
    "_OVERRIDES_OPEN": ("overrides", "ix_overrides_open"),
    "_TO_BE_FENCED": ("epochs", "ix_epochs_to_be_fenced"),
}


def tariff_statements(connection: Connection) -> dict[str, str]:
    """Each statement about tariff data."""
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
    return {
        name: str(statement.compile(connection, compile_kwargs={"literal_binds": True}))
        for name, statement in statements.items()
    }


def explained(connection: Connection, statements: dict[str, str]) -> dict[str, list[str]]:
    """How SQLite goes about them."""
    return {
        name: [row.detail for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}")]
        for name, statement in statements.items()
    }


async def test_tariff_data_is_read_in_the_order_of_its_indexes(tmp_path: Path) -> None:
    """However much is stored, a page costs what is on it: nothing is sorted, and no table is read as a whole."""
    async with open_database(tmp_path / "ledger.db") as database:
        plans = await database.read(lambda c: explained(c, tariff_statements(c)))
    for name, steps in plans.items():
        plan = "; ".join(steps)
        assert "TEMP B-TREE" not in plan, (name, plan)
        for scan in re.findall(r"SCAN \w+[^;]*", plan):
            # From the first row of an index on, and no further than the page.
            assert re.match(r"SCAN tariff_(versions|transactions) USING (COVERING )?INDEX", scan), (
                name,
                plan,
            )


def ledger_statements(connection: Connection) -> dict[str, str]:
    """Each statement that loads."""
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
            if connection.dialect.name == "postgresql":
                statement = keyed.on_postgres(statement)  # noqa: PLW2901 - as it is run there
            bound = {each: values.get(each, "r") for each in statement.compile().params if "keys" not in each}
            if "keys" in statement.compile().params:
                bound["keys"] = [key]
            for number, part in enumerate(key if isinstance(key, tuple) else (key,)):
                if f"keys_{number}" in statement.compile().params:
                    bound[f"keys_{number}"] = [part]
            filled = statement.params(bound).compile(connection, compile_kwargs={"literal_binds": True})
            found[name] = str(filled)
    return found


async def test_no_verb_scans_a_table(tmp_path: Path) -> None:
    """What is loaded for a report or a redistribution is found by an index, in a fleet of any size."""
    async with open_database(tmp_path / "ledger.db") as database:
        found = await database.read(lambda c: explained(c, ledger_statements(c)))
    assert len(found) > 20
    tables = "|".join(table for table in metadata.tables if table != "meta")
    scans = {name: plan for name, plan in found.items() if re.search(f"SCAN ({tables})", " ".join(plan))}
    assert {name: plan[0] for name, plan in scans.items()} == {
        name: f"SCAN {table} USING INDEX {index}" for name, (table, index) in WHOLE.items()
    }


# --- PostgreSQL ------------------------------------------------------------------------------------------------------

#: So many that reading one of them by an index is cheaper than reading them all.
FLEET: Final = """
INSERT INTO agents SELECT 'a' || n, 'n' || n, 1, true, n % 7 = 0, 0 FROM generate_series(1, 2000) n;
INSERT INTO epochs SELECT 'a' || n, 1, n % 2 = 0, 1, 0, 0, 0, 1, 's', false, n % 90 = 0, n % 5 = 0, false, 0, n % 3, 0,
    'c' FROM generate_series(1, 2000) n;
INSERT INTO fenced_marks SELECT 'a' || n, 1, 0, n FROM generate_series(1, 2000) n;
INSERT INTO charged_copies SELECT 'a' || n, 1, 's' FROM generate_series(1, 2000) n;
INSERT INTO quotas SELECT 'q' || n, 'n' || n, 9, 0, null, null, 'MAX_MIN', 0, 0, 'ASK', null,
    CASE WHEN n % 9 = 0 THEN 'CLOSED' ELSE 'OPEN' END, n % 50 = 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
    FROM generate_series(1, 500) n;
INSERT INTO assignments SELECT 'q' || n % 500 + 1, 'a' || n % 2000 + 1, true, 1, 0, null, 0, 0
    FROM generate_series(1, 20000) n ON CONFLICT DO NOTHING;
INSERT INTO allocations SELECT quota_uid, agent_uid, 1, row_number() OVER () % 40 / 39, 0, 0, 0, 1, 0,
    (row_number() OVER () % 30 > 0)::int, 0, 0, 0, 0, 0, 0, 0, null, '[]', 0, 0, 0, 0, 0, 0, false,
    row_number() OVER () % 3 = 0, 0, 0 FROM assignments;
INSERT INTO overrides SELECT 'o' || row_number() OVER (), '', quota_uid, agent_uid, 1, 5, '',
    CASE WHEN row_number() OVER () % 50 = 0 THEN 'APPROVED' ELSE 'USED' END, 5, false, false, false, '', '', 0, null
    FROM allocations;
ANALYZE;
"""


def postgres_scans(connection: Connection, statements: dict[str, str]) -> dict[str, list[tuple[str, str]]]:
    """Which index each statement reads, and by what of it; a table that is read as a whole has no index."""
    connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
    found: dict[str, list[tuple[str, str]]] = {}
    for name, statement in statements.items():
        (plan,) = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}").scalar_one()
        found[name] = list(scans_in(plan["Plan"]))
    return found


def scans_in(node: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if "Scan" in node["Node Type"] and node["Node Type"] not in ("Bitmap Heap Scan", "Subquery Scan"):
        yield node.get("Index Name", node.get("Relation Name", "")), node.get("Index Cond", "")
    for below in node.get("Plans", ()):
        yield from scans_in(below)


@on_postgres
async def test_no_verb_scans_a_table_on_postgresql_either(tmp_path: Path) -> None:
    where = str(await databases.put(tmp_path / "ledger.db"))
    await shared_server().execute(where.rpartition("/")[2], FLEET)
    async with open_database(where) as database:
        found = await database.read(lambda c: postgres_scans(c, ledger_statements(c)))
    assert len(found) > 20
    whole = {name: {index for index, condition in scans if not condition} for name, scans in found.items()}
    assert {name: indexes for name, indexes in whole.items() if indexes} == {
        "_META": {"meta"},
        "_QUOTAS_RECOVERING": {"ix_quotas_recovering"},
        "_TO_BE_FENCED": {"ix_epochs_to_be_fenced"},
        # By the streams that are up, of which each controller has its own.
        "_UNACKNOWLEDGED": {"ix_epochs_online"},
        "_OVERRIDES_OPEN": {"ix_epochs_online"},
    }
