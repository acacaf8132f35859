"""Whose stream is whose: of an agent's streams the newest owns it, on the controller that welcomed it (S5).

And what is taken over with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from quota_server.ledger.book import Book
from quota_server.ledger.model import AgentKey, Epoch
from quotafleet.link.messages import OverrideState
from tests.memory_store import Tables
from tests.simulation.database import Turn
from tests.simulation.truth import Truth, require


def check_streams(epochs: Mapping[AgentKey, Epoch], book: Book, turn: Turn) -> None:
    """What a transaction does to agents' streams; `epochs` are those before it."""
    for record in book.changes():
        if isinstance(record, Epoch) and (before := epochs.get(record.key)) is not None:
            _check_stream(before, record, turn)


def check_welcomed(truth: Truth, tables: Tables, welcomed: Iterable[AgentKey]) -> None:
    """Whatever a store can still spend counts, once its hello was taken: also what the ledger had forgotten (S7)."""
    for key in welcomed:
        lineage = truth.lineages.get(key)
        store = lineage.accepted if lineage is not None and not lineage.unsure else None
        for held in store.disk.state.overrides.values() if store is not None else ():
            known = tables.overrides.get(held.override_id)
            counts = known is not None and known.state in (OverrideState.APPROVED, OverrideState.USED)
            if held.state is OverrideState.APPROVED and held.quota_uid in tables.quotas:
                require(counts, "S7", f"{key} was welcomed with {held}, the ledger has {known}")


def _check_stream(before: Epoch, after: Epoch, turn: Turn) -> None:
    what = f"{after.key}: {turn.controller or 'the controller'}"
    if after.last_dial != before.last_dial:
        begun = turn.is_about(after.key, after.last_dial)
        require(begun, "S5", f"{what} took a stream of dial {after.last_dial}, and nobody said that")
        mine = not after.online or after.owner == turn.controller
        require(mine, "S5", f"{what} welcomed it, and it is said to be on {after.owner!r}")
    elif _heard(after) != _heard(before):
        owns = turn.is_about(after.key, before.last_dial) and before.owner == turn.controller
        owner = f"its stream of dial {before.last_dial} is on {before.owner!r}"
        require(owns, "S5", f"{what} took what an older stream said, {owner}: {before} became {after}")


def _heard(epoch: Epoch) -> tuple[object, ...]:
    """What only the stream that owns an agent may change."""
    return epoch.online, epoch.contact_ms, epoch.shown, epoch.offered
