"""`quotactl rules list`, `explain`, `show` and `records`: pages put together, names found, refusals explained."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from google.type.date_pb2 import Date

from quotafleet.v1 import rules_service_pb2 as pb
from quotafleet.v1 import tariff_records_pb2 as records_pb
from tests.scripted_rules import Refusal, RulesShell, ScriptedRules, open_rules

ON2 = pb.Rule(
    code="ON2",
    text="There may be no overlap in time of two quota order numbers with the same number.",
    about=[records_pb.RECORD_KIND_QUOTA_ORDER_NUMBER],
    asked=pb.RULE_MOMENT_LIVE,
)
DELETION = pb.Rule(
    code="PreventQuotaDefinitionDeletion",
    text="A definition cannot be deleted once it has started.",
    about=[records_pb.RECORD_KIND_QUOTA_DEFINITION],
    triggers=[records_pb.RECORD_KIND_MEASURE, records_pb.RECORD_KIND_CERTIFICATE],
    asked=pb.RULE_MOMENT_DELETED,
    only_uk=True,
)


@pytest.fixture
def rules() -> Iterator[RulesShell]:
    service = ScriptedRules()
    service.answers["ListRules"] = [
        pb.ListRulesResponse(rules=[ON2], next_page_token="more"),
        pb.ListRulesResponse(rules=[DELETION]),
    ]
    with open_rules(service) as shell:
        yield shell


def version(code: str, number: int, *, deleted: bool = False) -> pb.RecordVersion:
    found = pb.RecordVersion(data_version=number, deleted=deleted, actor="ann", reason="because")
    found.record.measurement_unit.code = code
    found.record.measurement_unit.valid_between.start_date.CopyFrom(Date(year=2000, month=1, day=1))
    found.commit_time.seconds = 86_400
    return found


def test_the_rules_are_listed(rules: RulesShell) -> None:
    """All pages, in one table."""
    ended = rules("list", "--profile", "eu")
    rows = [line.split() for line in ended.stdout.splitlines()]
    assert rows[0] == ["code", "about", "asked", "of", "text"]
    assert rows[1][:4] == ["ON2", "quota_order_number", "live", "There"]
    assert rows[2][:4] == ["PreventQuotaDefinitionDeletion", "quota_definition", "deleted", "(UK)"]
    first, second = rules.service.requests
    assert (first.profile, first.page_token) == (pb.RULE_PROFILE_EU, "")
    assert (second.profile, second.page_token) == (pb.RULE_PROFILE_EU, "more")


def test_the_rules_as_json(rules: RulesShell) -> None:
    """One answer, on one line."""
    ended = rules("list", "--json")
    assert len(ended.stdout.splitlines()) == 1
    assert [rule["code"] for rule in json.loads(ended.stdout)["rules"]] == [ON2.code, DELETION.code]


def test_a_rule_is_explained(rules: RulesShell) -> None:
    """However its code is written."""
    ended = rules("explain", "preventquotadefinitiondeletion")
    assert ended.exit_code == 0
    for part in (DELETION.text, "deleted by the transaction", "measure, certificate", "uk only"):
        assert part in ended.stdout


def test_a_rule_as_json(rules: RulesShell) -> None:
    """The rule alone."""
    assert json.loads(rules("explain", "on2", "--json").stdout)["asked"] == "RULE_MOMENT_LIVE"


def test_an_unknown_rule(rules: RulesShell) -> None:
    """Names those that are written nearly like that."""
    ended = rules("explain", "ON22")
    assert ended.exit_code == 2
    assert "no rule has the code 'ON22'" in ended.stderr
    assert "did you mean ON2?" in ended.stderr


def test_a_record_is_shown(rules: RulesShell) -> None:
    """With who stored it, when and why."""
    rules.service.answers["GetRecord"] = [pb.GetRecordResponse(version=version("KGM", 3))] * 2
    ended = rules("show", "measurement-unit", "KGM", "--as-of", "5")
    assert ended.exit_code == 0
    for part in ("KGM", "2000-01-01..", "1970-01-02 00:00:00Z by ann", "because"):
        assert part in ended.stdout
    (request,) = rules.service.requests
    key = records_pb.RecordKey(kind=records_pb.RECORD_KIND_MEASUREMENT_UNIT, code="KGM")
    assert request == pb.GetRecordRequest(key=key, as_of_version=5)
    machine = json.loads(rules("show", "measurement_unit", "KGM", "--json").stdout)
    assert machine["version"]["record"]["measurement_unit"]["code"] == "KGM"
    assert not rules.service.requests[1].HasField("as_of_version")


def test_a_record_that_is_not_there(rules: RulesShell) -> None:
    """Where to look instead."""
    rules.service.refusals["GetRecord"] = Refusal("RECORD_UNKNOWN", "there is no quota_definition 5")
    ended = rules("show", "quota_definition", "5")
    assert ended.exit_code == 1
    assert "RECORD_UNKNOWN" in ended.stderr
    assert "quotactl rules records" in ended.stderr


def pages() -> list[pb.ListRecordsResponse]:
    return [
        pb.ListRecordsResponse(versions=[version("KGM", 1)], next_page_token="more", data_version=9),
        pb.ListRecordsResponse(versions=[version("LTR", 2, deleted=True)], data_version=9),
    ]


def test_records_are_listed(rules: RulesShell) -> None:
    """One a line, whatever their number."""
    rules.service.answers["ListRecords"] = [*pages()]
    ended = rules("records", "--kind", "measurement_unit", "--valid-on", "2026-01-31", "--deleted")
    assert ended.stdout.splitlines() == [
        "measurement_unit code=KGM valid_between=2000-01-01.. version=1",
        "measurement_unit code=LTR valid_between=2000-01-01.. version=2 deleted",
        "2 records, as of data version 9",
    ]
    first, second = rules.service.requests
    assert first.kind == records_pb.RECORD_KIND_MEASUREMENT_UNIT
    assert first.valid_on == Date(year=2026, month=1, day=31)
    assert first.include_deleted
    assert first.WhichOneof("as_of") is None
    assert second.page_token == "more"


def test_records_as_json(rules: RulesShell) -> None:
    """One object a line: there may be more than anybody wants in memory."""
    rules.service.answers["ListRecords"] = [*pages()]
    found = [json.loads(line) for line in rules("records", "--json").stdout.splitlines()]
    assert [each["record"]["measurement_unit"]["code"] for each in found] == ["KGM", "LTR"]


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("12", pb.ListRecordsRequest(as_of_version=12)),
        ("2026-01-31", pb.ListRecordsRequest(as_of_date=Date(year=2026, month=1, day=31))),
    ],
)
def test_records_as_of_a_version_or_a_day(rules: RulesShell, given: str, sent: pb.ListRecordsRequest) -> None:
    """Told apart by how they are written."""
    rules.service.answers["ListRecords"] = [pb.ListRecordsResponse(data_version=9)]
    ended = rules("records", "--as-of", given)
    assert ended.stdout == "0 records, as of data version 9\n"
    (request,) = rules.service.requests
    sent.page_size = request.page_size
    assert request == sent
