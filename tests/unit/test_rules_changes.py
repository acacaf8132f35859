"""The rules about the changes themselves, of every kind."""

from dataclasses import replace

import pytest

from rules.records import KINDS, Change, QuotaAssociation, Record
from tests.rules_kit import (
    WORLD,
    Row,
    association,
    breaks,
    broken,
    check,
    create,
    definition,
    delete,
    holds,
    judge,
    not_asked,
    order_number,
    ref,
    the,
    update,
)

UNIQUE, VALID = "UniqueIdentifyingFields", "UpdateValidity"
ONE, OTHER = order_number(1), order_number(2, "050002")
LINK = association(51, 52)


def unique(code: str, record: Record, other: Record) -> list[Row]:
    """What is said of a record's creation, `other` being one of the same kind."""
    return [
        holds(code, "there is none yet", record, [], create(record)),
        holds(code, "there is another", record, [other], create(record)),
        breaks(code, "there is one", record, [record], create(record), names=("although it exists",)),
        breaks(
            code,
            "there is one that is deleted too, later in the transaction",
            record,
            [record],
            create(record),
            delete(record),
        ),
        breaks(
            code,
            "there is one that is deleted too, earlier in the transaction",
            record,
            [record],
            delete(record),
            create(record),
        ),
        holds(code, "the one there was is deleted", record, [record, delete(record)], create(record)),
        holds(code, "it is created twice, for there was none", record, [], create(record), create(record)),
        holds(code, "it is updated", record, [record], update(record)),
        holds(code, "it is deleted", record, [record], delete(record)),
        holds(code, "there is none to update", record, [], update(record)),
        not_asked(code, "is not asked of others", other, [record, other], create(record)),
    ]


ROWS = [
    *unique(UNIQUE, ONE, OTHER),
    *unique("QA1", LINK, association(51, 53)),
    holds(UNIQUE, "for an association this is QA1", LINK, [LINK], create(LINK)),
    not_asked("QA1", "QA1 is about associations", ONE, [ONE], create(ONE)),
    holds(VALID, "there is one to update", ONE, [ONE], update(ONE)),
    holds(VALID, "there is one to delete", ONE, [ONE], delete(ONE)),
    holds(VALID, "creating needs none", ONE, [], create(ONE)),
    holds(VALID, "creating again is another rule's business", ONE, [ONE], create(ONE)),
    breaks(VALID, "there is none to update", ONE, [OTHER], update(ONE), names=("none to update",)),
    breaks(VALID, "there is none to delete", ONE, [OTHER], delete(ONE), names=("none to delete",)),
    breaks(VALID, "the one to update is deleted", ONE, [ONE, delete(ONE)], update(ONE)),
    breaks(VALID, "the one to delete is deleted", ONE, [ONE, delete(ONE)], delete(ONE)),
    breaks(VALID, "created and updated", ONE, [], create(ONE), update(ONE), names=("changed 2 times",)),
    breaks(VALID, "created and deleted", ONE, [], create(ONE), delete(ONE)),
    breaks(VALID, "deleted and created", ONE, [ONE], delete(ONE), create(ONE)),
    breaks(VALID, "created twice", ONE, [], create(ONE), create(ONE)),
    breaks(VALID, "updated three times", ONE, [ONE], *[update(ONE)] * 3, names=("changed 3 times",)),
    breaks(VALID, "updated and deleted", ONE, [ONE], update(ONE), delete(ONE)),
]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_the_rule_says_of_a_change(row: Row) -> None:
    check(row)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_every_kind_is_created_once_and_changed_while_it_is_there(kind: type[Record]) -> None:
    record = next(each for each in WORLD if type(each) is kind)
    rest = [each for each in WORLD if each is not record]
    again = "QA1" if kind is QuotaAssociation else UNIQUE
    assert broken(judge(rest, create(record)), record) == set()
    assert broken(judge(WORLD, update(record)), record) == set()
    assert broken(judge(WORLD, create(record)), record) == {again}
    assert broken(judge(rest, update(record)), record) == {VALID}
    assert broken(judge(rest, delete(record)), record) == {VALID}
    assert VALID not in broken(judge(WORLD, delete(record)), record)


# --- several changes of one record -----------------------------------------------------------------------------------

YEAR = definition(51)
LONGER = definition(51, end="2021-12-31")
LONG_USED = [order_number(1, end="2020-12-31"), YEAR]


def test_of_several_changes_of_a_record_the_last_one_is_judged() -> None:
    assert "QD7" in broken(judge(LONG_USED, update(YEAR), update(LONGER)), YEAR)
    assert "QD7" not in broken(judge(LONG_USED, update(LONGER), update(YEAR)), YEAR)


def test_created_and_deleted_is_judged_as_a_change_only() -> None:
    verdict = judge([], create(YEAR), delete(YEAR))
    assert [(each.rule, each.triggered_by) for each in verdict.violations] == [(VALID, (0, 1))]


def test_deleted_and_created_again_is_changed_not_deleted() -> None:
    verdict = judge([*LONG_USED, LINK, definition(52)], delete(YEAR), create(LONGER))
    assert broken(verdict, YEAR) >= {UNIQUE, VALID, "QD7"}
    assert "PreventQuotaDefinitionDeletion" not in broken(verdict, YEAR)
    assert "PreventDeletingLinkedQuotaDefinitions" not in broken(verdict, YEAR)


def test_updated_and_deleted_is_deleted_as_it_was_before_the_transaction() -> None:
    moved = replace(YEAR, valid_between=definition(51, start="2031-01-01", end=None).valid_between)
    verdict = judge([*LONG_USED, LINK], update(moved), delete(moved))
    assert broken(verdict, YEAR) == {
        VALID,
        "PreventQuotaDefinitionDeletion",
        "PreventDeletingLinkedQuotaDefinitions",
    }


def test_an_update_of_a_dead_record_leaves_it_live_and_judged() -> None:
    dead: list[Record | Change] = [order_number(1, end="2020-12-31"), YEAR, delete(YEAR)]
    verdict = judge(dead, update(LONGER))
    assert broken(verdict, YEAR) == {VALID, "ON8", "QD5", "QD7"}
    assert not any(each.preexisting for each in verdict.violations)


def test_a_deletion_of_a_dead_record_is_judged_as_a_change_only() -> None:
    verdict = judge([YEAR, delete(YEAR), LINK], delete(YEAR))
    assert [(each.rule, each.record) for each in verdict.violations] == [(VALID, ref(YEAR))]


def test_rules_about_a_change_are_never_preexisting() -> None:
    verdict = judge([ONE], create(ONE), create(ONE))
    assert the(UNIQUE, verdict).preexisting is False
    assert the(VALID, verdict).preexisting is False


def test_what_was_before_is_told_from_what_is_introduced() -> None:
    verdict = judge([definition(51, end="2021-12-31"), LONG_USED[0]], update(LONGER), create(OTHER))
    assert {each.rule for each in verdict.violations} == {"ON4", "ON8", "QD5", "QD7"}
    assert [each.rule for each in verdict.introduced] == ["ON4"]


def test_nothing_changed_is_nothing_broken() -> None:
    assert judge([YEAR, definition(52), LINK]).violations == ()


def test_the_records_of_the_kit_break_no_rule() -> None:
    assert judge([], *map(create, WORLD)).violations == ()
    assert {type(each) for each in WORLD} == set(KINDS)
