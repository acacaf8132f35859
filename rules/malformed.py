"""What makes a record malformed: it is refused before any rule is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter, call
from typing import Any, Final

from rules.forms import FORMS
from rules.records import Change, QuotaDefinition, Record


@dataclass(frozen=True, slots=True)
class Malformed:
    """A field of a change does not hold what it must. Changes are counted from 0."""

    index: int
    field: str
    expected: str

    def __str__(self) -> str:
        return f"change {self.index}: {self.field}: {self.expected}"


def malformed(changes: Sequence[Change]) -> tuple[Malformed, ...]:
    """Everything that is malformed in a transaction, by change and field."""
    found = [
        Malformed(index, field, expected)
        for index, change in enumerate(changes)
        for field, expected in problems(change.record)
    ]
    return tuple(found)


def problems(record: Record) -> Iterator[tuple[str, str]]:
    """The fields of a record that do not hold what they must, each with what was expected."""
    values_of, fields, checks = _CHECKS[type(record)]
    values = values_of(record)
    if not all(map(call, checks, values)):  # nearly all records pass: that costs the least
        for field, form, value in zip(fields, FORMS[type(record)].values(), values, strict=True):
            if not form.holds(value):
                yield field, f"must be {form.expected}"
    if type(record) is QuotaDefinition:
        yield from _unit_problems(record)


def _unit_problems(definition: QuotaDefinition) -> Iterator[tuple[str, str]]:
    """What is wrong with the units together; of a field that is wrong by itself nothing more is said."""
    forms = FORMS[QuotaDefinition]
    monetary, unit = definition.monetary_unit, definition.measurement_unit
    if (monetary is None) == (unit is None) and forms["monetary_unit"].holds(monetary):
        yield "monetary_unit", "must be given, or else the measurement unit: one of the two, not both"
    qualifier = definition.measurement_unit_qualifier
    if qualifier is not None and unit is None and forms["measurement_unit_qualifier"].holds(qualifier):
        yield "measurement_unit_qualifier", "must go with a measurement unit"


_Checks = tuple[Callable[[Any], tuple[Any, ...]], tuple[str, ...], tuple[Callable[[Any], bool], ...]]
_CHECKS: Final[dict[type[Record], _Checks]] = {
    kind: (
        attrgetter(*forms),
        tuple(forms),
        tuple(form.holds for form in forms.values()),
    )
    for kind, forms in FORMS.items()
}
