"""What operators do with agents and their parts in quotas: one transaction each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from quota_server.errors import LedgerRefusal, agent_unknown, field_invalid, not_assigned
from quota_server.ledger import escrow, sharing
from quota_server.ledger.administration import check_fits
from quota_server.ledger.book import Book
from quota_server.ledger.calls import (
    Call,
    Change,
    change_of,
    find_enrolled_agent,
    find_open_quota,
    find_quota,
    limits_of,
    note_change,
    record,
    refuse_repeat,
)
from quota_server.ledger.effects import Effects, RoundPlan, effects_of, participants_of
from quota_server.ledger.model import (
    Agent,
    AgentKey,
    Allocation,
    AllocationKey,
    Assignment,
    Assume,
    Epoch,
    Quota,
)
from quota_server.ledger.replacing import replace
from quota_server.ledger.store import LedgerStore, Transaction

#: Epochs contain the generation, so that a restored database does not give one out again.
EPOCHS_PER_GENERATION = 1_000_000


@dataclass(frozen=True, slots=True)
class Enrolment:
    """An agent after a change, and what the change means."""

    agent: Agent
    epoch: Epoch
    effects: Effects
    #: Per quota: what was charged and what is at risk.
    settlements: tuple[tuple[Quota, Allocation], ...] = ()
    #: A new epoch began: the agent needs its credential.
    renewed: bool = False


class Enrolments:
    """The operators' use cases on agents. Each raises LedgerRefusal and then has changed nothing."""

    def __init__(self, store: LedgerStore, new_id: Callable[[], str]) -> None:
        self._store = store
        self._new_id = new_id

    async def create_agent(self, call: Call, name: str, active: bool) -> Enrolment:
        """Enrols an agent. Raises AGENT_EXISTS."""
        async with self._store.transaction() as transaction:
            await refuse_repeat(transaction, call)
            existing = await transaction.find_agent(name)
            if existing is not None and not existing.retired:
                raise LedgerRefusal(
                    "AGENT_EXISTS", f"an enrolled agent is named {name!r}", metadata={"agent": name}
                )
            uid, generation = self._new_id(), transaction.book.meta.generation
            number = generation * EPOCHS_PER_GENERATION + 1
            agent = Agent(uid, name, number, active=active, create_ms=call.now_ms)
            transaction.book.decide(agent)
            enrolment = Enrolment(agent, _begin_epoch(transaction.book, agent.key), Effects(), renewed=True)
            await record(transaction, call, enrolment)
        return enrolment

    async def update_agent(self, call: Call, name: str, active: bool) -> Enrolment:
        """Switches an agent off or on."""
        async with self._store.transaction() as transaction:
            await refuse_repeat(transaction, call)
            agent = await find_enrolled_agent(transaction, name)
            quotas = await _load_parts(transaction, agent)
            book = transaction.book
            before = {uid: limits_of(book, uid) for uid in quotas}
            book.decide(replace(agent, active=active))
            rounds = []
            for uid in quotas:
                sharing.redistribute(book, uid, call.now_ms, resend={AllocationKey(uid, *agent.key)})
                after = {"limits": limits_of(book, uid), "agent": agent.name, "active": active}
                rounds.append(RoundPlan(uid, self._new_id(), participants_of(book, uid)))
                limits = {"limits": before[uid]}
                note_change(book, call, uid, "update-agent", limits, after, round_id=rounds[-1].round_id)
            effects = effects_of(book)
            effects.rounds = rounds
            enrolment = Enrolment(book.agents[agent.uid], book.epochs[agent.key], effects)
            await record(transaction, call, enrolment)
        return enrolment

    async def retire_agent(self, call: Call, name: str, assume: Assume, confirm: bool) -> Enrolment:
        """Ends an agent for good, and every epoch of it. Raises CONFIRMATION_NEEDED."""
        _check_confirmed(assume, confirm)
        async with self._store.transaction() as transaction:
            await refuse_repeat(transaction, call)
            agent = await find_enrolled_agent(transaction, name)
            quotas = await _load_parts(transaction, agent)
            book = transaction.book
            before = {uid: limits_of(book, uid) for uid in quotas}
            epochs = [key for key in book.epochs if key.agent_uid == agent.uid]
            for key in sorted(epochs):
                await self._settle(transaction, key, assume)
            book.decide(replace(agent, retired=True))
            for uid in quotas:
                assignment = book.assignments.get((uid, agent.uid))
                if assignment is not None and assignment.assigned:
                    book.decide(replace(assignment, assigned=False))
            rounds = self._share_out(book, call, quotas, before, "retire-agent", agent, assume)
            enrolment = _ended(book, agent.key, set(epochs), rounds)
            await record(transaction, call, enrolment)
        return enrolment

    async def settle_agent(
        self, call: Call, name: str, number: int, assume: Assume, confirm: bool
    ) -> Enrolment:
        """Ends an epoch, 0 for the newest; after the newest a new one begins. Raises CONFIRMATION_NEEDED."""
        _check_confirmed(assume, confirm)
        async with self._store.transaction() as transaction:
            await refuse_repeat(transaction, call)
            agent = await find_enrolled_agent(transaction, name)
            quotas = await _load_parts(transaction, agent)
            book = transaction.book
            ending = AgentKey(agent.uid, number or agent.epoch)
            if ending not in book.epochs:
                raise field_invalid("epoch", f"agent {agent.name!r} has no epoch {number}")
            if book.epochs[ending].settled:
                raise field_invalid("epoch", f"epoch {ending.epoch} of {agent.name!r} was settled already")
            before = {uid: limits_of(book, uid) for uid in quotas}
            await self._settle(transaction, ending, assume)
            renewed = ending == agent.key
            if renewed:
                self._renew(book, agent)
            rounds = self._share_out(book, call, quotas, before, "settle-agent", agent, assume)
            enrolment = replace(_ended(book, ending, {ending}, rounds), renewed=renewed)
            await record(transaction, call, enrolment)
        return enrolment

    async def assign_quota(
        self, call: Call, quota_name: str, agent_name: str, part: Assignment, *, with_initial_count: bool
    ) -> Change:
        """Gives an agent a part in a quota, or changes its weight, min and max (uids in `part` are filled in here).

        Raises TARGET_EXCEEDED if a min that grows does not fit the target beside the others, or the initial count
        beside what is escrowed.
        """
        async with self._store.transaction() as transaction:
            await refuse_repeat(transaction, call)
            agent = await find_enrolled_agent(transaction, agent_name)
            await transaction.load_epochs([agent.key])
            quota = await find_open_quota(transaction, quota_name)
            await transaction.load_whole_quota(quota.uid)
            book = transaction.book
            before = {"limits": limits_of(book, quota.uid)}
            assignment = _assignment(book, quota, agent, part, with_initial_count=with_initial_count)
            book.decide(assignment)
            key = AllocationKey(quota.uid, *agent.key)
            if key not in book.allocations:
                _allocate(book, key)
            sharing.redistribute(book, quota.uid, call.now_ms, resend={key})
            round_id = self._new_id()
            after = {"limits": limits_of(book, quota.uid), "agent": agent.name, "weight": assignment.weight}
            after |= {"min": assignment.min, "max": assignment.max, "initial_count": assignment.initial_count}
            note_change(book, call, quota.uid, "assign", before, after, round_id=round_id)
            change = change_of(book, quota.uid, round_id, (assignment, agent))
            await record(transaction, call, change)
        return change

    async def unassign_quota(self, call: Call, quota_name: str, agent_name: str) -> Change:
        """Takes an agent's part away. What it used, and may still be using, goes on counting."""
        async with self._store.transaction() as transaction:
            await refuse_repeat(transaction, call)
            agent = await find_enrolled_agent(transaction, agent_name)
            quota = await find_quota(transaction, quota_name)
            await transaction.load_whole_quota(quota.uid)
            book = transaction.book
            assignment = book.assignments.get((quota.uid, agent.uid))
            if assignment is None or not assignment.assigned:
                raise not_assigned(quota.name, agent.name)
            before = {"limits": limits_of(book, quota.uid)}
            book.decide(replace(assignment, assigned=False))
            resend = {AllocationKey(quota.uid, *agent.key)}
            sharing.redistribute(book, quota.uid, call.now_ms, resend=resend)
            round_id = self._new_id()
            after = {"limits": limits_of(book, quota.uid), "agent": agent.name}
            note_change(book, call, quota.uid, "unassign", before, after, round_id=round_id)
            change = change_of(book, quota.uid, round_id, (assignment, agent))
            await record(transaction, call, change)
        return change

    async def _settle(self, transaction: Transaction, ending: AgentKey, assume: Assume) -> None:
        """Ends one epoch: exposures and open overrides become charges or known risks. Repeated: nothing changes."""
        book = transaction.book
        await transaction.load_live_overrides([ending])
        epoch = book.epochs[ending]
        for allocation in book.allocations_of_agent(ending):
            book.note_fact(escrow.settle(allocation, assume))
        for override in list(book.overrides.values()):
            if override.agent == ending and override.live:
                book.note_fact(escrow.settle_override(override, assume))
        book.decide(replace(epoch, ended=True, settled=True))

    def _share_out(
        self,
        book: Book,
        call: Call,
        quotas: list[str],
        before: dict[str, dict[str, int]],
        action: str,
        agent: Agent,
        assume: Assume,
    ) -> list[RoundPlan]:
        rounds = []
        for uid in quotas:
            sharing.redistribute(book, uid, call.now_ms)
            ended = [
                a for a in book.allocations_of(uid) if a.agent_uid == agent.uid and a.settled and not a.final
            ]
            after = {
                "limits": limits_of(book, uid),
                "agent": agent.name,
                "assume": assume.value,
                "charge": sum(a.charge for a in ended),
                "at_risk": sum(a.at_risk for a in ended),
            }
            rounds.append(RoundPlan(uid, self._new_id(), participants_of(book, uid)))
            limits = {"limits": before[uid]}
            note_change(book, call, uid, action, limits, after, round_id=rounds[-1].round_id)
        return rounds

    def _renew(self, book: Book, agent: Agent) -> None:
        first = book.meta.generation * EPOCHS_PER_GENERATION + 1
        renewed = replace(agent, epoch=max(agent.epoch + 1, first))
        book.decide(renewed)
        _begin_epoch(book, renewed.key)
        for assignment in list(book.assignments.values()):
            if assignment.agent_uid == agent.uid and assignment.assigned:
                _allocate(book, AllocationKey(assignment.quota_uid, *renewed.key))


def _begin_epoch(book: Book, key: AgentKey) -> Epoch:
    generation = book.meta.generation
    epoch = Epoch(*key, adopted_generation=generation, heard_generation=generation)
    book.decide(epoch)
    return epoch


def _allocate(book: Book, key: AllocationKey) -> None:
    """A first revision with limit 0, so that the agent hears of the quota even if nothing is left for it."""
    book.decide(escrow.offer(Allocation(*key), 0, book.meta.generation))


def _assignment(
    book: Book, quota: Quota, agent: Agent, part: Assignment, *, with_initial_count: bool
) -> Assignment:
    known = book.assignments.get((quota.uid, agent.uid))
    initial = part.initial_count if known is None else known.initial_count
    if known is not None and with_initial_count and part.initial_count != known.initial_count:
        raise field_invalid("assignment.initial_count", "can only be set with the first assignment")
    escrowed = book.quotas[quota.uid].escrowed
    if known is None and initial and escrowed + initial > quota.target:
        raise LedgerRefusal(
            "TARGET_EXCEEDED",
            f"an initial count of {initial} does not fit beside the {escrowed} units that agents hold already: "
            "assign before the other agents connect, or raise the target",
            metadata={
                "quota": quota.name,
                "target": quota.target,
                "escrowed": escrowed,
                "requested": initial,
            },
        )
    mins = [
        a.min
        for a in book.assignments.values()
        if a.quota_uid == quota.uid and a.assigned and a.agent_uid != agent.uid
    ]
    if part.min > (known.min if known is not None and known.assigned else 0):
        # Whatever promises less than before may be said at any target.
        check_fits(quota, sum(mins) + part.min)
    return replace(
        part,
        quota_uid=quota.uid,
        agent_uid=agent.uid,
        assigned=True,
        initial_count=initial,
        static_limit=known.static_limit if known else 0,
    )


async def _load_parts(transaction: Transaction, agent: Agent) -> list[str]:
    """Loads everything an agent has a part in; the uids of its quotas in order."""
    await transaction.load_agent(agent.uid)
    book = transaction.book
    held = {a.quota_uid for a in book.allocations.values() if a.agent_uid == agent.uid}
    assigned = {a.quota_uid for a in book.assignments.values() if a.agent_uid == agent.uid}
    quotas = sorted(held | assigned)
    for uid in quotas:
        await transaction.load_whole_quota(uid)
    if agent.key not in book.epochs:
        raise agent_unknown(agent.name)
    return quotas


def _ended(book: Book, key: AgentKey, ended: set[AgentKey], rounds: list[RoundPlan]) -> Enrolment:
    agent = book.agents[key.agent_uid]
    effects = effects_of(book)
    effects.ended = ended
    effects.rounds = rounds
    settlements = tuple(
        (book.quotas[a.quota_uid], a)
        for a in sorted(book.allocations.values(), key=lambda a: a.key)
        if a.key.agent in ended and a.settled
    )
    return Enrolment(agent, book.epochs[agent.key], effects, settlements)


def _check_confirmed(assume: Assume, confirm: bool) -> None:
    if assume is Assume.LAST_REPORTED and not confirm:
        raise LedgerRefusal(
            "CONFIRMATION_NEEDED",
            "LAST_REPORTED gives others what this agent may have spent: the total may pass the target; set confirm",
        )
