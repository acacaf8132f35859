"""Where a violation is shown in an envelope."""

from datetime import date

from quota_server.tariff.judged import Judged
from rules import Dataset, validate
from tests.rules_kit import create, definition, suspension

TODAY = date(2026, 12, 1)


def test_a_violation_is_shown_at_its_records_own_change() -> None:
    """Although the definition, which comes first, made the rule be asked as well."""
    changes = (
        create(definition(51, start="2026-06-01", end="2026-12-31")),
        create(suspension(61, start="2026-01-01", end="2026-07-01")),
    )
    verdict = validate(Dataset.empty(), changes, TODAY)
    judged = Judged(changes, verdict.violations, change_lines=(10, 20))
    (found,) = [each for each in verdict.violations if each.rule == "QSP2"]
    assert found.triggered_by == (0, 1)
    assert judged.line_of(found) == 20


def test_a_violation_of_a_record_that_was_not_changed_is_shown_at_what_changed() -> None:
    stop = suspension(61, start="2026-01-01", end="2026-07-01")
    changes = (create(definition(51, start="2026-06-01", end="2026-12-31")),)
    verdict = validate(Dataset.of([stop]), changes, TODAY)
    judged = Judged(changes, verdict.violations, change_lines=(10,))
    assert {each.rule: judged.line_of(each) for each in verdict.violations}["QSP2"] == 10
    assert Judged(changes, verdict.violations).line_of(verdict.violations[0]) == 0
