"""GateService: what applications on this machine ask of the agent."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import wraps
from typing import Any, Protocol, TypeVar

import grpc

from quota_agent.errors import Refusal
from quota_agent.gate.model import (
    AcquireRequest,
    Balance,
    Entry,
    EntryState,
    GateStatus,
    Granted,
    OverrideView,
)
from quota_agent.local import requests, responses
from quotafleet.agent.v1 import gate_service_pb2 as pb
from quotafleet.agent.v1 import gate_service_pb2_grpc as pb_grpc
from quotafleet.errors import set_error

Context = grpc.aio.ServicerContext[Any, Any]
R = TypeVar("R")


class GatePort(Protocol):
    """What the service needs of the gate. Each may raise Refusal."""

    async def acquire(self, request: AcquireRequest) -> Granted:
        """Acquire units."""

    async def acquire_batch(
        self, items: Sequence[AcquireRequest], atomic: bool
    ) -> Sequence[Granted | Refusal]:
        """Acquire several times."""

    async def commit(self, quota: str, request_id: str) -> Granted:
        """Make a hold count."""

    async def cancel(self, quota: str, request_id: str) -> Granted:
        """Give a hold back."""

    async def release(self, quota: str, request_id: str) -> Granted:
        """Give back what an entry counted."""

    def check(self, quota: str, amount: int) -> tuple[bool, Balance]:
        """Whether an amount would be granted whole."""

    def balance(self, quota: str) -> tuple[Balance, int]:
        """Numbers under the limit, and units in use that overrides paid."""

    async def entries(
        self, quota: str, after_number: int, limit: int, states: Collection[EntryState]
    ) -> Sequence[Entry]:
        """Entries in the order they were granted."""

    async def entry(self, quota: str, request_id: str) -> Entry:
        """One entry."""

    async def request_override(self, quota: str, amount: int, reason: str, request_id: str) -> OverrideView:
        """Ask to go beyond the limit."""

    def status(self) -> GateStatus:
        """State of the gate."""


Method = Callable[["GateServicer", Any, Context], Any]


def _answers(response: Callable[[], R]) -> Callable[[Method], Method]:
    """Let a method raise Refusal; the call then ends with its status, and `response` is what gRPC drops."""

    def decorate(method: Method) -> Method:
        @wraps(method)
        async def guarded(self: GateServicer, request: Any, context: Context) -> Any:
            try:
                return await method(self, request, context)
            except Refusal as refusal:
                return _refused(context, refusal, response)

        return guarded

    return decorate


def _refused(context: Context, refusal: Refusal, response: Callable[[], R]) -> R:
    set_error(context, refusal.reason, refusal.message, refusal.metadata, refusal.fields.items())
    return response()


class GateServicer(pb_grpc.GateServiceServicer):
    """The gate over gRPC. Acquire and AcquireBatch are the hot path: they are guarded without a wrapper."""

    def __init__(self, gate: GatePort, connected: Callable[[], bool]) -> None:
        """`connected` says whether a stream to the controller is up."""
        self._gate = gate
        self._connected = connected

    async def Acquire(self, request: pb.AcquireRequest, context: Context) -> pb.AcquireResponse:
        try:
            granted = await self._gate.acquire(requests.acquire(request))
        except Refusal as refusal:
            return _refused(context, refusal, pb.AcquireResponse)
        return responses.acquired(request.quota, granted)

    async def AcquireBatch(
        self, request: pb.AcquireBatchRequest, context: Context
    ) -> pb.AcquireBatchResponse:
        try:
            items = requests.batch(request)
            answers = await self._gate.acquire_batch(items, request.atomic)
        except Refusal as refusal:
            return _refused(context, refusal, pb.AcquireBatchResponse)
        return responses.batch(items, answers)

    @_answers(pb.CheckAvailabilityResponse)
    async def CheckAvailability(
        self, request: pb.CheckAvailabilityRequest, context: Context
    ) -> pb.CheckAvailabilityResponse:
        available, balance = self._gate.check(*requests.check(request))
        response = pb.CheckAvailabilityResponse(available=available)
        responses.fill_balance(response.balance, balance)
        return response

    @_answers(pb.CommitResponse)
    async def Commit(self, request: pb.CommitRequest, context: Context) -> pb.CommitResponse:
        granted = await self._gate.commit(*requests.entry_key(request))
        return _ended(pb.CommitResponse(), request.quota, granted)

    @_answers(pb.CancelResponse)
    async def Cancel(self, request: pb.CancelRequest, context: Context) -> pb.CancelResponse:
        granted = await self._gate.cancel(*requests.entry_key(request))
        return _ended(pb.CancelResponse(), request.quota, granted)

    @_answers(pb.ReleaseResponse)
    async def Release(self, request: pb.ReleaseRequest, context: Context) -> pb.ReleaseResponse:
        granted = await self._gate.release(*requests.entry_key(request))
        return _ended(pb.ReleaseResponse(), request.quota, granted)

    @_answers(pb.GetCountResponse)
    async def GetCount(self, request: pb.GetCountRequest, context: Context) -> pb.GetCountResponse:
        balance, overridden = self._gate.balance(requests.quota(request))
        response = pb.GetCountResponse(overridden=overridden)
        responses.fill_balance(response.balance, balance)
        return response

    @_answers(pb.ListEntriesResponse)
    async def ListEntries(self, request: pb.ListEntriesRequest, context: Context) -> pb.ListEntriesResponse:
        quota, after, size, states = requests.entries(request)
        found = await self._gate.entries(
            quota, after, size + 1, states
        )  # one more, to know whether there is one
        response = pb.ListEntriesResponse()
        for entry in found[:size]:
            responses.fill_entry(response.entries.add(), quota, entry)
        if len(found) > size:
            response.next_page_token = str(found[size - 1].number)
        return response

    @_answers(pb.GetEntryResponse)
    async def GetEntry(self, request: pb.GetEntryRequest, context: Context) -> pb.GetEntryResponse:
        entry = await self._gate.entry(*requests.entry_key(request))
        response = pb.GetEntryResponse()
        responses.fill_entry(response.entry, request.quota, entry)
        return response

    @_answers(pb.RequestOverrideResponse)
    async def RequestOverride(
        self, request: pb.RequestOverrideRequest, context: Context
    ) -> pb.RequestOverrideResponse:
        view = await self._gate.request_override(*requests.override(request))
        response = pb.RequestOverrideResponse()
        responses.fill_override(response.override, view)
        return response

    @_answers(pb.GetStatusResponse)
    async def GetStatus(self, request: pb.GetStatusRequest, context: Context) -> pb.GetStatusResponse:
        after, size = requests.status(request)
        status = self._gate.status()
        response = pb.GetStatusResponse(
            agent=status.agent,
            agent_uid=status.agent_uid,
            epoch=status.epoch,
            connected=self._connected(),
            store_ok=status.store_ok,
            fenced=status.fenced,
        )
        if status.last_contact_ms is not None:
            responses.fill_contact(response, status.last_contact_ms)
        quotas = [view for view in status.quotas if view.quota > after]
        for view in quotas[:size]:
            responses.fill_quota(response.quotas.add(), view)
        if len(quotas) > size:
            response.next_page_token = quotas[size - 1].quota
        return response


Ended = TypeVar("Ended", pb.CommitResponse, pb.CancelResponse, pb.ReleaseResponse)


def _ended(response: Ended, quota: str, granted: Granted) -> Ended:
    responses.fill_entry(response.entry, quota, granted.entry)
    responses.fill_balance(response.balance, granted.balance)
    return response
