"""Rules about blocking periods and suspensions of a definition."""

from __future__ import annotations

from collections.abc import Iterable

from rules.catalogue import Trigger, on, rule
from rules.records import (
    Key,
    Mechanism,
    QuotaBlocking,
    QuotaDefinition,
    QuotaOrderNumber,
    QuotaSuspension,
    RecordRef,
)
from rules.references import BLOCKING_DEFINITION, DEFINITION_ORDER_NUMBER, SUSPENSION_DEFINITION, Reference
from rules.shapes import referent_spans
from rules.state import Finding, State


def _through_definitions(reference: Reference) -> Trigger:
    """A change of an order number leads to what refers to its definitions."""

    def link(state: State, order_number_sid: Key) -> Iterable[Key]:
        return [
            key
            for definition_sid in state.bucket(DEFINITION_ORDER_NUMBER, order_number_sid)
            for key in state.bucket(reference, definition_sid)
        ]

    return Trigger(QuotaOrderNumber, reference.of, link)


@rule(
    QuotaBlocking,
    triggers=[on(BLOCKING_DEFINITION), _through_definitions(BLOCKING_DEFINITION)],
    only_uk=True,
)
def BlockingOnlyOfFCFSQuotas(state: State, blocking: QuotaBlocking) -> Finding | None:
    """Blocking periods are only applicable to FCFS quotas."""
    return _only_first_come(state, blocking.quota_definition_sid)


@rule(QuotaBlocking, triggers=[on(BLOCKING_DEFINITION)])
def QBP2(state: State, blocking: QuotaBlocking) -> Finding | None:
    """The start date of the quota blocking period must be later than or equal to the start date of the quota validity
    period.
    """
    definition = state.live(QuotaDefinition, blocking.quota_definition_sid)
    if definition is None or blocking.valid_between.start >= definition.valid_between.start:
        return None
    ref = RecordRef.to(definition)
    return Finding(
        f"It starts on {blocking.valid_between.start}, {ref} on {definition.valid_between.start}.", (ref,)
    )


@rule(QuotaBlocking)
def QBP3(state: State, blocking: QuotaBlocking) -> Finding | None:
    """The end date of the quota blocking period must be later than the start date of the quota blocking period."""
    period = blocking.valid_between
    if period.end is None or period.end > period.start:
        return None
    return Finding(f"It starts and ends on {period.start}.")


@rule(
    QuotaSuspension,
    triggers=[on(SUSPENSION_DEFINITION), _through_definitions(SUSPENSION_DEFINITION)],
    only_uk=True,
)
def SuspensionsOnlyToFCFSQuotas(state: State, suspension: QuotaSuspension) -> Finding | None:
    """Quota suspensions are only applicable to First Come First Served quotas."""
    return _only_first_come(state, suspension.quota_definition_sid)


@rule(QuotaSuspension, triggers=[on(SUSPENSION_DEFINITION)])
def QSP2(state: State, suspension: QuotaSuspension) -> Finding | None:
    """The validity period of the quota must span the quota suspension period."""
    return referent_spans(state, suspension, SUSPENSION_DEFINITION)


def _only_first_come(state: State, definition_sid: int) -> Finding | None:
    definition = state.live(QuotaDefinition, definition_sid)
    order_number = None if definition is None else state.live(QuotaOrderNumber, definition.order_number_sid)
    if order_number is None or order_number.mechanism == Mechanism.FIRST_COME_FIRST_SERVED:
        return None
    ref = RecordRef.to(order_number)
    return Finding(f"{ref} ({order_number.order_number}) is licensed.", (ref,))
