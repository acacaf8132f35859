"""Rules about origins of order numbers and what is excluded from them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Final

from rules.catalogue import Trigger, When, on, rule
from rules.order_numbers import binding_measures, is_spanned_by_an_origin
from rules.records import (
    AreaCode,
    GeographicalArea,
    GeographicalMembership,
    Key,
    Measure,
    QuotaOrderNumber,
    QuotaOrderNumberOrigin,
    QuotaOrderNumberOriginExclusion,
    RecordRef,
)
from rules.references import (
    EXCLUSION_ORIGIN,
    ORIGIN_AREA,
    ORIGIN_ORDER_NUMBER,
)
from rules.shapes import no_overlap, referent_spans
from rules.state import Finding, State

#: ON6 applies to origins that start later than this.
_ORIGINS_AFTER: Final = date(2006, 12, 31)


@rule(QuotaOrderNumberOrigin)
def ON5(state: State, origin: QuotaOrderNumberOrigin) -> Finding | None:
    """There may be no overlap in time of two quota order number origins with the same quota order number SID and
    geographical area id.
    """
    siblings = state.bucket(ORIGIN_ORDER_NUMBER, origin.order_number_sid)
    if len(siblings) < 2:
        return None
    area = origin.geographical_area_sid
    return no_overlap(
        origin, {key: each for key, each in siblings.items() if each.geographical_area_sid == area}
    )


@rule(QuotaOrderNumberOrigin, triggers=[on(ORIGIN_AREA)])
def ON6(state: State, origin: QuotaOrderNumberOrigin) -> Finding | None:
    """The validity period of the geographical area must span the validity period of the quota order number origin."""
    if origin.valid_between.start <= _ORIGINS_AFTER:
        return None
    return referent_spans(state, origin, ORIGIN_AREA)


@rule(QuotaOrderNumberOrigin, triggers=[on(ORIGIN_ORDER_NUMBER)])
def ON7(state: State, origin: QuotaOrderNumberOrigin) -> Finding | None:
    """The validity period of the quota order number must span the validity period of the quota order number origin."""
    return referent_spans(state, origin, ORIGIN_ORDER_NUMBER)


@rule(QuotaOrderNumberOrigin, when=When.LIVE_OR_DELETED)
def ON10(state: State, origin: QuotaOrderNumberOrigin) -> Finding | None:
    """When a quota order number is used in a measure then the validity period of the quota order number origin must
    span the validity period of the measure. This rule is only applicable for measures with start date after
    31/12/2007.
    """
    order_numbers = {origin.order_number_sid}
    if state.before is not None:
        left: QuotaOrderNumberOrigin | None = state.before.live(QuotaOrderNumberOrigin, origin.sid)
        if left is not None:
            order_numbers.add(left.order_number_sid)
    return state.once(_uncovered_measures, tuple(sorted(order_numbers)))


def _uncovered_measures(state: State, order_number_sids: tuple[int, ...]) -> Finding | None:
    """The measures of these order numbers that no origin of theirs spans."""
    uncovered: list[Measure] = [
        each
        for sid in order_number_sids
        if state.live(QuotaOrderNumber, sid) is not None
        for each in binding_measures(state, sid)
        if not is_spanned_by_an_origin(state, sid, each)
    ]
    return Finding.naming("No origin of the order number spans {}.", uncovered) if uncovered else None


@rule(QuotaOrderNumberOrigin, when=When.DELETED)
def ON12(state: State, origin: QuotaOrderNumberOrigin) -> Finding | None:
    """The quota order number origin cannot be deleted if it is used in a measure. This rule is only applicable for
    measure with start date after 31/12/2007.
    """
    users = [
        each
        for each in binding_measures(state, origin.order_number_sid)
        if each.geographical_area_sid == origin.geographical_area_sid
    ]
    return Finding.naming("It is used by {}.", users) if users else None


def _exclusions_of_area(state: State, area_sid: Key) -> Iterable[Key]:
    return [
        key
        for origin_sid in state.bucket(ORIGIN_AREA, area_sid)
        for key in state.bucket(EXCLUSION_ORIGIN, origin_sid)
    ]


def _exclusions_of_membership(state: State, membership: tuple[int, int]) -> Iterable[Key]:
    group_sid, member_sid = membership
    origins = state.bucket(ORIGIN_AREA, group_sid).values()
    keys = [(origin.sid, member_sid) for origin in origins]
    return [key for key in keys if state.live(QuotaOrderNumberOriginExclusion, key) is not None]


@rule(
    QuotaOrderNumberOriginExclusion,
    triggers=[
        on(EXCLUSION_ORIGIN),
        Trigger(GeographicalArea, QuotaOrderNumberOriginExclusion, _exclusions_of_area),
    ],
)
def ON13(state: State, exclusion: QuotaOrderNumberOriginExclusion) -> Finding | None:
    """An exclusion can only be entered if the order number origin is a geographical area group (area code = 1)."""
    origin = state.live(QuotaOrderNumberOrigin, exclusion.origin_sid)
    area = None if origin is None else state.live(GeographicalArea, origin.geographical_area_sid)
    if area is None or area.area_code == AreaCode.GROUP:
        return None
    ref = RecordRef.to(area)
    return Finding(f"The area of its origin, {ref}, has the code {area.area_code}.", (ref,))


@rule(
    QuotaOrderNumberOriginExclusion,
    triggers=[
        on(EXCLUSION_ORIGIN),
        Trigger(GeographicalMembership, QuotaOrderNumberOriginExclusion, _exclusions_of_membership),
    ],
)
def ON14(state: State, exclusion: QuotaOrderNumberOriginExclusion) -> Finding | None:
    """The excluded geographical area must be a member of the geographical area group."""
    origin = state.live(QuotaOrderNumberOrigin, exclusion.origin_sid)
    if origin is None:
        return None
    membership = (origin.geographical_area_sid, exclusion.excluded_geographical_area_sid)
    if state.live(GeographicalMembership, membership) is not None:
        return None
    group, area = (RecordRef(GeographicalArea.kind, sid) for sid in membership)
    return Finding(f"{area} is no member of {group}.", (group, area))
