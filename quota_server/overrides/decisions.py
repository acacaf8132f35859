"""Asking for overrides, deciding and revoking them: one transaction each (section 6)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from quota_server.errors import LedgerRefusal, not_assigned
from quota_server.ledger import sharing
from quota_server.ledger.calls import (
    Call,
    find_enrolled_agent,
    find_open_quota,
    note_change,
    record,
    refuse_repeat,
)
from quota_server.ledger.effects import Effects, effects_of, override_update
from quota_server.ledger.model import AgentKey, AllocationKey, Override, OverridePolicy, QuotaState
from quota_server.ledger.replacing import replace
from quota_server.ledger.store import LedgerStore, Transaction
from quotafleet.link.messages import OverrideAsk, OverrideState, OverrideUpdate


@dataclass(frozen=True, slots=True)
class Decided:
    """An override after a change, with the names it carries only by uid."""

    override: Override
    quota: str
    agent: str
    effects: Effects


class Overrides:
    """The use cases on overrides. Each raises LedgerRefusal and then has changed nothing.

    `keep_ms` is for how long a limit that was raised from the reserve is not taken back.
    """

    def __init__(self, store: LedgerStore, new_id: Callable[[], str], keep_ms: int) -> None:
        self._store = store
        self._new_id = new_id
        self._keep_ms = keep_ms

    async def request(self, call: Call, quota_name: str, agent_name: str, amount: int) -> Decided:
        """Asks on an agent's behalf; the quota's policy answers."""
        async with self._store.transaction() as transaction:
            await refuse_repeat(transaction, call)
            agent = await find_enrolled_agent(transaction, agent_name)
            await transaction.load_epochs([agent.key])
            quota = await find_open_quota(transaction, quota_name)
            key = AllocationKey(quota.uid, *agent.key)
            await transaction.load_allocations([key])
            if key not in transaction.book.allocations or not transaction.book.is_member(
                transaction.book.allocations[key]
            ):
                raise not_assigned(quota.name, agent.name)
            override = self._answer(transaction, call, key, amount, ask_id="")
            decided = _decided(transaction, override)
            await record(transaction, call, decided)
        return decided

    async def answer_asks(
        self, asks: list[tuple[AgentKey, OverrideAsk]], now_ms: int
    ) -> tuple[dict[AgentKey, list[OverrideUpdate]], Effects]:
        """Answers what agents ask over the link; an ask that was answered before gets the same answer."""
        answers: dict[AgentKey, list[OverrideUpdate]] = {}
        async with self._store.transaction() as transaction:
            await transaction.load_epochs({agent for agent, _ in asks})
            await transaction.load_allocations({AllocationKey(ask.quota_uid, *agent) for agent, ask in asks})
            for agent, ask in asks:
                update = await self._answer_ask(transaction, agent, ask, now_ms)
                answers.setdefault(agent, []).append(update)
            effects = effects_of(transaction.book)
        return answers, effects

    async def decide(self, call: Call, override_id: str, approve: bool) -> Decided:
        """Approves or denies a pending override.

        Raises OVERRIDE_UNKNOWN, OVERRIDE_DECIDED, or the reason why nobody could spend it.
        """
        async with self._store.transaction() as transaction:
            await refuse_repeat(transaction, call)
            override = await _find(transaction, override_id)
            if override.state is not OverrideState.PENDING:
                raise _decided_already(override)
            if approve:
                await _check_spendable(transaction, override)
            state = OverrideState.APPROVED if approve else OverrideState.DENIED
            after = replace(
                override,
                state=state,
                decided_by=call.actor,
                decision_reason=call.reason,
                decide_ms=call.now_ms,
            )
            decided = self._change(transaction, call, override, after)
            await record(transaction, call, decided)
        return decided

    async def revoke(self, call: Call, override_id: str) -> Decided:
        """Denies a pending override; asks the agent to close an approved one, which counts until it has."""
        async with self._store.transaction() as transaction:
            await refuse_repeat(transaction, call)
            override = await _find(transaction, override_id)
            if override.state is OverrideState.PENDING:
                after = replace(override, state=OverrideState.DENIED, revoked=True)
            elif override.state is OverrideState.APPROVED and not override.settled:
                after = replace(override, revoked=True)
            else:
                raise _decided_already(override)
            if not override.revoked:
                after = replace(
                    after, decided_by=call.actor, decision_reason=call.reason, decide_ms=call.now_ms
                )
            decided = self._change(transaction, call, override, after)
            await record(transaction, call, decided)
        return decided

    async def _answer_ask(
        self, transaction: Transaction, agent: AgentKey, ask: OverrideAsk, now_ms: int
    ) -> OverrideUpdate:
        known = await transaction.load_override_of_ask(agent, ask.quota_uid, ask.ask_id)
        if known is not None:
            return override_update(known)
        book, key = transaction.book, AllocationKey(ask.quota_uid, *agent)
        open_quota = (
            ask.quota_uid in book.quotas and book.quotas[ask.quota_uid].state is not QuotaState.CLOSED
        )
        if not open_quota or key not in book.allocations or not book.is_member(book.allocations[key]):
            return OverrideUpdate("", ask.ask_id, ask.quota_uid, ask.amount, OverrideState.DENIED)
        name = book.agents[agent.agent_uid].name
        call = Call(actor=f"agent {name}", now_ms=now_ms, reason=ask.reason)
        return override_update(self._answer(transaction, call, key, ask.amount, ask.ask_id))

    def _answer(
        self, transaction: Transaction, call: Call, key: AllocationKey, amount: int, ask_id: str
    ) -> Override:
        """What the quota's policy says to a new ask."""
        book = transaction.book
        policy = book.quotas[key.quota_uid].override_policy
        state = OverrideState.PENDING
        if policy is OverridePolicy.DENY:
            state = OverrideState.DENIED
        elif policy is OverridePolicy.FROM_RESERVE and self._from_reserve(
            transaction, key, amount, call.now_ms
        ):
            state = OverrideState.FROM_RESERVE
        override = Override(
            override_id=self._new_id(),
            ask_id=ask_id,
            quota_uid=key.quota_uid,
            agent_uid=key.agent_uid,
            epoch=key.epoch,
            amount=amount,
            reason=call.reason,
            state=state,
            create_ms=call.now_ms,
            decide_ms=None if state is OverrideState.PENDING else call.now_ms,
        )
        book.decide(override)
        after = {
            "override_id": override.override_id,
            "agent": book.agents[key.agent_uid].name,
            "amount": amount,
        }
        note_change(book, call, key.quota_uid, "request-override", {}, {**after, "state": state.value})
        return override

    def _from_reserve(self, transaction: Transaction, key: AllocationKey, amount: int, now_ms: int) -> bool:
        """Raises the limit by the whole amount inside the target, out of what is not set aside for others."""
        book = transaction.book
        allocation, quota = book.allocations[key], book.quotas[key.quota_uid]
        maximum = book.assignments[key.quota_uid, key.agent_uid].max
        limit = allocation.offered + amount
        needed = max(0, limit - allocation.exposure)
        aside_for_others = quota.sums.aside - max(0, allocation.wanted - allocation.exposure)
        free = quota.target - quota.escrowed - aside_for_others
        if quota.recovering or needed > free or (maximum is not None and limit > maximum):
            return False
        kept_until_ms = now_ms + self._keep_ms
        grown = sharing.raise_limit(book, allocation, limit, kept_until_ms)
        if grown.offered != limit:
            return False
        book.decide(replace(grown, kept_until_ms=kept_until_ms))
        return True

    def _change(self, transaction: Transaction, call: Call, before: Override, after: Override) -> Decided:
        book = transaction.book
        book.decide(after)
        about = {"override_id": after.override_id, "amount": after.amount}
        note_change(
            book,
            call,
            after.quota_uid,
            "revoke-override" if after.revoked else "decide-override",
            {**about, "state": before.state.value},
            {**about, "state": after.state.value, "revoked": after.revoked},
        )
        decided = _decided(transaction, after)
        decided.effects.overrides[after.agent] = [override_update(after)]
        return decided


async def _find(transaction: Transaction, override_id: str) -> Override:
    await transaction.load_overrides([override_id])
    override = transaction.book.overrides.get(override_id)
    if override is None:
        raise LedgerRefusal(
            "OVERRIDE_UNKNOWN", f"there is no override {override_id!r}", metadata={"override_id": override_id}
        )
    await transaction.load_epochs([override.agent])
    return override


async def _check_spendable(transaction: Transaction, override: Override) -> None:
    """An approval counts from now on, so somebody has to be able to spend it."""
    key = AllocationKey(override.quota_uid, *override.agent)
    await transaction.load_allocations([key])
    book = transaction.book
    quota, agent = book.quotas[override.quota_uid], book.agents[override.agent_uid]
    if book.epochs[override.agent].ended:
        raise LedgerRefusal("AGENT_FENCED", "the enrolment that asked has ended; nobody can spend this")
    if quota.state is QuotaState.CLOSED:
        raise LedgerRefusal("QUOTA_CLOSED", f"quota {quota.name!r} is closed", metadata={"quota": quota.name})
    if key not in book.allocations or not book.is_member(book.allocations[key]):
        raise not_assigned(quota.name, agent.name)


def _decided(transaction: Transaction, override: Override) -> Decided:
    book = transaction.book
    quota, agent = book.quotas[override.quota_uid], book.agents[override.agent_uid]
    return Decided(override, quota.name, agent.name, effects_of(book))


def _decided_already(override: Override) -> LedgerRefusal:
    return LedgerRefusal(
        "OVERRIDE_DECIDED",
        f"override {override.override_id!r} is {override.state.value}: there is nothing left to decide",
        metadata={"override_id": override.override_id, "state": override.state.value},
    )
