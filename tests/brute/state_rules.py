"""The rules that can be asked of a live record in any state: each one a scan, written from the text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final

from rules import records as r
from tests.brute import links
from tests.brute.world import (
    MEASURES_COUNT_AFTER,
    ORIGINS_COUNT_AFTER,
    State,
    counting,
    effective,
    every,
    find,
    overlap,
    spans,
)


@dataclass(frozen=True)
class StateRule:
    """`fails(state, record, today)` for a record that is live in that state."""

    code: str
    about: type[r.Record]
    fails: Callable[[State, Any, date], bool]
    links: links.Links = field(default_factory=dict)
    only_uk: bool = False


# --- order numbers ---------------------------------------------------------------------------------------------------


def on1(state: State, number: r.QuotaOrderNumber, today: date) -> bool:
    return any(
        each.sid != number.sid
        and each.order_number == number.order_number
        and each.valid_between.start == number.valid_between.start
        for each in every(state, r.QuotaOrderNumber)
    )


def on2(state: State, number: r.QuotaOrderNumber, today: date) -> bool:
    return any(
        each.sid != number.sid
        and each.order_number == number.order_number
        and overlap(each.valid_between, number.valid_between)
        for each in every(state, r.QuotaOrderNumber)
    )


def on4(state: State, number: r.QuotaOrderNumber, today: date) -> bool:
    return not any(
        each.order_number_sid == number.sid
        and find(state, r.GeographicalArea, each.geographical_area_sid) is not None
        for each in every(state, r.QuotaOrderNumberOrigin)
    )


def on9(state: State, number: r.QuotaOrderNumber, today: date) -> bool:
    return any(not spans(number.valid_between, effective(each)) for each in counting(state, number.sid))


def certificates_must_exist(state: State, number: r.QuotaOrderNumber, today: date) -> bool:
    return any(find(state, r.Certificate, sid) is None for sid in number.required_certificate_sids)


def certificates_must_span(state: State, number: r.QuotaOrderNumber, today: date) -> bool:
    return any(
        each.sid in number.required_certificate_sids and not spans(each.valid_between, number.valid_between)
        for each in every(state, r.Certificate)
    )


# --- origins, exclusions, measures -----------------------------------------------------------------------------------


def on5(state: State, origin: r.QuotaOrderNumberOrigin, today: date) -> bool:
    return any(
        each.sid != origin.sid
        and each.order_number_sid == origin.order_number_sid
        and each.geographical_area_sid == origin.geographical_area_sid
        and overlap(each.valid_between, origin.valid_between)
        for each in every(state, r.QuotaOrderNumberOrigin)
    )


def on6(state: State, origin: r.QuotaOrderNumberOrigin, today: date) -> bool:
    area = find(state, r.GeographicalArea, origin.geographical_area_sid)
    if area is None or origin.valid_between.start <= ORIGINS_COUNT_AFTER:
        return False
    return not spans(area.valid_between, origin.valid_between)


def outside_its_order_number(state: State, record: Any, today: date) -> bool:
    """ON7 of origins, ON8 and QD7 of definitions."""
    number = find(state, r.QuotaOrderNumber, record.order_number_sid)
    return number is not None and not spans(number.valid_between, record.valid_between)


def covered(state: State, measure: r.Measure) -> bool:
    """Whether one origin of the measure's order number spans it."""
    return any(
        each.order_number_sid == measure.order_number_sid and spans(each.valid_between, effective(measure))
        for each in every(state, r.QuotaOrderNumberOrigin)
    )


def leaves_measures_uncovered(state: State, order_number_sid: int) -> bool:
    """ON10, of one order number."""
    if find(state, r.QuotaOrderNumber, order_number_sid) is None:
        return False
    return any(not covered(state, each) for each in counting(state, order_number_sid))


def on10(state: State, origin: r.QuotaOrderNumberOrigin, today: date) -> bool:
    return leaves_measures_uncovered(state, origin.order_number_sid)


def on13(state: State, exclusion: r.QuotaOrderNumberOriginExclusion, today: date) -> bool:
    origin = find(state, r.QuotaOrderNumberOrigin, exclusion.origin_sid)
    area = None if origin is None else find(state, r.GeographicalArea, origin.geographical_area_sid)
    return area is not None and area.area_code != 1


def on14(state: State, exclusion: r.QuotaOrderNumberOriginExclusion, today: date) -> bool:
    origin = find(state, r.QuotaOrderNumberOrigin, exclusion.origin_sid)
    return origin is not None and not any(
        each.group_sid == origin.geographical_area_sid
        and each.member_sid == exclusion.excluded_geographical_area_sid
        for each in every(state, r.GeographicalMembership)
    )


def me116(state: State, measure: r.Measure, today: date) -> bool:
    number = find(state, r.QuotaOrderNumber, measure.order_number_sid)
    if number is None or measure.valid_between.start <= MEASURES_COUNT_AFTER:
        return False
    return not spans(number.valid_between, effective(measure))


def me119(state: State, measure: r.Measure, today: date) -> bool:
    number = find(state, r.QuotaOrderNumber, measure.order_number_sid)
    if number is None or measure.valid_between.start <= MEASURES_COUNT_AFTER:
        return False
    return not covered(state, measure)


# --- definitions -----------------------------------------------------------------------------------------------------


def other_definitions(state: State, definition: r.QuotaDefinition) -> list[r.QuotaDefinition]:
    return [
        each
        for each in every(state, r.QuotaDefinition)
        if each.order_number_sid == definition.order_number_sid and each.sid != definition.sid
    ]


def qd1(state: State, definition: r.QuotaDefinition, today: date) -> bool:
    start = definition.valid_between.start
    return any(each.valid_between.start == start for each in other_definitions(state, definition))


def overlapping_definition(state: State, definition: r.QuotaDefinition, today: date) -> bool:
    return any(
        overlap(each.valid_between, definition.valid_between) for each in other_definitions(state, definition)
    )


def qd8(state: State, definition: r.QuotaDefinition, today: date) -> bool:
    unit = find(state, r.MonetaryUnit, definition.monetary_unit)
    return unit is not None and not spans(unit.valid_between, definition.valid_between)


def qd10(state: State, definition: r.QuotaDefinition, today: date) -> bool:
    unit = find(state, r.MeasurementUnit, definition.measurement_unit)
    return unit is not None and not spans(unit.valid_between, definition.valid_between)


def qd11(state: State, definition: r.QuotaDefinition, today: date) -> bool:
    qualifier = find(state, r.MeasurementUnitQualifier, definition.measurement_unit_qualifier)
    return qualifier is not None and not spans(qualifier.valid_between, definition.valid_between)


def volumes_must_match(state: State, definition: r.QuotaDefinition, today: date) -> bool:
    if definition.valid_between.start < today or definition.volume == definition.initial_volume:
        return False
    return not any(each.main_quota_sid == definition.sid for each in every(state, r.QuotaAssociation))


# --- associations ----------------------------------------------------------------------------------------------------


def qa2(state: State, association: r.QuotaAssociation, today: date) -> bool:
    main = find(state, r.QuotaDefinition, association.main_quota_sid)
    sub = find(state, r.QuotaDefinition, association.sub_quota_sid)
    return main is not None and sub is not None and not spans(main.valid_between, sub.valid_between)


def qa3(state: State, association: r.QuotaAssociation, today: date) -> bool:
    main = find(state, r.QuotaDefinition, association.main_quota_sid)
    sub = find(state, r.QuotaDefinition, association.sub_quota_sid)
    if main is None or sub is None:
        return False
    return (
        main.measurement_unit != sub.measurement_unit
        or main.monetary_unit != sub.monetary_unit
        or sub.volume > main.volume
        or sub.initial_volume > main.initial_volume
    )


def qa4(state: State, association: r.QuotaAssociation, today: date) -> bool:
    return association.coefficient <= 0


def of_the_same_main(state: State, association: r.QuotaAssociation) -> list[r.QuotaAssociation]:
    return [
        each for each in every(state, r.QuotaAssociation) if each.main_quota_sid == association.main_quota_sid
    ]


def qa5(state: State, association: r.QuotaAssociation, today: date) -> bool:
    if association.sub_quota_relation_type == "NM":
        return association.coefficient != 1
    siblings = of_the_same_main(state, association)
    subs = [find(state, r.QuotaDefinition, each.sub_quota_sid) for each in siblings]
    return association.coefficient == 1 or len({sub.volume for sub in subs if sub is not None}) > 1


def qa6(state: State, association: r.QuotaAssociation, today: date) -> bool:
    return len({each.sub_quota_relation_type for each in of_the_same_main(state, association)}) > 1


def same_main_and_sub(state: State, association: r.QuotaAssociation, today: date) -> bool:
    return association.main_quota_sid == association.sub_quota_sid


# --- suspensions, blocking periods -----------------------------------------------------------------------------------


def only_first_come_first_served(state: State, record: Any, today: date) -> bool:
    definition = find(state, r.QuotaDefinition, record.quota_definition_sid)
    if definition is None:
        return False
    number = find(state, r.QuotaOrderNumber, definition.order_number_sid)
    return number is not None and number.mechanism != 0


def qbp2(state: State, blocking: r.QuotaBlocking, today: date) -> bool:
    definition = find(state, r.QuotaDefinition, blocking.quota_definition_sid)
    return definition is not None and blocking.valid_between.start < definition.valid_between.start


def qbp3(state: State, blocking: r.QuotaBlocking, today: date) -> bool:
    end = blocking.valid_between.end
    return end is not None and end <= blocking.valid_between.start


def qsp2(state: State, suspension: r.QuotaSuspension, today: date) -> bool:
    definition = find(state, r.QuotaDefinition, suspension.quota_definition_sid)
    return definition is not None and not spans(definition.valid_between, suspension.valid_between)


#: Asked of a deleted origin too, and of the order number that an origin has left.
ON10: Final = StateRule("ON10", r.QuotaOrderNumberOrigin, on10)
STATE_RULES: Final = (
    StateRule("ON1", r.QuotaOrderNumber, on1),
    StateRule("ON2", r.QuotaOrderNumber, on2),
    StateRule("ON4", r.QuotaOrderNumber, on4, links.BY_ORIGIN_AND_AREA),
    StateRule("ON9", r.QuotaOrderNumber, on9),
    StateRule(
        "CertificatesMustExist", r.QuotaOrderNumber, certificates_must_exist, links.BY_CERTIFICATE, True
    ),
    StateRule(
        "CertificateValidityPeriodMustSpanQuotaOrderNumber",
        r.QuotaOrderNumber,
        certificates_must_span,
        links.BY_CERTIFICATE,
        True,
    ),
    StateRule("ON5", r.QuotaOrderNumberOrigin, on5),
    StateRule("ON6", r.QuotaOrderNumberOrigin, on6, links.BY_AREA),
    StateRule("ON7", r.QuotaOrderNumberOrigin, outside_its_order_number, links.BY_ORDER_NUMBER),
    ON10,
    StateRule("ON13", r.QuotaOrderNumberOriginExclusion, on13, links.BY_ORIGINS_AREA),
    StateRule("ON14", r.QuotaOrderNumberOriginExclusion, on14, links.BY_MEMBERSHIP),
    StateRule("ME116", r.Measure, me116),
    StateRule("ME119", r.Measure, me119),
    StateRule("ON8", r.QuotaDefinition, outside_its_order_number, links.BY_ORDER_NUMBER),
    StateRule("QD7", r.QuotaDefinition, outside_its_order_number, links.BY_ORDER_NUMBER),
    StateRule("QD1", r.QuotaDefinition, qd1),
    StateRule("QD8", r.QuotaDefinition, qd8, links.BY_MONETARY_UNIT),
    StateRule("QD10", r.QuotaDefinition, qd10, links.BY_UNIT),
    StateRule("QD11", r.QuotaDefinition, qd11, links.BY_QUALIFIER),
    StateRule("OverlappingQuotaDefinition", r.QuotaDefinition, overlapping_definition, only_uk=True),
    StateRule("VolumeAndInitialVolumeMustMatch", r.QuotaDefinition, volumes_must_match, links.BY_MAIN, True),
    StateRule("QA2", r.QuotaAssociation, qa2, links.BY_MAIN_AND_SUB),
    StateRule("QA3", r.QuotaAssociation, qa3, links.BY_MAIN_AND_SUB),
    StateRule("QA4", r.QuotaAssociation, qa4),
    StateRule("QA5", r.QuotaAssociation, qa5, links.BY_MAIN_AND_SUB),
    StateRule("QA6", r.QuotaAssociation, qa6),
    StateRule("SameMainAndSubQuota", r.QuotaAssociation, same_main_and_sub, only_uk=True),
    StateRule(
        "BlockingOnlyOfFCFSQuotas",
        r.QuotaBlocking,
        only_first_come_first_served,
        links.BY_DEFINITION_AND_NUMBER,
        True,
    ),
    StateRule("QBP2", r.QuotaBlocking, qbp2, links.BY_DEFINITION),
    StateRule("QBP3", r.QuotaBlocking, qbp3),
    StateRule(
        "SuspensionsOnlyToFCFSQuotas",
        r.QuotaSuspension,
        only_first_come_first_served,
        links.BY_DEFINITION_AND_NUMBER,
        True,
    ),
    StateRule("QSP2", r.QuotaSuspension, qsp2, links.BY_DEFINITION),
)
