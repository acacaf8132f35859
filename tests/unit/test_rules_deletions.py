"""The rules about definitions that are deleted, one situation a row."""

from datetime import date

import pytest

from rules.records import Record
from tests.rules_kit import (
    Row,
    association,
    blocking,
    breaks,
    check,
    create,
    definition,
    delete,
    holds,
    not_asked,
    suspension,
    update,
)

ONE = definition(51)
SUB = association(50, 51)
MAIN = association(51, 52)
PAST = "PreventQuotaDefinitionDeletion"
NEW_YEAR, EVE = date(2020, 1, 1), date(2019, 12, 31)


def referred_to_by(code: str, user: Record, elsewhere: Record) -> list[Row]:
    """`user` refers to ONE, `elsewhere` does not."""
    name = " ".join([user.kind, "/".join(map(str, user.key if isinstance(user.key, tuple) else [user.key]))])
    return [
        breaks(code, "it is referred to", ONE, [ONE, user], delete(ONE), related=[user], names=(name,)),
        holds(code, "nothing refers to it", ONE, [ONE, elsewhere], delete(ONE)),
        holds(code, "what refers to it is deleted too", ONE, [ONE, user], delete(ONE), delete(user)),
        holds(code, "what referred to it is deleted before", ONE, [ONE, user, delete(user)], delete(ONE)),
        breaks(code, "a reference comes with it", ONE, [ONE], create(user), delete(ONE), related=[user]),
        not_asked(code, "is not asked of what stays", ONE, [ONE, user], update(ONE)),
        not_asked(code, "deleted and created again is changed", ONE, [ONE, user], delete(ONE), create(ONE)),
        not_asked(code, "created and deleted was never there", ONE, [user], create(ONE), delete(ONE)),
        not_asked(code, "is not asked of what is dead", ONE, [ONE, delete(ONE), user], delete(ONE)),
    ]


ROWS = [
    breaks(PAST, "it starts today", ONE, [ONE], delete(ONE), today=NEW_YEAR, names=("2020-01-01",)),
    holds(PAST, "it starts tomorrow", ONE, [ONE], delete(ONE), today=EVE),
    breaks(
        PAST,
        "the deletion says that it starts tomorrow: what was live counts",
        ONE,
        [ONE],
        delete(definition(51, start="2020-01-02")),
        today=NEW_YEAR,
    ),
    holds(
        PAST,
        "the deletion says that it starts today: what was live counts",
        ONE,
        [definition(51, start="2020-01-02")],
        delete(ONE),
        today=NEW_YEAR,
    ),
    not_asked(PAST, "is not asked of what stays", ONE, [ONE], update(ONE)),
    *referred_to_by("QuotaAssociationMustReferToANonDeletedSubQuota", SUB, MAIN),
    *referred_to_by("PreventDeletingLinkedQuotaDefinitions", MAIN, SUB),
    *referred_to_by(
        "QuotaSuspensionMustReferToANonDeletedQuotaDefinition", suspension(61), suspension(62, 52)
    ),
    *referred_to_by(
        "QuotaBlockingPeriodMustReferToANonDeletedQuotaDefinition", blocking(71), blocking(72, 52)
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_the_rule_says_of_a_deleted_definition(row: Row) -> None:
    check(row)
