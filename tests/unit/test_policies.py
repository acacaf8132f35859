"""A row is a policy, a pool and its members, each with the limit that it is to get; the sum is checked too."""

from typing import NamedTuple

import pytest

from quota_server.ledger.policies import Member, Policy, Request, share_out

EQUAL, WEIGHTED, PROPORTIONAL, MAX_MIN, STATIC = Policy
LARGE = 10**15  # units


class Row(NamedTuple):
    policy: Policy
    pool: int
    wanted: dict[Member, int]


def m(
    name: str,
    used: int = 0,
    *,
    floor: int = 0,
    exposure: int | None = None,
    weight: int = 1,
    least: int = 0,
    most: int | None = None,
    static: int = 0,
    recent: int = 0,
    asks: tuple[int, ...] = (),
    age_ms: int = 100,
) -> Member:
    """A member whose requests grow younger from left to right; one with an exposure cannot be reached."""
    return Member(
        name,
        used=used,
        floor=exposure if exposure is not None else floor or used,
        weight=weight,
        min=least,
        max=most,
        static_limit=static,
        recent_demand=recent,
        open_demand=tuple(Request(amount, age_ms - place) for place, amount in enumerate(asks)),
        reachable=exposure is None,
    )


def expected_sum(row: Row) -> int:
    """The pool, unless the floors exceed it or everybody is at the most that the bounds allow."""
    floors = sum(max(member.floor, member.used) for member in row.wanted)
    most = 0
    for member in row.wanted:
        highest = row.pool if member.max is None else member.max
        if row.policy is STATIC:
            highest = min(highest, max(member.static_limit, member.min))
        most += max(member.floor, highest)
    return max(floors, min(row.pool, most))


ROWS: dict[str, Row] = {
    "nobody shares nothing": Row(EQUAL, 100, {}),
    # EQUAL
    "three agents get 34, 33 and 33 of 100, ascending by name": Row(
        EQUAL, 100, {m("c"): 33, m("a"): 34, m("b"): 33}
    ),
    "it is headroom that is equal, not limits": Row(EQUAL, 100, {m("a", 40): 57, m("b", 10): 27, m("c"): 16}),
    "a single unit goes to the first name": Row(EQUAL, 1, {m("c"): 0, m("b"): 1}),
    "an empty pool gives nothing": Row(EQUAL, 0, {m("a"): 0, m("b"): 0}),
    "names are compared as text": Row(EQUAL, 3, {m("agent-9"): 1, m("agent-10"): 2}),
    "EQUAL knows neither weights nor demand": Row(
        EQUAL, 20, {m("a", weight=9, recent=9): 10, m("b", asks=(15,)): 10}
    ),
    "a large pool is shared to the last unit": Row(
        EQUAL, LARGE, {m("a"): LARGE // 3 + 1, m("b"): LARGE // 3, m("c"): LARGE // 3}
    ),
    # Floors
    "an unreached member keeps its exposure, and the others share what it leaves": Row(
        EQUAL, 100, {m("a"): 20, m("b"): 20, m("c", 10, exposure=60): 60}
    ),
    "an unreached member gets more than its exposure where others would have more headroom": Row(
        EQUAL, 100, {m("a"): 45, m("b", 10, exposure=15): 55}
    ),
    "a share is set aside for a member that has never called": Row(
        EQUAL, 100, {m("a"): 50, m("b", exposure=0): 50}
    ),
    "a protected top-up is a floor": Row(EQUAL, 100, {m("a", 10, floor=80): 80, m("b"): 10, m("c"): 10}),
    "where the floors exceed the pool everybody gets its floor": Row(
        EQUAL, 100, {m("a", 70): 70, m("b", exposure=50): 50, m("c"): 0}
    ),
    "where the floors are the pool everybody gets its floor": Row(EQUAL, 9, {m("a", 9): 9, m("b"): 0}),
    "a negative pool leaves the floors": Row(MAX_MIN, -5, {m("a", 3, asks=(1,)): 3, m("b", least=4): 0}),
    "a floor below what is used counts as what is used": Row(EQUAL, 10, {m("a", 12, floor=3): 12, m("b"): 0}),
    # Bounds
    "max bounds, and the others get what is over": Row(
        EQUAL, 100, {m("a", most=10): 10, m("b"): 45, m("c"): 45}
    ),
    "the pool is not used up where all are at their max": Row(
        EQUAL, 100, {m("a", most=10): 10, m("b", most=20): 20}
    ),
    "min bounds, and the others share less": Row(EQUAL, 100, {m("a", least=60): 60, m("b"): 20, m("c"): 20}),
    "a min bounds the limit, so what is used is part of it": Row(
        EQUAL, 100, {m("a", 55, least=60): 63, m("b", 30): 37}
    ),
    "the floor goes before the max": Row(EQUAL, 100, {m("a", 30, most=10): 30, m("b"): 70}),
    "the max goes before the min": Row(EQUAL, 100, {m("a", least=50, most=10): 10, m("b"): 90}),
    "min = max sets the limit": Row(EQUAL, 100, {m("a", least=7, most=7): 7, m("b"): 93}),
    "where the mins do not fit, limits are filled from the floors towards them": Row(
        EQUAL, 50, {m("a", least=10): 10, m("b", least=60): 40}
    ),
    "where the mins do not fit, members without a min keep their floor": Row(
        EQUAL, 50, {m("a", least=60): 45, m("b", 5): 5, m("c"): 0}
    ),
    "where the mins do not fit, the weights count": Row(
        WEIGHTED, 40, {m("a", least=50): 10, m("b", weight=3, least=50): 30}
    ),
    # WEIGHTED
    "weights of 1, 2 and 3 share 60 as 10, 20 and 30": Row(
        WEIGHTED, 60, {m("a"): 10, m("b", weight=2): 20, m("c", weight=3): 30}
    ),
    "a unit over goes where headroom per weight stays most equal": Row(
        WEIGHTED, 61, {m("a"): 10, m("b", weight=2): 20, m("c", weight=3): 31}
    ),
    "a unit over that either could have goes to the first name": Row(
        WEIGHTED, 2, {m("a"): 1, m("b", weight=3): 1}
    ),
    "weights that are almost the same are told apart": Row(
        WEIGHTED, 8, {m("a", weight=3): 3, m("b", weight=4): 5}
    ),
    "many heavy members that reach the level together do not run the pool dry": Row(
        WEIGHTED,
        5 + 9 * 5000 + 3,
        {m("a"): 5} | {m(name, floor=5000, weight=1000): 5000 + (name < "e") for name in "bcdefghij"},
    ),
    "it is headroom that is weighted, not limits": Row(
        WEIGHTED, 100, {m("a", 40): 50, m("b", 30, weight=2): 50}
    ),
    "what a max leaves is shared by weight": Row(
        WEIGHTED, 100, {m("a"): 10, m("b", weight=2, most=10): 10, m("c", weight=8): 80}
    ),
    "a weight of 0 gets no more than floor and min": Row(
        WEIGHTED, 100, {m("a", 5, weight=0): 5, m("b", weight=0, least=9): 9, m("c"): 86}
    ),
    "a weight of 0 gets what the max of all others leaves": Row(
        WEIGHTED, 100, {m("a", weight=0): 90, m("b", most=10): 10}
    ),
    # PROPORTIONAL
    "recent demand is the weight": Row(
        PROPORTIONAL, 100, {m("a", weight=7, recent=30): 30, m("b", recent=70): 70}
    ),
    "no recent demand weighs 1": Row(PROPORTIONAL, 100, {m("a"): 1, m("b", recent=99): 99}),
    "without any recent demand shares are equal": Row(PROPORTIONAL, 5, {m("a"): 3, m("b"): 2}),
    "recent demand of many units is exact": Row(
        PROPORTIONAL, LARGE, {m("a", recent=LARGE - 1): LARGE - 1, m("b"): 1}
    ),
    # STATIC
    "everybody gets what the operator set, and the rest stays in the pool": Row(
        STATIC, 100, {m("a", static=20): 20, m("b", static=30): 30, m("c"): 0}
    ),
    "min and max bound what the operator set": Row(
        STATIC, 100, {m("a", static=5, least=8): 8, m("b", static=30, most=20): 20}
    ),
    "the floor goes before what the operator set": Row(
        STATIC, 100, {m("a", 40, static=20): 40, m("b", exposure=30, static=20): 30}
    ),
    "static limits that do not fit are filled like water": Row(
        STATIC, 100, {m("a", static=20): 20, m("b", static=70): 40, m("c", static=70): 40}
    ),
    "static limits that do not fit leave the mins alone": Row(
        STATIC, 100, {m("a", static=90): 30, m("b", static=90, least=70): 70}
    ),
    "static limits that do not fit know no weights": Row(
        STATIC, 10, {m("a", static=9, weight=4): 5, m("b", static=9): 5}
    ),
    # MAX_MIN
    "without demand headroom is shared by weight": Row(MAX_MIN, 90, {m("a", weight=2): 60, m("b"): 30}),
    "one hungry of ten gets its whole demand, and then headroom like the idle ones": Row(
        MAX_MIN, 100, {m("a", 20, asks=(50, 10)): 82} | {m(name): 2 for name in "bcdefghij"}
    ),
    "one hungry of ten may empty the pool": Row(
        MAX_MIN, 100, {m("a", asks=(100,)): 100} | {m(name): 0 for name in "bcdefghij"}
    ),
    "a request larger than what is left is passed over, and a smaller one is served": Row(
        MAX_MIN, 30, {m("a", asks=(31,)): 1, m("b", asks=(29,)): 29}
    ),
    "a smaller request of the same member is served where the older one is too large": Row(
        MAX_MIN, 30, {m("a", asks=(31, 28)): 29, m("b"): 1, m("c"): 0}
    ),
    "a request past the max is passed over": Row(
        MAX_MIN, 30, {m("a", asks=(20, 8), most=10): 10, m("b"): 20}
    ),
    "of two requests that do not both fit, the older is served": Row(
        MAX_MIN, 10, {m("a", asks=(6,), age_ms=9): 2, m("b"): 1, m("c", asks=(6,)): 7}
    ),
    "who got less is served before the older request of one that got more": Row(
        MAX_MIN, 10, {m("a", asks=(4, 4)): 5, m("b", asks=(5,), age_ms=9): 5}
    ),
    "what a member got counts per weight": Row(
        MAX_MIN, 10, {m("a", weight=5, asks=(4, 4)): 8, m("b", asks=(1, 1, 1)): 2}
    ),
    "requests of the same age are served ascending by name": Row(
        MAX_MIN, 7, {m("b", asks=(5,)): 1, m("a", asks=(5,)): 6}
    ),
    "a member's oldest request is served first, wherever it stands": Row(
        MAX_MIN, 9, {Member("a", 0, 0, open_demand=(Request(5, 1), Request(8, 2))): 9, m("b"): 0}
    ),
    "a request takes the member's own min first": Row(
        MAX_MIN, 30, {m("a", least=10, asks=(10,)): 10, m("b", asks=(20,)): 20}
    ),
    "a request takes from the pool only what the member's own min lacks": Row(
        MAX_MIN, 30, {m("a", least=10, asks=(12,)): 12, m("b", asks=(18,)): 18}
    ),
    "a request takes a protected top-up first": Row(
        MAX_MIN, 30, {m("a", 5, floor=15, asks=(10,)): 15, m("b", asks=(15,)): 15}
    ),
    "an unreached member keeps its exposure, whoever asks": Row(
        MAX_MIN, 100, {m("a", asks=(61, 60)): 60, m("b", 10, exposure=40): 40}
    ),
    "an unreached member keeps its min, whoever asks": Row(
        MAX_MIN, 100, {m("a", asks=(71, 70)): 70, m("b", exposure=0, least=30): 30}
    ),
    "beyond its min, what is set aside for an unreached member serves demand": Row(
        MAX_MIN, 100, {m("a", asks=(85,)): 90, m("b", exposure=0, least=10): 10}
    ),
    "what nobody asks for is set aside for the unreached too": Row(
        MAX_MIN, 100, {m("a", asks=(40,)): 70, m("b", exposure=0): 30}
    ),
    "demand of a member that cannot be reached is not served": Row(
        MAX_MIN, 100, {m("a"): 50, m("b", exposure=10, asks=(90,)): 50}
    ),
    "an idle member's min is not taken for demand": Row(
        MAX_MIN, 100, {m("a", asks=(71, 70)): 70, m("b", least=30): 30}
    ),
    "what a member got per weight is compared exactly": Row(
        MAX_MIN, 6, {m("a", weight=3, asks=(1, 3)): 1, m("b", weight=4, asks=(1, 3)): 5}
    ),
    "a weight of 0 is served last, but before anything is left idle": Row(
        MAX_MIN, 9, {m("a", weight=0, asks=(4, 3)): 3, m("b", asks=(3, 3)): 6, m("c"): 0}
    ),
    "where the mins do not fit, demand is not served": Row(
        MAX_MIN, 20, {m("a", asks=(20,)): 0, m("b", least=30): 20}
    ),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_wanted_limits(row: Row) -> None:
    wanted = share_out(row.policy, row.pool, list(row.wanted))
    assert wanted == {member.name: limit for member, limit in row.wanted.items()}
    assert sum(wanted.values()) == expected_sum(row)


def test_wanted_limits_stay_where_they_are_when_served_demand_is_taken() -> None:
    before = share_out(MAX_MIN, 100, [m("a", asks=(55,)), m("b"), m("c")])
    after = share_out(MAX_MIN, 100, [m("a", 55), m("b"), m("c")])
    assert before == after == {"a": 70, "b": 15, "c": 15}


def test_a_policys_value_is_its_name() -> None:
    assert [policy.value for policy in Policy] == ["EQUAL", "WEIGHTED", "PROPORTIONAL", "MAX_MIN", "STATIC"]


def test_two_members_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="same name"):
        share_out(EQUAL, 10, [m("a"), m("a")])


def test_a_request_for_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 unit"):
        Request(0)


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(ValueError, match="not negative"):
        m("a", weight=-1)
