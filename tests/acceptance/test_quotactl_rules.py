"""`quotactl rules` as a process, against a controller: envelopes judged, stored and looked at again."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shell_kit import Shell, lines, serving

DATA = Path(__file__).resolve().parents[1] / "data" / "taric"
DAY = ("--today", "2026-11-26")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A controller that has stored one envelope: version 2, of two transactions."""
    folder = tmp_path_factory.mktemp("rules")
    with serving(folder) as address:
        shell = Shell(folder, address)
        stored = shell.ctl("rules", "commit", str(DATA / "cli_create.xml"), "--reason", "first", *DAY)
        assert "stored: 2 transactions, 5 changes; the data is at version 2" in stored.out
        yield shell


@pytest.fixture
def shell(shared: Shell, tmp_path: Path) -> Shell:
    """A folder for each test, with the envelopes in it."""
    for path in DATA.glob("cli_*.xml"):
        shutil.copy(path, tmp_path)
    return Shell(tmp_path, shared.address)


def test_broken_rules_are_shown_with_their_lines(shell: Shell) -> None:
    """Each transaction on the state after those before it; plain and gzipped alike."""
    ended = shell.ctl("rules", "validate", "cli_broken.xml", *DAY, ok=False)
    assert ended.code == 1
    rows = [row[:5] for row in lines(ended.out)]
    assert ["OverlappingQuotaDefinition", "quota_definition", "5", "cli_broken.xml:6", "new"] in rows
    assert any(row[:3] == ["QBP1", "quota_blocking", "6"] for row in rows)
    assert "2 transactions, 2 changes; today is 2026-11-26 (UTC), profile uk, on data version 2" in ended.out
    packed = shell.folder / "packed"
    packed.write_bytes(gzip.compress((shell.folder / "cli_broken.xml").read_bytes()))
    plain, zipped = (
        shell.ctl("rules", "validate", name, "--json", *DAY, ok=False).json
        for name in ("cli_broken.xml", "packed")
    )
    assert {**zipped, "file": "cli_broken.xml"} == plain
    european = shell.ctl("rules", "validate", "cli_broken.xml", "--profile", "eu", "--json", ok=False)
    rules = [each["rule"] for verdict in european.json["verdicts"] for each in verdict["violations"]]
    assert rules == ["QBP1"]


def test_without_data_nothing_is_there_to_refer_to(shell: Shell) -> None:
    """Judged on no data, or on data that is sent along."""
    alone = shell.ctl("rules", "validate", "cli_broken.xml", "--against", "none", "--json", *DAY, ok=False)
    found = {each["rule"] for verdict in alone.json["verdicts"] for each in verdict["violations"]}
    assert {"QD3", "QD5", "QBP1"} <= found
    assert "data_version" not in alone.json
    sent = shell.ctl("rules", "validate", "cli_broken.xml", "--against", "cli_create.xml", *DAY, ok=False)
    assert "on the data sent along" in sent.out
    assert "OverlappingQuotaDefinition" in sent.out


def test_malformed_and_unreadable_files_end_with_2(shell: Shell) -> None:
    """With the line and the element."""
    ended = shell.ctl("rules", "validate", "cli_malformed.xml", *DAY, ok=False)
    assert ended.code == 2
    assert ["cli_malformed.xml:18", "volume"] in [row[:2] for row in lines(ended.out)]
    whole = (shell.folder / "cli_create.xml").read_text()
    (shell.folder / "cut.xml").write_text(whole[: len(whole) // 2])
    cut = shell.ctl("rules", "validate", "cut.xml", "--json", *DAY, ok=False)
    assert (cut.code, cut.json["error"]["reason"]) == (2, "ENVELOPE_INVALID")
    assert shell.ctl("rules", "commit", "cut.xml", *DAY, ok=False).code == 2
    missing = shell.ctl("rules", "validate", "missing.xml", ok=False)
    assert (missing.code, missing.out) == (2, "")


def test_what_breaks_rules_is_not_stored(shell: Shell) -> None:
    """Nor what is stored already, nor what was meant for other data."""
    for name in ("cli_broken.xml", "cli_create.xml"):
        broken = shell.ctl("rules", "commit", name, *DAY, ok=False)
        assert broken.code == 1
        assert broken.out.splitlines()[-1] == "nothing was stored"
    refused = shell.ctl("rules", "commit", "cli_create.xml", "--expected-version", "1", *DAY, ok=False)
    assert "DATA_CHANGED" in refused.err
    assert "2" in shell.ctl("rules", "records").out.splitlines()[-1]


def test_a_commit_of_nothing_says_so(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "nothing.json").write_text("[]")
    said = shell.ctl("rules", "commit", "nothing.json", *DAY).out
    assert said.startswith("there was nothing to store; the data is at version 2")


def test_a_rule_that_is_no_rule_here_is_explained(shell: Shell) -> None:
    """ON3 is named where a period ends before it starts."""
    ended = shell.ctl("rules", "explain", "on3", ok=False)
    assert ended.code == 2
    assert "a period that ends before it starts is malformed" in ended.err


def test_records_are_looked_at(shell: Shell) -> None:
    """Alone and listed, then and now."""
    shown = shell.ctl("rules", "show", "quota_definition", "4").out
    for part in ("1000.5", "2030-01-01..2030-12-31", "KGM", "first"):
        assert part in shown
    earlier = shell.ctl("rules", "show", "quota_definition", "4", "--as-of", "1", ok=False)
    assert (earlier.code, "RECORD_UNKNOWN" in earlier.err) == (1, True)
    listed = shell.ctl("rules", "records", "--kind", "quota_order_number", "--valid-on", "2026-11-26").out
    assert "quota_order_number sid=2 order_number=050001" in listed
    then = shell.ctl("rules", "records", "--as-of", "1", "--json").out
    kinds = [next(iter(json.loads(line)["record"])) for line in then.splitlines()]
    assert kinds == [
        "geographical_area",
        "measurement_unit",
        "quota_order_number",
        "quota_order_number_origin",
    ]


def test_rules_are_looked_at(shell: Shell) -> None:
    """All of them, and one."""
    listed = {row[0] for row in lines(shell.ctl("rules", "list").out)}
    assert {"ON1", "QD1", "QA6", "QSP2", "UniqueIdentifyingFields"} <= listed
    explained = shell.ctl("rules", "explain", "qbp1").out
    assert "QBP1" in explained
    unknown = shell.ctl("rules", "explain", "QPB1", ok=False)
    assert (unknown.code, "QBP1" in unknown.err) == (2, True)


def test_changes_in_json_are_stored(tmp_path: Path) -> None:
    """A transaction of a few typed changes; a second try finds that it is there."""
    area = {"kind": "geographical_area", "sid": 1, "area_id": "NZ", "area_code": 0}
    area["valid_between"] = {"start": "2000-01-01", "end": None}
    (tmp_path / "changes.json").write_text(json.dumps([{"update_type": "CREATE", "record": area}]))
    with serving(tmp_path) as address:
        shell = Shell(tmp_path, address)
        assert shell.ctl("rules", "commit", "changes.json", "--json").json["data_version"] == "1"
        again = shell.ctl("rules", "commit", "changes.json", ok=False)
        assert again.code == 1
        assert [
            "UniqueIdentifyingFields",
            "geographical_area",
            "1",
            "changes.json",
            "change",
            "0",
            "new",
        ] in [row[:7] for row in lines(again.out)]
