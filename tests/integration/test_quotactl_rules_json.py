"""`quotactl rules` and JSON files: changes, records to judge against, and what no message can carry."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from quotafleet.v1 import rules_service_pb2 as pb
from tests.scripted_rules import Refusal, RulesShell, open_rules_in, violation

DEFINITION: dict[str, Any] = {
    "kind": "quota_definition",
    "sid": 20153,
    "order_number_sid": 7,
    "volume": "1000.5",
    "initial_volume": "1000.5",
    "monetary_unit": None,
    "measurement_unit": "KGM",
    "measurement_unit_qualifier": None,
    "maximum_precision": 3,
    "quota_critical": False,
    "quota_critical_threshold": 90,
    "description": "",
    "valid_between": {"start": "2026-01-01", "end": "2026-12-31"},
}


@pytest.fixture
def rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RulesShell]:
    with open_rules_in(tmp_path, monkeypatch) as shell:
        yield shell


def change(**fields: Any) -> dict[str, Any]:
    return {"update_type": "UPDATE", "record": {**DEFINITION, **fields}}


def given(*changes: Any) -> str:
    """The name of a file with these changes."""
    Path("c.json").write_text(json.dumps(changes))
    return "c.json"


def test_changes_are_sent_as_messages(rules: RulesShell) -> None:
    """A list, or the transaction of an object; gzipped, with a BOM, from a pipe."""
    plain = json.dumps([change()]).encode()
    contents = [
        plain,
        b"\xef\xbb\xbf \n" + plain,
        gzip.compress(b'{"id": "c1", "transaction": ' + plain + b"}"),
    ]
    for content in contents:
        assert rules("validate", "-", given=content).exit_code == 0
    first, *others = rules.service.requests
    assert all(other == first for other in others)
    (sent,) = first.transaction.changes
    assert sent.update_type == pb.UPDATE_TYPE_UPDATE
    definition = sent.record.quota_definition
    assert (definition.sid, definition.volume.value, definition.measurement_unit) == (20153, "1000.5", "KGM")
    assert not definition.HasField("monetary_unit")
    assert definition.valid_between.end_date.day == 31


def test_violations_are_named_by_change(rules: RulesShell) -> None:
    """There are no lines that an editor could open."""
    rules.service.verdicts = [pb.TransactionVerdict(violations=[violation("QD1", 20153)])]
    rules.service.summary.violations = 1
    ended = rules("validate", given(change()))
    assert ended.exit_code == 1
    assert ["QD1", "quota_definition", "20153", "c.json", "change", "3", "new"] in [
        line.split()[:7] for line in ended.stdout.splitlines()
    ]


@pytest.mark.parametrize(
    ("fields", "carried"),
    [
        ({"volume": "-1"}, True),
        ({"measurement_unit": "kilo"}, True),
        ({"valid_between": {"start": "2026-12-31", "end": "2026-01-01"}}, True),
        ({"sid": "20153"}, False),
        ({"volume": 1000.5}, False),
        ({"sid": 2**70}, False),
        ({"sid": True}, False),
        ({"quota_critical": 1}, False),
        ({"valid_between": "2026"}, False),
        ({"description": "\ud800"}, False),
        ({"colour": "red"}, False),
        ({"\ud800": 1}, False),
        ({"kind": "quota"}, False),
    ],
)
def test_what_is_malformed_is_for_the_controller_to_say(
    rules: RulesShell, fields: dict[str, Any], carried: bool
) -> None:
    """Unless no message can carry it: then it is said here, in the same way, and nothing is sent."""
    ended = rules("validate", given(change(), change(**fields)))
    assert len(rules.service.requests) == (1 if carried else 0)
    assert ended.exit_code == (0 if carried else 2)
    if not carried:
        assert ended.stdout.splitlines()[1].startswith("c.json change 1  ")
        machine = json.loads(rules("validate", "c.json", "--json").stdout)
        (wrong,) = machine["verdicts"][0]["malformed"]
        assert wrong["change"] == 1
        assert machine["summary"]["malformed"] == "1"


def test_everything_that_is_malformed_is_said_at_once(rules: RulesShell) -> None:
    """What could have been sent too."""
    ended = rules("commit", given(change(volume="-1"), change(sid="x"), 17))
    assert ended.exit_code == 2
    rows = [line.split()[:4] for line in ended.stdout.splitlines()[1:4]]
    assert rows == [
        ["c.json", "change", "0", "volume"],
        ["c.json", "change", "1", "sid"],
        ["c.json", "change", "2", "change"],
    ]
    assert rules.service.requests == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[{"update_type": "CREATE"\n"record": 1}]', "c.json:2: is not JSON"),
        ("{}", "must be a list of changes"),
        ('{"transaction": ""}', "must be a list of changes"),
        ('{"changes": []}', "'changes' is not known"),
        ('{"transaction": [], "base": []}', "--against"),
        ('{"transaction": [], "today": "2020-01-01"}', "--today"),
        ("[" * 100_000, "nested too deeply"),
        ("[" + "1" * 10_000 + "]", "is not JSON"),
        ("", "is empty"),
        ("CREATE", "neither XML nor JSON"),
    ],
)
def test_other_files_are_bad_usage(rules: RulesShell, text: str, said: str) -> None:
    """With a word about what to give."""
    Path("c.json").write_text(text)
    ended = rules("validate", "c.json")
    assert ended.exit_code == 2
    assert said in ended.output
    assert rules.service.requests == []


def test_a_transaction_has_to_fit_into_a_message(rules: RulesShell) -> None:
    """It says what to do instead."""
    ended = rules("validate", given(*(change(description="d" * 500_000) for _ in range(9))))
    assert ended.exit_code == 2
    assert "has more than the 4 MiB" in ended.stderr
    assert "TARIC3" in ended.stderr


def test_records_to_judge_against(rules: RulesShell) -> None:
    """A list, or the base of a case: what was deleted in it is left out, of several versions the last one counts."""
    unit = {"kind": "measurement_unit", "code": "KGM", "valid_between": {"start": "2000-01-01", "end": None}}
    other = {**unit, "code": "LTR"}
    newer = {**unit, "valid_between": {"start": "2001-01-01", "end": None}}
    base = [unit, other, newer, {**other, "deleted": True}]
    case = {"id": "c1", "today": "2026-01-01", "base": base, "transaction": [change()], "violations": []}
    Path("case.json").write_text(json.dumps(case))
    ended = rules("validate", "case.json", "--against", "case.json", "--today", "2026-01-01")
    assert ended.exit_code == 0
    (request,) = rules.service.requests
    (record,) = request.options.data.records
    assert record.measurement_unit.code == "KGM"
    assert record.measurement_unit.valid_between.start_date.year == 2001


@pytest.mark.parametrize(
    ("base", "said"),
    [
        ([{**DEFINITION, "sid": "x"}], "record 0: sid: must be a positive integer"),
        ([{"kind": "quota"}], "record 0: kind"),
        ([{**DEFINITION, "deleted": 1}], "record 0: deleted: must be true or false"),
        ([{**DEFINITION, "\ud800": 1}], "record 0: \\ud800: is no field of quota_definition"),
        ({"records": []}, "list of records"),
    ],
)
def test_bad_data_to_judge_against(rules: RulesShell, base: Any, said: str) -> None:
    """Named before anything is judged."""
    Path("base.json").write_text(json.dumps(base))
    ended = rules("validate", "e.xml", "--against", "base.json")
    assert ended.exit_code == 2
    assert said in ended.stderr
    assert rules.service.streams == []


def test_a_commit_of_changes(rules: RulesShell) -> None:
    """Judged first, then stored on the version that it was judged on, once, also if the controller restarts."""
    rules.service.refusals["CommitTransaction"] = Refusal("", "restarts", times=1)
    ended = rules("commit", given(change()), "--reason", "more came", "--json")
    assert (ended.exit_code, json.loads(ended.stdout)["data_version"]) == (0, "8")
    judged, stored, again = rules.service.requests
    assert stored == again
    assert (stored.transaction, stored.options) == (judged.transaction, judged.options)
    assert stored.commit == pb.CommitOptions(expected_data_version=7, reason="more came")
    assert len(stored.request_id) > 20


def test_limits_are_sent(rules: RulesShell) -> None:
    """Unless some of the answer is to be hidden: then as many as there can be."""
    rules("validate", given(change()), "--limit", "5")
    rules("validate", "c.json", "--limit", "5", "--hide-preexisting")
    assert [request.max_violations for request in rules.service.requests] == [5, 10_000]
