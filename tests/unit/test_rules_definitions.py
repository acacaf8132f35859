"""The rules about definitions that stay, one situation a row."""

from datetime import date
from typing import Any

import pytest

from rules.records import QuotaDefinition, Record
from tests.rules_kit import (
    Row,
    association,
    breaks,
    check,
    create,
    definition,
    delete,
    event,
    holds,
    money,
    not_asked,
    order_number,
    qualifier,
    unit,
    update,
)

FIRST = definition(51)


def spanned_by(code: str, outer: Any, inner: QuotaDefinition, shorter: Record) -> list[Row]:
    """`outer` has the days of `inner`, `shorter` a day less; `inner` refers to it."""
    longer = definition_like(inner, end="2021-01-01")
    earlier = definition_like(inner, start="2019-12-31")
    name = f"{outer.kind} {outer.key}"
    return [
        holds(code, "same days", inner, [outer], create(inner)),
        breaks(
            code,
            "it ends a day later",
            inner,
            [outer],
            create(longer),
            related=[outer],
            names=(name, "2020-01-01 to 2021-01-01", "2020-01-01 to 2020-12-31"),
        ),
        breaks(code, "it starts a day earlier", inner, [outer], create(earlier), related=[outer]),
        breaks(code, "it is open", inner, [outer], create(definition_like(inner, end=None)), related=[outer]),
        breaks(
            code, "what it refers to is cut by a day", inner, [outer, inner], update(shorter), related=[outer]
        ),
        breaks(
            code,
            "it was so before",
            inner,
            [outer, longer],
            update(shorter),
            related=[outer],
            preexisting=True,
        ),
        holds(code, "what it refers to is not live", inner, [outer, delete(outer)], create(inner)),
    ]


def definition_like(other: QuotaDefinition, **dates: str | None) -> QuotaDefinition:
    more = {
        name: getattr(other, name)
        for name in ("monetary_unit", "measurement_unit", "measurement_unit_qualifier")
    }
    return definition(other.sid, **{"end": "2020-12-31", **dates}, **more)  # type: ignore[arg-type]


IN_EUR = definition(51, monetary_unit="EUR")
IN_EACH = definition(51, measurement_unit_qualifier="E")
YEAR, LESS = ("2020-01-01", "2020-12-31"), ("2020-01-01", "2020-12-30")
SPANNED = [
    *spanned_by("ON8", order_number(1, "050001", *YEAR), FIRST, order_number(1, "050001", *LESS)),
    *spanned_by("QD7", order_number(1, "050001", *YEAR), FIRST, order_number(1, "050001", *LESS)),
    *spanned_by("QD8", money("EUR", *YEAR), IN_EUR, money("EUR", *LESS)),
    *spanned_by("QD10", unit("KGM", *YEAR), FIRST, unit("KGM", *LESS)),
    *spanned_by("QD11", qualifier("E", *YEAR), IN_EACH, qualifier("E", *LESS)),
    holds("QD8", "it has no monetary unit", FIRST, [money("EUR", *LESS)], create(FIRST)),
    holds("QD10", "it has no measurement unit", IN_EUR, [unit("KGM", *LESS)], create(IN_EUR)),
    holds("QD11", "it has no qualifier", FIRST, [qualifier("E", *LESS)], create(FIRST)),
    not_asked("QD8", "another monetary unit changes", IN_EUR, [IN_EUR], create(money("XEU"))),
]

TOUCHING = definition(52, start="2020-12-31", end=None)
NEXT = definition(52, start="2021-01-01", end=None)
RIVALS = [
    breaks(
        "QD1",
        "another of the same order number starts on the same day, though there is no such order number",
        definition(52),
        [FIRST],
        create(definition(52)),
        related=[FIRST],
        names=("2020-01-01", "quota_definition 51"),
    ),
    holds(
        "QD1", "it starts a day later", definition(52), [FIRST], create(definition(52, start="2020-01-02"))
    ),
    holds("QD1", "another order number", definition(52), [FIRST], create(definition(52, of=2))),
    holds("QD1", "the other is deleted", definition(52), [FIRST], create(definition(52)), delete(FIRST)),
    breaks(
        "QD1",
        "it moves to the order number",
        definition(52),
        [FIRST, definition(52, of=2)],
        update(definition(52)),
        related=[FIRST],
    ),
    breaks(
        "QD1",
        "it was so before; the untouched rival is not blamed",
        definition(52),
        [FIRST, definition(52)],
        update(definition(52, volume="7")),
        related=[FIRST],
        preexisting=True,
    ),
    not_asked("QD1", "is not asked of the rival", FIRST, [FIRST], create(definition(52))),
    breaks(
        "OverlappingQuotaDefinition",
        "the last day of one is the first of the other, though there is no such order number",
        TOUCHING,
        [FIRST],
        create(TOUCHING),
        related=[FIRST],
        names=("2020-12-31 on", "quota_definition 51"),
    ),
    holds("OverlappingQuotaDefinition", "it starts the day after", NEXT, [FIRST], create(NEXT)),
    holds(
        "OverlappingQuotaDefinition",
        "another order number",
        NEXT,
        [FIRST],
        create(definition(52, of=2, start="2020-12-31")),
    ),
    holds(
        "OverlappingQuotaDefinition",
        "the other is deleted",
        TOUCHING,
        [FIRST],
        create(TOUCHING),
        delete(FIRST),
    ),
    breaks(
        "OverlappingQuotaDefinition",
        "it was so before; the untouched rival is not blamed",
        TOUCHING,
        [FIRST, TOUCHING],
        update(TOUCHING),
        related=[FIRST],
        preexisting=True,
    ),
    not_asked("OverlappingQuotaDefinition", "is not asked of the rival", FIRST, [FIRST], create(TOUCHING)),
]

#: Events on the first and last second of a day.
JUNE = event(at="2020-06-10T23:59:59")
JULY = event(at="2020-07-20T00:00:00")
BUSY = [FIRST, JULY, JUNE, event(of=52, at="2020-01-01T00:00:00")]


def moved(start: str = "2020-01-01", end: str | None = "2020-12-31") -> Any:
    return update(definition(51, start=start, end=end))


EVENTS = [
    breaks(
        "QD12",
        "its start moves a day earlier, and it has events",
        FIRST,
        BUSY,
        moved("2019-12-31"),
        names=("2020-01-01 to 2019-12-31",),
    ),
    holds("QD12", "its start stays", FIRST, BUSY, moved(end="2021-12-31")),
    holds("QD12", "its start moves later", FIRST, BUSY, moved("2020-01-02")),
    holds("QD12", "it has no events", FIRST, [FIRST, event(of=52)], moved("2019-12-31")),
    holds("QD12", "its events are deleted", FIRST, BUSY, moved("2019-12-31"), delete(JUNE), delete(JULY)),
    breaks("QD12", "its first event comes with it", FIRST, [FIRST], moved("2019-12-31"), create(JUNE)),
    not_asked("QD12", "is not asked of a new one", FIRST, [JUNE], create(definition(51, start="2019-12-31"))),
    not_asked(
        "QD12", "is not asked of a deleted one", FIRST, BUSY, delete(definition(51, start="2019-12-31"))
    ),
    not_asked(
        "QD12", "is not asked of one that was not live", FIRST, [FIRST, delete(FIRST)], moved("2019-01-01")
    ),
    not_asked("QD12", "is not asked when an event changes", FIRST, BUSY, delete(JUNE)),
    holds("QD13", "its start moves to the day of its first event", FIRST, BUSY, moved("2020-06-10")),
    breaks(
        "QD13",
        "its start moves past the day of its first event",
        FIRST,
        BUSY,
        moved("2020-06-11"),
        names=("of 2020-06-10", "2020-01-01 to 2020-06-11"),
    ),
    holds(
        "QD13",
        "its start was past its first event, and stays",
        FIRST,
        [FIRST, event(at="2019-01-01T00:00:00")],
        moved(end="2021-12-31"),
    ),
    holds(
        "QD13",
        "its start was past its first event, and moves earlier",
        FIRST,
        [definition(51, start="2020-03-01"), event(at="2020-01-01T00:00:00")],
        moved("2020-02-01"),
    ),
    holds("QD13", "it has no events", FIRST, [FIRST], moved("2020-06-11")),
    holds("QD13", "the first event is deleted", FIRST, BUSY, moved("2020-06-11"), delete(JUNE)),
    breaks("QD13", "the first event comes with it", FIRST, [FIRST, JULY], moved("2020-06-11"), create(JUNE)),
    not_asked("QD13", "is not asked of a new one", FIRST, [JUNE], create(definition(51, start="2020-06-11"))),
    holds("QD15", "its end moves to the day of its last event", FIRST, BUSY, moved(end="2020-07-20")),
    breaks(
        "QD15",
        "its end moves before the day of its last event",
        FIRST,
        BUSY,
        moved(end="2020-07-19"),
        names=("of 2020-07-20", "2020-12-31 to 2020-07-19"),
    ),
    breaks(
        "QD15",
        "it was open",
        FIRST,
        [definition(51, end=None), JULY],
        moved(end="2020-07-19"),
        names=("open to 2020-07-19",),
    ),
    holds("QD15", "it becomes open", FIRST, BUSY, moved(end=None)),
    holds(
        "QD15",
        "it was open, and ends with its last event",
        FIRST,
        [definition(51, end=None), JULY],
        moved(end="2020-07-20"),
    ),
    holds(
        "QD15",
        "its end was before its last event, and stays",
        FIRST,
        [FIRST, event(at="2021-01-01T00:00:00")],
        moved(),
    ),
    holds(
        "QD15",
        "its end was before its last event, and moves later",
        FIRST,
        [FIRST, event(at="2021-02-01T00:00:00")],
        moved(end="2021-01-01"),
    ),
    breaks(
        "QD15",
        "its end was before its last event, and moves a day earlier",
        FIRST,
        [FIRST, event(at="2021-02-01T00:00:00")],
        moved(end="2020-12-30"),
    ),
    holds("QD15", "it has no events", FIRST, [FIRST], moved(end="2020-01-02")),
    holds("QD15", "the last event is deleted", FIRST, BUSY, moved(end="2020-07-19"), delete(JULY)),
    breaks(
        "QD15", "the last event comes with it", FIRST, [FIRST, JUNE], moved(end="2020-07-19"), create(JULY)
    ),
    not_asked("QD15", "is not asked of a new one", FIRST, [JULY], create(definition(51, end="2020-07-19"))),
]

MATCH = "VolumeAndInitialVolumeMustMatch"
DRAWN = definition(51, initial="200")
LATE = date(2020, 1, 2)
VOLUMES = [
    breaks(
        MATCH,
        "it starts today with another volume than its initial one",
        DRAWN,
        [],
        create(DRAWN),
        today=date(2020, 1, 1),
        names=("100", "200"),
    ),
    holds(MATCH, "it started yesterday", DRAWN, [], create(DRAWN), today=LATE),
    breaks(MATCH, "it starts tomorrow", DRAWN, [], create(DRAWN), today=date(2019, 12, 31)),
    holds(
        MATCH,
        "the same in other digits",
        FIRST,
        [],
        create(definition(51, volume="100.000", initial="100")),
        today=date(2019, 12, 31),
    ),
    holds(MATCH, "it is a main quota", DRAWN, [association(51, 52)], create(DRAWN), today=date(2020, 1, 1)),
    breaks(MATCH, "it is a sub-quota", DRAWN, [association(50, 51)], create(DRAWN), today=date(2020, 1, 1)),
    breaks(
        MATCH,
        "it is a main quota no more",
        DRAWN,
        [DRAWN, association(51, 52)],
        delete(association(51, 52)),
        today=date(2020, 1, 1),
    ),
    holds(
        MATCH, "it becomes a main quota", DRAWN, [DRAWN], create(association(51, 52)), today=date(2020, 1, 1)
    ),
    breaks(
        MATCH,
        "it was so before",
        DRAWN,
        [DRAWN],
        update(DRAWN),
        today=date(2020, 1, 1),
        preexisting=True,
    ),
    not_asked(
        MATCH,
        "its association as a sub-quota is deleted",
        DRAWN,
        [DRAWN, association(50, 51)],
        delete(association(50, 51)),
    ),
    not_asked(
        MATCH,
        "an association that was never live says nothing",
        DRAWN,
        [DRAWN],
        create(association(51, 52)),
        delete(association(51, 52)),
    ),
]

ROWS = [*SPANNED, *RIVALS, *EVENTS, *VOLUMES]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_the_rule_says_of_a_definition(row: Row) -> None:
    check(row)
