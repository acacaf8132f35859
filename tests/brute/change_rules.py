"""The rules about references, and about the change itself: updates and deletions. Scans, written from the text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from rules import records as r
from tests.brute.world import Ref, State, counting, every

#: Reported as the rule's own code where the tariff rules have one, else as ReferenceMustExist.
REFERENCES: Final[dict[type[r.Record], tuple[tuple[str, type[r.Record], str], ...]]] = {
    r.GeographicalMembership: (
        ("group_sid", r.GeographicalArea, ""),
        ("member_sid", r.GeographicalArea, ""),
    ),
    r.Measure: (
        ("order_number_sid", r.QuotaOrderNumber, ""),
        ("geographical_area_sid", r.GeographicalArea, ""),
    ),
    r.QuotaOrderNumberOrigin: (
        ("order_number_sid", r.QuotaOrderNumber, ""),
        ("geographical_area_sid", r.GeographicalArea, ""),
    ),
    r.QuotaOrderNumberOriginExclusion: (
        ("origin_sid", r.QuotaOrderNumberOrigin, ""),
        ("excluded_geographical_area_sid", r.GeographicalArea, ""),
    ),
    r.QuotaDefinition: (
        ("order_number_sid", r.QuotaOrderNumber, "QD3"),
        ("monetary_unit", r.MonetaryUnit, "QD4"),
        ("measurement_unit", r.MeasurementUnit, "QD5"),
        ("measurement_unit_qualifier", r.MeasurementUnitQualifier, "QD6"),
    ),
    r.QuotaAssociation: (
        ("main_quota_sid", r.QuotaDefinition, ""),
        ("sub_quota_sid", r.QuotaDefinition, ""),
    ),
    r.QuotaSuspension: (("quota_definition_sid", r.QuotaDefinition, "QSP1"),),
    r.QuotaBlocking: (("quota_definition_sid", r.QuotaDefinition, "QBP1"),),
    r.QuotaEvent: (("quota_definition_sid", r.QuotaDefinition, ""),),
}
#: Of these the deletion rules speak instead, on the definition, if it is deleted.
LEFT_TO_DELETION: Final = (r.QuotaAssociation, r.QuotaSuspension, r.QuotaBlocking)


def referents(record: r.Record) -> dict[str, set[Ref]]:
    """What a record refers to, by the code that is reported where it is not live."""
    found: dict[str, set[Ref]] = {}
    for field, kind, code in REFERENCES.get(type(record), ()):
        key = getattr(record, field)
        if key is not None:
            found.setdefault(code or "ReferenceMustExist", set()).add((kind.kind, key))
    if isinstance(record, r.Measure) and record.order_number_sid is None and record.order_number is not None:
        # No order number has the six digits that it names: nothing is live under them.
        found.setdefault("ReferenceMustExist", set()).add((r.QuotaOrderNumber.kind, record.order_number))
    return found


# --- updates: the version before, the version after, the state after -------------------------------------------------


def event_days(state: State, definition: r.QuotaDefinition) -> list[date]:
    """The days of its live events, first to last."""
    events = (each for each in every(state, r.QuotaEvent) if each.quota_definition_sid == definition.sid)
    return sorted(each.occurrence_timestamp.date() for each in events)


def qd12(before: r.QuotaDefinition, now: r.QuotaDefinition, after: State) -> bool:
    return bool(event_days(after, now)) and now.valid_between.start < before.valid_between.start


def qd13(before: r.QuotaDefinition, now: r.QuotaDefinition, after: State) -> bool:
    days = event_days(after, now)
    return bool(days) and now.valid_between.start > max(before.valid_between.start, days[0])


def qd15(before: r.QuotaDefinition, now: r.QuotaDefinition, after: State) -> bool:
    days = event_days(after, now)
    old, new = before.valid_between.end, now.valid_between.end
    return bool(days) and new is not None and (old is None or new < old) and new < days[-1]


UPDATE_RULES: Final[dict[str, Callable[[r.QuotaDefinition, r.QuotaDefinition, State], bool]]] = {
    "QD12": qd12,
    "QD13": qd13,
    "QD15": qd15,
}


# --- deletions: the version that was live, the state after, today ----------------------------------------------------


@dataclass(frozen=True)
class DeletionRule:
    code: str
    about: type[r.Record]
    fails: Callable[[Any, State, date], bool]
    only_uk: bool = False


def on11(number: r.QuotaOrderNumber, after: State, today: date) -> bool:
    return bool(counting(after, number.sid))


def on12(origin: r.QuotaOrderNumberOrigin, after: State, today: date) -> bool:
    measures = counting(after, origin.order_number_sid)
    return any(each.geographical_area_sid == origin.geographical_area_sid for each in measures)


def started(definition: r.QuotaDefinition, after: State, today: date) -> bool:
    return definition.valid_between.start <= today


def is_a_sub_quota(definition: r.QuotaDefinition, after: State, today: date) -> bool:
    return any(each.sub_quota_sid == definition.sid for each in every(after, r.QuotaAssociation))


def is_a_main_quota(definition: r.QuotaDefinition, after: State, today: date) -> bool:
    return any(each.main_quota_sid == definition.sid for each in every(after, r.QuotaAssociation))


def has_suspensions(definition: r.QuotaDefinition, after: State, today: date) -> bool:
    return any(each.quota_definition_sid == definition.sid for each in every(after, r.QuotaSuspension))


def has_blocking_periods(definition: r.QuotaDefinition, after: State, today: date) -> bool:
    return any(each.quota_definition_sid == definition.sid for each in every(after, r.QuotaBlocking))


DELETION_RULES: Final = (
    DeletionRule("ON11", r.QuotaOrderNumber, on11),
    DeletionRule("ON12", r.QuotaOrderNumberOrigin, on12),
    DeletionRule("PreventQuotaDefinitionDeletion", r.QuotaDefinition, started, only_uk=True),
    DeletionRule("QuotaAssociationMustReferToANonDeletedSubQuota", r.QuotaDefinition, is_a_sub_quota),
    DeletionRule("PreventDeletingLinkedQuotaDefinitions", r.QuotaDefinition, is_a_main_quota),
    DeletionRule("QuotaSuspensionMustReferToANonDeletedQuotaDefinition", r.QuotaDefinition, has_suspensions),
    DeletionRule(
        "QuotaBlockingPeriodMustReferToANonDeletedQuotaDefinition", r.QuotaDefinition, has_blocking_periods
    ),
)
