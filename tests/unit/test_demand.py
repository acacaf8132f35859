"""Demand of one quota: what is open, what was asked for lately, and how much more is wanted."""

import random

import pytest

from quota_agent.gate.demand import MAX_REMEMBERED, NO_DEMAND, QuotaDemand
from quotafleet.link.messages import MAX_OPEN_REQUESTS, MAX_UNITS, OpenRequest

BEAT = 5_000
NOW = 1_000_000


@pytest.fixture
def demand() -> QuotaDemand:
    return QuotaDemand(BEAT)


def test_nothing_asked_for_is_no_demand(demand: QuotaDemand) -> None:
    assert demand.view(0, NOW) == NO_DEMAND


def test_a_refused_request_is_open_for_two_heartbeats(demand: QuotaDemand) -> None:
    assert demand.refuse("a", 7, NOW, 0)
    assert demand.view(0, NOW + 2 * BEAT - 1).open_requests == (OpenRequest(7, 2 * BEAT - 1),)
    assert demand.view(0, NOW + 2 * BEAT).open_requests == ()


def test_a_request_that_waits_is_open_for_as_long_as_it_waits(demand: QuotaDemand) -> None:
    demand.refuse("a", 7, NOW, 3 * BEAT)
    assert demand.view(0, NOW + 3 * BEAT - 1).open_requests


def test_a_repeated_refusal_is_the_same_request_and_keeps_its_age(demand: QuotaDemand) -> None:
    demand.refuse("a", 7, NOW, 0)
    assert not demand.refuse("a", 7, NOW + BEAT, 0)
    view = demand.view(0, NOW + 2 * BEAT)
    assert view.open_requests == (OpenRequest(7, 2 * BEAT),)
    assert view.recent_demand == 7


def test_a_request_that_comes_back_after_its_time_is_a_new_one(demand: QuotaDemand) -> None:
    demand.refuse("a", 7, NOW, 0)
    demand.refuse("b", 1, NOW + BEAT, 0)
    assert demand.refuse("a", 7, NOW + 2 * BEAT, 0)
    assert [each.amount for each in demand.view(0, NOW + 2 * BEAT).open_requests] == [1, 7]


def test_a_grant_closes_the_request_and_its_units_count_once(demand: QuotaDemand) -> None:
    demand.refuse("a", 7, NOW, 0)
    demand.grant([("a", 7), ("b", 2)], NOW + 1)
    view = demand.view(100, NOW + 1)
    assert (view.open_requests, view.recent_demand) == ((), 9)


def test_the_oldest_are_reported_and_no_more_than_a_message_carries(demand: QuotaDemand) -> None:
    for number in range(MAX_OPEN_REQUESTS + 10):
        demand.refuse(str(number), number + 1, NOW + number, 0)
    open_requests = demand.view(0, NOW + 1000).open_requests
    assert [each.amount for each in open_requests] == list(range(1, MAX_OPEN_REQUESTS + 1))


def test_what_is_remembered_is_bounded_and_makes_room_again(demand: QuotaDemand) -> None:
    for number in range(MAX_REMEMBERED + 10):
        demand.refuse(str(number), 1, NOW, 0)
    assert len(demand.open) == MAX_REMEMBERED
    assert demand.refuse("late", 1, NOW + 2 * BEAT, 0)


def test_recent_demand_leaves_the_window_after_four_heartbeats(demand: QuotaDemand) -> None:
    demand.ask(8, NOW)
    demand.ask(4, NOW + BEAT)
    seen = [demand.view(100, NOW + beats * BEAT).recent_demand for beats in (0, 1, 3, 4, 5)]
    assert seen == [12, 12, 12, 4, 0]


@pytest.mark.parametrize(
    ("asked", "headroom", "wanted"),
    [(40, 100, 0), (40, 10, 0), (40, 9, 1), (40, 0, 10), (1, 0, 1), (0, 0, 0)],
)
def test_more_is_wanted_when_headroom_is_less_than_a_heartbeats_demand(
    demand: QuotaDemand, asked: int, headroom: int, wanted: int
) -> None:
    if asked:
        demand.ask(asked, NOW)
    assert demand.view(headroom, NOW).wanted_more == wanted


def test_another_heartbeat_forgets_what_was_counted_and_keeps_what_is_open(demand: QuotaDemand) -> None:
    demand.ask(5, NOW)
    demand.refuse("a", 7, NOW, 0)
    demand.follow(BEAT // 10)
    view = demand.view(100, NOW)
    assert (view.open_requests, view.recent_demand) == ((OpenRequest(7, 0),), 0)


def test_amounts_stay_within_what_a_message_may_carry(demand: QuotaDemand) -> None:
    for _ in range(10):
        demand.ask(MAX_UNITS, NOW)
    assert demand.view(0, NOW).recent_demand == MAX_UNITS


def test_the_window_never_forgets_or_invents_units() -> None:
    """Against a list of everything that was asked for."""
    seed = random.randrange(2**32)
    print(f"seed={seed}")
    chance = random.Random(seed)
    demand, asked, now = QuotaDemand(BEAT), [], NOW
    for _ in range(500):
        now += chance.randrange(BEAT // 2)
        units = chance.randrange(1, 50)
        demand.ask(units, now)
        asked.append((now // BEAT, units))
        expected = sum(units for beat, units in asked if beat > now // BEAT - 4)
        assert demand.view(0, now).recent_demand == expected
