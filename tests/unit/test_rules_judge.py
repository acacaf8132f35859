"""Cases, one JSON object a line, and `python -m rules judge` that answers them."""

import gzip
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rules.__main__ import main
from rules.cases import CaseInvalid, answer, judge, judge_lines
from rules.json_form import FormError, write_change, write_record
from rules.records import Change
from tests.rules_kit import (
    Base,
    area,
    create,
    definition,
    delete,
    event,
    membership,
    order_number,
    update,
)

ROOT = Path(__file__).resolve().parents[2]


def case(base: Base, *changes: Change, **more: Any) -> dict[str, Any]:
    entries = [
        {**write_record(each.record), "deleted": True} if isinstance(each, Change) else write_record(each)
        for each in base  # type: ignore[union-attr]
    ]
    return {
        "id": "c1",
        "today": "2021-06-01",
        "base": entries,
        "transaction": [write_change(each) for each in changes],
        **more,
    }


GOOD = case([], create(area(11)), id="good")
BROKEN = case([], create(membership(12, 13)), id="broken")
MALFORMED = case([], create(area(11, start="2020-01-02", end="2020-01-01")), id="malformed")
ANSWERS = [
    {"id": "good", "violations": [], "malformed": []},
    {
        "id": "broken",
        "violations": [
            {
                "rule": "ReferenceMustExist",
                "kind": "geographical_membership",
                "key": {"group_sid": 12, "member_sid": 13},
                "preexisting": False,
            }
        ],
        "malformed": [],
    },
    {"id": "malformed", "violations": [], "malformed": [[0, "valid_between"]]},
]
LINES = [json.dumps(each) for each in (GOOD, BROKEN, MALFORMED)]


# --- one case --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("given", "expected"), [*zip((GOOD, BROKEN, MALFORMED), ANSWERS, strict=True)])
def test_a_case_is_answered_with_what_is_wrong(given: Any, expected: Any) -> None:
    assert answer(given) == expected


def test_violations_are_sorted_by_kind_key_and_rule() -> None:
    changes = [
        delete(event()),
        create(order_number(100)),
        create(order_number(9)),
        create(membership(12, 13)),
    ]
    given = case([], *changes)
    found = [(each["kind"], [*each["key"].values()], each["rule"]) for each in answer(given)["violations"]]
    assert found == [
        ("geographical_membership", [12, 13], "ReferenceMustExist"),
        ("quota_event", ["00", 51, "2020-06-01T12:00:00"], "UpdateValidity"),
        *(("quota_order_number", [9], rule) for rule in ("ON1", "ON2", "ON4")),
        *(("quota_order_number", [100], rule) for rule in ("ON1", "ON2", "ON4")),
    ]


def test_of_base_entries_with_one_key_later_ones_are_newer_and_deletions_count() -> None:
    old, new = order_number(1), order_number(1, "050002")
    rival = create(order_number(2, "050002"))
    assert "ON1" in {each.rule for each in judge(case([old, new], rival)).violations}
    assert "ON1" not in {each.rule for each in judge(case([new, old], rival)).violations}
    assert "ON1" not in {each.rule for each in judge(case([old, new, delete(new)], rival)).violations}
    assert "ON1" in {each.rule for each in judge(case([new, delete(new), new], rival)).violations}


def test_base_data_may_break_rules_even_by_a_backwards_period() -> None:
    backwards = area(11, start="2020-01-02", end="2020-01-01")
    assert answer(case([backwards, membership(11, 11)], update(area(11))))["violations"] == []


def test_a_preexisting_violation_says_so() -> None:
    (found,) = answer(case([membership(12, 13)], update(membership(12, 13))))["violations"]
    assert found["preexisting"] is True


def test_today_is_that_of_the_case() -> None:
    gone = delete(definition(51, start="2021-06-01", end=None))
    base = [definition(51, start="2021-06-01", end=None)]
    assert [each["rule"] for each in answer(case(base, gone))["violations"]] == [
        "PreventQuotaDefinitionDeletion"
    ]
    assert answer(case(base, gone, today="2021-05-31"))["violations"] == []


def test_a_case_may_have_no_id_and_no_base() -> None:
    assert answer({"today": "2021-06-01", "transaction": []}) == {
        "id": None,
        "violations": [],
        "malformed": [],
    }


@pytest.mark.parametrize("transaction", [None, {}, "x", 5])
def test_a_transaction_that_is_none_is_malformed(transaction: Any) -> None:
    assert answer({**GOOD, "transaction": transaction})["malformed"] == [[0, "transaction"]]


AREA = write_record(area(11))
INVALID: list[tuple[Any, type[ValueError], str]] = [
    ([], CaseInvalid, "a case must be an object"),
    (None, CaseInvalid, "a case must be an object"),
    ({**GOOD, "today": "2021-6-1"}, CaseInvalid, '"today" must be a date, YYYY-MM-DD'),
    ({**GOOD, "today": None}, CaseInvalid, '"today" must be a date'),
    ({**GOOD, "today": "2021-02-29"}, CaseInvalid, '"today" must be a date'),
    ({**GOOD, "base": {}}, CaseInvalid, '"base" must be a list of records'),
    ({**GOOD, "base": [None]}, FormError, "record: must be an object"),
    ({**GOOD, "base": [{**AREA, "kind": "x"}]}, FormError, "kind: must be one of"),
    ({**GOOD, "base": [{**AREA, "x": 1}]}, FormError, "x: is no field of geographical_area"),
    (
        {**GOOD, "base": [AREA, {**AREA, "sid": [1]}]},
        CaseInvalid,
        r'"base"\[1\]: sid: must be a positive integer',
    ),
    ({**GOOD, "base": [{**AREA, "area_code": 3}]}, CaseInvalid, r'"base"\[0\]: area_code: must be 0'),
    (
        {**GOOD, "base": [{**AREA, "valid_between": {"start": "2020-01-01", "end": "2020-02-30"}}]},
        CaseInvalid,
        r'"base"\[0\]: valid_between: must be a period',
    ),
    (
        {**GOOD, "base": [{**AREA, "valid_between": None}]},
        CaseInvalid,
        r'"base"\[0\]: valid_between: must be a period',
    ),
]


@pytest.mark.parametrize(("given", "error", "message"), INVALID)
def test_what_is_no_case_says_why(given: Any, error: type[ValueError], message: str) -> None:
    with pytest.raises(error, match=message):
        answer(given)


# --- lines -----------------------------------------------------------------------------------------------------------


def test_each_line_is_answered_in_its_order() -> None:
    assert [json.loads(each) for each in judge_lines(LINES)] == ANSWERS


def test_answers_are_compact() -> None:
    assert next(judge_lines(LINES)) == '{"id":"good","violations":[],"malformed":[]}'


def test_empty_lines_are_passed_over_but_counted() -> None:
    lines = judge_lines(["\n", f"{LINES[0]}\n", "  \n", "[]\n"])
    assert json.loads(next(lines)) == ANSWERS[0]
    with pytest.raises(CaseInvalid, match="line 4: a case must be an object"):
        next(lines)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nonsense", "line 2: Expecting value"),
        ('{"id": 1', "line 2: "),
        (json.dumps([GOOD]), "line 2: a case must be an object"),
        *((json.dumps(given), f"line 2: {message}") for given, _, message in INVALID if given != []),
        ("[" * 100_000, "line 2: it is nested too deeply"),
        (f'{{"id": {"1" * 5000}}}', "line 2: "),
    ],
    ids=lambda each: each[:40],
)
def test_a_bad_line_is_named(line: str, message: str) -> None:
    lines = judge_lines([LINES[0], line])
    next(lines)
    with pytest.raises(CaseInvalid, match=message):
        next(lines)


# --- the command -----------------------------------------------------------------------------------------------------


def write_plain(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def write_zipped(path: Path, text: str) -> Path:
    zipped = path.with_name(f"{path.name}.gz")
    zipped.write_bytes(gzip.compress(text.encode()))
    return zipped


@pytest.mark.parametrize("write", [write_plain, write_zipped])
def test_judge_answers_a_file_plain_or_zipped(
    write: Callable[[Path, str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "cases.jsonl", "\n".join(LINES) + "\n")
    assert main(["judge", str(path)]) == 0
    captured = capsys.readouterr()
    assert [json.loads(line) for line in captured.out.splitlines()] == ANSWERS
    assert captured.err == ""


def test_judge_answers_standard_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(LINES)))
    assert main(["judge", "-"]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == ANSWERS


@pytest.mark.parametrize(
    "arguments", [[], ["judge"], ["judges", "-"], ["judge", "-", "-"], ["--help"]], ids=" ".join
)
def test_anything_else_says_how_to_use_it(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.startswith("usage: python -m rules judge CASES")) == ("", True)


def test_a_bad_line_ends_it_after_the_answers_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_plain(tmp_path / "cases.jsonl", f"{LINES[0]}\n[]\n{LINES[1]}\n")
    assert main(["judge", str(path)]) == 2
    captured = capsys.readouterr()
    assert [json.loads(line) for line in captured.out.splitlines()] == ANSWERS[:1]
    assert captured.err == f"error: {path}: line 2: a case must be an object\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("missing.jsonl", None),
        ("missing.jsonl.gz", None),
        ("latin.jsonl", '{"id": "é"}'.encode("latin-1")),
        ("plain.jsonl.gz", LINES[0].encode()),
        ("cut.jsonl.gz", gzip.compress(LINES[0].encode())[:-9]),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    name: str, content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    assert main(["judge", str(path)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {path} cannot be read: ")


def run(*arguments: str, given: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rules", *arguments]
    return subprocess.run(command, cwd=ROOT, input=given, check=False, capture_output=True, text=True)


def test_the_command_answers_and_fails_as_a_process() -> None:
    done = run("judge", "-", given="\n".join(LINES))
    assert (done.returncode, done.stderr) == (0, "")
    assert [json.loads(line) for line in done.stdout.splitlines()] == ANSWERS
    failed = run("judge", "-", given="[]")
    assert (failed.returncode, failed.stderr) == (2, "error: -: line 1: a case must be an object\n")


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    path = write_plain(tmp_path / "cases.jsonl", f"{LINES[1]}\n" * 3000)
    command = [sys.executable, "-m", "rules", "judge", str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline()) == ANSWERS[1]
        process.stdout.close()
        assert (process.wait(), process.stderr.read()) == (0, b"")
