"""Sharing out within a book: wanted limits by policy, growth as far as the escrow allows, top-ups by demand."""

from __future__ import annotations

from collections.abc import Collection

from quota_server.ledger.book import Book
from quota_server.ledger.escrow import offer
from quota_server.ledger.filling import Vessel, fill
from quota_server.ledger.model import Allocation, AllocationKey, Assignment, Quota, QuotaState
from quota_server.ledger.policies import Member, Policy, Request, share_out
from quota_server.ledger.replacing import replace


def redistribute(book: Book, quota_uid: str, now_ms: int, *, resend: Collection[AllocationKey] = ()) -> None:
    """Decides every wanted limit of a quota anew, shrinks what has to shrink and grows what can grow now.

    The book holds the whole quota. A limit that has to wait for another agent's acknowledgement grows in `fund`. The
    allocations in `resend` get a new revision in any case, because their terms changed.
    """
    live = [a for a in book.allocations_of(quota_uid) if not a.settled]
    wanted = _wanted_limits(book, book.quotas[quota_uid], live, now_ms)
    for allocation in live:
        limit = wanted.get(allocation.agent_uid, 0) if book.is_member(allocation) else 0
        changed = replace(allocation, wanted=limit)
        if limit < allocation.offered or allocation.key in resend:
            changed = offer(changed, min(limit, allocation.offered), book.meta.generation)
        book.decide(changed)
    fund(book, quota_uid)


def fund(book: Book, quota_uid: str) -> None:
    """Grows the limits of connected agents towards what is wanted, in order of name, within target - E (S2)."""
    if book.quotas[quota_uid].recovering:
        return
    for allocation in book.allocations_of(quota_uid):
        if allocation.short and not allocation.settled and book.epochs[allocation.key.agent].online:
            _grow(book, allocation)


def top_up(book: Book, allocation: Allocation, now_ms: int, protect_ms: int) -> bool:
    """Gives an agent that asks for more what nobody else needs; says whether its open requests fit now.

    At most target - reserve - E - what is set aside for others, so that nobody's wanted limit becomes unreachable. It
    is not taken back for `protect_ms` while the agent has demand.
    """
    quota = book.quotas[allocation.quota_uid]
    asked = sum(request.amount for request in allocation.open_requests)
    lacking = allocation.used + max(asked, allocation.wanted_more) - allocation.offered
    if lacking <= 0:
        return True
    if quota.recovering or quota.policy is Policy.STATIC or not book.is_member(allocation):
        return False
    aside_for_others = quota.sums.aside - max(0, allocation.wanted - allocation.exposure)
    free = quota.target - quota.reserve - quota.escrowed - aside_for_others
    limit = allocation.offered + min(lacking, max(0, allocation.exposure - allocation.offered + free))
    grown = raise_limit(book, allocation, limit, now_ms + protect_ms)
    return grown.offered >= allocation.used + asked


def could_be_served(book: Book, allocation: Allocation) -> bool:
    """Whether somebody else has room that sharing out anew could bring here: all that is not used, or kept back."""
    quota = book.quotas[allocation.quota_uid]
    spare = quota.target - quota.reserve - quota.known_count
    return (
        quota.policy is Policy.MAX_MIN
        and not quota.recovering
        and spare > allocation.offered - allocation.used
    )


def raise_limit(book: Book, allocation: Allocation, limit: int, protected_until_ms: int) -> Allocation:
    """Raises a limit out of turn, within its max and target - E; protected from being taken back until then."""
    assignment = book.assignments[allocation.quota_uid, allocation.agent_uid]
    limit = limit if assignment.max is None else min(limit, assignment.max)
    limit = min(limit, _ceiling(book, allocation))
    if limit <= allocation.offered:
        return allocation
    grown = replace(
        offer(allocation, limit, book.meta.generation),
        wanted=max(allocation.wanted, limit),
        protected_until_ms=protected_until_ms,
    )
    book.decide(grown)
    return grown


def _grow(book: Book, allocation: Allocation) -> None:
    limit = min(allocation.wanted, _ceiling(book, allocation))
    if limit > allocation.offered:
        book.decide(offer(allocation, limit, book.meta.generation))


def _ceiling(book: Book, allocation: Allocation) -> int:
    """The largest limit that the escrow can stand; none grows while E is above the target."""
    quota = book.quotas[allocation.quota_uid]
    if quota.escrowed > quota.target:
        return 0
    return allocation.exposure + quota.target - quota.escrowed


def _wanted_limits(book: Book, quota: Quota, live: list[Allocation], now_ms: int) -> dict[str, int]:
    if quota.state is QuotaState.CLOSED:
        return {}
    members = [a for a in live if book.is_member(a)]
    held_by_others = quota.sums.exposure - sum(a.exposure for a in members)
    pool = quota.target - quota.reserve - quota.sums.charge - held_by_others
    names = {book.agents[a.agent_uid].name: a.agent_uid for a in members}
    floors = _floors(book, members, pool, pool + quota.reserve, now_ms)
    shares = share_out(quota.policy, pool, [_member(book, a, floors[a.agent_uid]) for a in members])
    return {names[name]: limit for name, limit in shares.items()}


def _floors(
    book: Book, members: list[Allocation], pool: int, pool_and_reserve: int, now_ms: int
) -> dict[str, int]:
    """What no limit goes below, by agent: what is used, all of it where that cannot be known, and what is protected.

    A limit is protected from the other agents, not from a target that has fallen: a top-up gives way to the reserve,
    and what was raised from the reserve to the target.
    """
    reachable = [a for a in members if book.epochs[a.key.agent].online]
    floors = {a.agent_uid: a.exposure for a in members} | {a.agent_uid: a.used for a in reachable}
    topped_up = [a for a in reachable if a.demands and now_ms < a.protected_until_ms]
    kept = [a for a in reachable if now_ms < a.kept_until_ms]
    for protected, most in ((topped_up, pool), (kept, pool_and_reserve)):
        if protected:
            vessels = [_protection(a, floors[a.agent_uid]) for a in protected]
            floors |= fill(vessels, max(0, most - sum(floors.values())))
    return floors


def _protection(allocation: Allocation, floor: int) -> Vessel:
    return Vessel(allocation.agent_uid, floor, floor, max(floor, allocation.offered), weight=1)


def _member(book: Book, allocation: Allocation, floor: int) -> Member:
    assignment: Assignment = book.assignments[allocation.quota_uid, allocation.agent_uid]
    return Member(
        name=book.agents[allocation.agent_uid].name,
        used=allocation.used,
        floor=floor,
        weight=assignment.weight,
        min=assignment.min,
        max=assignment.max,
        static_limit=assignment.static_limit,
        recent_demand=allocation.recent_demand,
        open_demand=tuple(Request(r.amount, r.age_ms) for r in allocation.open_requests),
        reachable=book.epochs[allocation.key.agent].online,
    )
