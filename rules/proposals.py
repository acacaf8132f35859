"""Checks of proposed values, for a form that asks before it submits. Each says what is wrong, or None."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from rules.periods import Period
from rules.records import RelationType


def check_qa2(main: Period, sub: Period) -> str | None:
    """Whether the main quota's period encloses that of the sub-quota."""
    if main.spans(sub):
        return None
    return f"The sub-quota's period, {sub}, is not within that of the main quota, {main}."


def check_qa3(
    *,
    main_measurement_unit: str | None,
    sub_measurement_unit: str | None,
    main_monetary_unit: str | None,
    sub_monetary_unit: str | None,
    main_volume: Decimal,
    sub_volume: Decimal,
    main_initial_volume: Decimal,
    sub_initial_volume: Decimal,
) -> str | None:
    """Whether the sub-quota has the units of the main quota, and no more volume or initial volume; in those units."""
    if main_measurement_unit != sub_measurement_unit:
        return f"The measurement units differ: main {main_measurement_unit}, sub {sub_measurement_unit}."
    if main_monetary_unit != sub_monetary_unit:
        return f"The monetary units differ: main {main_monetary_unit}, sub {sub_monetary_unit}."
    if sub_volume > main_volume:
        return f"The sub-quota's volume, {sub_volume}, is above that of the main quota, {main_volume}."
    if sub_initial_volume > main_initial_volume:
        return (
            f"The sub-quota's initial volume, {sub_initial_volume}, is above that of the main quota, "
            f"{main_initial_volume}."
        )
    return None


def check_qa5(relation_type: str, coefficient: Decimal, volumes: Iterable[Decimal]) -> str | None:
    """Whether a sub-quota of this type may have this coefficient.

    `volumes` are those of all sub-quotas of its main quota, its own among them; an equivalent one needs them equal.
    """
    if relation_type == RelationType.NORMAL:
        return None if coefficient == 1 else f"A normal sub-quota has the coefficient {coefficient}, not 1."
    if coefficient == 1:
        return "An equivalent sub-quota has the coefficient 1."
    different = sorted(set(volumes))
    if len(different) > 1:
        return f"The sub-quotas have different volumes: {', '.join(map(str, different))}."
    return None


def check_qa6(relation_types: Iterable[str]) -> str | None:
    """Whether the associations of one main quota have one relation type."""
    different = sorted(set(relation_types))
    if len(different) > 1:
        return f"The associations of the main quota have the types {' and '.join(different)}."
    return None
