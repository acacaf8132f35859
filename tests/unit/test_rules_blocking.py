"""The rules about blocking periods and suspensions, one situation a row."""

import pytest

from rules.records import Record, RecordRef
from tests.rules_kit import (
    Row,
    blocking,
    breaks,
    check,
    create,
    definition,
    delete,
    holds,
    not_asked,
    order_number,
    suspension,
    update,
)

LICENSED = order_number(1, licensed=True)
FIRST_COME = order_number(1)
YEAR = definition(51)
BLOCK, STOP = blocking(71), suspension(61)


def first_come_only(code: str, record: Record, elsewhere: Record) -> list[Row]:
    """`record` is of definition 51, `elsewhere` of 52."""
    return [
        holds(code, "first come, first served", record, [FIRST_COME, YEAR], create(record)),
        breaks(
            code,
            "a licensed quota",
            record,
            [LICENSED, YEAR],
            create(record),
            related=[LICENSED],
            names=("quota_order_number 1", "050001", "licensed"),
        ),
        breaks(
            code,
            "the quota becomes a licensed one",
            record,
            [FIRST_COME, YEAR, record, elsewhere],
            update(LICENSED),
            related=[LICENSED],
        ),
        breaks(
            code,
            "the definition moves to a licensed quota",
            record,
            [FIRST_COME, order_number(2, licensed=True), YEAR, record],
            update(definition(51, of=2)),
            related=[RecordRef("quota_order_number", 2)],
        ),
        breaks(
            code,
            "it was so before",
            record,
            [LICENSED, YEAR, record],
            update(order_number(1, end="2020-12-31", licensed=True)),
            related=[LICENSED],
            preexisting=True,
        ),
        holds(code, "the definition is not live", record, [LICENSED, YEAR, delete(YEAR)], create(record)),
        holds(
            code, "the order number is not live", record, [LICENSED, YEAR], create(record), delete(LICENSED)
        ),
        not_asked(code, "another quota becomes licensed", record, [YEAR, record], create(order_number(2))),
    ]


ENDLESS = [blocking(71, end=None), suspension(61, end=None)]
ROWS = [
    *first_come_only("BlockingOnlyOfFCFSQuotas", BLOCK, blocking(72, of=52)),
    *first_come_only("SuspensionsOnlyToFCFSQuotas", STOP, suspension(62, of=52)),
    holds("QBP2", "it starts with the definition, and outlasts it", BLOCK, [YEAR], create(ENDLESS[0])),
    breaks(
        "QBP2",
        "it starts a day before the definition",
        BLOCK,
        [YEAR],
        create(blocking(71, start="2019-12-31")),
        related=[YEAR],
        names=("2019-12-31", "quota_definition 51", "2020-01-01"),
    ),
    breaks(
        "QBP2",
        "the definition starts a day later from now on",
        BLOCK,
        [YEAR, BLOCK],
        update(definition(51, start="2020-01-02")),
        related=[YEAR],
    ),
    breaks(
        "QBP2",
        "it was so before",
        BLOCK,
        [YEAR, blocking(71, start="2019-01-01")],
        update(blocking(71, start="2019-12-31")),
        related=[YEAR],
        preexisting=True,
    ),
    holds("QBP2", "the definition is not live", BLOCK, [], create(BLOCK)),
    holds("QBP3", "it ends a day after it starts", BLOCK, [YEAR], create(blocking(71, end="2020-01-02"))),
    breaks(
        "QBP3",
        "it ends on the day that it starts",
        BLOCK,
        [YEAR],
        create(blocking(71, end="2020-01-01")),
        names=("2020-01-01",),
    ),
    holds("QBP3", "it does not end", BLOCK, [YEAR], create(ENDLESS[0])),
    breaks(
        "QBP3",
        "it was so before",
        BLOCK,
        [blocking(71, end="2020-01-01")],
        update(blocking(71, start="2020-02-02", end="2020-02-02")),
        preexisting=True,
    ),
    not_asked("QBP3", "is not asked when the definition changes", BLOCK, [YEAR, BLOCK], update(YEAR)),
    holds("QSP2", "same days", STOP, [YEAR], create(STOP)),
    breaks(
        "QSP2",
        "it ends a day after the definition",
        STOP,
        [YEAR],
        create(suspension(61, end="2021-01-01")),
        related=[YEAR],
        names=("2020-01-01 to 2021-01-01", "quota_definition 51", "2020-01-01 to 2020-12-31"),
    ),
    breaks(
        "QSP2",
        "it starts a day early",
        STOP,
        [YEAR],
        create(suspension(61, start="2019-12-31")),
        related=[YEAR],
    ),
    breaks("QSP2", "it does not end", STOP, [YEAR], create(ENDLESS[1]), related=[YEAR]),
    holds("QSP2", "neither ends", STOP, [definition(51, end=None)], create(ENDLESS[1])),
    breaks(
        "QSP2",
        "the definition ends a day earlier from now on",
        STOP,
        [YEAR, STOP],
        update(definition(51, end="2020-12-30")),
        related=[YEAR],
    ),
    breaks(
        "QSP2", "it was so before", STOP, [YEAR, ENDLESS[1]], update(YEAR), related=[YEAR], preexisting=True
    ),
    holds("QSP2", "the definition is not live", STOP, [], create(STOP)),
]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_the_rule_says_of_a_blocking_period_or_suspension(row: Row) -> None:
    check(row)
