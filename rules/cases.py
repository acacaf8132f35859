"""Cases with base data and a transaction, one JSON object a line: judged, and answered in the same order."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from rules.dataset import Dataset
from rules.engine import validate
from rules.forms import read_date
from rules.json_form import is_deletion, read_changes, read_record, write_key
from rules.malformed import problems
from rules.violation import Verdict


class CaseInvalid(ValueError):
    """A line is no case; the message names the line and what is wrong with it."""


def judge_lines(lines: Iterable[str]) -> Iterator[str]:
    """The answer to each case: its id, violations sorted by kind, key and rule, and what is malformed."""
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield json.dumps(answer(json.loads(line)), separators=(",", ":"))
            except ValueError as error:  # no JSON, a FormError, a CaseInvalid
                raise CaseInvalid(f"line {number}: {error}") from error
            except RecursionError:
                raise CaseInvalid(f"line {number}: it is nested too deeply") from None


def answer(case: Any) -> dict[str, Any]:
    """What becomes of a case. Raises CaseInvalid, or FormError of its base data."""
    if not isinstance(case, dict):
        raise CaseInvalid("a case must be an object")
    verdict = judge(case)
    violations: list[dict[str, Any]] = sorted(
        (
            {
                "rule": each.rule,
                "kind": each.record.kind,
                "key": write_key(each.record),
                "preexisting": each.preexisting,
            }
            for each in verdict.violations
        ),
        key=lambda each: (each["kind"], tuple(each["key"].values()), each["rule"]),
    )
    wrong = [[each.index, each.field] for each in verdict.malformed]
    return {"id": case.get("id"), "violations": violations, "malformed": wrong}


def judge(case: dict[str, Any]) -> Verdict:
    """The verdict on a case."""
    today = read_date(case.get("today"))
    if not hasattr(today, "year"):
        raise CaseInvalid('"today" must be a date, YYYY-MM-DD')
    changes, wrong = read_changes(case.get("transaction"))
    if wrong:
        return Verdict(malformed=wrong)
    return validate(_base(case.get("base", [])), changes, today)


def _base(entries: Any) -> Dataset:
    if not isinstance(entries, list):
        raise CaseInvalid('"base" must be a list of records')
    versions = []
    for index, entry in enumerate(entries):
        record = read_record(entry)
        # A backwards period is loaded like other data that breaks rules; a value of another type cannot be.
        for field, expected in problems(record):
            value = getattr(record, field)
            if field != "valid_between" or not hasattr(value, "start"):
                raise CaseInvalid(f'"base"[{index}]: {field}: {expected}')
        versions.append((record, is_deletion(entry), 0))
    return Dataset.empty().with_versions(versions)
