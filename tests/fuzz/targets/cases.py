"""Cases of `python -m rules judge`: JSON lines, judged; the command and a brute force have to agree."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, Final
from unittest.mock import patch

from rules.__main__ import main
from rules.cases import CaseInvalid, judge_lines
from rules.dataset import Dataset
from rules.engine import validate
from rules.forms import read_date
from rules.json_form import (
    is_deletion,
    read_change,
    read_changes,
    read_record,
    write_change,
    write_record,
)
from rules.malformed import malformed
from rules.violation import Verdict
from tests.brute.judge import judge
from tests.brute.world import loaded
from tests.fuzz.mutate import json_values
from tests.fuzz.target import Target, within_bounds

_CASES: Final = Path(__file__).resolve().parents[2] / "data" / "rules" / "cases.jsonl.gz"
#: The brute force looks at everything for everything.
_MOST_RECORDS: Final = 40
_BAD_USAGE: Final = 2


def check(data: bytes) -> None:
    """An answer of JSON to each case, or the line and what is wrong with it; the command says the same."""
    command = run_command(data)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        assert command[0] == _BAD_USAGE, "what is no text is refused, though the lines before it are answered"
        return
    lines = list(io.StringIO(text, newline=None))
    answers: list[str] = []
    error = ""
    try:
        within_bounds(
            data,
            lambda: answers.extend(judge_lines(lines)),
            calls_per_byte=60,
            bytes_per_byte=200,
        )
    except CaseInvalid as refused:
        error = str(refused)
        number = error.removeprefix("line ").partition(":")[0]
        assert error.startswith("line ") and 1 <= int(number) <= len(lines), (
            f"the refusal names no line: {error!r}"
        )
    printed = "".join(f"{each}\n" for each in answers)
    # What came before the bad line is answered all the same, by either.
    assert command[0] == (_BAD_USAGE if error else 0)
    assert command[1] == printed
    for line, answer in zip(filter(str.strip, lines), answers, strict=False):
        check_case(json.loads(line), json.loads(answer))


def run_command(data: bytes) -> tuple[int, str]:
    """Exit code and output of the command that reads this."""
    out, errors = io.StringIO(), io.StringIO()
    given = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8")
    with (
        patch.object(sys, "stdin", given),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(errors),
    ):
        code = main(["judge", "-"])
    assert (code == 0) == (errors.getvalue() == ""), "a refusal says why"
    return code, out.getvalue()


def check_case(case: dict[str, Any], answer: dict[str, Any]) -> None:
    """What can be read is written and read again; a small case is also judged by brute force."""
    changes, wrong = read_changes(case.get("transaction"))
    assert bool(answer["malformed"]) == bool(wrong)
    for change in changes:
        if not malformed([change]):
            assert read_change(json.loads(json.dumps(write_change(change)))) == change
    if wrong:
        return  # nobody has looked at the base
    base = [(read_record(each), is_deletion(each)) for each in case.get("base", [])]
    for record, _ in base:
        again = json.loads(json.dumps(write_record(record)))
        assert read_record(again) == record
    if len(base) + len(changes) > _MOST_RECORDS:
        return
    today = read_date(case["today"])
    data = Dataset.empty().with_versions((record, deleted, 0) for record, deleted in base)
    verdict: Verdict = validate(data, changes, today)
    engine = {(each.rule, each.record.kind, each.record.key, each.preexisting) for each in verdict.violations}
    brute = {
        (each.rule, each.kind, each.key, each.preexisting) for each in judge(loaded(base), changes, today)
    }
    assert engine == brute, f"the engine alone: {engine - brute}; the brute force alone: {brute - engine}"


def mutate(data: bytes, other: bytes, random: Random) -> bytes:
    """One of the lines is changed; now and then lines are put together."""
    lines = data.split(b"\n")
    at = random.randrange(len(lines))
    if random.randrange(20) == 0:
        return b"\n".join([*lines, other])
    lines[at] = json_values.mutate(lines[at], random.choice(other.split(b"\n")), random)
    return b"\n".join(lines)


def seeds() -> Iterator[bytes]:
    """The smaller ones of the cases that come with the project, with every kind and rule in them."""
    lines = gzip.decompress(_CASES.read_bytes()).splitlines()
    said: set[str] = set()
    for line in sorted(lines, key=len):
        case = json.loads(line)
        rules = {each["rule"] for each in case.get("violations", [])}
        kinds = {each["kind"] for each in case.get("base", [])}
        if len(line) < _LARGEST_SEED and not rules | kinds <= said:
            said |= rules | kinds
            yield line


_LARGEST_SEED: Final = 6_000

TARGET: Final = Target("cases", check, mutate, seeds)
