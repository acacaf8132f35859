"""The shapes that rules share, each written once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rules.periods import Period
from rules.records import Key, Record, RecordRef
from rules.references import Reference
from rules.state import Finding, State, listed


def unique_start(record: Any, rivals: Mapping[Key, Any]) -> Finding | None:
    """No other of these records starts on the same day."""
    start = record.valid_between.start
    same = [each for key, each in rivals.items() if each.valid_between.start == start and key != record.key]
    if not same:
        return None
    return Finding.naming(f"It starts on {start}, as does {{}}.", same)


def no_overlap(record: Any, rivals: Mapping[Key, Any]) -> Finding | None:
    """No other of these records shares a day with this one."""
    period: Period = record.valid_between
    own = record.key
    clashing = [each for key, each in rivals.items() if key != own and each.valid_between.overlaps(period)]
    if not clashing:
        return None
    return Finding.naming(f"Its period, {period}, overlaps with that of {{}}.", clashing)


def referent_spans(state: State, record: Any, reference: Reference) -> Finding | None:
    """The live record that `record` refers to spans it."""
    for key in reference.values(record):
        outer = state.live(reference.to, key)
        if outer is not None and not outer.valid_between.spans(record.valid_between):
            return Finding(
                f"Its period, {record.valid_between}, is not within that of {RecordRef.to(outer)}, "
                f"{outer.valid_between}.",
                (RecordRef.to(outer),),
            )
    return None


def referents_exist(state: State, record: Record, references: Iterable[Reference]) -> Finding | None:
    """Every record that `record` refers to is live."""
    missing = [
        RecordRef(reference.to.kind, key)
        for reference in references
        for key in reference.values(record)
        if state.live(reference.to, key) is None
    ]
    return Finding(f"There is no {listed(missing, len(missing))}.", tuple(missing)) if missing else None


def not_referred_to(state: State, record: Record, reference: Reference) -> Finding | None:
    """No live record refers to `record`."""
    users = state.bucket(reference, record.key)
    return Finding.naming("It is referred to by {}.", users.values()) if users else None
