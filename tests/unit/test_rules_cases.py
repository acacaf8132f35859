"""The corpus: cases with the verdicts that follow from the rules. 300 stand here, all that are published beside us."""

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from rules.cases import judge
from rules.catalogue import RULES
from rules.json_form import write_key

ROOT = Path(__file__).resolve().parents[2]
OURS = ROOT / "tests" / "data" / "rules" / "cases.jsonl.gz"
PUBLISHED = ROOT.parent / "shared" / "corpus" / "visible.jsonl.gz"


def read(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def expected(case: dict[str, Any]) -> tuple[Counter[str], list[tuple[int, str]]]:
    violations = Counter(
        name(each["kind"], each["key"], each["rule"], each["preexisting"]) for each in case["violations"]
    )
    return violations, [(index, field) for index, field in case.get("malformed", [])]


def found(case: dict[str, Any]) -> tuple[Counter[str], list[tuple[int, str]]]:
    verdict = judge(case)
    violations = Counter(
        name(each.record.kind, write_key(each.record), each.rule, each.preexisting)
        for each in verdict.violations
    )
    return violations, [(each.index, each.field) for each in verdict.malformed]


def name(kind: str, key: dict[str, Any], rule: str, preexisting: bool) -> str:
    return f"{rule} of {kind} {json.dumps(key, sort_keys=True)}{', as before' if preexisting else ''}"


def differing(cases: list[dict[str, Any]]) -> dict[str, tuple[Any, Any]]:
    """What is missing and what is too much, by the case's id."""
    wrong = {}
    for case in cases:
        violations, malformed = expected(case)
        ours, malformed_of_ours = found(case)
        if ours != violations or malformed_of_ours != malformed:
            missing = [*(violations - ours), *set(malformed).difference(malformed_of_ours)]
            wrong[case["id"]] = (
                missing,
                [*(ours - violations), *set(malformed_of_ours).difference(malformed)],
            )
    return wrong


def test_three_hundred_cases_are_judged_as_they_should_be() -> None:
    cases = read(OURS)
    assert len(cases) == len({case["id"] for case in cases}) == 300
    assert differing(cases) == {}


def test_the_three_hundred_cases_have_every_rule_and_much_besides() -> None:
    cases = read(OURS)
    assert {each["rule"] for case in cases for each in case["violations"]} == set(RULES)
    assert (
        len({(each["rule"], each["preexisting"]) for case in cases for each in case["violations"]})
        == 2 * len(RULES) - 13
    )  # which are never preexisting
    assert sum("malformed" in case for case in cases) == 10
    assert sum(not case["violations"] and "malformed" not in case for case in cases) > 30


@pytest.mark.skipif(not PUBLISHED.is_file(), reason="the corpus does not lie beside the repository")
def test_every_published_case_is_judged_as_it_should_be() -> None:
    cases = read(PUBLISHED)
    assert len(cases) > 2000
    assert differing(cases) == {}


def test_a_case_that_is_judged_otherwise_is_noticed() -> None:
    case = next(each for each in read(OURS) if len(each["violations"]) == 1)
    (only,) = case["violations"]
    assert differing([case]) == {}
    assert list(differing([{**case, "violations": []}])) == [case["id"]]
    assert list(differing([{**case, "violations": [only, only]}])) == [case["id"]]
    assert list(differing([{**case, "violations": [{**only, "preexisting": not only["preexisting"]}]}])) == [
        case["id"]
    ]
    assert list(differing([{**case, "malformed": [[0, "sid"]]}])) == [case["id"]]
