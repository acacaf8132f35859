"""The rules that what a record refers to exists, one situation a row."""

from dataclasses import replace

import pytest

from rules.records import Record
from tests.rules_kit import (
    Row,
    area,
    association,
    blocking,
    breaks,
    certificate,
    check,
    create,
    definition,
    delete,
    event,
    exclusion,
    holds,
    measure,
    membership,
    money,
    not_asked,
    order_number,
    origin,
    qualifier,
    suspension,
    unit,
    update,
)

REFER = "ReferenceMustExist"
#: A record, one that it refers to, and what else it refers to.
REFERENCES: list[tuple[str, Record, Record, list[Record]]] = [
    (REFER, membership(12, 13), area(12), [area(13)]),
    (REFER, membership(12, 13), area(13), [area(12)]),
    (REFER, measure(31), order_number(1), [area(11)]),
    (REFER, measure(31), area(11), [order_number(1)]),
    (REFER, origin(21), order_number(1), [area(11)]),
    (REFER, origin(21), area(11), [order_number(1)]),
    (REFER, exclusion(21, 13), origin(21), [area(13), order_number(1), area(11)]),
    (REFER, exclusion(21, 13), area(13), [origin(21)]),
    (REFER, event(), definition(51), []),
    ("QD3", definition(51), order_number(1), []),
    ("QD4", definition(51, monetary_unit="EUR"), money(), []),
    ("QD5", definition(51), unit(), []),
    ("QD6", definition(51, measurement_unit_qualifier="E"), qualifier(), []),
    ("CertificatesMustExist", order_number(1, certificates=(41, 42)), certificate(42), [certificate(41)]),
]
#: Those of which the deletion rules speak when their definition is deleted under them.
OF_DEFINITIONS: list[tuple[str, Record, Record, list[Record]]] = [
    (REFER, association(51, 52), definition(51), [definition(52)]),
    (REFER, association(51, 52), definition(52), [definition(51)]),
    ("QBP1", blocking(71), definition(51), []),
    ("QSP1", suspension(61), definition(51), []),
]


def always(code: str, user: Record, used: Record, others: list[Record]) -> list[Row]:
    """What is said of every reference."""
    both = f"{user.kind} to {used.kind} {used.key}"
    name = f"{used.kind} {used.key}"
    return [
        holds(code, f"{both}: it is live", user, [used, *others], create(user)),
        breaks(code, f"{both}: there is none", user, others, create(user), related=[used], names=(name,)),
        breaks(
            code, f"{both}: it is deleted", user, [*others, used, delete(used)], create(user), related=[used]
        ),
        holds(code, f"{both}: it comes with it", user, others, create(user), create(used)),
        breaks(
            code,
            f"{both}: it was so before",
            user,
            [*others, user],
            update(user),
            related=[used],
            preexisting=True,
        ),
        not_asked(code, f"{both}: deletion of both", user, [used, *others, user], delete(used), delete(user)),
    ]


def on_deletion(code: str, user: Record, used: Record, others: list[Record]) -> list[Row]:
    """What is said when the referent is deleted under it."""
    both = f"{user.kind} to {used.kind} {used.key}"
    base = [used, *others, user]
    rows = [
        breaks(code, f"{both}: it is deleted under it", user, base, delete(used), related=[used]),
        breaks(
            code,
            f"{both}: it is deleted as it changes",
            user,
            base,
            delete(used),
            update(user),
            related=[used],
        ),
    ]
    if code != "CertificatesMustExist":
        rows.append(not_asked(code, f"{both}: it stays", user, base, update(used)))
    return rows


def spoken_of(code: str, user: Record, used: Record, others: list[Record]) -> list[Row]:
    """What is said when a definition is deleted under it."""
    both = f"{user.kind} to {used.kind} {used.key}"
    base = [used, *others, user]
    return [
        holds(code, f"{both}: it is deleted under it", user, base, delete(used)),
        holds(code, f"{both}: it is deleted as it comes", user, [used, *others], create(user), delete(used)),
        not_asked(code, f"{both}: it stays", user, base, update(used)),
    ]


def rows() -> list[Row]:
    found = []
    for each in [*REFERENCES, *OF_DEFINITIONS]:
        found += always(*each)
    for each in REFERENCES:
        found += on_deletion(*each)
    for each in OF_DEFINITIONS:
        found += spoken_of(*each)
    return found


ROWS = [
    *rows(),
    holds("QD4", "no monetary unit is asked for", definition(51), [], create(definition(51))),
    holds("QD5", "no unit is asked for", definition(51), [], create(definition(51, monetary_unit="EUR"))),
    holds("QD6", "no qualifier is asked for", definition(51), [], create(definition(51))),
    holds("CertificatesMustExist", "none is required", order_number(1), [], create(order_number(1))),
    holds(
        REFER, "a measure may use no order number", measure(31, None), [area(11)], create(measure(31, None))
    ),
    breaks(
        REFER,
        "both that it refers to are missing, one violation names the two",
        origin(21),
        [],
        create(origin(21)),
        related=[order_number(1), area(11)],
        names=("quota_order_number 1, geographical_area 11",),
    ),
    breaks(
        REFER,
        "a measure names an order number that no sid stands for",
        measure(31, None),
        [area(11)],
        create(replace(measure(31, None), order_number="050009")),
        names=("050009",),
    ),
    holds(
        REFER,
        "a measure names an order number that a sid stands for",
        measure(31),
        [area(11), order_number(1)],
        create(replace(measure(31), order_number="050001")),
    ),
    breaks(
        REFER,
        "of an association's definitions one is deleted under it, the other was never there",
        association(51, 52),
        [definition(51), association(51, 52)],
        delete(definition(51)),
        related=[definition(52)],
        preexisting=True,
    ),
    breaks(
        REFER,
        "measures of a deleted order number are reported, beside ON11",
        measure(31),
        [area(11), order_number(1), measure(31)],
        delete(order_number(1)),
        related=[order_number(1)],
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_the_rule_says_of_a_reference(row: Row) -> None:
    check(row)
