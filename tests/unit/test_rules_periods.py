"""Periods: both ends included, no end is open."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.periods import Period
from tests.rules_kit import period

DAY, OPEN = timedelta(days=1), None
JUNE = period("2020-06-01", "2020-06-30")
FROM_JUNE = period("2020-06-01")


@pytest.mark.parametrize(
    ("outer", "inner", "spans"),
    [
        (JUNE, JUNE, True),
        (JUNE, period("2020-06-02", "2020-06-30"), True),
        (JUNE, period("2020-06-01", "2020-06-29"), True),
        (JUNE, period("2020-05-31", "2020-06-30"), False),
        (JUNE, period("2020-06-01", "2020-07-01"), False),
        (JUNE, FROM_JUNE, False),
        (FROM_JUNE, JUNE, True),
        (FROM_JUNE, FROM_JUNE, True),
        (FROM_JUNE, period("2020-05-31"), False),
        (FROM_JUNE, period("2020-05-31", "2020-06-30"), False),
        (period("2020-06-01", "9999-12-31"), FROM_JUNE, False),
    ],
)
def test_a_period_spans_another_to_the_day_and_only_an_open_one_spans_an_open_one(
    outer: Period, inner: Period, spans: bool
) -> None:
    assert outer.spans(inner) is spans


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        (JUNE, JUNE, True),
        (JUNE, period("2020-06-30", "2020-07-31"), True),
        (JUNE, period("2020-07-01", "2020-07-31"), False),
        (JUNE, period("2020-06-30"), True),
        (JUNE, period("2020-07-01"), False),
        (JUNE, period("2020-06-10", "2020-06-20"), True),
        (FROM_JUNE, period("2020-05-01", "2020-06-01"), True),
        (FROM_JUNE, period("2020-05-01", "2020-05-31"), False),
        (FROM_JUNE, period("1990-01-01"), True),
        (period("2020-06-01", "2020-06-01"), JUNE, True),
    ],
)
def test_two_periods_overlap_if_they_share_a_day_whichever_is_asked(
    one: Period, other: Period, overlap: bool
) -> None:
    assert one.overlaps(other) is overlap
    assert other.overlaps(one) is overlap


def test_a_period_contains_its_first_and_its_last_day() -> None:
    days = [date(2020, 5, 31), date(2020, 6, 1), date(2020, 6, 30), date(2020, 7, 1)]
    assert [day in JUNE for day in days] == [False, True, True, False]
    assert [day in FROM_JUNE for day in [*days, date.max]] == [False, True, True, True, True]


def test_a_period_is_written_with_its_days() -> None:
    assert (str(JUNE), str(FROM_JUNE)) == ("2020-06-01 to 2020-06-30", "2020-06-01 on")


FIRST = date(2020, 2, 26)
DAYS = [FIRST + DAY * number for number in range(8)]
PERIODS = st.builds(
    lambda start, days: Period(start, None if days is None else start + DAY * days),
    st.sampled_from(DAYS),
    st.none() | st.integers(0, 5),
)


@given(PERIODS, PERIODS)
def test_periods_say_what_their_days_say(one: Period, other: Period) -> None:
    horizon = [FIRST + DAY * number for number in range(40)]
    mine = {day for day in horizon if day in one}
    others = {day for day in horizon if day in other}
    assert one.overlaps(other) is bool(mine & others)
    assert one.spans(other) is (mine >= others and not (one.end is not None and other.end is None))
