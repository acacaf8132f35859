"""Rules about the changes themselves, of every kind."""

from __future__ import annotations

from rules.catalogue import When, rule
from rules.records import QuotaAssociation, Record, UpdateType
from rules.state import Finding, State


@rule(when=When.CHANGED)
def UniqueIdentifyingFields(state: State, record: Record) -> Finding | None:
    """The identifying fields of a record must be unique: it can only be created while there is none with them."""
    # For an association this is QA1.
    return None if type(record) is QuotaAssociation else _created_again(state, record)


@rule(QuotaAssociation, when=When.CHANGED)
def QA1(state: State, association: QuotaAssociation) -> Finding | None:
    """The association between two quota definitions must be unique."""
    return _created_again(state, association)


@rule(when=When.CHANGED)
def UpdateValidity(state: State, record: Record) -> Finding | None:
    """A record can only be updated or deleted while it exists, and changed once in a transaction."""
    changes = state.changes_of(record)
    if len(changes) > 1:
        return Finding(f"It is changed {len(changes)} times.")
    if changes[0].update_type is not UpdateType.CREATE and not state.was_live(record):
        return Finding(f"There is none to {changes[0].update_type.value.lower()}.")
    return None


def _created_again(state: State, record: Record) -> Finding | None:
    if not state.was_live(record):
        return None
    if any(change.update_type is UpdateType.CREATE for change in state.changes_of(record)):
        return Finding("It is created although it exists.")
    return None
