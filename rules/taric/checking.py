"""Says what is wrong with a record's elements: all of it, as far as the table of elements tells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from rules.taric.body import END, START, Body
from rules.taric.elements import BODIES
from rules.taric.errors import Problem, but_found
from rules.taric.taric_record import TaricRecord


def problems_of(record: TaricRecord, index: int) -> list[Problem]:
    """What is wrong with the elements of a record, which is the `index`th of its transaction."""
    given = dict(record.elements)
    body = BODIES[record.code].form_of(given)
    slots = body.by_name
    if not body.judged:
        return []
    # Nearly all records pass: that has to be cheap.
    complete = len(given) == len(record.elements) and body.mandatory <= given.keys() <= slots.keys()
    if complete and all(slots[name].lexical.accepts(text) for name, text in record.elements):
        return list(_backwards(record, body, given, index))
    return [
        *_missing(record, body, given, index),
        *_bad_elements(record, body, index),
        *_backwards(record, body, given, index),
    ]


def _missing(record: TaricRecord, body: Body, given: dict[str, str], index: int) -> Iterator[Problem]:
    for slot in body.slots:
        if not slot.optional and slot.element not in given:
            yield Problem(index, record.line, slot.element, f"must be given: {slot.lexical.expected}")


def _bad_elements(record: TaricRecord, body: Body, index: int) -> Iterator[Problem]:
    repeated = [name for name, times in Counter(name for name, _ in record.elements).items() if times > 1]
    for (name, text), line in zip(record.elements, record.lines, strict=True):
        slot = body.by_name.get(name)
        if slot is None:
            yield Problem(index, line, name, f"is no element of {body.element}")
        elif not slot.lexical.accepts(text):
            yield Problem(index, line, name, but_found(f"must be {slot.lexical.expected}", text))
        elif name in repeated:
            yield Problem(index, line, name, "must stand there only once")


def _backwards(record: TaricRecord, body: Body, given: dict[str, str], index: int) -> Iterator[Problem]:
    begin, end = body.slot_of(START), body.slot_of(END)
    if begin is None or end is None or begin.element not in given or end.element not in given:
        return
    start, finish = given[begin.element], given[end.element]
    if finish < start and begin.lexical.accepts(start) and end.lexical.accepts(finish):
        expected = f"must not be before {begin.element}, {start} (ON3, QD2)"
        yield Problem(index, record.line_of(end.element), end.element, but_found(expected, finish))
