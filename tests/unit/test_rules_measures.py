"""The rules about measures that use order numbers, one situation a row."""

import pytest

from rules.records import Measure, QuotaOrderNumber, Record, RecordRef
from tests.rules_kit import (
    Row,
    area,
    breaks,
    check,
    create,
    delete,
    holds,
    judge,
    measure,
    not_asked,
    order_number,
    origin,
    the,
    update,
)

OLD, NEW = "2007-12-31", "2008-01-01"
LONG = order_number(1, start="2000-01-01", end="2020-12-31")


def uses(start: str, end: str | None, regulation_end: str | None = None) -> list[Record]:
    """An order number of 2000 to 2020 and a measure that uses it."""
    return [area(11), LONG, measure(31, start=start, end=end, regulation_end=regulation_end)]


def cut(start: str = "2000-01-01", end: str | None = "2020-06-30") -> QuotaOrderNumber:
    return order_number(1, start=start, end=end)


MEASURE = RecordRef("measure", 31)
IN_USE = [
    holds("ON9", "it ends with the measure", LONG, uses(NEW, "2020-06-30"), update(cut())),
    breaks(
        "ON9",
        "it ends a day before the measure",
        LONG,
        uses(NEW, "2020-07-01"),
        update(cut()),
        related=[MEASURE],
        names=("2000-01-01 to 2020-06-30", "measure 31"),
    ),
    holds("ON9", "it starts with the measure", LONG, uses(NEW, "2020-06-30"), update(cut(NEW))),
    breaks(
        "ON9",
        "it starts a day after the measure",
        LONG,
        uses(NEW, "2020-06-30"),
        update(cut("2008-01-02")),
        related=[MEASURE],
    ),
    holds("ON9", "a measure of the last day of 2007 is not counted", LONG, uses(OLD, None), update(cut())),
    holds("ON9", "open, as the measure is", LONG, uses(NEW, None), update(cut(end=None))),
    breaks(
        "ON9",
        "the measure was open before, and is",
        LONG,
        uses(NEW, None),
        update(cut()),
        related=[MEASURE],
        preexisting=True,
    ),
    holds(
        "ON9",
        "an open measure ends with its regulation",
        LONG,
        uses(NEW, None, regulation_end="2020-06-30"),
        update(cut()),
    ),
    breaks(
        "ON9",
        "an open measure's regulation ends a day too late",
        LONG,
        uses(NEW, None, regulation_end="2020-07-01"),
        update(cut()),
        related=[MEASURE],
    ),
    breaks(
        "ON9",
        "the measure's own end goes before that of the regulation",
        LONG,
        uses(NEW, "2020-07-01", regulation_end="2020-06-30"),
        update(cut()),
        related=[MEASURE],
    ),
    holds("ON9", "the measure is deleted with it", LONG, uses(NEW, None), update(cut()), delete(measure(31))),
    not_asked("ON9", "is not asked when the measure changes", LONG, uses(NEW, None), update(measure(31))),
    breaks(
        "ON11",
        "it is deleted while a measure uses it",
        LONG,
        uses(NEW, "2008-01-01"),
        delete(LONG),
        related=[MEASURE],
        names=("measure 31",),
    ),
    holds("ON11", "a measure of the last day of 2007 does not keep it", LONG, uses(OLD, None), delete(LONG)),
    holds("ON11", "the measure is deleted too", LONG, uses(NEW, None), delete(measure(31)), delete(LONG)),
    holds(
        "ON11", "the measure uses another by now", LONG, uses(NEW, None), update(measure(31, 2)), delete(LONG)
    ),
    not_asked("ON11", "is not asked of what stays", LONG, uses(NEW, None), update(LONG)),
    not_asked(
        "ON11", "deleted and created again is changed", LONG, uses(NEW, None), delete(LONG), create(LONG)
    ),
]


def using(start: str, end: str | None, regulation_end: str | None = None) -> Measure:
    return measure(31, start=start, end=end, regulation_end=regulation_end)


FROM_2008 = [area(11), order_number(1, start="2008-01-01", end="2020-12-31")]
FROM_2007 = [area(11), order_number(1, start="2008-01-02", end="2020-12-31")]
ORIGIN_2008 = origin(21, start="2008-01-01", end="2020-06-30")
ORIGIN_LATER = origin(22, area=12, start="2020-07-01", end="2020-12-31")
ONE_REF = RecordRef("quota_order_number", 1)
OF_MEASURES = [
    holds("ME116", "same days", MEASURE, FROM_2008, create(using(NEW, "2020-12-31"))),
    breaks(
        "ME116",
        "it ends a day after the order number",
        MEASURE,
        FROM_2008,
        create(using(NEW, "2021-01-01")),
        related=[ONE_REF],
        names=("2008-01-01 to 2021-01-01", "quota_order_number 1", "2008-01-01 to 2020-12-31"),
    ),
    breaks(
        "ME116",
        "it starts a day before the order number",
        MEASURE,
        FROM_2007,
        create(using(NEW, "2020-12-31")),
        related=[ONE_REF],
    ),
    holds("ME116", "it starts on the last day of 2007", MEASURE, FROM_2008, create(using(OLD, None))),
    breaks("ME116", "it is open", MEASURE, FROM_2008, create(using(NEW, None)), related=[ONE_REF]),
    holds(
        "ME116",
        "it is open, its regulation is not",
        MEASURE,
        FROM_2008,
        create(using(NEW, None, regulation_end="2020-12-31")),
    ),
    holds("ME116", "it uses none", MEASURE, FROM_2008, create(measure(31, None, start=NEW))),
    holds("ME116", "what it uses is not live", MEASURE, [], create(using(NEW, None))),
    breaks(
        "ME116",
        "it was so before",
        MEASURE,
        [*FROM_2008, using(NEW, None)],
        update(using(NEW, "2021-01-01")),
        related=[ONE_REF],
        preexisting=True,
    ),
    not_asked(
        "ME116", "ON9 speaks of the order number", MEASURE, [*FROM_2008, using(NEW, None)], update(cut())
    ),
    holds(
        "ME119",
        "the origin has the same days, whatever its area",
        MEASURE,
        [*FROM_2008, origin(21, area=12, start=NEW, end="2020-06-30")],
        create(using(NEW, "2020-06-30")),
    ),
    breaks(
        "ME119",
        "the origin ends a day early, and another goes on from there: none spans it alone",
        MEASURE,
        [*FROM_2008, ORIGIN_2008, ORIGIN_LATER],
        create(using(NEW, "2020-07-01")),
        related=[ONE_REF],
        names=("quota_order_number 1", "2008-01-01 to 2020-07-01"),
    ),
    holds(
        "ME119",
        "one of two origins spans it",
        MEASURE,
        [*FROM_2008, ORIGIN_2008, ORIGIN_LATER],
        create(using("2020-07-01", None, regulation_end="2020-12-31")),
    ),
    breaks(
        "ME119",
        "it is open, and so is its regulation",
        MEASURE,
        [*FROM_2008, ORIGIN_2008],
        create(using(NEW, None)),
        related=[ONE_REF],
    ),
    holds("ME119", "it starts on the last day of 2007", MEASURE, FROM_2008, create(using(OLD, None))),
    breaks("ME119", "there is no origin", MEASURE, FROM_2008, create(using(NEW, None)), related=[ONE_REF]),
    breaks(
        "ME119",
        "the origin is deleted in the same transaction",
        MEASURE,
        [*FROM_2008, ORIGIN_2008],
        create(using(NEW, "2020-06-30")),
        delete(ORIGIN_2008),
        related=[ONE_REF],
    ),
    breaks(
        "ME119",
        "it was so before",
        MEASURE,
        [*FROM_2008, using(NEW, None)],
        update(using(NEW, None)),
        related=[ONE_REF],
        preexisting=True,
    ),
    holds("ME119", "what it uses is not live", MEASURE, [], create(using(NEW, None))),
    holds("ME119", "it uses none", MEASURE, [], create(measure(31, None, start=NEW))),
    not_asked(
        "ME119",
        "ON10 speaks of the origin",
        MEASURE,
        [*FROM_2008, ORIGIN_2008, using(NEW, None)],
        delete(ORIGIN_2008),
    ),
]

ROWS = [*IN_USE, *OF_MEASURES]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_the_rule_says_of_an_order_number_in_use_or_a_measure(row: Row) -> None:
    check(row)


@pytest.mark.parametrize(("users", "more"), [(5, ""), (6, " and 1 more"), (7, " and 2 more")])
def test_of_many_measures_a_message_names_the_first_five(users: int, more: str) -> None:
    sids = range(31, 31 + users)
    base = [LONG, *(measure(sid, start=NEW, end="2008-12-31") for sid in reversed(sids))]
    found = the("ON11", judge(base, delete(LONG)))
    assert found.message.endswith(
        f"It is used by measure 31, measure 32, measure 33, measure 34, measure 35{more}."
    )
    assert [each.key for each in found.related] == [*sids]
