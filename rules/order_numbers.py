"""Rules about order numbers, and about the measures that use them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Any, Final

from rules.catalogue import Trigger, When, on, rule
from rules.records import (
    GeographicalArea,
    Key,
    Measure,
    QuotaOrderNumber,
    QuotaOrderNumberOrigin,
    RecordRef,
)
from rules.references import (
    MEASURE_ORDER_NUMBER,
    ORDER_NUMBER_CERTIFICATES,
    ORDER_NUMBERS,
    ORIGIN_AREA,
    ORIGIN_ORDER_NUMBER,
)
from rules.shapes import no_overlap, referent_spans, unique_start
from rules.state import Finding, State

#: Rules about measures apply to those that start later than this.
MEASURES_AFTER: Final = date(2007, 12, 31)


def binding_measures(state: State, order_number_sid: Key) -> list[Measure]:
    """The live measures that use an order number and start after the cut-off."""
    users = state.bucket(MEASURE_ORDER_NUMBER, order_number_sid)
    return [each for each in users.values() if each.valid_between.start > MEASURES_AFTER]


def is_spanned_by_an_origin(state: State, order_number_sid: Key, measure: Measure) -> bool:
    """Whether a single live origin of the order number spans the measure."""
    period = measure.effective_period
    origins = state.bucket(ORIGIN_ORDER_NUMBER, order_number_sid)
    return any(origin.valid_between.spans(period) for origin in origins.values())


def _order_number_of_origin(state: State, origin_sid: Key) -> Iterable[Key]:
    origin: QuotaOrderNumberOrigin | None = state.live(QuotaOrderNumberOrigin, origin_sid)
    return () if origin is None else (origin.order_number_sid,)


def _order_numbers_of_area(state: State, area_sid: Key) -> Iterable[Key]:
    return [each.order_number_sid for each in state.bucket(ORIGIN_AREA, area_sid).values()]


@rule(QuotaOrderNumber)
def ON1(state: State, order_number: QuotaOrderNumber) -> Finding | None:
    """Quota order number id + start date must be unique."""
    return unique_start(order_number, state.bucket(ORDER_NUMBERS, order_number.order_number))


@rule(QuotaOrderNumber)
def ON2(state: State, order_number: QuotaOrderNumber) -> Finding | None:
    """There may be no overlap in time of two quota order numbers with the same quota order number id."""
    return no_overlap(order_number, state.bucket(ORDER_NUMBERS, order_number.order_number))


@rule(
    QuotaOrderNumber,
    triggers=[
        Trigger(QuotaOrderNumberOrigin, QuotaOrderNumber, _order_number_of_origin),
        Trigger(GeographicalArea, QuotaOrderNumber, _order_numbers_of_area),
    ],
)
def ON4(state: State, order_number: QuotaOrderNumber) -> Finding | None:
    """The referenced geographical area must exist."""
    origins = state.bucket(ORIGIN_ORDER_NUMBER, order_number.sid)
    for origin in origins.values():
        if state.live(GeographicalArea, origin.geographical_area_sid) is not None:
            return None
    found = "None of its origins has an area that exists: {}." if origins else "It has no origin."
    return Finding.naming(found, origins.values())


@rule(QuotaOrderNumber)
def ON9(state: State, order_number: QuotaOrderNumber) -> Finding | None:
    """When a quota order number is used in a measure then the validity period of the quota order number must span the
    validity period of the measure. This rule is only applicable for measure with start date after 31/12/2007.
    """
    period = order_number.valid_between
    outside = [
        each for each in binding_measures(state, order_number.sid) if not period.spans(each.effective_period)
    ]
    return _naming(f"Its period, {period}, does not span {{}}.", outside)


@rule(QuotaOrderNumber, when=When.DELETED)
def ON11(state: State, order_number: QuotaOrderNumber) -> Finding | None:
    """The quota order number cannot be deleted if it is used in a measure. This rule is only applicable for measure
    with start date after 31/12/2007.
    """
    return _naming("It is used by {}.", binding_measures(state, order_number.sid))


@rule(QuotaOrderNumber, triggers=[on(ORDER_NUMBER_CERTIFICATES)], only_uk=True)
def CertificateValidityPeriodMustSpanQuotaOrderNumber(
    state: State, order_number: QuotaOrderNumber
) -> Finding | None:
    """The validity period of the required certificates must span the validity period of the quota order number."""
    return referent_spans(state, order_number, ORDER_NUMBER_CERTIFICATES)


@rule(Measure)
def ME116(state: State, measure: Measure) -> Finding | None:
    """When a quota order number is used in a measure then the validity period of the quota order number must span the
    validity period of the measure. This rule is only applicable for measures with start date after 31/12/2007.
    """
    order_number = _order_number_of(state, measure)
    period = measure.effective_period
    if order_number is None or order_number.valid_between.spans(period):
        return None
    ref = RecordRef.to(order_number)
    return Finding(
        f"Its period, {period}, is not within that of {ref}, {order_number.valid_between}.", (ref,)
    )


@rule(Measure)
def ME119(state: State, measure: Measure) -> Finding | None:
    """When a quota order number is used in a measure then the validity period of the quota order number origin must
    span the validity period of the measure. This rule is only applicable for measures with start date after
    31/12/2007.
    """
    order_number = _order_number_of(state, measure)
    if order_number is None or is_spanned_by_an_origin(state, order_number.sid, measure):
        return None
    return Finding(
        f"No origin of {RecordRef.to(order_number)} spans its period, {measure.effective_period}.",
        (RecordRef.to(order_number),),
    )


def _order_number_of(state: State, measure: Measure) -> Any:
    """The live order number that a measure after the cut-off uses."""
    if measure.order_number_sid is None or measure.valid_between.start <= MEASURES_AFTER:
        return None
    return state.live(QuotaOrderNumber, measure.order_number_sid)


def _naming(text: str, measures: list[Measure]) -> Finding | None:
    return Finding.naming(text, measures) if measures else None
