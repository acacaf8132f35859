"""The operators: everything that can be asked of a controller, carried out as its services do.

An operator who gets no answer asks again with the same request_id, and is answered as before.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from quota_server.errors import AlreadyAnswered, LedgerRefusal
from quota_server.fleet.fanout import AgentOutcome, Outcome
from quota_server.ledger.calls import Call, Change
from quota_server.ledger.effects import Effects
from quota_server.ledger.enrolment import Enrolment
from quota_server.ledger.model import (
    AllocationKey,
    Assignment,
    Assume,
    Epoch,
    OverridePolicy,
    Quota,
    QuotaState,
)
from quota_server.ledger.policies import Policy
from quota_server.overrides.decisions import Decided
from quotafleet.link.messages import OverrideState, Revision
from tests.simulation.machines import ControllerMachine
from tests.simulation.once import OnceChecks, actor_of
from tests.simulation.truth import Violation, require

WAIT_MS = 3_000


#: So many calls go without a request_id, and are not repeated.
NAMELESS = 0.15

Run = Callable[[ControllerMachine, Call], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Job:
    """A use case, and how the fleet of the controller that is asked carries it out."""

    name: str
    run: Run
    #: Send it to all and wait for them, as SetTarget does; else only send it.
    fan_out: bool = False
    #: What is carried out is in the history in any case.
    noted: bool = False


class Operators:
    """Operators, who ask any controller; whoever is not answered asks again, the same one or another."""

    def __init__(self, controllers: Sequence[ControllerMachine], chance: Random, once: OnceChecks) -> None:
        self._controllers = controllers
        self._database = controllers[0].database
        self._chance = chance
        self._once = once
        self.violation: Violation | None = None
        self.outcomes: dict[str, int] = {}
        self._numbers = 0
        self._unanswered: list[tuple[Job, Call]] = []

    # --- quotas ------------------------------------------------------------------------------------------------------

    def create_quota(self, name: str, chance: Random) -> None:
        """A quota of any kind, unless one of that name is open."""
        target = chance.choice((10, 30, 100, 100, 1_000))
        quota = Quota(
            "",
            name,
            target,
            policy=chance.choice((Policy.MAX_MIN, Policy.MAX_MIN, *Policy)),
            reserve_percent=chance.choice((0, 0, 10)),
            override_policy=chance.choice((OverridePolicy.ASK, OverridePolicy.ASK, *OverridePolicy)),
            max_offline_ms=chance.choice((None, None, 60_000)),
        )
        self.open_quota(quota)

    def open_quota(self, quota: Quota) -> None:
        """This quota."""
        run: Run = lambda at, call: at.administration.create_quota(call, quota)  # noqa: E731
        self._do(Job("create-quota", run, noted=True))

    def close_quota(self, name: str) -> None:
        """For good; the name may be used again."""
        run: Run = lambda at, call: at.administration.close_quota(call, name)  # noqa: E731
        self._do(Job("close-quota", run, fan_out=True))

    def set_target(self, name: str, chance: Random) -> None:
        """Up, down, to what is known to be used, or just below that."""
        quota = self._find(name)
        if quota is None:
            return
        known = quota.known_count
        targets = (
            quota.target + chance.randint(1, 60),
            known,
            max(0, known - 1),
            chance.randint(known, known + 50),
        )
        target = chance.choice((*targets, known, quota.target // 2))
        run: Run = lambda at, call: at.administration.set_target(call, name, target, None)  # noqa: E731
        self._do(Job("set-target", run, fan_out=True))

    def update_quota(self, name: str, chance: Random) -> None:
        """Suspend it, resume it, or change how it is shared out."""
        settings: dict[str, Any] = chance.choice(
            (
                {"state": QuotaState.SUSPENDED},
                *[{"state": QuotaState.OPEN}] * 4,
                {"policy": chance.choice(list(Policy))},
                {"reserve_percent": chance.choice((0, 10, 50))},
                {"max_offline_ms": chance.choice((None, 30_000))},
                {"override_policy": chance.choice(list(OverridePolicy))},
            )
        )
        run: Run = lambda at, call: at.administration.update_quota(call, name, settings, None)  # noqa: E731
        self._do(Job("update-quota", run, fan_out=True))

    def resume(self, name: str) -> None:
        """Let agents grant again."""
        settings = {"state": QuotaState.OPEN}
        run: Run = lambda at, call: at.administration.update_quota(call, name, settings, None)  # noqa: E731
        self._do(Job("update-quota", run, fan_out=True))

    def rebalance(self, name: str) -> None:
        """Share out anew."""
        run: Run = lambda at, call: at.administration.rebalance(call, name)  # noqa: E731
        self._do(Job("rebalance", run, fan_out=True))

    def set_agent_target(self, name: str, agent: str, chance: Random) -> None:
        """Fix one agent's limit."""
        target = chance.choice((0, 1, 5, 20, 50))
        run: Run = lambda at, call: at.administration.set_agent_target(call, name, agent, target)  # noqa: E731
        self._do(Job("set-agent-target", run, fan_out=True))

    # --- agents ------------------------------------------------------------------------------------------------------

    def create_agent(self, name: str) -> None:
        """Enrol another one."""
        self._do(Job("create-agent", lambda at, call: at.enrolments.create_agent(call, name, True)))

    def assign(self, name: str, agent: str, chance: Random) -> None:
        """Give an agent a part, or change its part."""
        part = Assignment(
            "",
            "",
            weight=chance.choice((1, 1, 2, 0)),
            min=chance.choice((0, 0, 3)),
            max=chance.choice((None, None, None, 15)),
            initial_count=chance.choice((0, 0, 0, 4)),
        )
        self.assign_part(name, agent, part)

    def assign_part(self, name: str, agent: str, part: Assignment) -> None:
        """Give an agent this part."""
        run: Run = lambda at, call: at.enrolments.assign_quota(  # noqa: E731
            call, name, agent, part, with_initial_count=False
        )
        self._do(Job("assign", run, fan_out=True))

    def unassign(self, name: str, agent: str) -> None:
        """Take an agent's part away."""
        run: Run = lambda at, call: at.enrolments.unassign_quota(call, name, agent)  # noqa: E731
        self._do(Job("unassign", run, fan_out=True))

    def switch_agent(self, agent: str, *, active: bool) -> None:
        """Switch an agent off or on."""
        run: Run = lambda at, call: at.enrolments.update_agent(call, agent, active)  # noqa: E731
        self._do(Job("update-agent", run))

    def retire(self, agent: str, assume: Assume) -> None:
        """End an agent."""
        run: Run = lambda at, call: at.enrolments.retire_agent(call, agent, assume, True)  # noqa: E731
        self._do(Job("retire", run))

    def settle(self, agent: str, number: int, assume: Assume) -> None:
        """End one epoch of an agent."""
        run: Run = lambda at, call: at.enrolments.settle_agent(  # noqa: E731
            call, agent, number, assume, True
        )
        self._do(Job("settle", run))

    # --- overrides ---------------------------------------------------------------------------------------------------

    def request_override(self, name: str, agent: str, chance: Random) -> None:
        """Ask on an agent's behalf."""
        amount = chance.randint(1, 30)
        run: Run = lambda at, call: at.overrides.request(call, name, agent, amount)  # noqa: E731
        self._do(Job("request-override", run, noted=True))

    def decide_override(self, chance: Random) -> None:
        """Approve most of those that wait, deny the others, revoke some that were approved."""
        overrides = list(self._database.tables.overrides.values())
        pending = [each for each in overrides if each.state is OverrideState.PENDING]
        if pending and chance.random() < 0.85:
            chosen, approve = chance.choice(pending).override_id, chance.random() < 0.85
            run: Run = lambda at, call: at.overrides.decide(call, chosen, approve)  # noqa: E731
            self._do(Job("decide-override", run, noted=True))
        elif overrides:
            revoked = chance.choice(overrides[-5:]).override_id
            run = lambda at, call: at.overrides.revoke(call, revoked)  # noqa: E731
            self._do(Job("revoke-override", run, noted=True))

    # --- recovery ----------------------------------------------------------------------------------------------------

    def finish_recovery(self, is_lost: Callable[[Epoch], bool]) -> None:
        """End it if everybody was heard; enrolments that are lost are settled first."""
        tables = self._database.tables
        if not tables.meta.recovering:
            return
        generation = tables.meta.generation
        unheard = [e for e in tables.epochs.values() if not e.settled and e.heard_generation < generation]
        for epoch in unheard:
            agent = tables.agents[epoch.agent_uid]
            if is_lost(epoch) and not agent.retired:
                self.settle(agent.name, epoch.epoch, Assume.SPENT_LIMIT)
        self._do(Job("finish-recovery", lambda at, call: at.recovery.finish(call, True)))

    def ask_again(self, chance: Random) -> None:
        """Repeat a call that was not answered; sometimes one that was."""
        if self._unanswered:
            job, call = self._unanswered.pop(chance.randrange(len(self._unanswered)))
            self._begin(job, call)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _do(self, job: Job) -> None:
        self._numbers += 1
        request_id = f"op-{self._numbers}" if self._chance.random() >= NAMELESS else ""
        self._begin(job, Call(actor_of(self._numbers), 0, request_id=request_id, method=job.name))

    def _begin(self, job: Job, call: Call) -> None:
        able = [controller for controller in self._controllers if controller.up]
        if not able:
            return
        controller = self._chance.choice(able)
        if call.request_id:
            self._unanswered.append((job, call))
        controller.process.begin(self._watch(controller, job, call), f"operator: {job.name}")

    async def _watch(self, controller: ControllerMachine, job: Job, call: Call) -> None:
        outcome = "ok"
        backups = self._database.put_backs
        try:
            await self._carry_out(controller, job, replace(call, now_ms=controller.clock.wall_ms()))
        except AlreadyAnswered:
            outcome = "repeated"
        except LedgerRefusal as refusal:
            outcome = refusal.reason
        except Violation as violation:
            self._found(violation, backups)
        try:
            self._check_done(job, call, outcome)
        except Violation as violation:
            self._found(violation, backups)
        if outcome != "STORE_UNAVAILABLE" and (job, call) in self._unanswered:
            self._unanswered.remove((job, call))
        key = f"{job.name}: {outcome}"
        self.outcomes[key] = self.outcomes.get(key, 0) + 1

    def _found(self, violation: Violation, backups: int) -> None:
        """What was told is not there; unless the database was put back meanwhile, and has forgotten it."""
        if self._database.put_backs == backups:
            self.violation = self.violation or violation

    async def _carry_out(self, controller: ControllerMachine, job: Job, call: Call) -> None:
        fleet = controller.fleet
        if job.fan_out:
            change, outcomes = await fleet.carry_out(lambda: job.run(controller, call), WAIT_MS)
            self._check_told(change, call)
            self._check_applied(change, outcomes)
            return
        await fleet.decide(lambda: job.run(controller, call), _effects_of)
        recorded = not call.request_id or call.request_id in self._database.tables.answers
        require(recorded, "S4", f"{job.name} was answered, and is not on record")

    def _check_done(self, job: Job, call: Call, outcome: str) -> None:
        """What was answered is in the history, what was refused is not; of what was not answered nobody knows."""
        done = self._once.is_done(call.actor)
        what = f"{job.name} of {call.actor}, request_id {call.request_id!r}"
        if outcome in ("ok", "repeated"):
            require(done or not job.noted, "S4", f"{what} was answered, and is not in the history")
        elif outcome != "STORE_UNAVAILABLE":
            require(not done, "S4", f"{what} was refused with {outcome}, and is in the history")

    def _check_applied(self, change: Change, outcomes: list[AgentOutcome]) -> None:
        """Of whom an operator was told that it has applied the change, it is stored that it has."""
        needed = {each.agent: each.needed for each in change.participants}
        for each in outcomes:
            if each.outcome is Outcome.APPLIED:
                key = AllocationKey(change.quota.uid, *each.agent)
                allocation = self._database.tables.allocations.get(key)
                known = allocation.acknowledged if allocation is not None else Revision()
                what = f"{each.agent} was said to have applied {needed[each.agent]} of {change.quota.name}"
                require(known >= needed[each.agent], "S4", f"{what}, it is known to have {known}")

    def _check_told(self, change: Change, call: Call) -> None:
        """What an operator was told is durable."""
        tables = self._database.tables
        stored = tables.quotas.get(change.quota.uid)
        require(stored is not None, "S4", f"{call.method} answered a quota that is not stored")
        assert stored is not None
        told = (change.quota.version, change.quota.target)
        is_there = stored.version > told[0] or (stored.version, stored.target) == told
        require(is_there, "S4", f"{call.method} answered {told}, stored is {stored.version}, {stored.target}")

    def _find(self, name: str) -> Quota | None:
        quotas = self._database.tables.quotas.values()
        return next((q for q in quotas if q.name == name and q.state is not QuotaState.CLOSED), None)


def _effects_of(result: Any) -> Effects:
    match result:
        case Change() | Enrolment() | Decided():
            return result.effects
        case (_, Effects() as effects):
            return effects
    return Effects()
