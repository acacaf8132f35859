"""The operator: targets up, down and to the count, fixed limits, settings, overrides, names closed and made again."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import Any, Self

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from quotafleet.errors import QuotafleetError
from quotafleet.v1 import agent_admin_service_pb2 as admin
from quotafleet.v1 import quota_service_pb2 as quotas
from quotafleet.v1.agent_admin_service_pb2_grpc import AgentAdminServiceStub
from quotafleet.v1.agent_link_service_pb2 import OVERRIDE_STATE_APPROVED, OVERRIDE_STATE_PENDING
from quotafleet.v1.quota_service_pb2_grpc import QuotaServiceStub
from tests.chaos.bounds import Allowance
from tests.chaos.fleet import CHANNEL_OPTIONS, Credential
from tests.chaos.verdict import Violation
from tests.chaos.world import CALL_SECONDS, EVEN, MAIN, NAMED, QUOTAS, World

FIRST_TARGETS = {MAIN: 400, EVEN: 200, NAMED: 150}
_ACTOR = (("quotafleet-actor", "chaos"),)
_WAIT = Duration(seconds=1)
_LONGEST_PAUSE_SECONDS = 0.4


class Operator:
    """Says one thing after another, each until it is answered."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._chance = world.chance("operator")
        self._numbers = itertools.count(1)
        #: Agents that are switched off, and quotas that are not as they were.
        self._off: set[str] = set()
        self._changed: set[str] = set()

    async def __aenter__(self) -> Self:
        self._channel = grpc.aio.insecure_channel(self._world.controller.address, options=CHANNEL_OPTIONS)
        self.quotas: Any = QuotaServiceStub(self._channel)
        self.agents: Any = AgentAdminServiceStub(self._channel)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()

    async def run(self) -> None:
        """Work for ever."""
        deeds: list[tuple[Callable[[], Awaitable[None]], int]] = [
            (self._raise_target, 3),
            (self._lower_target, 3),
            (self._target_to_count, 2),
            (self._fix_limit, 2),
            (self._change, 2),
            (self._switch_agent, 1),
            (self._rebalance, 1),
            (self._decide, 5),
            (self._revoke, 1),
            (self._make_again, 1),
        ]
        calls, weights = zip(*deeds, strict=True)
        while True:
            async with self._world.operators.turn():
                await self._chance.choices(calls, weights)[0]()
            await asyncio.sleep(self._chance.uniform(0, _LONGEST_PAUSE_SECONDS))  # the pace of an operator

    async def call(self, kind: str, method: Any, request: Any) -> Any:
        """Ask under one request id until there is an answer; it, or the refusal as a QuotafleetError."""
        if "request_id" in request.DESCRIPTOR.fields_by_name:
            request.request_id = f"op-{next(self._numbers)}"
        return await self._world.answered(
            kind,
            lambda: method(request, timeout=CALL_SECONDS, wait_for_ready=True, metadata=_ACTOR),
            lambda: True,
        )

    async def must(self, kind: str, method: Any, request: Any) -> Any:
        """The same, of what nothing can refuse. Raises Violation (API)."""
        answer = await self.call(kind, method, request)
        if isinstance(answer, QuotafleetError):
            raise Violation("API", f"{kind} to be done", str(answer))
        return answer

    # --- set-up ------------------------------------------------------------------------------------------------------

    async def create(self, name: str) -> None:
        """Open a quota; no agent has a part in it yet."""
        target = FIRST_TARGETS[name]
        policy = quotas.POLICY_EQUAL if name == EVEN else quotas.POLICY_MAX_MIN
        quota = quotas.Quota(name=name, target=target, policy=policy)
        answer = await self.must(
            "create quota", self.quotas.CreateQuota, quotas.CreateQuotaRequest(quota=quota)
        )
        uid = answer.quota.uid
        self._world.bounds.quotas[uid] = Allowance(name, {target})
        self._world.uids[name] = uid

    async def enrol(self, name: str) -> Credential:
        """Enrol an agent and give it a part in every quota."""
        created = await self.must(
            "create agent", self.agents.CreateAgent, admin.CreateAgentRequest(name=name)
        )
        for quota in QUOTAS:
            await self.assign(name, quota)
        return Credential.of(created.credential)

    async def assign(self, agent: str, quota: str) -> None:
        """Give an agent a part, without bounds.

        Refused where the limits fixed for agents come to more than the target, which was lowered since: then the
        target is raised to what they come to.
        """
        part = admin.Assignment(agent=agent, quota=quota)
        while True:
            request = admin.AssignQuotaRequest(assignment=part, wait=Duration())
            answer = await self.call("assign", self.agents.AssignQuota, request)
            if not isinstance(answer, QuotafleetError):
                return
            if answer.reason != "TARGET_EXCEEDED":
                raise Violation("API", f"{agent} to be assigned to {quota}", str(answer))
            await self._set(quota, int(answer.metadata["requested"]), refusable=True)

    async def back_up(self) -> None:
        """Copy the controller's database as docs/operations.md says, while the controller runs or not."""
        await asyncio.to_thread(self._back_up)

    def _back_up(self) -> None:
        world = self._world
        new = world.backup.with_suffix(".new")
        new.unlink(missing_ok=True)
        with closing(sqlite3.connect(world.controller.database, timeout=30)) as connection:
            connection.execute("VACUUM INTO ?", (str(new),))
        new.replace(world.backup)

    # --- targets -----------------------------------------------------------------------------------------------------

    def _some_quota(self) -> str:
        return self._chance.choices(QUOTAS, (3, 1, 1))[0]

    async def _raise_target(self) -> None:
        await self.set_target(self._some_quota(), self._chance.randint(0, 200), above=True)

    async def _lower_target(self) -> None:
        await self.set_target(self._some_quota(), self._chance.randint(0, 120), above=False)

    async def set_target(self, quota: str, by: int, *, above: bool) -> None:
        """Move the target to so much above what is counted, or below what it is."""
        answer = await self.call("get count", self.quotas.GetCount, quotas.GetCountRequest(quota=quota))
        if isinstance(answer, QuotafleetError):
            return
        count = answer.count
        base = count.count + count.held if above else count.target
        await self._set(quota, max(20, base + by if above else base - by), refusable=True)

    async def _target_to_count(self) -> None:
        quota = self._some_quota()
        request = quotas.GetCountRequest(quota=quota, refresh=True, wait=_WAIT)
        answer = await self.call("get count", self.quotas.GetCount, request)
        if not isinstance(answer, QuotafleetError):
            await self._set(quota, answer.count.count + answer.count.held, refusable=True)

    async def _set(self, quota: str, target: int, *, refusable: bool) -> None:
        uid = self._world.uids[quota]
        allowance = self._world.bounds.quotas[uid]
        allowance.targets.add(target)  # before it is asked for
        allowance.changes += 1
        request = quotas.SetTargetRequest(quota=uid, target=target, reason="chaos", wait=_WAIT)
        answer = await self.call("set target", self.quotas.SetTarget, request)
        allowance.changes += 1
        if isinstance(answer, QuotafleetError) and not refusable:
            raise Violation("API", f"the target of {quota} to be {target}", str(answer))

    # --- agents and settings -----------------------------------------------------------------------------------------

    async def _fix_limit(self) -> None:
        slot = self._chance.choice(self._world.slots)
        agent, quota = slot.store.credential.agent, self._some_quota()
        request = quotas.SetAgentTargetRequest(
            quota=quota, agent=agent, target=self._chance.randint(0, 100), reason="chaos", wait=_WAIT
        )
        await self.call("set agent target", self.quotas.SetAgentTarget, request)

    async def _change(self) -> None:
        """Suspend, shorten the time that agents may be offline, keep a reserve: or take that back."""
        quota = self._some_quota()
        if quota in self._changed:
            await self._restore(quota)
            return
        self._changed.add(quota)
        what = self._chance.choice(("state", "max_offline", "reserve_percent"))
        changed = quotas.Quota(name=quota)
        if what == "state":
            changed.state = quotas.QUOTA_STATE_SUSPENDED
        elif what == "max_offline":
            changed.max_offline.CopyFrom(Duration(seconds=2))
        else:
            changed.reserve_percent = self._chance.randint(1, 20)
        request = quotas.UpdateQuotaRequest(quota=changed, update_mask=FieldMask(paths=[what]), wait=_WAIT)
        await self.call(f"update quota ({what})", self.quotas.UpdateQuota, request)

    async def _restore(self, quota: str) -> None:
        self._changed.discard(quota)
        plain = quotas.Quota(name=quota, state=quotas.QUOTA_STATE_OPEN)
        mask = FieldMask(paths=["state", "max_offline", "reserve_percent"])
        request = quotas.UpdateQuotaRequest(quota=plain, update_mask=mask, wait=_WAIT)
        await self.call("update quota (back)", self.quotas.UpdateQuota, request)

    async def _switch_agent(self) -> None:
        agent = self._chance.choice(self._world.slots).store.credential.agent
        if agent in self._off:
            self._off.discard(agent)
        else:
            self._off.add(agent)
        request = admin.UpdateAgentRequest(agent=agent, active=agent not in self._off)
        await self.call("switch agent", self.agents.UpdateAgent, request)

    async def _rebalance(self) -> None:
        request = quotas.RebalanceRequest(quota=self._some_quota(), wait=_WAIT)
        await self.call("rebalance", self.quotas.Rebalance, request)

    # --- overrides ---------------------------------------------------------------------------------------------------

    async def _decide(self) -> None:
        request = quotas.ListOverridesRequest(quota=MAIN, states=[OVERRIDE_STATE_PENDING])
        answer = await self.call("list overrides", self.quotas.ListOverrides, request)
        if isinstance(answer, QuotafleetError):
            return
        for override in answer.overrides:
            approve = self._chance.random() < 0.7
            if approve:  # before it is asked for
                self._world.bounds.quotas[override.quota_uid].overrides += override.amount
            decision = quotas.DECISION_APPROVE if approve else quotas.DECISION_DENY
            await self.call(
                "decide override",
                self.quotas.DecideOverride,
                quotas.DecideOverrideRequest(override_id=override.override_id, decision=decision),
            )

    async def _revoke(self) -> None:
        request = quotas.ListOverridesRequest(quota=MAIN, states=[OVERRIDE_STATE_APPROVED])
        answer = await self.call("list overrides", self.quotas.ListOverrides, request)
        if not isinstance(answer, QuotafleetError) and answer.overrides:
            override = self._chance.choice(answer.overrides)
            await self.call(
                "revoke override",
                self.quotas.RevokeOverride,
                quotas.RevokeOverrideRequest(override_id=override.override_id),
            )

    # --- names -------------------------------------------------------------------------------------------------------

    async def _make_again(self) -> None:
        """Close a quota, and create the name again: another quota."""
        if self._world.structure.locked():
            return  # not while somebody is enrolled or something is put back
        async with self._world.structure:
            await self.make_again()

    async def make_again(self) -> None:
        """The same, with the structure locked."""
        world = self._world
        old = world.uids[NAMED]
        await self.must("close quota", self.quotas.CloseQuota, quotas.CloseQuotaRequest(quota=old))
        world.closed.append(old)
        await self.create(NAMED)
        self._changed.discard(NAMED)
        for slot in world.slots:
            await self.assign(slot.store.credential.agent, NAMED)
        await self.back_up()

    # --- quiet -------------------------------------------------------------------------------------------------------

    async def make_plain(self) -> None:
        """Take back whatever keeps agents from being served: fixed limits, suspensions, agents that are off."""
        for quota in QUOTAS:
            await self._restore(quota)
        for slot in self._world.slots:
            # As the controller knows it: a database that was put back may have forgotten what was taken back before.
            name = slot.store.credential.agent
            request = admin.GetAgentRequest(agent=name)
            agent = (await self.must("get agent", self.agents.GetAgent, request)).agent
            if not agent.active:
                await self.must(
                    "switch agent", self.agents.UpdateAgent, admin.UpdateAgentRequest(agent=name, active=True)
                )
            for part in agent.assignments:
                if part.min or part.HasField("max"):
                    await self.assign(name, part.quota)
        self._off.clear()
