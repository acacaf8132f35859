"""How a quota's pool is shared out over its members: pure functions from members to wanted limits."""

import enum
import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from quota_server.ledger.filling import Vessel, exact_shift, fill


class Policy(enum.StrEnum):
    """What decides who gets how much; the value is the name.

    Under all but `STATIC`, limits are filled like water: headroom (limit - used) per weight is as equal as the
    bounds allow, and the limits add up to the pool, to the last unit, unless all are at their max.
    """

    EQUAL = "EQUAL"  # weight 1
    WEIGHTED = "WEIGHTED"  # the member's weight
    PROPORTIONAL = "PROPORTIONAL"  # weight is the recent demand, 1 where none
    MAX_MIN = "MAX_MIN"  # open demand first, then the member's weight
    STATIC = "STATIC"  # what the operator set


@dataclass(frozen=True, slots=True)
class Request:
    """One open request of a member: `amount` units (>= 1), open for `age_ms` milliseconds (larger is older).

    Raises ValueError for an amount below 1.
    """

    amount: int
    age_ms: int = 0

    def __post_init__(self) -> None:
        if self.amount < 1:
            raise ValueError(f"a request asks for at least 1 unit, not {self.amount}")


@dataclass(frozen=True, slots=True)
class Member:
    """An active assigned agent as a policy sees it; amounts in units of the quota.

    `name` is the agent's, unique among the members. `used` is count + held as last reported. `floor` is what the
    limit cannot go below now: count + held (or what is protected) if the agent can be reached, its exposure if not;
    a floor below `used` counts as `used`. Floor goes before `max`, `max` before `min`.

    A `weight` of 0 means last in line: such a member gets its floor and min; its demand is served after that of all
    others, and it gets headroom beyond that only when every member with a weight is at its max. `static_limit`
    matters to `STATIC` only, `recent_demand` to `PROPORTIONAL`, `open_demand` (if `reachable`) to `MAX_MIN`.
    Requests of one age are taken in the order given.

    Raises ValueError for a negative weight.
    """

    name: str
    used: int
    floor: int
    weight: int = 1
    min: int = 0
    max: int | None = None
    static_limit: int = 0
    recent_demand: int = 0
    open_demand: tuple[Request, ...] = ()
    reachable: bool = True

    def __post_init__(self) -> None:
        if self.weight < 0:
            raise ValueError(f"{self.name}: a weight is not negative, but this is {self.weight}")


@dataclass(frozen=True, slots=True)
class _Share:
    """A member with the bounds of its wanted limit in force, in units: floor <= low <= high."""

    member: Member
    floor: int
    low: int
    high: int


def _weight(policy: Policy, member: Member) -> int:
    match policy:
        case Policy.EQUAL | Policy.STATIC:
            return 1
        case Policy.PROPORTIONAL:
            return max(member.recent_demand, 1)
        case Policy.WEIGHTED | Policy.MAX_MIN:
            return member.weight


def share_out(policy: Policy, pool: int, members: Sequence[Member]) -> dict[str, int]:
    """The wanted limit of each member, in units by name; the order of `members` does not matter.

    Floors come first: if they exceed the pool (which may be negative), every wanted limit is its floor. Mins come
    next: if they do not all fit, as when charges came later, limits are filled from the floors towards the mins, and
    no further. The policy shares out what is left then. Unless the floors exceed the pool, the sum is the pool, or
    less where all are at their max (`STATIC`: at their static limit).

    Raises ValueError if two members have the same name.
    """
    if len({member.name for member in members}) != len(members):
        raise ValueError("two members have the same name")
    ascending = sorted(members, key=lambda member: member.name)
    floors = [max(member.floor, member.used) for member in ascending]
    spare = pool - sum(floors)
    if spare <= 0:
        return {member.name: floor for member, floor in zip(ascending, floors, strict=True)}
    shares = [_bounded(member, floor, spare) for member, floor in zip(ascending, floors, strict=True)]
    left = pool - sum(share.low for share in shares)
    if left <= 0:
        return fill([_vessel(policy, share, share.floor, share.low) for share in shares], spare)
    if policy is Policy.STATIC:
        return fill([_vessel(policy, share, share.low, _static_limit(share)) for share in shares], left)
    if policy is Policy.MAX_MIN:
        return _demand_first(shares, left)
    return fill([_vessel(policy, share, share.low, share.high) for share in shares], left)


def _bounded(member: Member, floor: int, spare: int) -> _Share:
    bounded_min = member.min if member.max is None else min(member.min, member.max)
    low = max(floor, bounded_min)
    # Without a max, `spare` on top is as good as unbounded: there is no more to give.
    high = low + spare if member.max is None else max(low, member.max)
    return _Share(member, floor, low, high)


def _static_limit(share: _Share) -> int:
    return max(share.low, min(share.member.static_limit, share.high))


def _vessel(policy: Policy, share: _Share, low: int, high: int) -> Vessel:
    member = share.member
    return Vessel(member.name, bottom=member.used, low=low, high=high, weight=_weight(policy, member))


def _demand_first(shares: Sequence[_Share], left: int) -> dict[str, int]:
    """`MAX_MIN`: of `left` units beyond all floors and mins, open demand is served; the rest is spread as headroom.

    Served demand counts as used already: headroom is what remains after it has been taken, so that the wanted limits
    stay where they are when it is.
    """
    served = _serve(shares, left)
    vessels = []
    for share in shares:
        member = share.member
        spoken_for = member.used + served.get(member.name, 0)
        low = max(share.low, spoken_for)
        left -= low - share.low
        vessels.append(Vessel(member.name, bottom=spoken_for, low=low, high=share.high, weight=member.weight))
    return fill(vessels, left)


def _serve(shares: Sequence[_Share], left: int) -> dict[str, int]:
    """How many units of its open demand each reachable member is served, in whole requests.

    Next is always the member that was served least per weight (ties: the older request, then ascending by name),
    with its oldest request. It takes the member's own room below `low` first, the rest from `left`. A request that
    does not fit, or goes past the max, never will: it is passed over, and smaller ones have their turn, those of the
    same member too. So in the end what is left could serve none of the requests still open.
    """
    asking = (share for share in shares if share.member.reachable and share.member.open_demand)
    askers = {share.member.name: share for share in asking}
    shift = exact_shift(share.member.weight for share in askers.values())
    served = dict.fromkeys(askers, 0)
    waiting = {
        name: deque(sorted(share.member.open_demand, key=lambda request: -request.age_ms))
        for name, share in askers.items()
    }

    def turn(name: str) -> tuple[bool, int, int, str]:
        weight = askers[name].member.weight
        return weight == 0, (served[name] << shift) // max(weight, 1), -waiting[name][0].age_ms, name

    turns = [turn(name) for name in askers]
    heapq.heapify(turns)
    while turns:
        *_, name = heapq.heappop(turns)
        share = askers[name]
        before = share.member.used + served[name]
        after = before + waiting[name][0].amount
        cost = max(share.low, after) - max(share.low, before)
        if cost <= left and after <= share.high:
            served[name] += waiting[name][0].amount
            left -= cost
        waiting[name].popleft()
        if waiting[name]:
            heapq.heappush(turns, turn(name))
    return served
