"""What every sharing-out keeps, and that it agrees with fillers that go unit by unit."""

from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import permutations
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from quota_server.ledger.policies import Member, Policy, Request, share_out

SMALL = 60
LARGE = 10**15
FILLED = [policy for policy in Policy if policy is not Policy.STATIC]


@st.composite
def members_of(draw: st.DrawFn, most: int = SMALL, least_weight: int = 0) -> list[Member]:
    """Up to seven members with amounts up to `most` units each, their floors never below what they used."""
    names = draw(st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=7))
    amounts = st.integers(0, most) | st.integers(0, 5)
    requests = st.builds(Request, st.integers(1, most), st.integers(0, 3))
    members = []
    for name in names:
        used = draw(amounts)
        above_used = draw(st.just(0) | amounts)
        member = Member(
            name,
            used=used,
            floor=used + above_used,
            weight=draw(st.integers(least_weight, 5) | st.integers(least_weight, most)),
            min=draw(st.just(0) | amounts),
            max=draw(st.none() | amounts),
            static_limit=draw(amounts),
            recent_demand=draw(amounts),
            open_demand=tuple(draw(st.lists(requests, max_size=4))),
            reachable=draw(st.booleans()),
        )
        members.append(member)
    return members


policies = st.sampled_from(list(Policy))
pools = st.integers(-5, 6 * SMALL)
anything = st.one_of(
    st.tuples(policies, pools, members_of()),
    st.tuples(policies, st.integers(-LARGE, 8 * LARGE), members_of(LARGE)),
)
anything_small = st.tuples(policies, pools, members_of())


def lowest(member: Member) -> int:
    """The least that the member may want, if everybody's fits."""
    return max(member.floor, member.min if member.max is None else min(member.min, member.max))


def highest(policy: Policy, pool: int, member: Member) -> int:
    """The most that the member may want; without a max no more than there is."""
    limit = pool if member.max is None else member.max
    if policy is Policy.STATIC:
        limit = min(limit, max(member.static_limit, member.min))
    return max(member.floor, limit)


# Bounds and sums


@given(anything)
def test_the_sum_is_the_pool_unless_floors_exceed_it_or_all_are_at_their_max(
    case: tuple[Policy, int, list[Member]],
) -> None:
    policy, pool, members = case
    wanted = share_out(policy, pool, members)
    floors = sum(member.floor for member in members)
    most = sum(highest(policy, pool, member) for member in members)
    assert sum(wanted.values()) == max(floors, min(pool, most))


@given(anything)
def test_every_limit_is_within_its_bounds(case: tuple[Policy, int, list[Member]]) -> None:
    policy, pool, members = case
    wanted = share_out(policy, pool, members)
    mins_fit = sum(lowest(member) for member in members) <= pool
    assert set(wanted) == {member.name for member in members}
    for member in members:
        most = highest(policy, max(pool, 0), member) if mins_fit else lowest(member)
        assert (lowest(member) if mins_fit else member.floor) <= wanted[member.name] <= most


@given(anything_small, st.randoms(use_true_random=False))
def test_neither_the_order_of_members_nor_repetition_matters(
    case: tuple[Policy, int, list[Member]], random: Random
) -> None:
    policy, pool, members = case
    shuffled = random.sample(members, len(members))
    assert share_out(policy, pool, shuffled) == share_out(policy, pool, members)


@given(
    st.sampled_from([Policy.EQUAL, Policy.WEIGHTED, Policy.PROPORTIONAL, Policy.STATIC]), pools, members_of()
)
def test_a_larger_pool_never_lowers_a_limit(policy: Policy, pool: int, members: list[Member]) -> None:
    before, after = share_out(policy, pool, members), share_out(policy, pool + 1, members)
    assert all(before[name] <= after[name] for name in before)


@given(st.sampled_from(FILLED), pools, members_of(least_weight=1))
def test_no_unit_moved_brings_headroom_per_weight_closer(
    policy: Policy, pool: int, members: list[Member]
) -> None:
    members = [replace(member, open_demand=()) for member in members]
    wanted = share_out(policy, pool, members)
    if sum(lowest(member) for member in members) > pool:
        return
    for giver, taker in permutations(members, 2):
        if wanted[giver.name] > lowest(giver) and wanted[taker.name] < highest(policy, pool, taker):
            gap = headroom(policy, giver, wanted, 0) - headroom(policy, taker, wanted, 0)
            moved = headroom(policy, giver, wanted, -1) - headroom(policy, taker, wanted, 1)
            assert abs(moved) >= abs(gap)
            assert abs(moved) > abs(gap) or giver.name < taker.name


def weight_of(policy: Policy, member: Member) -> int:
    return {
        Policy.EQUAL: 1,
        Policy.WEIGHTED: member.weight,
        Policy.PROPORTIONAL: member.recent_demand or 1,
        Policy.MAX_MIN: member.weight,
        Policy.STATIC: 1,
    }[policy]


def headroom(policy: Policy, member: Member, wanted: dict[str, int], more: int) -> Fraction:
    return Fraction(wanted[member.name] + more - member.used, weight_of(policy, member))


# Agreement with fillers that are too slow to use and too simple to be wrong


@dataclass
class Cup:
    member: Member
    weight: int
    limit: int
    served: int = 0

    def turn(self) -> tuple[bool, Fraction, str]:
        water = self.limit - self.member.used - self.served
        return self.weight == 0, Fraction(2 * water + 1, self.weight or 1), self.member.name


def fill_by_unit(cups: list[Cup], most: dict[str, int], pool: int) -> None:
    for _ in range(pool - sum(cup.limit for cup in cups)):
        takers = [cup for cup in cups if cup.limit < most[cup.member.name]]
        if takers:
            min(takers, key=Cup.turn).limit += 1


def serve_by_request(cups: list[Cup], most: dict[str, int], pool: int) -> None:
    tried: set[int] = set()
    while True:
        turns = []
        for cup in cups:
            requests = sorted(cup.member.open_demand, key=lambda request: -request.age_ms)
            untried = [request for request in requests if id(request) not in tried]
            if cup.member.reachable and untried:
                share = Fraction(cup.served, cup.weight or 1)
                turns.append((cup.weight == 0, share, -untried[0].age_ms, cup.member.name, cup, untried[0]))
        if not turns:
            return
        cup, request = min(turns, key=lambda turn: turn[:4])[4:]
        tried.add(id(request))
        limit = max(cup.limit, cup.member.used + cup.served + request.amount)
        others = sum(other.limit for other in cups if other is not cup)
        if limit + others <= pool and cup.member.used + cup.served + request.amount <= most[cup.member.name]:
            cup.limit = limit
            cup.served += request.amount


def share_out_slowly(policy: Policy, pool: int, members: list[Member]) -> dict[str, int]:
    cups = [Cup(member, weight_of(policy, member), member.floor) for member in members]
    fill_by_unit(cups, {member.name: lowest(member) for member in members}, pool)
    most = {member.name: highest(policy, max(pool, 0), member) for member in members}
    if policy is Policy.MAX_MIN and all(cup.limit == lowest(cup.member) for cup in cups):
        serve_by_request(cups, most, pool)
    fill_by_unit(cups, most, pool)
    return {cup.member.name: cup.limit for cup in cups}


def distinct_requests(members: list[Member]) -> list[Member]:
    """The slow filler tells requests apart by identity, which Hypothesis may share."""
    return [
        replace(member, open_demand=tuple(replace(request) for request in member.open_demand))
        for member in members
    ]


@settings(max_examples=300, deadline=None)
@given(anything_small)
@example((Policy.WEIGHTED, 7, [Member("a", 0, 0, 1), Member("b", 0, 0, 2), Member("c", 0, 0, 3)]))
def test_limits_agree_with_a_filler_that_goes_unit_by_unit(case: tuple[Policy, int, list[Member]]) -> None:
    policy, pool, members = case
    members = distinct_requests(members)
    assert share_out(policy, pool, members) == share_out_slowly(policy, pool, members)


# MAX_MIN


def unserved(member: Member, limit: int) -> list[int]:
    """What each request lacks that `limit` cannot serve, the oldest first; none for those past the max."""
    room, lacking = limit - member.used, []
    for request in sorted(member.open_demand, key=lambda request: -request.age_ms):
        if request.amount <= room:
            room -= request.amount
        elif member.max is None or limit - room + request.amount <= member.max:
            lacking.append(request.amount - room)
    return lacking


@given(pools, members_of())
def test_no_headroom_is_idle_that_an_unserved_request_would_fit_in(pool: int, members: list[Member]) -> None:
    wanted = share_out(Policy.MAX_MIN, pool, members)
    if sum(lowest(member) for member in members) > pool:
        return
    idle = [member for member in members if not (member.reachable and member.open_demand)]
    not_asked_for = sum(max(0, wanted[member.name] - lowest(member)) for member in idle)
    for member in members:
        if member.reachable:
            assert all(lack > not_asked_for for lack in unserved(member, wanted[member.name]))


@given(pools, members_of())
def test_limits_stay_where_they_are_when_served_demand_is_taken(pool: int, members: list[Member]) -> None:
    wanted = share_out(Policy.MAX_MIN, pool, members)
    if sum(lowest(member) for member in members) > pool:
        return
    after = []
    for member in members:
        limit, taken, waiting = wanted[member.name], 0, []
        for request in sorted(member.open_demand, key=lambda request: -request.age_ms):
            if member.reachable and member.used + taken + request.amount <= limit:
                taken += request.amount
            else:
                waiting.append(request)
        used = member.used + taken
        after.append(
            replace(member, used=used, floor=max(member.floor, used), open_demand=tuple(waiting)),
        )
    assert share_out(Policy.MAX_MIN, pool, after) == wanted


@given(pools, members_of())
def test_without_open_demand_max_min_is_weighted(pool: int, members: list[Member]) -> None:
    idle = [replace(member, open_demand=()) for member in members]
    assert share_out(Policy.MAX_MIN, pool, idle) == share_out(Policy.WEIGHTED, pool, idle)


# Scale


@pytest.mark.parametrize("policy", Policy)
def test_ten_thousand_members_share_large_amounts_exactly(policy: Policy) -> None:
    random = Random(1)
    members = [
        Member(
            f"agent-{number:05}",
            used=used,
            floor=used if number % 5 else used + random.randrange(LARGE),
            weight=random.choice([1, 2, 1000, random.randrange(1, LARGE)]),
            min=random.choice([0, random.randrange(LARGE)]),
            max=random.choice([None, random.randrange(100 * LARGE)]),
            static_limit=random.randrange(20 * LARGE),
            recent_demand=random.choice([0, random.randrange(LARGE)]),
            open_demand=(Request(random.randrange(1, 9 * LARGE), random.randrange(10**6)),),
            reachable=number % 5 > 0,
        )
        for number in range(10_000)
        for used in [random.randrange(LARGE)]
    ]
    pool = sum(lowest(member) for member in members) + 10_000 * LARGE + 1
    wanted = share_out(policy, pool, members)
    assert sum(wanted.values()) == pool
    assert all(wanted[member.name] >= lowest(member) for member in members)
