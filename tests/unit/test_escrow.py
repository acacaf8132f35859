"""The escrow: the only ways in which an exposure changes, each a sentence (S2, S3, S5, S6)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quota_server.ledger import escrow
from quota_server.ledger.model import Allocation, Assignment, Assume, Override, Sums
from quotafleet.link.messages import FinalStanding, OpenRequest, OverrideState, Revision, Standing, Totals

NOW = 1000
FRESH = Allocation("q", "a", 1)
#: Sent 50, then 30, which is not acknowledged; used 22 of it.
SHRINKING = Allocation(
    "q",
    "a",
    1,
    wanted=30,
    offered=30,
    exposure=50,
    revision=Revision(1, 2),
    acknowledged=Revision(1, 1),
    totals=Totals(25, 5, 4, 1),
    held=2,
    sequence=7,
    dial=3,
)


def standing(revision: Revision = SHRINKING.revision, limit: int = 30, **more: object) -> Standing:
    fields = {"totals": SHRINKING.totals, "held": 2, "sequence": 7, **more}
    return Standing("q", revision, limit, **fields)  # type: ignore[arg-type]


# --- offer -----------------------------------------------------------------------------------------------------------


def test_growth_raises_the_exposure_at_once() -> None:
    offered = escrow.offer(FRESH, 40, 1)
    assert (offered.offered, offered.exposure, offered.revision) == (40, 40, Revision(1, 1))


def test_shrinking_leaves_the_exposure_where_it_is() -> None:
    offered = escrow.offer(escrow.offer(FRESH, 40, 1), 10, 1)
    assert (offered.offered, offered.exposure, offered.revision) == (10, 40, Revision(1, 2))


def test_growth_within_what_is_exposed_already_raises_nothing() -> None:
    assert escrow.offer(SHRINKING, 45, 1).exposure == 50


def test_an_offer_in_a_new_generation_is_newer_than_all_before() -> None:
    assert escrow.offer(SHRINKING, 30, 2).revision > SHRINKING.revision


def test_no_offer_goes_back_to_an_older_generation() -> None:
    with pytest.raises(AssertionError):
        escrow.offer(SHRINKING, 30, 0)


# --- acknowledge -----------------------------------------------------------------------------------------------------


def test_an_acknowledgement_of_the_newest_revision_lowers_the_exposure_to_the_limit_stated() -> None:
    after = escrow.acknowledge(SHRINKING, standing(limit=30))
    assert (after.exposure, after.acknowledged) == (30, Revision(1, 2))


def test_an_agent_that_could_not_shrink_so_far_keeps_what_it_states() -> None:
    after = escrow.acknowledge(SHRINKING, standing(limit=42))
    assert (after.exposure, after.offered, after.acknowledged) == (42, 30, Revision(1, 2))


@pytest.mark.parametrize("revision", [Revision(1, 1), Revision(0, 9), Revision(1, 3), Revision(2, 0)])
def test_an_acknowledgement_of_any_other_revision_changes_nothing(revision: Revision) -> None:
    assert escrow.acknowledge(SHRINKING, standing(revision, limit=0)) is SHRINKING


def test_within_a_revision_the_exposure_falls_as_the_agent_ratchets_down() -> None:
    after = SHRINKING
    for limit in (45, 40, 33, 30):
        after = escrow.acknowledge(after, standing(limit=limit))
        assert after.exposure == limit


def test_a_late_statement_of_the_same_revision_with_a_larger_limit_changes_nothing() -> None:
    after = escrow.acknowledge(SHRINKING, standing(limit=33))
    assert escrow.acknowledge(after, standing(limit=45)) is after


def test_a_limit_below_the_one_offered_is_taken_at_its_word() -> None:
    after = escrow.acknowledge(SHRINKING, standing(limit=25))
    assert (after.exposure, after.offered) == (25, 25)


def test_a_settled_allocation_takes_no_acknowledgement() -> None:
    settled = escrow.settle(SHRINKING, Assume.SPENT_LIMIT)
    assert escrow.acknowledge(settled, standing(limit=0)) is settled


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 100), st.integers(0, 3)), max_size=20))
def test_the_exposure_covers_every_limit_that_the_store_may_be_enforcing(
    steps: list[tuple[bool, int, int]],
) -> None:
    """A store that applies some of what it is sent, and whose acknowledgements come late, is never above it."""
    allocation, enforced, states = FRESH, (Revision(), 0), [(Revision(), 0)]
    for is_offer, limit, delay in steps:
        if is_offer:
            allocation = escrow.offer(allocation, limit, 1)
            if delay != 3:
                enforced = (allocation.revision, limit)
                states.append(enforced)
        else:
            said = states[max(0, len(states) - 1 - delay)]
            allocation = escrow.acknowledge(allocation, standing(said[0], limit=said[1]))
        escrow.check(allocation)
        assert allocation.exposure >= max(enforced[1], allocation.offered)


# --- count and forks -------------------------------------------------------------------------------------------------


def test_counts_are_taken_with_demand_sequence_dial_and_time() -> None:
    said = standing(
        totals=Totals(30, 6, 4, 4),
        held=0,
        sequence=9,
        open_requests=(OpenRequest(3, 50),),
        recent_demand=8,
        wanted_more=2,
    )
    after = escrow.count(SHRINKING, said, 4, NOW)
    assert (after.totals, after.held, after.sequence, after.dial) == (Totals(30, 6, 4, 4), 0, 9, 4)
    assert (after.open_requests, after.recent_demand, after.wanted_more) == ((OpenRequest(3, 50),), 8, 2)
    assert after.report_ms == NOW
    assert after.exposure == SHRINKING.exposure, "counting is not acknowledging"


def test_a_repeated_count_changes_no_number() -> None:
    after = escrow.count(SHRINKING, standing(), 3, NOW)
    assert replace(after, report_ms=None) == SHRINKING


@pytest.mark.parametrize(
    "totals", [Totals(24, 5, 4, 1), Totals(25, 4, 4, 1), Totals(25, 5, 3, 1), Totals(99, 99, 99, 0)]
)
def test_totals_of_which_one_is_lower_are_ignored(totals: Totals) -> None:
    assert escrow.count(SHRINKING, standing(totals=totals, sequence=8), 3, NOW) is SHRINKING


def test_a_late_count_with_a_lower_sequence_is_ignored() -> None:
    assert escrow.count(SHRINKING, standing(held=9, sequence=6), 3, NOW) is SHRINKING


def test_a_settled_allocation_is_not_counted_any_more() -> None:
    settled = escrow.settle(SHRINKING, Assume.SPENT_LIMIT)
    assert escrow.count(settled, standing(totals=Totals(99), sequence=99), 9, NOW) is settled


@pytest.mark.parametrize(
    ("totals", "dial", "fork"),
    [
        (Totals(24, 5, 4, 1), 4, True),
        (Totals(24, 5, 4, 1), 3, False),  # late, on the same stream
        (Totals(24, 5, 4, 1), 2, False),  # later still
        (Totals(25, 5, 4, 1), 4, False),
        (Totals(26, 9, 4, 1), 4, False),
    ],
)
def test_lower_totals_are_a_fork_only_on_a_newer_dial(totals: Totals, dial: int, fork: bool) -> None:
    assert escrow.is_fork(SHRINKING, totals, dial) is fork


# --- adopt -----------------------------------------------------------------------------------------------------------


def test_a_store_that_is_ahead_of_a_restored_ledger_is_believed() -> None:
    after = escrow.adopt(SHRINKING, standing(Revision(1, 5), 80, totals=Totals(70), sequence=3), 9, NOW)
    assert (after.exposure, after.revision) == (80, Revision(1, 5))
    assert after.totals == SHRINKING.totals, "totals of which one is lower are not ahead"
    after = escrow.adopt(
        SHRINKING, standing(Revision(1, 5), 80, totals=Totals(70, 5, 4, 1), sequence=3), 9, NOW
    )
    assert (after.totals, after.sequence, after.dial) == (Totals(70, 5, 4, 1), 3, 9)


def test_a_store_that_is_behind_lowers_nothing() -> None:
    after = escrow.adopt(SHRINKING, standing(Revision(1, 1), 20), 9, NOW)
    assert (after.exposure, after.revision) == (50, Revision(1, 2))


# --- settle ----------------------------------------------------------------------------------------------------------


def test_settled_as_spent_it_is_charged_its_exposure() -> None:
    after = escrow.settle(SHRINKING, Assume.SPENT_LIMIT)
    assert (after.charge, after.at_risk, after.exposure, after.offered, after.wanted) == (50, 0, 0, 0, 0)
    assert escrow.allocation_sums(after) == Sums(charge=50, overridden=3)


def test_settled_at_the_last_report_the_difference_is_at_risk() -> None:
    after = escrow.settle(SHRINKING, Assume.LAST_REPORTED)
    assert (after.charge, after.at_risk) == (22, 28)
    assert escrow.allocation_sums(after) == Sums(charge=22, at_risk=28, overridden=3)


@pytest.mark.parametrize("assume", Assume)
def test_charge_and_risk_together_are_the_exposure_and_it_is_settled_once(assume: Assume) -> None:
    after = escrow.settle(SHRINKING, assume)
    assert after.charge + after.at_risk == SHRINKING.exposure
    assert escrow.settle(after, Assume.SPENT_LIMIT) is after
    escrow.check(after)


# --- finalise --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("assume", [None, *Assume])
@pytest.mark.parametrize("consumed", [0, 30, 500])
def test_final_totals_replace_the_charge_in_full(assume: Assume | None, consumed: int) -> None:
    before = SHRINKING if assume is None else escrow.settle(SHRINKING, assume)
    after = escrow.finalise(before, FinalStanding("q", Totals(consumed + 3, 3, 8, 1), Totals()), NOW)
    assert (after.charge, after.at_risk, after.exposure, after.held) == (consumed, 0, 0, 0)
    assert escrow.allocation_sums(after) == Sums(charge=consumed, overridden=7)
    assert after.settled
    assert after.final
    escrow.check(after)


def test_a_store_that_never_knew_the_quota_spent_nothing() -> None:
    after = escrow.finalise(SHRINKING, None, NOW)
    assert escrow.allocation_sums(after) == Sums()


def test_the_final_word_is_final() -> None:
    after = escrow.finalise(SHRINKING, None, NOW)
    assert escrow.finalise(after, FinalStanding("q", Totals(9), Totals()), NOW) is after
    assert not after.demands


# --- copies ----------------------------------------------------------------------------------------------------------


def test_what_a_copy_spent_is_charged_on_top_as_overage() -> None:
    after = escrow.charge_copy(escrow.charge_copy(SHRINKING, 5), 6)
    assert escrow.allocation_sums(after) == Sums(
        exposure=50, charge=11, count=20, held=2, overridden=3, overage=11
    )


@pytest.mark.parametrize("assume", Assume)
def test_neither_settling_nor_final_totals_take_a_copys_charge_away(assume: Assume) -> None:
    copied = escrow.charge_copy(SHRINKING, 11)
    settled = escrow.settle(copied, assume)
    assert escrow.allocation_sums(settled).charge == settled.charge + 11
    final = escrow.finalise(settled, FinalStanding("q", Totals(20), Totals()), NOW)
    assert escrow.allocation_sums(final) == Sums(charge=31, overage=11)


# --- what counts -----------------------------------------------------------------------------------------------------


def test_what_is_wanted_beyond_the_exposure_is_set_aside() -> None:
    assert escrow.allocation_sums(replace(SHRINKING, wanted=65)).aside == 15
    assert escrow.allocation_sums(replace(SHRINKING, wanted=40)).aside == 0
    assert escrow.allocation_sums(replace(FRESH, wanted=12)) == Sums(aside=12), "it has never called"


def test_what_was_used_before_the_agent_was_enrolled_is_a_charge() -> None:
    assert escrow.assignment_sums(Assignment("q", "a", assigned=False, initial_count=9)) == Sums(charge=9)


@pytest.mark.parametrize(
    ("state", "sums"),
    [
        (OverrideState.PENDING, Sums()),
        (OverrideState.DENIED, Sums()),
        (OverrideState.FROM_RESERVE, Sums()),
        (OverrideState.APPROVED, Sums(overrides=10)),
        (OverrideState.USED, Sums(overrides=6)),
        (OverrideState.DEAD, Sums()),
    ],
)
def test_an_override_counts_from_its_approval_until_it_is_dead(state: OverrideState, sums: Sums) -> None:
    assert escrow.override_sums(Override("o", "", "q", "a", 1, 10, "", state, spent=6)) == sums


def test_an_open_override_is_settled_as_spent_or_at_risk_and_a_wish_is_denied() -> None:
    approved = Override("o", "", "q", "a", 1, 10, "", OverrideState.APPROVED)
    spent = escrow.settle_override(approved, Assume.SPENT_LIMIT)
    risked = escrow.settle_override(approved, Assume.LAST_REPORTED)
    assert escrow.override_sums(spent) == Sums(overrides=10, overridden=10)
    assert escrow.override_sums(risked) == Sums(at_risk=10)
    wish = escrow.settle_override(replace(approved, state=OverrideState.PENDING), Assume.SPENT_LIMIT)
    assert wish.state is OverrideState.DENIED
    assert not any(override.live for override in (spent, risked, wish))
