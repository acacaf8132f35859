"""The escrow: what each allocation counts for, and the only ways in which its exposure changes (S2, S3, S5, S6).

Every function takes a record and returns the next one. Which of them are decisions and which are facts is kept apart by
`book.Book`: a decision that would raise E above the target does not get past it.
"""

from __future__ import annotations

from quota_server.ledger.model import Allocation, Assignment, Assume, Override, Sums
from quota_server.ledger.replacing import replace
from quotafleet.link.messages import FinalStanding, OverrideState, Standing, Totals


def allocation_sums(allocation: Allocation) -> Sums:
    """What an allocation adds to its quota's sums."""
    charge = allocation.charge + allocation.copies
    if allocation.settled:
        return Sums(
            charge=charge,
            overridden=allocation.totals.overridden,
            at_risk=allocation.at_risk,
            overage=allocation.overage,
        )
    return Sums(
        exposure=allocation.exposure,
        charge=charge,
        count=allocation.totals.count,
        held=allocation.held,
        overridden=allocation.totals.overridden,
        overage=allocation.overage,
        aside=max(0, allocation.wanted - allocation.exposure),
    )


def assignment_sums(assignment: Assignment) -> Sums:
    """What an assignment adds: the count from before the agent was enrolled, for ever."""
    return Sums(charge=assignment.initial_count)


def override_sums(override: Override) -> Sums:
    """What an override adds: its amount while it may have been spent, what was spent once that is known (S7).

    Of an enrolment that has ended it counts as spent, or is knowingly at risk. It never funds a limit: it is not in E.
    """
    if override.state is OverrideState.USED:
        return Sums(overrides=override.spent)
    if override.state is not OverrideState.APPROVED:
        return Sums()
    if override.at_risk:
        return Sums(at_risk=override.amount)
    return Sums(overrides=override.amount, overridden=override.amount if override.settled else 0)


def check(allocation: Allocation) -> None:
    """Asserts what holds of every allocation, always."""
    assert allocation.exposure >= 0
    assert 0 <= allocation.offered <= allocation.exposure or allocation.settled, "a limit was sent unescrowed"
    assert min(allocation.totals.count, allocation.held) >= 0
    assert min(allocation.charge, allocation.at_risk, allocation.copies) >= 0
    assert not (allocation.settled and allocation.exposure), "a settled allocation has no exposure"
    assert allocation.acknowledged <= allocation.revision, "an acknowledgement of what was never sent"


def offer(allocation: Allocation, limit: int, generation: int) -> Allocation:
    """A new revision with `limit`. The exposure grows with it at once, and never falls here (S3)."""
    return replace(
        allocation,
        offered=limit,
        exposure=max(allocation.exposure, limit),
        revision=allocation.revision.next(generation),
    )


def acknowledge(allocation: Allocation, standing: Standing) -> Allocation:
    """Takes the acknowledgement in a standing, if it is one of the newest revision ever recorded (S3).

    The exposure falls to the limit stated; within a revision it only falls. Anything older changes nothing: the store
    may have applied a later, larger limit meanwhile.
    """
    if allocation.settled or standing.revision != allocation.revision:
        return allocation
    if standing.limit > allocation.exposure:
        return allocation  # a late statement of the same revision
    return replace(
        allocation,
        exposure=standing.limit,
        offered=min(allocation.offered, standing.limit),
        acknowledged=standing.revision,
    )


def is_fork(allocation: Allocation, totals: Totals, dial: int) -> bool:
    """Whether totals prove that a store was put back: lower ones on a dial newer than the stored ones' (S5)."""
    return dial > allocation.dial and not totals.covers(allocation.totals)


def count(allocation: Allocation, standing: Standing, dial: int, now_ms: int) -> Allocation:
    """Takes the counts of a standing, unless it is late or repeated: then nothing changes (S5)."""
    if allocation.settled or not standing.totals.covers(allocation.totals):
        return allocation
    if standing.sequence < allocation.sequence:
        return allocation
    return replace(
        allocation,
        totals=standing.totals,
        held=standing.held,
        sequence=standing.sequence,
        dial=dial,
        report_ms=now_ms,
        open_requests=standing.open_requests,
        recent_demand=standing.recent_demand,
        wanted_more=standing.wanted_more,
    )


def adopt(allocation: Allocation, standing: Standing, dial: int, now_ms: int) -> Allocation:
    """After a restore: what the store says beyond what the ledger remembers is true (section 8).

    What it may go on enforcing is the limit it states, and no more: the limit that the ledger remembers may have been
    given up since, and be in somebody else's hands.
    """
    adopted = replace(
        allocation,
        exposure=max(allocation.exposure, standing.limit),
        offered=standing.limit,
        revision=max(allocation.revision, standing.revision),
        sequence=min(allocation.sequence, standing.sequence),
    )
    return count(adopted, standing, dial, now_ms)


def settle(allocation: Allocation, assume: Assume) -> Allocation:
    """Ends an allocation: its exposure becomes a charge, or a charge and a known risk."""
    if allocation.settled:
        return allocation
    charge = allocation.exposure
    if assume is Assume.LAST_REPORTED:
        charge = min(allocation.used, allocation.exposure)
    at_risk = allocation.exposure - charge
    return replace(
        allocation, settled=True, charge=charge, at_risk=at_risk, exposure=0, wanted=0, offered=0, held=0
    )


def settle_override(override: Override, assume: Assume) -> Override:
    """Ends an override with its enrolment: spent, or at risk, until its store turns up; a wish is denied."""
    if override.state is OverrideState.PENDING:
        return replace(override, state=OverrideState.DENIED, settled=True)
    return replace(override, settled=True, at_risk=assume is Assume.LAST_REPORTED)


def finalise(allocation: Allocation, final: FinalStanding | None, now_ms: int) -> Allocation:
    """Takes the totals of a fenced store: they replace the charge in full (S6). None: it never knew the quota."""
    if allocation.final:
        return allocation
    totals = final.totals if final is not None else Totals()
    return replace(
        allocation,
        settled=True,
        final=True,
        totals=totals,
        charge=totals.count,
        at_risk=0,
        exposure=0,
        wanted=0,
        offered=0,
        held=0,
        open_requests=(),
        wanted_more=0,
        report_ms=now_ms,
    )


def charge_copy(allocation: Allocation, spent: int) -> Allocation:
    """Charges what a copy of the store spent since the last mark that it knows was shown, as overage (S6)."""
    return replace(allocation, copies=allocation.copies + spent, overage=allocation.overage + spent)
