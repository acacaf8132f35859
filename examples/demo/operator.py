"""The operator: everything that is asked of the controller, over gRPC as `quotactl` does."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final, Self

import grpc
from google.protobuf.duration_pb2 import Duration

from examples.demo.common import GAP_SECONDS, PATIENCE_SECONDS, QUOTA, DemoFailed, until
from quotafleet.errors import from_rpc_error
from quotafleet.v1 import agent_admin_service_pb2 as admin
from quotafleet.v1 import quota_service_pb2 as quotas
from quotafleet.v1.agent_admin_service_pb2_grpc import AgentAdminServiceStub
from quotafleet.v1.agent_link_service_pb2 import OVERRIDE_STATE_PENDING
from quotafleet.v1.quota_service_pb2_grpc import QuotaServiceStub

_OPTIONS: Final = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
)
_ACTOR: Final = (("quotafleet-actor", "demo"),)
_WAIT: Final = Duration(seconds=5)


class Operator:
    """Speaks to the controller at `address`, and remembers what it has allowed to be spent."""

    def __init__(self, address: str) -> None:
        self._address = address
        #: Targets that may be in force: the newest, and those before it until every agent has given them up.
        self._targets: set[int] = set()
        self.target = 0
        #: Units of approved overrides.
        self.overrides = 0

    async def __aenter__(self) -> Self:
        self._channel = grpc.aio.insecure_channel(self._address, options=_OPTIONS)
        self._quotas = QuotaServiceStub(self._channel)
        self._agents = AgentAdminServiceStub(self._channel)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()

    @property
    def allowed(self) -> int:
        """The most units that may have been spent by now."""
        return max(self._targets, default=0) + self.overrides

    async def open_quota(self, target: int) -> None:
        """Open the demo's quota."""
        self._targets.add(target)
        quota = quotas.Quota(
            name=QUOTA,
            target=target,
            policy=quotas.POLICY_MAX_MIN,
            override_policy=quotas.OVERRIDE_POLICY_ASK,
        )
        request = quotas.CreateQuotaRequest(quota=quota)
        await self._quotas.CreateQuota(
            request, metadata=_ACTOR, timeout=PATIENCE_SECONDS, wait_for_ready=True
        )
        self.target = target

    async def add_agent(self, name: str) -> str:
        """Enrol an agent and give it a part in the quota; its credential, as `quotactl agent add` writes it."""
        created = await self._agents.CreateAgent(
            admin.CreateAgentRequest(name=name), metadata=_ACTOR, timeout=PATIENCE_SECONDS
        )
        assignment = admin.Assignment(quota=QUOTA, agent=name)
        request = admin.AssignQuotaRequest(assignment=assignment, wait=Duration())
        await self._agents.AssignQuota(request, metadata=_ACTOR, timeout=PATIENCE_SECONDS)
        own = created.credential
        return json.dumps(
            {"agent": own.agent, "agent_uid": own.agent_uid, "epoch": own.epoch, "token": own.token}
        )

    async def set_target(self, target: int, reason: str) -> dict[str, str]:
        """Change the target; answers what became of it at each agent, in a word.

        Where more than `target` is used already, the target becomes what is used: a cap cannot be cut below that. The
        sites go on meanwhile, so it may take several tries.
        """
        while True:
            self._targets.add(target)  # before it is asked for: from then on it may be in force
            request = quotas.SetTargetRequest(quota=QUOTA, target=target, reason=reason, wait=_WAIT)
            try:
                response = await self._quotas.SetTarget(request, metadata=_ACTOR, timeout=PATIENCE_SECONDS)
            except grpc.aio.AioRpcError as failure:
                error = from_rpc_error(failure)
                if error.reason != "TARGET_BELOW_COUNT":
                    raise DemoFailed(f"the target could not be set to {target}: {error}") from error
                target = int(error.metadata["known_count"])
                continue
            self.target = target
            return {outcome.agent: _word(outcome.outcome) for outcome in response.outcomes}

    async def targets_given_up(self) -> None:
        """Wait until nobody can be enforcing more than the newest target: from then on, that is all there is.

        What was used before an agent heard of it cannot be given up: the target becomes what is used, as above.
        """

        async def settled() -> bool | None:
            answer = await self.count()
            if answer is None:
                return None
            seen = answer.count
            if seen.overcommitted and seen.escrowed == seen.count + seen.held:
                await self.set_target(seen.escrowed, "more is used already")
            return None if seen.overcommitted else True

        await until(settled, f"the agents to give up what is above the target {self.target}")
        self._targets = {self.target}

    async def sees_connected(self, agents: int) -> None:
        """Wait until the controller has so many agents connected."""

        async def seen() -> bool | None:
            answer = await self.count()
            return True if answer is not None and answer.count.connected_agents == agents else None

        await until(seen, f"the controller to have {agents} agents connected")

    async def count(self) -> quotas.GetCountResponse | None:
        """The controller's numbers as they are; None if it does not answer now."""
        try:
            return await self._quotas.GetCount(quotas.GetCountRequest(quota=QUOTA), timeout=GAP_SECONDS)
        except grpc.aio.AioRpcError:
            return None

    async def final_count(self, agents: Iterable[str]) -> quotas.GetCountResponse:
        """The numbers after every agent was asked for its own; DemoFailed if one of them did not answer."""
        request = quotas.GetCountRequest(quota=QUOTA, refresh=True, wait=_WAIT, page_size=100)
        answer = await self._quotas.GetCount(request, timeout=PATIENCE_SECONDS, wait_for_ready=True)
        outcomes = {agent.agent: agent.outcome for agent in answer.agents}
        missing = [name for name in agents if outcomes.get(name) != quotas.OUTCOME_APPLIED]
        if missing:
            raise DemoFailed(f"asked by the controller at the end, {', '.join(missing)} did not answer")
        return answer

    async def approve_next(self, reason: str) -> quotas.Override:
        """Wait until somebody asks for an override, and approve it."""

        async def asked() -> quotas.Override | None:
            request = quotas.ListOverridesRequest(quota=QUOTA, states=[OVERRIDE_STATE_PENDING])
            try:
                page = await self._quotas.ListOverrides(request, timeout=GAP_SECONDS)
            except grpc.aio.AioRpcError:
                return None
            return page.overrides[0] if page.overrides else None

        override = await until(asked, "an override to be asked for")
        self.overrides += override.amount  # before it is approved, as with targets
        decision = quotas.DecideOverrideRequest(
            override_id=override.override_id, decision=quotas.DECISION_APPROVE, reason=reason
        )
        response = await self._quotas.DecideOverride(decision, metadata=_ACTOR, timeout=PATIENCE_SECONDS)
        return response.override


def _word(outcome: quotas.Outcome.ValueType) -> str:
    return quotas.Outcome.Name(outcome).removeprefix("OUTCOME_").lower().replace("_", " ")
