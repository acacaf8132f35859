"""The rules about what is excluded from an origin, one situation a row."""

import pytest

from tests.rules_kit import (
    Row,
    area,
    breaks,
    check,
    create,
    delete,
    exclusion,
    holds,
    membership,
    not_asked,
    origin,
    update,
)

GROUP = area(12, code=1)
ORIGIN = origin(21, area=12)
EXCLUDED = exclusion(21, 13)
ROWS = [
    holds("ON13", "the origin's area is a group", EXCLUDED, [GROUP, ORIGIN], create(EXCLUDED)),
    breaks(
        "ON13",
        "the origin's area is a country",
        EXCLUDED,
        [area(12, code=0), ORIGIN],
        create(EXCLUDED),
        related=[GROUP],
        names=("geographical_area 12", "code 0"),
    ),
    breaks(
        "ON13",
        "the group becomes a region",
        EXCLUDED,
        [GROUP, ORIGIN, EXCLUDED],
        update(area(12, code=2)),
        related=[GROUP],
        names=("code 2",),
    ),
    breaks(
        "ON13",
        "the origin moves to a country",
        EXCLUDED,
        [GROUP, area(11), ORIGIN, EXCLUDED],
        update(origin(21, area=11)),
        related=[area(11)],
    ),
    breaks(
        "ON13",
        "it was so before",
        EXCLUDED,
        [area(12, code=2), ORIGIN, EXCLUDED],
        update(area(12, code=0)),
        related=[GROUP],
        preexisting=True,
    ),
    holds("ON13", "the origin is not live", EXCLUDED, [area(12), ORIGIN, delete(ORIGIN)], create(EXCLUDED)),
    holds("ON13", "the area is not live", EXCLUDED, [ORIGIN], create(EXCLUDED)),
    not_asked("ON13", "the excluded area does not matter", EXCLUDED, [ORIGIN, EXCLUDED], create(area(13))),
    holds(
        "ON14",
        "a membership joins the two; its days do not matter, nor whether the areas are live",
        EXCLUDED,
        [ORIGIN, membership(12, 13, start="1990-01-01", end="1990-01-01")],
        create(EXCLUDED),
    ),
    breaks(
        "ON14",
        "no membership joins the group and the excluded area",
        EXCLUDED,
        [GROUP, area(13), ORIGIN, membership(12, 14), membership(15, 13), membership(13, 12)],
        create(EXCLUDED),
        related=[GROUP, area(13)],
        names=("geographical_area 13 is no member of geographical_area 12",),
    ),
    breaks(
        "ON14",
        "the membership is deleted",
        EXCLUDED,
        [ORIGIN, EXCLUDED, membership(12, 13)],
        delete(membership(12, 13)),
        related=[GROUP, area(13)],
    ),
    breaks(
        "ON14",
        "the origin moves to another group",
        EXCLUDED,
        [ORIGIN, EXCLUDED, membership(12, 13)],
        update(origin(21, area=15)),
        related=[area(15), area(13)],
    ),
    breaks(
        "ON14",
        "it was so before",
        EXCLUDED,
        [ORIGIN, EXCLUDED],
        update(EXCLUDED),
        related=[GROUP, area(13)],
        preexisting=True,
    ),
    holds(
        "ON14",
        "the membership comes with it",
        EXCLUDED,
        [ORIGIN],
        create(EXCLUDED),
        create(membership(12, 13)),
    ),
    holds("ON14", "the origin is not live", EXCLUDED, [], create(EXCLUDED)),
    not_asked(
        "ON14",
        "another member leaves",
        EXCLUDED,
        [ORIGIN, EXCLUDED, membership(12, 14)],
        delete(membership(12, 14)),
    ),
    not_asked("ON14", "the group itself changes", EXCLUDED, [GROUP, ORIGIN, EXCLUDED], update(area(12))),
]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_the_rule_says_of_an_exclusion(row: Row) -> None:
    check(row)
