"""QuotaService: quotas, their targets and counts, overrides."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import replace

import grpc

from quota_server.clock import Clock
from quota_server.errors import agent_unknown, quota_unknown
from quota_server.fleet.fanout import AgentOutcome
from quota_server.fleet.fleet import Fleet
from quota_server.ledger.administration import Administration
from quota_server.ledger.calls import Call, Change
from quota_server.ledger.effects import Effects
from quota_server.ledger.model import Quota
from quota_server.ledger.store import LedgerStore, LedgerViews
from quota_server.overrides.decisions import Decided, Overrides
from quota_server.services import convert, requests
from quota_server.services.counts import Counts
from quota_server.services.fields import DEFAULT_WAIT_MS
from quota_server.services.mutations import Mutations
from quota_server.services.paging import HISTORY, OVERRIDES, QUOTAS, cut
from quota_server.services.refusals import Context, guarded
from quotafleet.v1 import quota_service_pb2 as pb
from quotafleet.v1 import quota_service_pb2_grpc as pb_grpc


class QuotaService(pb_grpc.QuotaServiceServicer):
    """Serves quotas out of the ledger. Mutations go through the fleet, which sends what they decide."""

    def __init__(
        self,
        administration: Administration,
        overrides: Overrides,
        views: LedgerViews,
        store: LedgerStore,
        fleet: Fleet,
        clock: Clock,
    ) -> None:
        self._administration = administration
        self._overrides = overrides
        self._views = views
        self._mutations = Mutations(store, fleet, clock)
        self._counts = Counts(views, fleet, clock)

    def end_watches(self) -> None:
        """Ends every WatchQuota: this controller stops."""
        self._counts.end_watches()

    async def drain(self) -> None:
        """Lets work end that goes on after its call; for when the server has stopped."""
        await self._mutations.drain()

    # --- quotas ------------------------------------------------------------------------------------------------------

    @guarded
    async def CreateQuota(self, request: pb.CreateQuotaRequest, context: Context) -> pb.CreateQuotaResponse:
        quota = requests.create_quota(request)

        def answer(change: Change) -> pb.CreateQuotaResponse:
            stored = replace(change.quota, uid="") if request.validate_only else change.quota
            return pb.CreateQuotaResponse(quota=convert.quota(stored))

        return await self._mutations.decide(
            request,
            context,
            lambda call: self._administration.create_quota(call, quota),
            _effects,
            answer,
            pb.CreateQuotaResponse,
        )

    @guarded
    async def GetQuota(self, request: pb.GetQuotaRequest, context: Context) -> pb.GetQuotaResponse:
        quota = await self._find(requests.quota_name(request))
        return pb.GetQuotaResponse(quota=convert.quota(quota))

    @guarded
    async def ListQuotas(self, request: pb.ListQuotasRequest, context: Context) -> pb.ListQuotasResponse:
        page = requests.list_quotas(request)
        found = await self._views.quotas(page.after, page.size + 1, request.include_closed)
        rows, token = cut(found, page.size, QUOTAS, lambda quota: (quota.name, quota.uid))
        return pb.ListQuotasResponse(quotas=map(convert.quota, rows), next_page_token=token)

    @guarded
    async def UpdateQuota(self, request: pb.UpdateQuotaRequest, context: Context) -> pb.UpdateQuotaResponse:
        name, settings, version, wait_ms = requests.update_quota(request)

        async def update(call: Call) -> Change:
            return await self._administration.update_quota(call, name, settings, version)

        def answer(change: Change, outcomes: Iterable[AgentOutcome]) -> pb.UpdateQuotaResponse:
            return pb.UpdateQuotaResponse(
                quota=convert.quota(change.quota), outcomes=convert.outcomes(outcomes)
            )

        return await self._mutations.fan_out(
            request, context, update, wait_ms, answer, pb.UpdateQuotaResponse
        )

    @guarded
    async def CloseQuota(self, request: pb.CloseQuotaRequest, context: Context) -> pb.CloseQuotaResponse:
        name = requests.quota_name(request)
        return await self._mutations.announce(
            request,
            context,
            lambda call: self._administration.close_quota(call, name),
            DEFAULT_WAIT_MS,
            lambda change: pb.CloseQuotaResponse(quota=convert.quota(change.quota)),
            pb.CloseQuotaResponse,
        )

    # --- targets and counts ------------------------------------------------------------------------------------------

    @guarded
    async def GetCount(self, request: pb.GetCountRequest, context: Context) -> pb.GetCountResponse:
        name, wait_ms, page = requests.get_count(request)
        quota = await self._find(name)
        asked = await self._counts.refresh(quota.uid, wait_ms) if request.refresh else {}
        response = pb.GetCountResponse(count=await self._counts.read(quota.uid))
        if page.size:
            agents, response.next_page_token = await self._counts.page(quota.uid, page, asked)
            response.agents.extend(agents)
        return response

    @guarded
    async def SetTarget(self, request: pb.SetTargetRequest, context: Context) -> pb.SetTargetResponse:
        name, target, version, wait_ms = requests.set_target(request)

        async def set_target(call: Call) -> Change:
            return await self._administration.set_target(call, name, target, version)

        def answer(change: Change, outcomes: Iterable[AgentOutcome]) -> pb.SetTargetResponse:
            return pb.SetTargetResponse(
                quota=convert.quota(change.quota), outcomes=convert.outcomes(outcomes)
            )

        return await self._mutations.fan_out(
            request, context, set_target, wait_ms, answer, pb.SetTargetResponse
        )

    @guarded
    async def SetAgentTarget(
        self, request: pb.SetAgentTargetRequest, context: Context
    ) -> pb.SetAgentTargetResponse:
        quota, agent, target, wait_ms = requests.set_agent_target(request)
        return await self._mutations.fan_out(
            request,
            context,
            lambda call: self._administration.set_agent_target(call, quota, agent, target),
            wait_ms,
            lambda _, outcomes: pb.SetAgentTargetResponse(outcomes=convert.outcomes(outcomes)),
            pb.SetAgentTargetResponse,
        )

    @guarded
    async def Rebalance(self, request: pb.RebalanceRequest, context: Context) -> pb.RebalanceResponse:
        quota, wait_ms = requests.rebalance(request)
        return await self._mutations.fan_out(
            request,
            context,
            lambda call: self._administration.rebalance(call, quota),
            wait_ms,
            lambda _, outcomes: pb.RebalanceResponse(outcomes=convert.outcomes(outcomes)),
            pb.RebalanceResponse,
        )

    @guarded
    async def ListHistory(self, request: pb.ListHistoryRequest, context: Context) -> pb.ListHistoryResponse:
        name, page = requests.list_history(request)
        quota = await self._find(name)
        before = page.after[0] if page.after else None
        found = await self._views.history(quota.uid, before, page.size + 1)
        rows, token = cut(found, page.size, HISTORY, lambda view: (view.number,))
        return pb.ListHistoryResponse(entries=map(convert.history_entry, rows), next_page_token=token)

    @guarded
    async def WatchQuota(self, request: pb.WatchQuotaRequest, context: Context) -> None:  # type: ignore[override]
        quota = await self._find(requests.quota_name(request))
        async with contextlib.aclosing(self._counts.watch(quota.uid)) as counts:
            async for count in counts:
                await context.write(pb.WatchQuotaResponse(count=count))
        await context.abort(grpc.StatusCode.UNAVAILABLE, "this controller stops: watch again")

    # --- overrides ---------------------------------------------------------------------------------------------------

    @guarded
    async def RequestOverride(
        self, request: pb.RequestOverrideRequest, context: Context
    ) -> pb.RequestOverrideResponse:
        quota, agent, amount = requests.request_override(request)
        return await self._mutations.decide(
            request,
            context,
            lambda call: self._overrides.request(call, quota, agent, amount),
            _effects,
            lambda decided: pb.RequestOverrideResponse(override=_override(decided)),
            pb.RequestOverrideResponse,
        )

    @guarded
    async def DecideOverride(
        self, request: pb.DecideOverrideRequest, context: Context
    ) -> pb.DecideOverrideResponse:
        override_id, approve = requests.decide_override(request)
        return await self._mutations.decide(
            request,
            context,
            lambda call: self._overrides.decide(call, override_id, approve),
            _effects,
            lambda decided: pb.DecideOverrideResponse(override=_override(decided)),
            pb.DecideOverrideResponse,
        )

    @guarded
    async def RevokeOverride(
        self, request: pb.RevokeOverrideRequest, context: Context
    ) -> pb.RevokeOverrideResponse:
        override_id = requests.revoke_override(request)
        return await self._mutations.decide(
            request,
            context,
            lambda call: self._overrides.revoke(call, override_id),
            _effects,
            lambda decided: pb.RevokeOverrideResponse(override=_override(decided)),
            pb.RevokeOverrideResponse,
        )

    @guarded
    async def ListOverrides(
        self, request: pb.ListOverridesRequest, context: Context
    ) -> pb.ListOverridesResponse:
        quota_name, agent_name, states, page = requests.list_overrides(request)
        quota_uid = (await self._find(quota_name)).uid if quota_name else None
        agent_uid = await self._find_agent(agent_name) if agent_name else None
        found = await self._views.overrides(page.after, page.size + 1, quota_uid, agent_uid, states)
        rows, token = cut(
            found, page.size, OVERRIDES, lambda view: (view.override.create_ms, view.override.override_id)
        )
        return pb.ListOverridesResponse(
            overrides=(convert.override(row.override, row.quota, row.agent) for row in rows),
            next_page_token=token,
        )

    # --- inside ------------------------------------------------------------------------------------------------------

    async def _find(self, name: str) -> Quota:
        quota = await self._views.quota(name)
        if quota is None:
            raise quota_unknown(name)
        return quota

    async def _find_agent(self, name: str) -> str:
        found = await self._views.agent(name)
        if found is None:
            raise agent_unknown(name)
        return found[0].uid


def _effects(result: Change | Decided) -> Effects:
    return result.effects


def _override(decided: Decided) -> pb.Override:
    return convert.override(decided.override, decided.quota, decided.agent)
