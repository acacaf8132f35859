"""Requests of operators: QuotaService and AgentAdminService on a real schema in memory."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from quotafleet.v1 import agent_admin_service_pb2 as admin_pb
from quotafleet.v1 import quota_service_pb2 as pb
from tests.fuzz import calls
from tests.fuzz.calls import Method
from tests.fuzz.mutate import frames
from tests.fuzz.mutate.frames import Frame
from tests.fuzz.target import Target

#: All but WatchQuota, which never ends and takes the same request as GetQuota.
METHODS: Final = (
    Method("quotas", "CreateQuota", pb.CreateQuotaRequest),
    Method("quotas", "GetQuota", pb.GetQuotaRequest, reads=True),
    Method("quotas", "ListQuotas", pb.ListQuotasRequest, reads=True),
    Method("quotas", "UpdateQuota", pb.UpdateQuotaRequest),
    Method("quotas", "CloseQuota", pb.CloseQuotaRequest),
    Method("quotas", "GetCount", pb.GetCountRequest, reads=True),
    Method("quotas", "SetTarget", pb.SetTargetRequest),
    Method("quotas", "SetAgentTarget", pb.SetAgentTargetRequest),
    Method("quotas", "Rebalance", pb.RebalanceRequest),
    Method("quotas", "RequestOverride", pb.RequestOverrideRequest),
    Method("quotas", "DecideOverride", pb.DecideOverrideRequest),
    Method("quotas", "ListOverrides", pb.ListOverridesRequest, reads=True),
    Method("quotas", "RevokeOverride", pb.RevokeOverrideRequest),
    Method("quotas", "ListHistory", pb.ListHistoryRequest, reads=True),
    Method("agents", "CreateAgent", admin_pb.CreateAgentRequest),
    Method("agents", "GetAgent", admin_pb.GetAgentRequest, reads=True),
    Method("agents", "ListAgents", admin_pb.ListAgentsRequest, reads=True),
    Method("agents", "UpdateAgent", admin_pb.UpdateAgentRequest),
    Method("agents", "RetireAgent", admin_pb.RetireAgentRequest),
    Method("agents", "SettleAgent", admin_pb.SettleAgentRequest),
    Method("agents", "AssignQuota", admin_pb.AssignQuotaRequest),
    Method("agents", "UnassignQuota", admin_pb.UnassignQuotaRequest),
    Method("agents", "GetRecovery", admin_pb.GetRecoveryRequest, reads=True),
    Method("agents", "FinishRecovery", admin_pb.FinishRecoveryRequest),
)
_NUMBERS: Final = {method.request: number for number, method in enumerate(METHODS)}
_WORDS: Final = (
    "q",
    "r",
    "old",
    "anne",
    "bill",
    "cleo",
    "x",
    "target",
    "weight",
    "max",
    "policy",
    "1",
    "2",
    "once",
)
_AMOUNTS: Final = (0, 1, 2, 3, 5, 10, 90, 100, 101, 5_000)


def check(data: bytes) -> None:
    """Answered, or refused cleanly and nothing is stored; a repeat is answered the same; the cap holds."""
    calls.check(data, METHODS)


def mutate(data: bytes, other: bytes, random: Random) -> bytes:
    """Calls, each a request."""
    return calls.mutate(data, other, random, METHODS, (*_WORDS, *calls.filled()[1], *_AMOUNTS))


def seeds() -> Iterator[bytes]:
    """Good requests, whatever their services say to them."""
    minute, moment = Duration(seconds=60), Timestamp(seconds=1_900_000_000)
    override = calls.filled()[1][-1]
    quota = pb.Quota(name="x", target=10, decimals=3, max_offline=minute, end_time=moment, reserve_percent=10)
    part = admin_pb.Assignment(quota="q", agent="bill", weight=2, min=5, max=40, initial_count=1)
    yield _packed(pb.CreateQuotaRequest(quota=quota, request_id="once"), pb.GetQuotaRequest(quota="x"))
    yield _packed(
        pb.ListQuotasRequest(page_size=1, include_closed=True), pb.GetCountRequest(quota="q", refresh=True)
    )
    yield _packed(
        pb.SetTargetRequest(quota="q", target=90), pb.SetAgentTargetRequest(quota="q", agent="anne", target=9)
    )
    yield _packed(pb.RebalanceRequest(quota="q", wait=minute), pb.ListHistoryRequest(quota="q", page_size=2))
    yield _packed(pb.RequestOverrideRequest(quota="q", agent="anne", amount=5, request_id="once"))
    yield _packed(
        pb.DecideOverrideRequest(override_id=override), pb.RevokeOverrideRequest(override_id=override)
    )
    yield _packed(
        pb.ListOverridesRequest(quota="q", agent="anne", page_size=1), pb.CloseQuotaRequest(quota="r")
    )
    yield _packed(
        admin_pb.CreateAgentRequest(name="x", request_id="once"), admin_pb.GetAgentRequest(agent="x")
    )
    yield _packed(admin_pb.ListAgentsRequest(page_size=2), admin_pb.UpdateAgentRequest(agent="bill"))
    yield _packed(
        admin_pb.RetireAgentRequest(agent="bill"), admin_pb.SettleAgentRequest(agent="anne", epoch=1)
    )
    yield _packed(
        admin_pb.AssignQuotaRequest(assignment=part), admin_pb.UnassignQuotaRequest(quota="q", agent="bill")
    )
    yield _packed(admin_pb.GetRecoveryRequest(page_size=5), admin_pb.FinishRecoveryRequest())
    yield _packed(pb.UpdateQuotaRequest(quota=pb.Quota(name="q", target=50)))


def _packed(*requests: Message) -> bytes:
    given: Any = requests
    return frames.pack(Frame(_NUMBERS[type(each)], each.SerializeToString()) for each in given)


TARGET: Final = Target("controller", check, mutate, seeds, max_bytes=8 * 1024)
