"""When the agent dials again, and whom."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quota_agent.uplink.backoff import FIRST_MS, MOST_MS, Attempt, Backoff


def latest() -> float:
    """Return the unluckiest of all numbers below 1."""
    return 1 - 2**-53


def test_the_first_dial_is_at_once() -> None:
    """Nothing has failed yet."""
    assert Backoff(["a", "b"], latest).first() == Attempt("a", 0)


def test_the_bound_of_the_delay_doubles_up_to_its_maximum() -> None:
    """From 0.2 s to 30 s."""
    backoff = Backoff(["a"], latest)
    delays = [backoff.failed().delay_ms for _ in range(10)]
    assert delays == [199, 399, 799, 1599, 3199, 6399, 12799, 25599, 29999, 29999]


def test_the_next_controller_is_tried_at_once_until_all_have_failed() -> None:
    """Only a whole round of failures is a reason to wait."""
    backoff = Backoff(["a", "b", "c"], latest)
    assert [backoff.failed() for _ in range(4)] == [
        Attempt("b", 0),
        Attempt("c", 0),
        Attempt("a", FIRST_MS - 1),
        Attempt("b", 0),
    ]


def test_after_a_success_the_delays_begin_anew() -> None:
    """A stream that held wipes the slate."""
    backoff = Backoff(["a"], latest)
    for _ in range(6):
        backoff.failed()
    backoff.succeeded()
    assert backoff.failed().delay_ms == FIRST_MS - 1


def test_a_rejected_credential_is_tried_again_without_hurry() -> None:
    """The other controller may know it; then a new token may have been put in place."""
    backoff = Backoff(["a", "b"], lambda: 0.0)
    assert [backoff.rejected() for _ in range(3)] == [Attempt("b", 0), Attempt("a", MOST_MS), Attempt("b", 0)]


def test_a_controller_that_said_how_to_do_better_is_dialled_again_at_once() -> None:
    """A stale hello is no failure."""
    backoff = Backoff(["a", "b"], latest)
    backoff.failed()
    assert backoff.again() == Attempt("b", 0)


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=40), st.integers(1, 4))
def test_every_delay_is_within_its_bounds(chances: list[float], controllers: int) -> None:
    """Whatever chance says, and every controller gets its turn."""
    numbers = iter(chances * controllers)
    targets = [str(index) for index in range(controllers)]
    backoff = Backoff(targets, lambda: next(numbers))
    attempts = [backoff.failed() for _ in range(len(chances) * controllers)]
    assert all(0 <= attempt.delay_ms < MOST_MS for attempt in attempts)
    assert {attempt.target for attempt in attempts} == set(targets)


def test_there_must_be_somebody_to_dial() -> None:
    """An empty list or bounds that make no sense are the caller's mistake."""
    with pytest.raises(ValueError, match="at least one controller"):
        Backoff([], latest)
    with pytest.raises(ValueError, match="bounds of the delay"):
        Backoff(["a"], latest, first_ms=2, most_ms=1)
