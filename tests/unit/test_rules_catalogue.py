"""The catalogue is complete, and so are the tests of its rules."""

import pytest

import rules
from rules.catalogue import RULES, Check, Profile, When, plan, rule
from rules.engine import RULE_MODULES, validate
from rules.records import KINDS, Certificate, Record
from rules.state import Finding, State
from tests.rules_kit import BROKEN, HOLDS, TODAY, UK_ONLY, WORLD, Row, create, dataset, judge, order_number
from tests.unit import (
    test_rules_associations,
    test_rules_blocking,
    test_rules_changes,
    test_rules_definitions,
    test_rules_deletions,
    test_rules_exclusions,
    test_rules_existence,
    test_rules_measures,
    test_rules_order_numbers,
    test_rules_origins,
)

ROWS: list[Row] = [
    *test_rules_associations.ROWS,
    *test_rules_blocking.ROWS,
    *test_rules_changes.ROWS,
    *test_rules_definitions.ROWS,
    *test_rules_deletions.ROWS,
    *test_rules_exclusions.ROWS,
    *test_rules_existence.ROWS,
    *test_rules_measures.ROWS,
    *test_rules_order_numbers.ROWS,
    *test_rules_origins.ROWS,
]
CODES = {
    *("UniqueIdentifyingFields", "UpdateValidity", "ReferenceMustExist"),
    *("ON1", "ON2", "ON4", "ON5", "ON6", "ON7", "ON8", "ON9", "ON10", "ON11", "ON12", "ON13", "ON14"),
    *("CertificatesMustExist", "CertificateValidityPeriodMustSpanQuotaOrderNumber", "ME116", "ME119"),
    *("QD1", "QD3", "QD4", "QD5", "QD6", "QD7", "QD8", "QD10", "QD11", "QD12", "QD13", "QD15"),
    *("OverlappingQuotaDefinition", "VolumeAndInitialVolumeMustMatch", "PreventQuotaDefinitionDeletion"),
    "QuotaAssociationMustReferToANonDeletedSubQuota",
    "QuotaSuspensionMustReferToANonDeletedQuotaDefinition",
    "QuotaBlockingPeriodMustReferToANonDeletedQuotaDefinition",
    "PreventDeletingLinkedQuotaDefinitions",
    *("QA1", "QA2", "QA3", "QA4", "QA5", "QA6", "SameMainAndSubQuota"),
    *("QBP1", "QBP2", "QBP3", "BlockingOnlyOfFCFSQuotas", "QSP1", "QSP2", "SuspensionsOnlyToFCFSQuotas"),
}
#: Rules about the change itself.
NEVER_PREEXISTING = {
    *("UniqueIdentifyingFields", "UpdateValidity", "QA1", "QD12", "QD13", "QD15", "ON11", "ON12"),
    *("PreventQuotaDefinitionDeletion", "PreventDeletingLinkedQuotaDefinitions"),
    "QuotaAssociationMustReferToANonDeletedSubQuota",
    "QuotaSuspensionMustReferToANonDeletedQuotaDefinition",
    "QuotaBlockingPeriodMustReferToANonDeletedQuotaDefinition",
}


def codes(rows: list[Row]) -> set[str]:
    return {row.code for row in rows}


def test_the_catalogue_has_every_rule_of_the_specification() -> None:
    assert set(RULES) == CODES


def test_every_rule_has_a_row_in_which_it_holds_and_one_in_which_it_is_broken() -> None:
    assert codes([row for row in ROWS if row.says == HOLDS]) == set(RULES)
    assert codes([row for row in ROWS if row.says == BROKEN]) == set(RULES)


def test_every_rule_that_can_be_asked_of_the_state_before_has_a_row_that_was_broken_before() -> None:
    assert codes([row for row in ROWS if row.preexisting]) == set(RULES) - NEVER_PREEXISTING


def test_no_two_rows_are_of_one_name() -> None:
    names = [str(row) for row in ROWS]
    assert [name for name in names if names.count(name) > 1] == []


@pytest.mark.parametrize("code", sorted(CODES))
def test_a_rules_text_is_a_sentence_and_the_same_for_every_kind(code: str) -> None:
    (text,) = {each.text for each in RULES[code]}
    assert text[0].isupper()
    assert text == " ".join(text.split())
    assert {each.code for each in RULES[code]} == {code}


@pytest.mark.parametrize("code", sorted(CODES))
def test_only_rules_about_the_change_itself_cannot_preexist(code: str) -> None:
    assert {each.can_preexist for each in RULES[code]} == {code not in NEVER_PREEXISTING}


def test_the_union_leaves_out_what_only_the_uk_has() -> None:
    assert {each.code for same in RULES.values() for each in same if each.only_uk} == UK_ONLY
    of_uk, of_eu = plan(Profile.UK), plan(Profile.EU)
    for kind in KINDS:
        for became, uk in of_uk.own.items():
            assert [each for each in uk[kind] if not each.only_uk] == [*of_eu.own[became][kind]]
        linked = {each for *_, found in of_eu.links[kind] for each in found}
        assert not any(each.only_uk for each in linked)


def test_the_uks_rules_are_asked_unless_said_otherwise() -> None:
    change = create(order_number(1, certificates=(41,)))
    assert validate(dataset([]), [change], TODAY) == judge([], change)
    assert "CertificatesMustExist" in {each.rule for each in judge([], change).violations}
    assert "CertificatesMustExist" not in {
        each.rule for each in judge([], change, profile=Profile.EU).violations
    }


def test_every_rule_is_in_a_module_that_the_engine_imports() -> None:
    modules = {each.__name__ for each in RULE_MODULES}
    assert {each.check.__module__ for same in RULES.values() for each in same} == modules


def test_the_package_names_what_a_caller_needs() -> None:
    assert rules.RULES is RULES
    assert rules.validate is validate
    assert all(hasattr(rules, name) for name in rules.__all__)


def test_a_rule_cannot_be_there_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RULES, "ON1", [*RULES["ON1"]])

    def ON1(state: State, record: Record) -> Finding | None:
        """Again."""

    with pytest.raises(ValueError, match="ON1 is there twice"):
        rule(RULES["ON1"][0].about or Record)(ON1)
    with pytest.raises(ValueError, match="XX1 has no text"):
        rule(Certificate, when=When.LIVE)(_textless("XX1"))
    assert "XX1" not in RULES


def _textless(name: str) -> Check:
    def check(state: State, record: Record) -> Finding | None:
        return None

    check.__name__ = name
    return check


# --- a caller that goes away ------------------------------------------------------------------------------------------


class GoneError(Exception):
    """Nobody waits any more."""


def test_a_judgement_that_nobody_waits_for_ends() -> None:
    def gone() -> None:
        raise GoneError

    with pytest.raises(GoneError):
        validate(dataset([]), [create(WORLD[0])], TODAY, go_on=gone)


@pytest.mark.parametrize("records", [1, 2, 300])
def test_go_on_is_called_for_every_record(records: int) -> None:
    """First as the links are followed, then as the rules are asked."""
    called: list[None] = []
    changes = [create(order_number(sid, f"{sid:06}")) for sid in range(1, records + 1)]
    validate(dataset([]), changes, TODAY, go_on=lambda: called.append(None))
    assert len(called) == 2 * records
