"""What operators do with quotas: one transaction each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from quota_server.errors import LedgerRefusal, field_invalid, not_assigned
from quota_server.ledger import sharing
from quota_server.ledger.calls import (
    Call,
    Change,
    change_of,
    find_enrolled_agent,
    find_open_quota,
    limits_of,
    note_change,
    record,
    refuse_repeat,
)
from quota_server.ledger.effects import Effects
from quota_server.ledger.model import Allocation, Quota, QuotaState
from quota_server.ledger.policies import Policy
from quota_server.ledger.replacing import replace
from quota_server.ledger.store import LedgerStore, Transaction

#: Settings that agents are told of: a change of one gives every allocation a new revision.
_TERMS = frozenset({"start_ms", "end_ms", "max_offline_ms", "state"})
#: Settings that sharing out depends on.
_SHARING = frozenset({"policy", "reserve_percent"})


class Administration:
    """The operators' use cases on quotas. Each raises LedgerRefusal and then has changed nothing."""

    def __init__(self, store: LedgerStore, new_id: Callable[[], str]) -> None:
        self._store = store
        self._new_id = new_id

    async def create_quota(self, call: Call, quota: Quota) -> Change:
        """Opens a quota; its uid is chosen here. Raises QUOTA_EXISTS, FIELD_INVALID."""
        _check_period(quota)
        async with self._store.transaction() as transaction:
            await refuse_repeat(transaction, call)
            existing = await transaction.find_quota(quota.name)
            if existing is not None and existing.state is not QuotaState.CLOSED:
                raise LedgerRefusal(
                    "QUOTA_EXISTS", f"an open quota is named {quota.name!r}", metadata={"quota": quota.name}
                )
            opened = replace(quota, uid=self._new_id(), create_ms=call.now_ms)
            if call.validate_only:
                return Change(opened, Effects())
            transaction.book.decide(opened)
            note_change(transaction.book, call, opened.uid, "create", {}, {"target": opened.target})
            change = change_of(transaction.book, opened.uid)
            await record(transaction, call, change)
        return change

    async def set_target(self, call: Call, name: str, target: int, etag: int | None) -> Change:
        """Changes the overall cap. Raises TARGET_BELOW_COUNT, ETAG_MISMATCH."""
        async with self._store.transaction() as transaction:
            await refuse_repeat(transaction, call)
            quota = await find_open_quota(transaction, name)
            _check_etag(quota, etag)
            if target < quota.target and target < quota.known_count:
                raise LedgerRefusal(
                    "TARGET_BELOW_COUNT",
                    f"{quota.known_count} units of {quota.name!r} are used or held: choose at least as many",
                    metadata={"quota": quota.name, "target": target, "known_count": quota.known_count},
                )
            wanted = replace(quota, target=target, version=quota.version + 1)
            if call.validate_only:
                return Change(wanted, Effects())
            change = await self._share_out(transaction, call, quota, wanted, "set-target")
            await record(transaction, call, change)
        return change

    async def update_quota(self, call: Call, name: str, settings: dict[str, Any], etag: int | None) -> Change:
        """Changes settings, given by field name. Raises FIELD_INVALID, ETAG_MISMATCH."""
        async with self._store.transaction() as transaction:
            await refuse_repeat(transaction, call)
            quota = await find_open_quota(transaction, name)
            _check_etag(quota, etag)
            wanted = replace(quota, **settings, version=quota.version + 1)
            _check_period(wanted)
            if call.validate_only:
                return Change(wanted, Effects())
            change = await self._share_out(transaction, call, quota, wanted, _action(quota, wanted))
            await record(transaction, call, change)
        return change

    async def close_quota(self, call: Call, name: str) -> Change:
        """Ends a quota for good; its allocations fall to what is used as they acknowledge."""
        async with self._store.transaction() as transaction:
            await refuse_repeat(transaction, call)
            quota = await find_open_quota(transaction, name)
            wanted = replace(quota, state=QuotaState.CLOSED, version=quota.version + 1)
            change = await self._share_out(transaction, call, quota, wanted, "close")
            await record(transaction, call, change)
        return change

    async def set_agent_target(self, call: Call, name: str, agent_name: str, target: int) -> Change:
        """Fixes one agent's limit. Raises TARGET_EXCEEDED if the fixed limits together pass the target."""
        async with self._store.transaction() as transaction:
            await refuse_repeat(transaction, call)
            agent = await find_enrolled_agent(transaction, agent_name)
            quota = await find_open_quota(transaction, name)
            await transaction.load_whole_quota(quota.uid)
            book = transaction.book
            assignment = book.assignments.get((quota.uid, agent.uid))
            if assignment is None or not assignment.assigned:
                raise not_assigned(quota.name, agent.name)
            static = quota.policy is Policy.STATIC
            others = [
                a.static_limit if static else a.min
                for a in book.assignments.values()
                if a.quota_uid == quota.uid and a.assigned and a.agent_uid != agent.uid
            ]
            check_fits(quota, sum(others) + target)
            before = {"limits": limits_of(book, quota.uid)}
            if static:
                book.decide(replace(assignment, static_limit=target))
            else:
                book.decide(replace(assignment, min=target, max=target))
            sharing.redistribute(book, quota.uid, call.now_ms)
            round_id = self._new_id()
            after = {"limits": limits_of(book, quota.uid), "agent": agent.name, "agent_target": target}
            note_change(book, call, quota.uid, "set-agent-target", before, after, round_id=round_id)
            change = change_of(book, quota.uid, round_id, assignment)
            await record(transaction, call, change)
        return change

    async def rebalance(self, call: Call, name: str) -> Change:
        """Shares out again by the policy and the counts known now."""
        async with self._store.transaction() as transaction:
            await refuse_repeat(transaction, call)
            quota = await find_open_quota(transaction, name)
            change = await self._share_out(transaction, call, quota, quota, "rebalance")
            await record(transaction, call, change)
        return change

    async def follow_demand(self, quota_uid: str, now_ms: int) -> Change | None:
        """Shares out again for what agents ask for, or could not give back before. None if there is no such quota."""
        call = Call(actor="controller", now_ms=now_ms, reason="use and demand of the agents")
        async with self._store.transaction() as transaction:
            await transaction.load_whole_quota(quota_uid)
            book = transaction.book
            if quota_uid not in book.quotas:
                return None
            before = limits_of(book, quota_uid)
            sharing.redistribute(book, quota_uid, now_ms)
            after = limits_of(book, quota_uid)
            round_id = ""
            if before != after:
                round_id = self._new_id()
                limits = {"limits": before}, {"limits": after}
                note_change(book, call, quota_uid, "redistribute", *limits, round_id=round_id)
            return change_of(book, quota_uid, round_id)

    async def _share_out(
        self, transaction: Transaction, call: Call, before: Quota, wanted: Quota, action: str
    ) -> Change:
        book = transaction.book
        await transaction.load_whole_quota(before.uid)
        limits = limits_of(book, before.uid)
        book.decide(replace(wanted, sums=book.quotas[before.uid].sums))
        changed = _differences(before, wanted)
        resend: list[Allocation] = book.allocations_of(before.uid) if changed.keys() & _TERMS else []
        sharing.redistribute(book, before.uid, call.now_ms, resend={a.key for a in resend})
        round_id = self._new_id()
        old = {name: old for name, (old, _) in changed.items()}
        new = {name: new for name, (_, new) in changed.items()}
        note_change(
            book,
            call,
            before.uid,
            action,
            {**old, "limits": limits},
            {**new, "limits": limits_of(book, before.uid)},
            round_id=round_id,
        )
        return change_of(book, before.uid, round_id)


def check_fits(quota: Quota, fixed: int) -> None:
    """Raises TARGET_EXCEEDED if limits promised to agents, in units, come to more than the target."""
    if fixed > quota.target:
        raise LedgerRefusal(
            "TARGET_EXCEEDED",
            f"the limits promised to agents would come to {fixed}, above the target of {quota.target}",
            metadata={"quota": quota.name, "target": quota.target, "requested": fixed},
        )


def _differences(before: Quota, after: Quota) -> dict[str, tuple[Any, Any]]:
    names = {"target", "critical_percent", "override_policy", *_TERMS, *_SHARING}
    values = {name: (getattr(before, name), getattr(after, name)) for name in sorted(names)}
    return {name: pair for name, pair in values.items() if pair[0] != pair[1]}


def _action(before: Quota, after: Quota) -> str:
    if before.state is after.state:
        return "update"
    return "suspend" if after.state is QuotaState.SUSPENDED else "resume"


def _check_period(quota: Quota) -> None:
    if quota.start_ms is not None and quota.end_ms is not None and quota.start_ms >= quota.end_ms:
        raise field_invalid("quota.end_time", "the period has to end after it starts")


def _check_etag(quota: Quota, etag: int | None) -> None:
    if etag is not None and etag != quota.version:
        raise LedgerRefusal(
            "ETAG_MISMATCH",
            f"quota {quota.name!r} was changed since it was read: read it again",
            metadata={"quota": quota.name},
        )
