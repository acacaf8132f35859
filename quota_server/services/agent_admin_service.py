"""AgentAdminService: agents, their parts in quotas, and the recovery after a restore."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from quota_server.clock import Clock
from quota_server.errors import agent_unknown
from quota_server.fleet.fanout import AgentOutcome
from quota_server.fleet.fleet import Fleet
from quota_server.keys import MasterKey
from quota_server.ledger.calls import Call, Change
from quota_server.ledger.effects import Effects
from quota_server.ledger.enrolment import Enrolment, Enrolments
from quota_server.ledger.model import AgentKey
from quota_server.ledger.recovery import Recovery
from quota_server.ledger.store import LedgerStore, LedgerViews
from quota_server.services import convert, requests
from quota_server.services.mutations import Mutations
from quota_server.services.paging import AGENTS, UNHEARD, cut
from quota_server.services.refusals import Context, guarded
from quotafleet.v1 import agent_admin_service_pb2 as pb
from quotafleet.v1 import agent_admin_service_pb2_grpc as pb_grpc

WithCredential = TypeVar("WithCredential", pb.CreateAgentResponse, pb.SettleAgentResponse)


class AgentAdminService(pb_grpc.AgentAdminServiceServicer):
    """Serves agents out of the ledger. Tokens are derived when an answer leaves: nothing that is stored holds one."""

    def __init__(
        self,
        enrolments: Enrolments,
        recovery: Recovery,
        views: LedgerViews,
        store: LedgerStore,
        fleet: Fleet,
        keys: MasterKey,
        clock: Clock,
    ) -> None:
        self._enrolments = enrolments
        self._recovery = recovery
        self._views = views
        self._keys = keys
        self._mutations = Mutations(store, fleet, clock)

    async def drain(self) -> None:
        """Lets work end that goes on after its call; for when the server has stopped."""
        await self._mutations.drain()

    # --- agents ------------------------------------------------------------------------------------------------------

    @guarded
    async def CreateAgent(self, request: pb.CreateAgentRequest, context: Context) -> pb.CreateAgentResponse:
        name = requests.create_agent(request)

        def answer(enrolment: Enrolment) -> pb.CreateAgentResponse:
            return pb.CreateAgentResponse(
                agent=convert.agent(enrolment.agent, enrolment.epoch),
                credential=convert.credential(enrolment.agent),
            )

        response = await self._mutations.decide(
            request,
            context,
            lambda call: self._enrolments.create_agent(call, name, active=not request.inactive),
            _effects,
            answer,
            pb.CreateAgentResponse,
        )
        return self._with_token(response)

    @guarded
    async def GetAgent(self, request: pb.GetAgentRequest, context: Context) -> pb.GetAgentResponse:
        name = requests.agent_name(request)
        found = await self._views.agent(name)
        if found is None:
            raise agent_unknown(name)
        return pb.GetAgentResponse(agent=convert.agent(*found))

    @guarded
    async def ListAgents(self, request: pb.ListAgentsRequest, context: Context) -> pb.ListAgentsResponse:
        page = requests.list_agents(request)
        found = await self._views.agents(page.after, page.size + 1, request.include_retired)
        rows, token = cut(found, page.size, AGENTS, lambda pair: (pair[0].name, pair[0].uid))
        return pb.ListAgentsResponse(
            agents=(convert.agent(agent, epoch) for agent, epoch in rows), next_page_token=token
        )

    @guarded
    async def UpdateAgent(self, request: pb.UpdateAgentRequest, context: Context) -> pb.UpdateAgentResponse:
        name = requests.update_agent(request)
        return await self._mutations.decide(
            request,
            context,
            lambda call: self._enrolments.update_agent(call, name, request.active),
            _effects,
            lambda enrolment: pb.UpdateAgentResponse(agent=convert.agent(enrolment.agent, enrolment.epoch)),
            pb.UpdateAgentResponse,
        )

    @guarded
    async def RetireAgent(self, request: pb.RetireAgentRequest, context: Context) -> pb.RetireAgentResponse:
        name, assume = requests.retire_agent(request)

        def answer(enrolment: Enrolment) -> pb.RetireAgentResponse:
            return pb.RetireAgentResponse(
                agent=convert.agent(enrolment.agent, enrolment.epoch),
                settlements=convert.settlements(enrolment),
            )

        return await self._mutations.decide(
            request,
            context,
            lambda call: self._enrolments.retire_agent(call, name, assume, request.confirm),
            _effects,
            answer,
            pb.RetireAgentResponse,
        )

    @guarded
    async def SettleAgent(self, request: pb.SettleAgentRequest, context: Context) -> pb.SettleAgentResponse:
        name, epoch, assume = requests.settle_agent(request)

        def answer(enrolment: Enrolment) -> pb.SettleAgentResponse:
            return pb.SettleAgentResponse(
                agent=convert.agent(enrolment.agent, enrolment.epoch),
                settlements=convert.settlements(enrolment),
                credential=convert.credential(enrolment.agent) if enrolment.renewed else None,
            )

        response = await self._mutations.decide(
            request,
            context,
            lambda call: self._enrolments.settle_agent(call, name, epoch, assume, request.confirm),
            _effects,
            answer,
            pb.SettleAgentResponse,
        )
        return self._with_token(response)

    # --- parts in quotas ---------------------------------------------------------------------------------------------

    @guarded
    async def AssignQuota(self, request: pb.AssignQuotaRequest, context: Context) -> pb.AssignQuotaResponse:
        part, wait_ms = requests.assign_quota(request)

        async def assign(call: Call) -> Change:
            return await self._enrolments.assign_quota(
                call, part.quota, part.agent, part.assignment, with_initial_count=part.with_initial_count
            )

        def answer(change: Change, outcomes: Iterable[AgentOutcome]) -> pb.AssignQuotaResponse:
            assignment, agent = change.subject
            return pb.AssignQuotaResponse(
                assignment=convert.assignment(assignment, change.quota.name, agent.name),
                outcomes=convert.outcomes(outcomes),
            )

        return await self._mutations.fan_out(
            request, context, assign, wait_ms, answer, pb.AssignQuotaResponse
        )

    @guarded
    async def UnassignQuota(
        self, request: pb.UnassignQuotaRequest, context: Context
    ) -> pb.UnassignQuotaResponse:
        quota, agent, wait_ms = requests.unassign_quota(request)
        return await self._mutations.fan_out(
            request,
            context,
            lambda call: self._enrolments.unassign_quota(call, quota, agent),
            wait_ms,
            lambda _, outcomes: pb.UnassignQuotaResponse(outcomes=convert.outcomes(outcomes)),
            pb.UnassignQuotaResponse,
        )

    # --- recovery ----------------------------------------------------------------------------------------------------

    @guarded
    async def GetRecovery(self, request: pb.GetRecoveryRequest, context: Context) -> pb.GetRecoveryResponse:
        page = requests.get_recovery(request)
        meta = await self._views.meta()
        response = pb.GetRecoveryResponse(recovering=meta.recovering, generation=meta.generation)
        if meta.recovering:
            found = await self._views.unheard(meta.generation, page.after, page.size + 1)
            rows, response.next_page_token = cut(
                found, page.size, UNHEARD, lambda row: (row[0].name, row[1].epoch)
            )
            for agent, epoch, exposure in rows:
                response.unheard.add(agent=agent.name, epoch=epoch.epoch, known_exposure=exposure)
        return response

    @guarded
    async def FinishRecovery(
        self, request: pb.FinishRecoveryRequest, context: Context
    ) -> pb.FinishRecoveryResponse:
        confirm = requests.finish_recovery(request)

        async def finish(call: Call) -> tuple[int, Effects]:
            return await self._recovery.finish(call, confirm)

        # What is recorded for a repeat is encoded from the number alone, before the effects are known.
        def answer(result: tuple[int, Effects] | int) -> pb.FinishRecoveryResponse:
            return pb.FinishRecoveryResponse(quotas=result if isinstance(result, int) else result[0])

        return await self._mutations.decide(
            request, context, finish, lambda result: result[1], answer, pb.FinishRecoveryResponse
        )

    # --- inside ------------------------------------------------------------------------------------------------------

    def _with_token(self, response: WithCredential) -> WithCredential:
        """Puts the token into an answer, also into one that was recorded without it."""
        if response.HasField("credential"):
            credential = response.credential
            credential.token = self._keys.token(AgentKey(credential.agent_uid, credential.epoch))
        return response


def _effects(result: Enrolment) -> Effects:
    return result.effects
