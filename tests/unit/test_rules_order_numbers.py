"""The rules about order numbers, one situation a row."""

import pytest

from tests.rules_kit import (
    Row,
    area,
    breaks,
    certificate,
    check,
    create,
    delete,
    holds,
    judge,
    not_asked,
    order_number,
    origin,
    update,
)

ONE = order_number(1, end="2020-12-31")
OPEN = order_number(1)
#: In use: an origin that has an area, and what the rows add.
USED = [area(11), OPEN, origin(21)]

UNIQUE = [
    breaks(
        "ON1",
        "another order number of the same number starts on the same day",
        order_number(2, end="2020-01-01"),
        [ONE],
        create(order_number(2, end="2020-01-01")),
        related=[ONE],
        names=("2020-01-01", "quota_order_number 1"),
    ),
    holds("ON1", "starts a day later", order_number(2), [ONE], create(order_number(2, start="2020-01-02"))),
    holds("ON1", "same day, but another number", order_number(2), [ONE], create(order_number(2, "050002"))),
    holds("ON1", "same day, but the other is deleted", OPEN, [ONE, delete(ONE)], create(OPEN)),
    holds(
        "ON1",
        "same day, but the other is deleted in the same transaction",
        order_number(2),
        [ONE],
        create(order_number(2)),
        delete(ONE),
    ),
    holds("ON1", "is not its own rival", ONE, [ONE], update(order_number(1, end="2020-06-01"))),
    breaks(
        "ON1",
        "only the changed one of two rivals is blamed, and for what it was before",
        order_number(2),
        [ONE, order_number(2)],
        update(order_number(2)),
        related=[ONE],
        preexisting=True,
    ),
    not_asked("ON1", "is not asked of the rival", ONE, [ONE], create(order_number(2))),
    not_asked("ON1", "is not asked of what is deleted", ONE, [ONE, order_number(2)], delete(ONE)),
    breaks(
        "ON2",
        "two of one number share a day: the last of one is the first of the other",
        order_number(2),
        [ONE],
        create(order_number(2, start="2020-12-31")),
        related=[ONE],
        names=("2020-12-31 on", "quota_order_number 1"),
    ),
    holds("ON2", "starts the day after", order_number(2), [ONE], create(order_number(2, start="2021-01-01"))),
    holds(
        "ON2",
        "ends the day before the other starts",
        order_number(2),
        [ONE],
        create(order_number(2, start="2019-01-01", end="2019-12-31")),
    ),
    breaks(
        "ON2",
        "an open one overlaps with all that comes later",
        order_number(2),
        [OPEN],
        create(order_number(2, start="2999-01-01")),
        related=[OPEN],
    ),
    holds(
        "ON2",
        "overlaps, but has another number",
        order_number(2),
        [ONE],
        create(order_number(2, "050002", start="2020-06-01")),
    ),
    breaks(
        "ON2",
        "it was no rival until it got the number",
        order_number(2),
        [ONE, order_number(2, "050002")],
        update(order_number(2, start="2020-06-01")),
        related=[ONE],
    ),
    breaks(
        "ON2",
        "it was so before; the untouched rival is not blamed",
        order_number(2),
        [ONE, order_number(2, start="2020-06-01")],
        update(order_number(2, start="2020-12-31")),
        related=[ONE],
        preexisting=True,
    ),
    not_asked("ON2", "is not asked of the rival", ONE, [ONE], create(order_number(2, start="2020-12-31"))),
]

ORIGINS = [
    holds("ON4", "an origin with an area comes with it", OPEN, [area(11)], create(OPEN), create(origin(21))),
    breaks("ON4", "it has no origin", OPEN, [area(11)], create(OPEN), names=("no origin",)),
    breaks(
        "ON4",
        "no origin has an area that is live",
        OPEN,
        [area(11), delete(area(11))],
        create(OPEN),
        create(origin(21)),
        create(origin(22, area=12)),
        related=[origin(21), origin(22)],
        names=("None of its origins",),
    ),
    holds("ON4", "one origin with an area is enough", OPEN, USED, create(origin(22, area=12))),
    breaks("ON4", "its last origin is deleted", OPEN, USED, delete(origin(21))),
    breaks("ON4", "its last origin moves away", OPEN, USED, update(origin(21, of=2))),
    breaks("ON4", "the area of its origin is deleted", OPEN, USED, delete(area(11)), related=[origin(21)]),
    breaks(
        "ON4",
        "it had none before either",
        OPEN,
        [OPEN],
        update(OPEN),
        preexisting=True,
    ),
    holds("ON4", "another origin takes its place", OPEN, USED, delete(origin(21)), create(origin(22))),
]

CERTIFIED = order_number(1, end="2020-12-31", certificates=(41, 42))
BOTH = [certificate(41, end="2020-12-31"), certificate(42)]
SPAN = "CertificateValidityPeriodMustSpanQuotaOrderNumber"
CERTIFICATES = [
    holds(SPAN, "both certificates span it, one to the day", CERTIFIED, BOTH, create(CERTIFIED)),
    breaks(
        SPAN,
        "one of the certificates ends a day early",
        CERTIFIED,
        [*BOTH, CERTIFIED],
        update(certificate(42, end="2020-12-30")),
        related=[certificate(42)],
        names=("certificate 42", "2020-01-01 to 2020-12-30", "2020-01-01 to 2020-12-31"),
    ),
    breaks(
        SPAN,
        "one of the certificates starts a day late",
        CERTIFIED,
        [*BOTH, CERTIFIED],
        update(certificate(41, start="2020-01-02", end="2020-12-31")),
        related=[certificate(41)],
    ),
    breaks(
        SPAN,
        "the order number is open, a certificate is not",
        order_number(1, certificates=(41,)),
        BOTH,
        create(order_number(1, certificates=(41,))),
        related=[certificate(41)],
    ),
    holds(SPAN, "a certificate that is not live spans nothing", CERTIFIED, [BOTH[0]], create(CERTIFIED)),
    breaks(
        SPAN,
        "it was so before",
        CERTIFIED,
        [BOTH[0], certificate(42, end="2020-01-01"), CERTIFIED],
        update(CERTIFIED),
        related=[certificate(42)],
        preexisting=True,
    ),
]

ROWS = [*UNIQUE, *ORIGINS, *CERTIFICATES]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_the_rule_says_of_an_order_number(row: Row) -> None:
    check(row)


def test_of_very_many_rivals_the_first_are_named_and_all_are_counted() -> None:
    """Naming all of them, again for each of them, would take longer than finding them."""
    changes = [create(order_number(sid, "050001")) for sid in range(1, 132)]
    found = [each for each in judge([], *changes).violations if each.rule == "ON2"]
    assert len(found) == 131
    last = found[-1]
    assert last.related_count == 130
    assert [ref.key for ref in last.related] == list(range(1, 101))
    assert last.message.endswith("quota_order_number 5 and 125 more.")
