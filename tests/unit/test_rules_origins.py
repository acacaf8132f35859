"""The rules about origins of order numbers, one situation a row."""

import pytest

from tests.rules_kit import (
    Row,
    area,
    breaks,
    check,
    create,
    delete,
    holds,
    measure,
    not_asked,
    order_number,
    origin,
    update,
)

OPEN = order_number(1)
FIRST = origin(21, end="2020-06-30")
NEXT = origin(22, start="2020-07-01")
TOUCHING = origin(22, start="2020-06-30")

OVERLAP = [
    breaks(
        "ON5",
        "the last day of one is the first of the other, of the same area",
        TOUCHING,
        [FIRST],
        create(TOUCHING),
        related=[FIRST],
        names=("2020-06-30 on", "quota_order_number_origin 21"),
    ),
    holds("ON5", "it starts the day after", NEXT, [FIRST], create(NEXT)),
    holds("ON5", "another area", TOUCHING, [FIRST], create(origin(22, area=12, start="2020-06-30"))),
    holds("ON5", "another order number", TOUCHING, [FIRST], create(origin(22, of=2, start="2020-06-30"))),
    holds("ON5", "the other is deleted", TOUCHING, [FIRST], create(TOUCHING), delete(FIRST)),
    breaks(
        "ON5", "it moves to the area", NEXT, [FIRST, origin(22, area=12)], update(TOUCHING), related=[FIRST]
    ),
    breaks(
        "ON5",
        "it moves to the order number",
        NEXT,
        [FIRST, origin(22, of=2)],
        update(TOUCHING),
        related=[FIRST],
    ),
    breaks(
        "ON5",
        "it was so before; the untouched rival is not blamed",
        TOUCHING,
        [FIRST, TOUCHING],
        update(TOUCHING),
        related=[FIRST],
        preexisting=True,
    ),
    not_asked("ON5", "is not asked of the rival", FIRST, [FIRST], create(TOUCHING)),
    not_asked("ON5", "is not asked of what is deleted", FIRST, [FIRST, TOUCHING], delete(FIRST)),
]

AREA = area(11, start="2007-01-02", end="2020-12-31")
SAME_DAYS = origin(21, start="2007-01-02", end="2020-12-31")
AREA_SPANS = [
    holds("ON6", "same days", SAME_DAYS, [AREA], create(SAME_DAYS)),
    breaks(
        "ON6",
        "the origin starts a day before its area",
        SAME_DAYS,
        [AREA],
        create(origin(21, start="2007-01-01", end="2020-12-31")),
        related=[AREA],
        names=("geographical_area 11", "2007-01-02 to 2020-12-31", "2007-01-01 to 2020-12-31"),
    ),
    holds(
        "ON6",
        "an origin that starts in 2006 may outlast its area",
        SAME_DAYS,
        [AREA],
        create(origin(21, start="2006-12-31")),
    ),
    breaks("ON6", "the origin is open", SAME_DAYS, [AREA], create(origin(21)), related=[AREA]),
    breaks(
        "ON6",
        "the area ends a day earlier from now on",
        SAME_DAYS,
        [AREA, SAME_DAYS],
        update(area(11, start="2007-01-02", end="2020-12-30")),
        related=[AREA],
    ),
    breaks(
        "ON6",
        "it was so before the area changed",
        SAME_DAYS,
        [area(11, end="2020-12-31"), SAME_DAYS],
        update(area(11)),
        related=[AREA],
        preexisting=True,
    ),
    holds("ON6", "the area is not live", SAME_DAYS, [], create(SAME_DAYS)),
    not_asked("ON6", "an origin is not asked when its order number changes", FIRST, [FIRST], create(OPEN)),
]

BOUNDED = order_number(1, start="2000-01-02", end="2020-12-31")
WITHIN = origin(21, start="2000-01-02", end="2020-12-31")
ORDER_NUMBER_SPANS = [
    holds("ON7", "same days, before any cut-off", WITHIN, [BOUNDED], create(WITHIN)),
    breaks(
        "ON7",
        "it starts a day before its order number, long ago",
        WITHIN,
        [BOUNDED],
        create(origin(21, start="2000-01-01", end="2020-12-31")),
        related=[BOUNDED],
        names=("quota_order_number 1", "2000-01-01 to 2020-12-31", "2000-01-02 to 2020-12-31"),
    ),
    breaks("ON7", "it is open", WITHIN, [BOUNDED], create(origin(21)), related=[BOUNDED]),
    holds("ON7", "both are open", WITHIN, [OPEN], create(origin(21))),
    breaks(
        "ON7",
        "the order number ends a day earlier from now on",
        WITHIN,
        [BOUNDED, WITHIN],
        update(order_number(1, start="2000-01-02", end="2020-12-30")),
        related=[BOUNDED],
    ),
    holds("ON7", "the order number is not live", WITHIN, [], create(WITHIN)),
    breaks(
        "ON7",
        "it was so before",
        WITHIN,
        [BOUNDED, origin(21)],
        update(origin(21)),
        related=[BOUNDED],
        preexisting=True,
    ),
]

SINCE_2000 = order_number(1, start="2000-01-01")
SPANNING = origin(21, start="2008-01-01", end="2020-06-30")
SHORTER = origin(21, start="2008-01-01", end="2020-06-29")
BOUND = measure(31, start="2008-01-01", end="2020-06-30")
USED = [SINCE_2000, SPANNING, BOUND]
MEASURES = [
    holds("ON10", "it ends with the measure", SPANNING, [SINCE_2000, origin(21), BOUND], update(SPANNING)),
    breaks(
        "ON10",
        "it ends a day before the measure",
        SPANNING,
        USED,
        update(SHORTER),
        related=[BOUND],
        names=("measure 31",),
    ),
    breaks(
        "ON10",
        "it starts a day after the measure",
        SPANNING,
        USED,
        update(origin(21, start="2008-01-02")),
        related=[BOUND],
    ),
    holds(
        "ON10",
        "a measure of the last day of 2007 is not counted",
        SPANNING,
        [SINCE_2000, SPANNING, measure(31, start="2007-12-31")],
        update(SHORTER),
    ),
    holds(
        "ON10",
        "another origin spans it, of any area",
        SPANNING,
        [*USED, origin(22, area=12, start="2008-01-01")],
        update(SHORTER),
    ),
    breaks(
        "ON10",
        "two origins span it together, neither alone",
        SPANNING,
        [*USED, origin(22, start="2020-06-30")],
        update(SHORTER),
        related=[BOUND],
    ),
    holds(
        "ON10",
        "an open measure ends with its regulation",
        SPANNING,
        [SINCE_2000, SPANNING, measure(31, start="2008-01-01", regulation_end="2020-06-30")],
        update(SPANNING),
    ),
    holds("ON10", "the order number is not live", SPANNING, [SPANNING, BOUND], update(SHORTER)),
    holds(
        "ON10", "the order number is deleted with it", SPANNING, USED, delete(SPANNING), delete(SINCE_2000)
    ),
    breaks("ON10", "the origin is deleted", SPANNING, USED, delete(SPANNING), related=[BOUND]),
    breaks(
        "ON10",
        "the deletion names another order number: what was live counts",
        SPANNING,
        USED,
        delete(origin(21, of=2)),
        related=[BOUND],
    ),
    holds(
        "ON10",
        "deleted, but another spans it",
        SPANNING,
        USED,
        delete(SPANNING),
        create(origin(22, start="2008-01-01")),
    ),
    breaks(
        "ON10", "it moves to another order number", SPANNING, USED, update(origin(21, of=2)), related=[BOUND]
    ),
    breaks(
        "ON10",
        "it moves between two that are used, and spans the measures of neither",
        SPANNING,
        [*USED, order_number(2), measure(32, of=2)],
        update(origin(21, of=2, end="2020-06-30")),
        related=[BOUND, measure(32)],
    ),
    breaks(
        "ON10",
        "it was so before",
        SPANNING,
        [SINCE_2000, SHORTER, BOUND],
        update(SHORTER),
        related=[BOUND],
        preexisting=True,
    ),
    breaks(
        "ON10",
        "it was so before it was deleted",
        SPANNING,
        [SINCE_2000, SHORTER, BOUND],
        delete(SHORTER),
        related=[BOUND],
        preexisting=True,
    ),
    breaks(
        "ON10",
        "what it leaves behind was not so before where it was",
        SPANNING,
        [*USED, order_number(2)],
        update(origin(21, of=2)),
        related=[BOUND],
    ),
    not_asked("ON10", "ME119 speaks of the measure", SPANNING, USED, update(measure(31))),
    breaks(
        "ON12",
        "its area's measure uses it",
        SPANNING,
        USED,
        delete(SPANNING),
        related=[BOUND],
        names=("measure 31",),
    ),
    holds(
        "ON12", "the measure is of another area", SPANNING, [SPANNING, measure(31, area=12)], delete(SPANNING)
    ),
    holds(
        "ON12",
        "the measure uses another order number",
        SPANNING,
        [SPANNING, measure(31, of=2)],
        delete(SPANNING),
    ),
    breaks(
        "ON12",
        "another origin would span the measure",
        SPANNING,
        [*USED, origin(22)],
        delete(SPANNING),
        related=[BOUND],
    ),
    holds(
        "ON12",
        "a measure of the last day of 2007",
        SPANNING,
        [SPANNING, measure(31, start="2007-12-31")],
        delete(SPANNING),
    ),
    breaks(
        "ON12",
        "the deletion names another area: what was live counts",
        SPANNING,
        USED,
        delete(origin(21, area=12)),
        related=[BOUND],
    ),
    holds("ON12", "the measure is deleted too", SPANNING, USED, delete(BOUND), delete(SPANNING)),
    not_asked("ON12", "is not asked of what stays", SPANNING, USED, update(SHORTER)),
]

ROWS = [*OVERLAP, *AREA_SPANS, *ORDER_NUMBER_SPANS, *MEASURES]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_the_rule_says_of_an_origin(row: Row) -> None:
    check(row)
