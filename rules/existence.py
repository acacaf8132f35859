"""Rules that what a record refers to exists. Where the tariff's rules have a code of their own, it is that."""

from __future__ import annotations

from typing import Final

from rules.catalogue import on, on_deletion, rule
from rules.records import (
    GeographicalMembership,
    Measure,
    QuotaAssociation,
    QuotaBlocking,
    QuotaDefinition,
    QuotaEvent,
    QuotaOrderNumber,
    QuotaOrderNumberOrigin,
    QuotaOrderNumberOriginExclusion,
    QuotaSuspension,
    Record,
)
from rules.references import (
    ASSOCIATION_MAIN,
    ASSOCIATION_SUB,
    BLOCKING_DEFINITION,
    DEFINITION_MONETARY_UNIT,
    DEFINITION_ORDER_NUMBER,
    DEFINITION_QUALIFIER,
    DEFINITION_UNIT,
    EVENT_DEFINITION,
    EXCLUSION_AREA,
    EXCLUSION_ORIGIN,
    MEASURE_AREA,
    MEASURE_ORDER_NUMBER,
    MEMBERSHIP_GROUP,
    MEMBERSHIP_MEMBER,
    ORDER_NUMBER_CERTIFICATES,
    ORIGIN_AREA,
    ORIGIN_ORDER_NUMBER,
    SUSPENSION_DEFINITION,
    Reference,
)
from rules.shapes import referents_exist
from rules.state import Finding, State

#: What an ordinary reference may not miss, by kind.
_PLAIN: Final[dict[type[Record], tuple[Reference, ...]]] = {
    GeographicalMembership: (MEMBERSHIP_GROUP, MEMBERSHIP_MEMBER),
    Measure: (MEASURE_ORDER_NUMBER, MEASURE_AREA),
    QuotaOrderNumberOrigin: (ORIGIN_ORDER_NUMBER, ORIGIN_AREA),
    QuotaOrderNumberOriginExclusion: (EXCLUSION_ORIGIN, EXCLUSION_AREA),
    QuotaAssociation: (ASSOCIATION_MAIN, ASSOCIATION_SUB),
    QuotaEvent: (EVENT_DEFINITION,),
}


@rule(*_PLAIN, triggers=[on_deletion(reference) for each in _PLAIN.values() for reference in each])
def ReferenceMustExist(state: State, record: Record) -> Finding | None:
    """A record that is referred to must exist."""
    if type(record) is Measure and record.order_number_sid is None and record.order_number is not None:
        return Finding(f"There is no order number {record.order_number}.")
    references = _PLAIN[type(record)]
    if type(record) is QuotaAssociation:
        # The deletion rules speak of the definition that is deleted under it.
        references = tuple(
            each for each in references if not state.is_deleted(each.to, each.values(record)[0])
        )
    return referents_exist(state, record, references)


@rule(QuotaDefinition, triggers=[on_deletion(DEFINITION_ORDER_NUMBER)])
def QD3(state: State, definition: QuotaDefinition) -> Finding | None:
    """The quota order number must exist."""
    return referents_exist(state, definition, (DEFINITION_ORDER_NUMBER,))


@rule(QuotaDefinition, triggers=[on_deletion(DEFINITION_MONETARY_UNIT)])
def QD4(state: State, definition: QuotaDefinition) -> Finding | None:
    """The monetary unit code must exist."""
    return referents_exist(state, definition, (DEFINITION_MONETARY_UNIT,))


@rule(QuotaDefinition, triggers=[on_deletion(DEFINITION_UNIT)])
def QD5(state: State, definition: QuotaDefinition) -> Finding | None:
    """The measurement unit code must exist."""
    return referents_exist(state, definition, (DEFINITION_UNIT,))


@rule(QuotaDefinition, triggers=[on_deletion(DEFINITION_QUALIFIER)])
def QD6(state: State, definition: QuotaDefinition) -> Finding | None:
    """The measurement unit qualifier code must exist."""
    return referents_exist(state, definition, (DEFINITION_QUALIFIER,))


@rule(QuotaBlocking, triggers=[on_deletion(BLOCKING_DEFINITION)])
def QBP1(state: State, blocking: QuotaBlocking) -> Finding | None:
    """The quota definition SID must exist."""
    return _definition_exists(state, blocking, BLOCKING_DEFINITION)


@rule(QuotaSuspension, triggers=[on_deletion(SUSPENSION_DEFINITION)])
def QSP1(state: State, suspension: QuotaSuspension) -> Finding | None:
    """The quota definition SID must exist."""
    return _definition_exists(state, suspension, SUSPENSION_DEFINITION)


@rule(QuotaOrderNumber, triggers=[on(ORDER_NUMBER_CERTIFICATES)], only_uk=True)
def CertificatesMustExist(state: State, order_number: QuotaOrderNumber) -> Finding | None:
    """The referenced certificates must exist."""
    return referents_exist(state, order_number, (ORDER_NUMBER_CERTIFICATES,))


def _definition_exists(state: State, record: Record, reference: Reference) -> Finding | None:
    if state.is_deleted(QuotaDefinition, reference.values(record)[0]):
        return None  # the deletion rules speak of it
    return referents_exist(state, record, (reference,))
