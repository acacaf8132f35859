"""`quotactl rules validate` and `commit` against a service that answers as the contract says."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from quota_server.cli.rules_files import CHUNK
from quotafleet.v1 import rules_service_pb2 as pb
from quotafleet.v1 import tariff_records_pb2 as records_pb
from tests.scripted_rules import (
    ENVELOPE,
    Refusal,
    RulesShell,
    ScriptedRules,
    open_rules,
    open_rules_in,
    violation,
)


@pytest.fixture
def rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RulesShell]:
    with open_rules_in(tmp_path, monkeypatch) as shell:
        yield shell


def broken(service: ScriptedRules, *, new: int, before: int = 0) -> None:
    """The service finds so much."""
    found = [violation("ON8", sid, 10 + sid) for sid in range(new)]
    found += [violation("QD7", 100 + sid, 50 + sid, preexisting=True) for sid in range(before)]
    service.verdicts = [pb.TransactionVerdict(transaction_id="1", line=2, violations=found)]
    service.summary = pb.EnvelopeSummary(
        transactions=1, changes=2, violations=new + before, preexisting=before
    )


def malformed(service: ScriptedRules) -> None:
    wrong = pb.MalformedField(change=1, field="volume", expected="must be a decimal", line=31)
    service.verdicts = [pb.TransactionVerdict(transaction_id="1", line=2, malformed=[wrong])]
    service.summary = pb.EnvelopeSummary(transactions=1, changes=2, malformed=1)


# --- what is sent ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [ENVELOPE, b"\xef\xbb\xbf" + ENVELOPE, b"\n <a/>", ENVELOPE * 40_000])
@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("how", ["file", "stdin"])
def test_an_envelope_arrives_as_it_is(rules: RulesShell, content: bytes, zipped: bool, how: str) -> None:
    """From a file with any name or from a pipe, gzipped or not, byte for byte in small messages."""
    given = gzip.compress(content) if zipped else content
    Path("data").write_bytes(given)
    ended = rules("validate", "data") if how == "file" else rules("validate", "-", given=given)
    assert (ended.exit_code, ended.stderr) == (0, "")
    (sent,) = rules.service.streams
    assert (sent.size, sent.digest) == (len(content), hashlib.sha256(content).hexdigest())
    assert sent.largest <= CHUNK


def test_how_to_judge_is_sent_first(rules: RulesShell) -> None:
    """The day, the profile and what an envelope does not say."""
    ended = rules(
        *("validate", "e.xml", "--today", "2026-02-28", "--profile", "eu", "--mechanism", "054001=licensed"),
        *("--mechanism", "050002=FCFS"),
    )
    assert ended.exit_code == 0
    (sent,) = rules.service.streams
    assert (sent.options.today.year, sent.options.today.month, sent.options.today.day) == (2026, 2, 28)
    assert sent.options.profile == pb.RULE_PROFILE_EU
    assert dict(sent.options.mechanisms) == {
        "054001": records_pb.MECHANISM_LICENSED,
        "050002": records_pb.MECHANISM_FIRST_COME_FIRST_SERVED,
    }
    assert not sent.options.HasField("data")
    assert "today is 2026-02-28 (UTC), profile eu, on data version 7" in ended.stdout


def test_the_day_is_always_said(rules: RulesShell) -> None:
    """Also to the controller, so that a verdict does not change at midnight between two calls."""
    ended = rules("validate", "e.xml", "--json")
    (sent,) = rules.service.streams
    day = sent.options.today
    assert json.loads(ended.stdout)["today"] == f"{day.year:04}-{day.month:02}-{day.day:02}"


def test_data_can_be_sent_along(rules: RulesShell) -> None:
    """An envelope, or no data at all."""
    Path("base.xml.gz").write_bytes(gzip.compress(ENVELOPE))
    rules.service.version = None
    ended = rules("validate", "e.xml", "--against", "base.xml.gz")
    assert "on the data sent along" in ended.stdout
    assert rules("validate", "e.xml", "--against", "none").exit_code == 0
    whole, nothing = (sent.options.data for sent in rules.service.streams)
    assert whole == pb.SentData(envelope=ENVELOPE)
    assert nothing == pb.SentData()
    assert all(sent.options.HasField("data") for sent in rules.service.streams)


def test_data_that_is_too_large_to_be_sent_along(rules: RulesShell) -> None:
    """It says what to do instead; a few kilobytes of gzip are enough."""
    Path("base.xml.gz").write_bytes(gzip.compress(b"<a>" + b" " * (4 * 1024 * 1024)))
    ended = rules("validate", "e.xml", "--against", "base.xml.gz")
    assert ended.exit_code == 2
    assert "has more than 4 MiB" in ended.stderr
    assert "data folder of its own" in ended.stderr


# --- how it ends -----------------------------------------------------------------------------------------------------


def test_nothing_wrong_is_0(rules: RulesShell) -> None:
    """What was judged, and what was skipped."""
    rules.service.summary.skipped_records["400 00"] = 3
    ended = rules("validate", "e.xml")
    assert ended.exit_code == 0
    assert "e.xml: 1 transaction, 2 changes" in ended.stdout
    assert "nothing is wrong" in ended.stdout
    assert "400 00 × 3" in ended.stdout


def test_broken_rules_are_1(rules: RulesShell) -> None:
    """Each with its record and its line, as an editor can open it."""
    broken(rules.service, new=2, before=1)
    ended = rules("validate", "e.xml")
    assert ended.exit_code == 1
    rows = [line.split() for line in ended.stdout.splitlines()]
    assert rows[0] == ["rule", "record", "where", "since", "message"]
    assert rows[1][:6] == ["ON8", "quota_definition", "0", "e.xml:10", "new", "the"]
    assert rows[3][:5] == ["QD7", "quota_definition", "100", "e.xml:50", "before"]
    assert "3 violations: 2 new, 1 from before" in ended.stdout


@pytest.mark.parametrize(("new", "code"), [(1, 1), (0, 0)])
def test_what_was_wrong_before_can_be_hidden(rules: RulesShell, new: int, code: int) -> None:
    """Then only what is new counts; without the option everything does."""
    broken(rules.service, new=new, before=2)
    assert rules("validate", "e.xml").exit_code == 1
    ended = rules("validate", "e.xml", "--hide-preexisting")
    assert ended.exit_code == code
    assert "QD7" not in ended.stdout
    assert f"{new + 2} violations: {new} new, 2 from before (not shown)" in ended.stdout
    machine = json.loads(rules("validate", "e.xml", "--hide-preexisting", "--json").stdout)
    assert [each["rule"] for verdict in machine["verdicts"] for each in verdict["violations"]] == [
        "ON8"
    ] * new


def test_malformed_is_2(rules: RulesShell) -> None:
    """Whatever else is wrong: no rule was asked."""
    malformed(rules.service)
    ended = rules("validate", "e.xml")
    assert ended.exit_code == 2
    rows = [line.split() for line in ended.stdout.splitlines()]
    assert rows[:2] == [["where", "field", "expected"], ["e.xml:31", "volume", "must", "be", "a", "decimal"]]
    assert "1 malformed field: no rule" in ended.stdout


def test_an_envelope_that_cannot_be_read_is_2(rules: RulesShell) -> None:
    """What was found before that place is shown too."""
    broken(rules.service, new=1)
    metadata = {"line": "77", "element": "oub:record"}
    rules.service.refusals["ValidateEnvelope"] = Refusal(
        "ENVELOPE_INVALID", "line 77: oub:record: a record has no code", metadata
    )
    ended = rules("validate", "e.xml")
    assert ended.exit_code == 2
    assert "e.xml:77  oub:record  a record has no code" in ended.stdout
    assert "ON8" in ended.stdout
    machine = rules("validate", "e.xml", "--json")
    assert (machine.exit_code, len(machine.stdout.splitlines())) == (2, 1)
    answer = json.loads(machine.stdout)
    assert answer["error"]["reason"] == "ENVELOPE_INVALID"
    assert answer["error"]["metadata"] == metadata
    assert answer["verdicts"][0]["violations"][0]["rule"] == "ON8"


def test_several_files_end_with_the_worst(rules: RulesShell) -> None:
    """A file that cannot be read does not keep the others from being judged."""
    broken(rules.service, new=1)
    ended = rules("validate", "missing.xml", "e.xml")
    assert ended.exit_code == 2
    assert "error: missing.xml: no such file or directory" in ended.stderr
    assert "ON8" in ended.stdout
    machine = rules("validate", "missing.xml", "e.xml", "--json")
    first, second = map(json.loads, machine.stdout.splitlines())
    assert first["error"]["file"] == "missing.xml"
    assert (second["file"], second["summary"]["violations"]) == ("e.xml", "1")


def test_json_is_one_line_a_file(rules: RulesShell) -> None:
    """The answer of ValidateTransaction, whichever way it came, with what it is about."""
    broken(rules.service, new=1)
    ended = rules("validate", "e.xml", "e.xml", "--json")
    first, second = map(json.loads, ended.stdout.splitlines())
    assert first == second
    assert set(first) == {"file", "today", "verdicts", "summary", "data_version"}
    (verdict,) = first["verdicts"]
    assert (verdict["transaction_id"], verdict["line"]) == ("1", "2")
    assert verdict["violations"][0]["record"] == {"kind": "RECORD_KIND_QUOTA_DEFINITION", "sid": "0"}


def test_many_violations_are_bounded_and_put_together(rules: RulesShell) -> None:
    """One transaction's come in several messages; beyond the limit they are counted only."""
    parts = [[violation("ON8", 3 * part + sid, 9) for sid in range(3)] for part in range(4)]
    rules.service.verdicts = [
        pb.TransactionVerdict(transaction_id="1", line=2, violations=part) for part in parts
    ]
    rules.service.summary.violations = 12
    machine = json.loads(rules("validate", "e.xml", "--json").stdout)
    assert [len(verdict["violations"]) for verdict in machine["verdicts"]] == [12]
    ended = rules("validate", "e.xml", "--limit", "5")
    assert ended.stdout.count("e.xml:9") == 5
    assert "12 violations" in ended.stdout
    assert "the first 5 are shown: use --limit" in ended.stdout


# --- when it goes wrong on the way -----------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [1, 6, 9, 2_000])
def test_gzip_data_that_are_cut_are_never_committed(rules: RulesShell, cut: int) -> None:
    """Not even if only the check sum is missing: the end of the envelope is not sent."""
    Path("cut.xml.gz").write_bytes(gzip.compress(ENVELOPE + random.Random(1).randbytes(CHUNK))[:-cut])
    for command in ("validate", "commit"):
        ended = rules(command, "cut.xml.gz")
        assert ended.exit_code == 2
        assert "gzip data are damaged" in ended.stderr
    assert all(sent.size <= CHUNK for sent in rules.service.streams)
    assert rules.service.commits == 0


def test_an_answer_without_an_end_is_no_verdict(rules: RulesShell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence does not mean that nothing is wrong."""
    monkeypatch.setattr(rules.service, "ValidateEnvelope", lambda requests, context: iter(()))
    with open_rules(rules.service) as again:
        ended = again("validate", "e.xml")
    assert ended.exit_code == 1
    assert "ended before its end" in ended.stderr


def test_no_controller_is_3(rules: RulesShell) -> None:
    """And it says where it looked."""
    ended = RulesShell(rules.service, "127.0.0.1:1")("validate", "e.xml")
    assert ended.exit_code == 3
    assert "no controller answers at 127.0.0.1:1" in ended.stderr


def test_a_stream_is_sent_again_from_its_beginning(rules: RulesShell) -> None:
    """Under the same request id, with the same bytes, also if they came through a pipe."""
    rules.service.refusals = {
        name: Refusal("", "restarts", times=1) for name in ("ValidateEnvelope", "CommitEnvelope")
    }
    assert rules("commit", "-", given=ENVELOPE).exit_code == 0
    assert {sent.digest for sent in rules.service.streams} == {hashlib.sha256(ENVELOPE).hexdigest()}
    first, second, third, fourth = (sent.options for sent in rules.service.streams)
    assert first == second
    assert third == fourth
    assert len(third.request_id) > 20


def test_two_failures_are_the_end(rules: RulesShell) -> None:
    """One more try, not many."""
    rules.service.refusals["CommitEnvelope"] = Refusal("", "is gone")
    assert rules("commit", "e.xml").exit_code == 3
    assert len(rules.service.streams) == 3


# --- commit ----------------------------------------------------------------------------------------------------------


def test_a_commit_is_of_what_was_judged(rules: RulesShell) -> None:
    """On the version that it was judged on, with the same options."""
    ended = rules("commit", "e.xml", "--reason", "the daily update", "--profile", "eu")
    assert ended.exit_code == 0
    assert "stored: 1 transaction, 2 changes; the data is at version 8" in ended.stdout
    judged, stored = (sent.options for sent in rules.service.streams)
    assert stored.options == judged
    assert stored.commit == pb.CommitOptions(expected_data_version=7, reason="the daily update")
    answer = json.loads(rules("commit", "e.xml", "--json").stdout)
    assert (answer["data_version"], answer["summary"]["changes"]) == ("8", "2")


@pytest.mark.parametrize(
    ("new", "before", "allowed", "code"), [(1, 1, True, 1), (0, 1, False, 1), (0, 1, True, 0)]
)
def test_broken_rules_are_not_stored(
    rules: RulesShell, new: int, before: int, allowed: bool, code: int
) -> None:
    """Unless they were broken before and that is allowed."""
    broken(rules.service, new=new, before=before)
    ended = rules("commit", "e.xml", *(["--allow-preexisting"] if allowed else []))
    assert ended.exit_code == code
    assert len(rules.service.streams) == (2 if code == 0 else 1)
    if code:
        assert f"{new} new, {before} from before" in ended.stdout
    else:
        assert "violations from before that are still there: 1" in ended.stdout
        assert rules.service.streams[1].options.commit.allow_preexisting


def test_malformed_changes_are_not_stored(rules: RulesShell) -> None:
    """They are shown."""
    malformed(rules.service)
    ended = rules("commit", "e.xml")
    assert ended.exit_code == 2
    assert "e.xml:31" in ended.stdout
    assert len(rules.service.streams) == 1


def test_a_commit_on_other_data_is_refused(rules: RulesShell) -> None:
    """Before anything is said about data that nobody meant; it says what to do."""
    broken(rules.service, new=1)
    ended = rules("commit", "e.xml", "--expected-version", "5")
    assert (ended.exit_code, ended.stdout) == (1, "")
    assert "DATA_CHANGED: the data is at version 7, not 5" in ended.stderr
    assert "then name version 7" in ended.stderr
    broken(rules.service, new=0)
    assert rules("commit", "e.xml", "--expected-version", "7").exit_code == 0


def test_somebody_else_was_faster(rules: RulesShell) -> None:
    """Run it again, it says."""
    metadata = {"expected_data_version": "7", "data_version": "9"}
    rules.service.refusals["CommitEnvelope"] = Refusal("DATA_CHANGED", "the data is at version 9", metadata)
    ended = rules("commit", "e.xml")
    assert ended.exit_code == 1
    assert "DATA_CHANGED" in ended.stderr
    assert "run the command again" in ended.stderr
    machine = rules("commit", "e.xml", "--json")
    assert json.loads(machine.stdout)["error"]["metadata"] == metadata
