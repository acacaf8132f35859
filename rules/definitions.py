"""Rules about quota definitions."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

from rules.catalogue import Trigger, When, on, rule
from rules.records import Key, QuotaAssociation, QuotaDefinition
from rules.references import (
    ASSOCIATION_MAIN,
    ASSOCIATION_SUB,
    BLOCKING_DEFINITION,
    DEFINITION_MONETARY_UNIT,
    DEFINITION_ORDER_NUMBER,
    DEFINITION_QUALIFIER,
    DEFINITION_UNIT,
    EVENT_DEFINITION,
    SUSPENSION_DEFINITION,
)
from rules.shapes import no_overlap, not_referred_to, referent_spans, unique_start
from rules.state import Finding, State


@rule(QuotaDefinition, triggers=[on(DEFINITION_ORDER_NUMBER)])
def ON8(state: State, definition: QuotaDefinition) -> Finding | None:
    """The validity period of the quota order number must span the validity period of the referencing quota
    definition.
    """
    return referent_spans(state, definition, DEFINITION_ORDER_NUMBER)


@rule(QuotaDefinition, triggers=[on(DEFINITION_ORDER_NUMBER)])
def QD7(state: State, definition: QuotaDefinition) -> Finding | None:
    """The validity period of the quota definition must be spanned by one of the validity periods of the referenced
    quota order number.
    """
    return referent_spans(state, definition, DEFINITION_ORDER_NUMBER)


@rule(QuotaDefinition)
def QD1(state: State, definition: QuotaDefinition) -> Finding | None:
    """Quota order number id + start date must be unique."""
    return unique_start(definition, state.bucket(DEFINITION_ORDER_NUMBER, definition.order_number_sid))


@rule(QuotaDefinition, triggers=[on(DEFINITION_MONETARY_UNIT)])
def QD8(state: State, definition: QuotaDefinition) -> Finding | None:
    """The validity period of the monetary unit code must span the validity period of the quota definition."""
    return referent_spans(state, definition, DEFINITION_MONETARY_UNIT)


@rule(QuotaDefinition, triggers=[on(DEFINITION_UNIT)])
def QD10(state: State, definition: QuotaDefinition) -> Finding | None:
    """The validity period of the measurement unit code must span the validity period of the quota definition."""
    return referent_spans(state, definition, DEFINITION_UNIT)


@rule(QuotaDefinition, triggers=[on(DEFINITION_QUALIFIER)])
def QD11(state: State, definition: QuotaDefinition) -> Finding | None:
    """The validity period of the measurement unit qualifier code must span the validity period of the quota
    definition.
    """
    return referent_spans(state, definition, DEFINITION_QUALIFIER)


@rule(QuotaDefinition, when=When.UPDATED)
def QD12(state: State, definition: QuotaDefinition) -> Finding | None:
    """If quota events exist for a quota definition, the start date of the quota definition cannot be brought
    forward.
    """
    old, new = _version_before(state, definition).valid_between.start, definition.valid_between.start
    if new >= old or not state.bucket(EVENT_DEFINITION, definition.sid):
        return None
    return Finding(f"It has events, and its start moves from {old} to {new}.")


@rule(QuotaDefinition, when=When.UPDATED)
def QD13(state: State, definition: QuotaDefinition) -> Finding | None:
    """If quota events exist for a quota definition, the start date of the quota definition can only be postponed up to
    the date of the first quota event on that quota definition.
    """
    old, new = _version_before(state, definition).valid_between.start, definition.valid_between.start
    if new <= old:
        return None
    first = min(_event_days(state, definition), default=None)
    if first is None or new <= first:
        return None
    return Finding(f"Its first event is of {first}, and its start moves from {old} to {new}.")


@rule(QuotaDefinition, when=When.UPDATED)
def QD15(state: State, definition: QuotaDefinition) -> Finding | None:
    """If quota events exist for a quota definition, the end date of the quota definition can only be brought forward
    up to the date of the last quota event on that quota definition.
    """
    old, new = _version_before(state, definition).valid_between.end, definition.valid_between.end
    if new is None or (old is not None and new >= old):
        return None
    last = max(_event_days(state, definition), default=None)
    if last is None or new >= last:
        return None
    return Finding(f"Its last event is of {last}, and its end moves from {old or 'open'} to {new}.")


def _version_before(state: State, definition: QuotaDefinition) -> QuotaDefinition:
    assert state.before is not None
    before: QuotaDefinition = state.before.live(QuotaDefinition, definition.sid)
    return before


def _event_days(state: State, definition: QuotaDefinition) -> Iterable[date]:
    events = state.bucket(EVENT_DEFINITION, definition.sid)
    return (event.occurrence_timestamp.date() for event in events.values())


@rule(QuotaDefinition, only_uk=True)
def OverlappingQuotaDefinition(state: State, definition: QuotaDefinition) -> Finding | None:
    """There may be no overlap in time of two quota definitions with the same quota order number id."""
    return no_overlap(definition, state.bucket(DEFINITION_ORDER_NUMBER, definition.order_number_sid))


def _main_definition(state: State, association: tuple[int, int]) -> Iterable[Key]:
    return () if state.live(QuotaAssociation, association) is None else (association[0],)


@rule(QuotaDefinition, triggers=[Trigger(QuotaAssociation, QuotaDefinition, _main_definition)], only_uk=True)
def VolumeAndInitialVolumeMustMatch(state: State, definition: QuotaDefinition) -> Finding | None:
    """Unless it is the main quota in a quota association, a definition's volume and initial_volume values should always
    be the same (they may differ once the period has begun).
    """
    if definition.volume == definition.initial_volume or definition.valid_between.start < state.today:
        return None
    if state.bucket(ASSOCIATION_MAIN, definition.sid):
        return None
    return Finding(f"The volume is {definition.volume}, the initial volume {definition.initial_volume}.")


# --- when a definition is deleted ------------------------------------------------------------------------------------


@rule(QuotaDefinition, when=When.DELETED, only_uk=True)
def PreventQuotaDefinitionDeletion(state: State, definition: QuotaDefinition) -> Finding | None:
    """A quota definition cannot be deleted once the start date is in the past."""
    start = definition.valid_between.start
    return Finding(f"It starts on {start}; today is {state.today}.") if start <= state.today else None


@rule(QuotaDefinition, when=When.DELETED)
def QuotaAssociationMustReferToANonDeletedSubQuota(
    state: State, definition: QuotaDefinition
) -> Finding | None:
    """A quota association must refer to a non-deleted sub-quota."""
    return not_referred_to(state, definition, ASSOCIATION_SUB)


@rule(QuotaDefinition, when=When.DELETED)
def QuotaSuspensionMustReferToANonDeletedQuotaDefinition(
    state: State, definition: QuotaDefinition
) -> Finding | None:
    """A quota suspension must refer to a non-deleted quota definition."""
    return not_referred_to(state, definition, SUSPENSION_DEFINITION)


@rule(QuotaDefinition, when=When.DELETED)
def QuotaBlockingPeriodMustReferToANonDeletedQuotaDefinition(
    state: State, definition: QuotaDefinition
) -> Finding | None:
    """A quota blocking period must refer to a non-deleted quota definition."""
    return not_referred_to(state, definition, BLOCKING_DEFINITION)


@rule(QuotaDefinition, when=When.DELETED)
def PreventDeletingLinkedQuotaDefinitions(state: State, definition: QuotaDefinition) -> Finding | None:
    """A deleted quota definition must not be the main quota of a non-deleted association."""
    return not_referred_to(state, definition, ASSOCIATION_MAIN)
