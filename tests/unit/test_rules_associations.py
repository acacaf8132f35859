"""The rules about associations of main and sub-quotas, one situation a row."""

import pytest

from rules.records import RecordRef
from tests.rules_kit import (
    Row,
    association,
    breaks,
    check,
    create,
    definition,
    delete,
    holds,
    not_asked,
    update,
)

MAIN, SUB = definition(51), definition(52, of=2)
BOTH = [MAIN, SUB]
LINK = association(51, 52)
PERIODS = [
    holds("QA2", "same days", LINK, BOTH, create(LINK)),
    breaks(
        "QA2",
        "the sub-quota ends a day later",
        LINK,
        [MAIN, definition(52, end="2021-01-01")],
        create(LINK),
        related=BOTH,
        names=("2020-01-01 to 2021-01-01", "2020-01-01 to 2020-12-31"),
    ),
    breaks(
        "QA2",
        "the sub-quota starts a day earlier",
        LINK,
        [MAIN, definition(52, start="2019-12-31")],
        create(LINK),
        related=BOTH,
    ),
    holds("QA2", "a closed one in an open one", LINK, [definition(51, end=None), SUB], create(LINK)),
    breaks(
        "QA2",
        "an open one in a closed one",
        LINK,
        [MAIN, definition(52, end=None)],
        create(LINK),
        related=BOTH,
    ),
    breaks(
        "QA2",
        "the main quota ends a day earlier from now on",
        LINK,
        [*BOTH, LINK],
        update(definition(51, end="2020-12-30")),
        related=BOTH,
    ),
    breaks(
        "QA2",
        "the sub-quota ends a day later from now on",
        LINK,
        [*BOTH, LINK],
        update(definition(52, end="2021-01-01")),
        related=BOTH,
    ),
    breaks(
        "QA2",
        "it was so before",
        LINK,
        [MAIN, definition(52, end="2021-01-01"), LINK],
        update(definition(51, end="2020-12-30")),
        related=BOTH,
        preexisting=True,
    ),
    holds("QA2", "the main quota is not live", LINK, [SUB], create(LINK)),
    holds("QA2", "the sub-quota is not live", LINK, [MAIN], create(LINK)),
]

VOLUMES = [
    holds("QA3", "same units, same volumes", LINK, BOTH, create(LINK)),
    breaks(
        "QA3",
        "the sub-quota's volume is above",
        LINK,
        [MAIN, definition(52, volume="100.001", initial="100")],
        create(LINK),
        related=BOTH,
        names=("100.001",),
    ),
    breaks(
        "QA3",
        "the sub-quota's initial volume is above",
        LINK,
        [MAIN, definition(52, initial="100.001")],
        create(LINK),
        related=BOTH,
        names=("initial volume, 100.001",),
    ),
    breaks(
        "QA3",
        "other measurement units",
        LINK,
        [MAIN, definition(52, measurement_unit="LTR")],
        create(LINK),
        related=BOTH,
        names=("KGM", "LTR"),
    ),
    breaks(
        "QA3",
        "other monetary units",
        LINK,
        [definition(51, monetary_unit="EUR"), definition(52, monetary_unit="XEU")],
        create(LINK),
        related=BOTH,
        names=("EUR", "XEU"),
    ),
    holds(
        "QA3",
        "the same monetary unit",
        LINK,
        [definition(51, monetary_unit="EUR"), definition(52, monetary_unit="EUR")],
        create(LINK),
    ),
    holds(
        "QA3",
        "qualifiers may differ",
        LINK,
        [MAIN, definition(52, measurement_unit_qualifier="E")],
        create(LINK),
    ),
    breaks(
        "QA3",
        "one in money, one in kilograms",
        LINK,
        [MAIN, definition(52, monetary_unit="EUR")],
        create(LINK),
        related=BOTH,
    ),
    breaks(
        "QA3",
        "the main quota shrinks",
        LINK,
        [*BOTH, LINK],
        update(definition(51, volume="99.999")),
        related=BOTH,
    ),
    breaks(
        "QA3", "the sub-quota grows", LINK, [*BOTH, LINK], update(definition(52, volume="101")), related=BOTH
    ),
    breaks(
        "QA3",
        "it was so before",
        LINK,
        [MAIN, definition(52, volume="101"), LINK],
        update(definition(52, volume="102")),
        related=BOTH,
        preexisting=True,
    ),
    holds("QA3", "the main quota is not live", LINK, [SUB], create(LINK)),
    holds("QA3", "the sub-quota is not live", LINK, [MAIN], create(LINK)),
]

COEFFICIENTS = [
    holds("QA4", "the smallest above 0", LINK, [], create(association(51, 52, "EQ", "0.00001"))),
    breaks("QA4", "0", LINK, [], create(association(51, 52, "EQ", "0.00000")), names=("0.00000",)),
    breaks("QA4", "below 0", LINK, [], create(association(51, 52, "EQ", "-0.00001")), names=("-0.00001",)),
    breaks(
        "QA4",
        "it was so before",
        LINK,
        [association(51, 52, "EQ", "0")],
        update(association(51, 52, "EQ", "-1")),
        preexisting=True,
    ),
    not_asked("QA4", "is not asked when a definition changes", LINK, [*BOTH, LINK], update(SUB)),
]

EQ = association(51, 52, "EQ", "2")
THIRD = definition(53, of=3)
MAIN_REF = RecordRef.to(MAIN)
TYPES = [
    holds(
        "QA5", "a normal one with 1, in other digits", LINK, BOTH, create(association(51, 52, "NM", "1.000"))
    ),
    breaks(
        "QA5",
        "a normal one just above 1",
        LINK,
        BOTH,
        create(association(51, 52, "NM", "1.00001")),
        related=[MAIN],
        names=("1.00001",),
    ),
    holds("QA5", "an equivalent one just below 1", EQ, BOTH, create(association(51, 52, "EQ", "0.99999"))),
    breaks(
        "QA5", "an equivalent one with 1", EQ, BOTH, create(association(51, 52, "EQ", "1.0")), related=[MAIN]
    ),
    holds(
        "QA5", "equivalent ones of one volume", EQ, [*BOTH, THIRD, association(51, 53, "EQ", "3")], create(EQ)
    ),
    breaks(
        "QA5",
        "equivalent ones of two volumes",
        EQ,
        [*BOTH, definition(53, volume="99.999"), association(51, 53, "EQ", "3")],
        create(EQ),
        related=[MAIN],
        names=("99.999, 100",),
    ),
    breaks(
        "QA5",
        "a normal one beside it has another volume",
        EQ,
        [*BOTH, definition(53, volume="1"), association(51, 53)],
        create(EQ),
        related=[MAIN],
    ),
    holds(
        "QA5",
        "a normal one does not mind other volumes",
        LINK,
        [*BOTH, definition(53, volume="1"), association(51, 53, "EQ", "2")],
        create(LINK),
    ),
    holds(
        "QA5",
        "one volume in other digits",
        EQ,
        [*BOTH, definition(53, volume="100.00"), association(51, 53, "EQ", "3")],
        create(EQ),
    ),
    holds("QA5", "the main quota's own volume is another", EQ, [definition(51, volume="7"), SUB], create(EQ)),
    holds(
        "QA5",
        "initial volumes may differ",
        EQ,
        [*BOTH, definition(53, initial="7"), association(51, 53, "EQ", "3")],
        create(EQ),
    ),
    holds(
        "QA5",
        "the other is of another main quota",
        EQ,
        [*BOTH, definition(53, volume="1"), association(50, 53, "EQ", "3")],
        create(EQ),
    ),
    holds(
        "QA5",
        "the other is deleted",
        EQ,
        [*BOTH, definition(53, volume="1"), association(51, 53, "EQ", "3")],
        create(EQ),
        delete(association(51, 53, "EQ", "3")),
    ),
    holds(
        "QA5", "the other's sub-quota is not live", EQ, [*BOTH, association(51, 53, "EQ", "3")], create(EQ)
    ),
    breaks(
        "QA5",
        "its own sub-quota is not live",
        EQ,
        [MAIN],
        create(association(51, 52, "EQ", "1")),
        related=[MAIN],
    ),
    breaks(
        "QA5",
        "its main quota is not live",
        LINK,
        [SUB],
        create(association(51, 52, "NM", "2")),
        related=[MAIN],
    ),
    breaks(
        "QA5",
        "the sub-quota's volume moves away from that of the others: it alone is blamed",
        EQ,
        [*BOTH, THIRD, EQ, association(51, 53, "EQ", "3")],
        update(definition(52, volume="7")),
        related=[MAIN],
    ),
    breaks(
        "QA5",
        "it was so before",
        LINK,
        [*BOTH, association(51, 52, "NM", "2")],
        update(MAIN),
        related=[MAIN],
        preexisting=True,
    ),
    not_asked(
        "QA5",
        "is not asked when a sub-quota beside it changes",
        EQ,
        [*BOTH, THIRD, EQ, association(51, 53, "EQ", "3")],
        update(definition(53, volume="7")),
    ),
]

OTHER = association(51, 53, "EQ", "2")
RELATIONS = [
    breaks(
        "QA6",
        "a normal one beside an equivalent one; the untouched one is not blamed",
        LINK,
        [OTHER],
        create(LINK),
        related=[OTHER],
        names=("EQ and NM",),
    ),
    breaks(
        "QA6", "an equivalent one beside a normal one", EQ, [association(51, 53)], create(EQ), related=[OTHER]
    ),
    holds("QA6", "two of one type", LINK, [association(51, 53)], create(LINK)),
    holds("QA6", "another main quota", LINK, [association(50, 53, "EQ")], create(LINK)),
    holds("QA6", "the other is deleted", LINK, [OTHER], create(LINK), delete(OTHER)),
    holds(
        "QA6",
        "both change their type",
        LINK,
        [LINK, association(51, 53)],
        update(LINK),
        update(association(51, 53)),
    ),
    holds("QA6", "its own older version was of another type", LINK, [EQ], update(LINK)),
    breaks("QA6", "it was so before", LINK, [LINK, OTHER], update(LINK), related=[OTHER], preexisting=True),
    not_asked("QA6", "is not asked of the other", OTHER, [OTHER], create(LINK)),
    not_asked("QA6", "is not asked when a definition changes", LINK, [*BOTH, LINK, OTHER], update(SUB)),
]

ITSELF = association(51, 51)
SAME = "SameMainAndSubQuota"
DISTINCT = [
    breaks(
        SAME,
        "it is its own sub-quota",
        ITSELF,
        [MAIN],
        create(ITSELF),
        related=[MAIN],
        names=("its own sub-quota",),
    ),
    holds(SAME, "two definitions of one order number", LINK, [MAIN, definition(52)], create(LINK)),
    breaks(
        SAME, "it was so before", ITSELF, [MAIN, ITSELF], update(ITSELF), related=[MAIN], preexisting=True
    ),
    not_asked(SAME, "is not asked of what is deleted", ITSELF, [MAIN, ITSELF], delete(ITSELF)),
]

ROWS = [*PERIODS, *VOLUMES, *COEFFICIENTS, *TYPES, *RELATIONS, *DISTINCT]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_the_rule_says_of_an_association(row: Row) -> None:
    check(row)
