"""Keys, files and options of `quotactl rules`: read as they are written, or refused with a word about how."""

from __future__ import annotations

import gzip
import json
import os
import re
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import typer
from google.protobuf.message import Message
from google.type.date_pb2 import Date
from typer.testing import CliRunner

from quota_server.cli import rules_keys, rules_views
from quota_server.cli.output import visible
from quota_server.cli.quotactl import app
from quota_server.cli.rules_files import CHUNK, Form, InputError, opened
from quota_server.cli.rules_judging import Judgement, Wish
from quotafleet.v1 import rules_service_pb2 as rules_pb
from quotafleet.v1 import tariff_records_pb2 as pb
from rules.json_form import read_changes

# --- kinds and keys --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ("quota_definition", "20153"),
        ("measurement_unit", "KGM"),
        ("quota_association", "12/13"),
        ("quota_order_number_origin_exclusion", "5/1011"),
        ("quota_event", "00/20153/2026-01-31T10:00:05"),
    ],
)
def test_keys_are_read_as_they_are_shown(kind: str, key: str) -> None:
    """What stands in a table can be given to `show`."""
    read = rules_keys.key(rules_keys.kind(kind, "KIND"), key)
    assert rules_keys.shown(read) == f"{kind} {key}"


def test_kinds_with_hyphens() -> None:
    """Other options are written with them."""
    assert rules_keys.kind("Quota-Definition", "KIND") == pb.RECORD_KIND_QUOTA_DEFINITION
    with pytest.raises(typer.BadParameter, match="did you mean quota_definition"):
        rules_keys.kind("definition", "KIND")
    with pytest.raises(typer.BadParameter, match="one of geographical_area"):
        rules_keys.kind("xyz", "KIND")


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ("quota_definition", "KGM"),
        ("quota_definition", "-1"),
        ("quota_definition", str(2**63)),
        ("quota_association", "12"),
        ("quota_association", "12/13/14"),
        ("quota_event", "00/20153"),
        ("quota_event", "00/20153/2026-02-30T10:00:00"),
        ("quota_event", "00/x/2026-02-28T10:00:00"),
    ],
)
def test_other_keys_are_refused(kind: str, key: str) -> None:
    """Before the controller is asked."""
    with pytest.raises(typer.BadParameter):
        rules_keys.key(rules_keys.kind(kind, "KIND"), key)


def test_every_kind_has_a_key() -> None:
    """And a message of its own in a record, under its name."""
    kinds = pb.TariffRecord.DESCRIPTOR.fields_by_name
    assert set(rules_keys.KINDS) == set(kinds)


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "form"),
    [
        (b"<a/>", Form.XML),
        (b"\xef\xbb\xbf \r\n<a/>", Form.XML),
        ("<a/>".encode("utf-16"), Form.XML),
        (b" [1]", Form.JSON),
        (b'\xef\xbb\xbf{"a": 1}', Form.JSON),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_files_are_told_by_their_content(tmp_path: Path, content: bytes, form: Form, zipped: bool) -> None:
    """Not by their names."""
    path = tmp_path / "file.json.xml"
    path.write_bytes(gzip.compress(content) if zipped else content)
    with opened(str(path)) as source:
        assert source.form is form
        assert b"".join(source.chunks()) == content
        assert b"".join(source.chunks()) == content, "it can be read again"


def test_two_readers_do_not_disturb_each_other(tmp_path: Path) -> None:
    """A stream that failed may still be reading when the next try begins."""
    path = tmp_path / "e.xml"
    path.write_bytes(b"<" + os.urandom(3 * CHUNK))
    with opened(str(path)) as source:
        first, second = source.chunks(), source.chunks()
        pairs = list(zip(first, second, strict=True))
    assert len(pairs) > 2
    assert all(one == two for one, two in pairs)


def test_a_pipe_can_be_read_twice(tmp_path: Path) -> None:
    """As from `<(zcat ...)`: it is kept on disk meanwhile."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(path.write_bytes, b"<a/>")
        with opened(str(path)) as source:
            assert [b"".join(source.chunks()) for _ in range(2)] == [b"<a/>"] * 2


def test_long_files_do_not_fill_the_memory(tmp_path: Path) -> None:
    """64 MB out of 64 KB: no chunk and no buffer grows with the file."""
    path = tmp_path / "e.xml.gz"
    with gzip.open(path, "wb") as file:
        file.write(b"<env:envelope>")
        for _ in range(64):
            file.write(bytes(1_000_000))
    seen: list[int] = []
    tracemalloc.start()
    try:
        with opened(str(path)) as source:
            lengths = [len(chunk) for chunk in source.chunks(seen.append)]
            assert seen[-1] == source.size
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(lengths) > 64_000_000
    assert max(lengths) <= CHUNK
    assert peak < 4_000_000


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing", "no such file"),
        (".", "is a directory"),
        ("\0", "null"),
        ("empty", "is empty"),
        ("text", "neither XML nor JSON"),
        ("damaged", "gzip data are damaged"),
    ],
)
def test_other_files_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    """By name, before the controller is asked, with a word about what to do."""
    monkeypatch.chdir(tmp_path)
    Path("empty").write_bytes(b"")
    Path("text").write_bytes(b"hello")
    Path("damaged").write_bytes(b"\x1f\x8b and nothing more")
    with pytest.raises(InputError, match=said) as refused, opened(name):
        pytest.fail("it went on")
    assert str(refused.value).startswith(f"{name}: ")
    assert refused.value.hint


# --- bad usage -------------------------------------------------------------------------------------------------------

BAD_USAGE: list[tuple[tuple[str, ...], str]] = [
    (("validate",), "FILE"),
    (("validate", "missing.xml"), "no such file"),
    (("validate", "-", "-"), "can be given once"),
    (("validate", "-", "--today", "soon"), "no date"),
    (("validate", "-", "--today", "2026-02-30"), "not in the calendar"),
    (("validate", "-", "--mechanism", "054001"), "054001=licensed"),
    (("validate", "-", "--profile", "mars"), "--profile"),
    (("validate", "-", "--against", "missing.xml"), "no such file"),
    (("validate", "-", "--limit", "0"), "--limit"),
    (("commit",), "FILE"),
    (("commit", "missing.xml"), "no such file"),
    (("commit", "-", "--expected-version", "-1"), "--expected-version"),
    (("show", "quota", "1"), "no kind of record"),
    (("show", "quota_definition", "x"), "no key"),
    (("records", "--kind", "quota"), "no kind of record"),
    (("records", "--as-of", "yesterday"), "no date"),
    (("records", "--valid-on", "1"), "no date"),
]


@pytest.mark.parametrize(("arguments", "said"), BAD_USAGE)
def test_bad_usage_ends_with_2(arguments: tuple[str, ...], said: str) -> None:
    """Before any controller is asked; it says what was wrong."""
    ended = CliRunner().invoke(app, ["--server", "127.0.0.1:1", "rules", *arguments])
    assert ended.exit_code == 2
    assert said in " ".join(ended.output.replace("│", " ").split())


# --- what is shown ---------------------------------------------------------------------------------------------------


def fields_shown(record: Message) -> dict[str, str]:
    return dict(rules_views.fields_of(record))


def test_records_are_shown_in_the_fields_words() -> None:
    """Dates, decimals, periods; what is not there is a hyphen, and false is not nothing."""
    definition = pb.QuotaDefinition(
        sid=20153, measurement_unit="KGM", quota_critical=False, maximum_precision=0
    )
    definition.volume.value = "1000.500"
    definition.valid_between.start_date.CopyFrom(Date(year=2026, month=1, day=1))
    shown = fields_shown(definition)
    assert (shown["sid"], shown["volume"], shown["initial_volume"]) == ("20153", "1000.500", "-")
    assert (shown["quota_critical"], shown["maximum_precision"]) == ("no", "0")
    assert (shown["monetary_unit"], shown["measurement_unit"]) == ("-", "KGM")
    assert shown["valid_between"] == "2026-01-01.."
    definition.valid_between.end_date.CopyFrom(Date(year=2026, month=12, day=31))
    assert fields_shown(definition)["valid_between"] == "2026-01-01..2026-12-31"


def test_lists_maps_and_enums_are_shown() -> None:
    """As words, not as Python has them."""
    number = pb.QuotaOrderNumber(mechanism=pb.MECHANISM_LICENSED, required_certificate_sids=[3, 4])
    assert fields_shown(number)["mechanism"] == "licensed"
    assert fields_shown(number)["required_certificate_sids"] == "3, 4"
    event = pb.QuotaEvent(data={"old.balance": "5", "new.balance": "3"})
    event.occurrence_timestamp.year = 2026
    shown = fields_shown(event)
    assert shown["data"] == "new.balance=3, old.balance=5"
    assert shown["occurrence_timestamp"] == "2026-00-00T00:00:00", "what is odd is shown as it is"


def test_every_moment_of_a_rule_is_explained() -> None:
    """In a sentence."""
    moments = set(rules_pb.RuleMoment.values()) - {0}
    assert set(rules_views.ASKED) == moments


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Sheep meat, über 5 °C", "Sheep meat, über 5 °C"),
        ("a\x1b[31mred", "a\\x1b[31mred"),
        ("one\nsid=5", "one\\nsid=5"),
        ("a\u202eb\u200bc", "a\\u202eb\\u200bc"),
        ("\x9b2J", "\\x9b2J"),
    ],
)
def test_text_from_records_steers_no_terminal_and_begins_no_line(text: str, shown: str) -> None:
    assert visible(text) == shown
    record = pb.QuotaSuspension(sid=1, quota_definition_sid=2, description=text)
    assert dict(rules_views.fields_of(record))["description"] == shown


def test_what_stands_on_one_line_is_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    """Real envelopes come without line breaks: then the line alone says nothing."""
    key = pb.RecordKey(kind=pb.RECORD_KIND_QUOTA_DEFINITION, sid=5)
    found = rules_pb.Violation(rule="ON8", record=key, message="It is not.", triggered_by=[3], line=1)
    verdict = rules_pb.TransactionVerdict(transaction_id="15823962", line=1, violations=[found])
    answer = rules_pb.ValidateTransactionResponse(verdicts=[verdict])
    answer.summary.violations = answer.summary.transactions = 1
    options = rules_pb.JudgeOptions(today=Date(year=2026, month=1, day=1))
    rules_views.print_judgement(Judgement("day.xml", answer), Wish(options))
    assert "day.xml:1 transaction 15823962 change 3" in capsys.readouterr().out


def test_the_json_form_of_the_docs_is_well_formed() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "tariff.md").read_text()
    (block,) = re.findall(r"^```json\n(.*?)^```", page, re.M | re.S)
    changes, wrong = read_changes(json.loads(block))
    assert (len(changes), wrong) == (2, ())
