"""What a store says of itself has to be possible; from one that says otherwise nothing is taken."""

from __future__ import annotations

from quota_server.errors import LedgerRefusal, field_invalid
from quotafleet.link.messages import MAX_UNITS, FinalStanding, Standing


def refuse_standings(standings: tuple[Standing, ...]) -> LedgerRefusal | None:
    """A store that says it is past its own limit is broken; nothing it says is taken (S1)."""
    for index, standing in enumerate(standings):
        if standing.totals.count < 0 or standing.held < 0:
            return field_invalid(f"standings[{index}].totals", "more was released than consumed")
        if standing.used > standing.limit:
            return field_invalid(f"standings[{index}].limit", "count + held is above the limit")
        if not 0 <= standing.totals.overridden <= MAX_UNITS:
            return field_invalid(f"standings[{index}].totals", "more is overridden than there can be")
    return None


def refuse_finals(finals: tuple[FinalStanding, ...]) -> LedgerRefusal | None:
    """Final totals become charges as they are: they have to be possible."""
    for index, final in enumerate(finals):
        for totals in (final.totals, final.marked):
            if not (0 <= totals.count <= MAX_UNITS and 0 <= totals.overridden <= MAX_UNITS):
                return field_invalid(
                    f"fence_ack.standings[{index}].totals", "more is counted than there can be"
                )
    return None
