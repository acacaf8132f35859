"""Requests as they arrive, checked and turned into the ledger's own values. Each raises FIELD_INVALID."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from quota_server.ledger.model import Assignment, Assume, OverridePolicy, Quota, QuotaState
from quota_server.ledger.policies import Policy
from quota_server.services import paging
from quota_server.services.fields import MAX_DECIMALS, MAX_WEIGHT, Fields, checking, version_of
from quotafleet.link.messages import OverrideState
from quotafleet.link.parts import STATES
from quotafleet.v1 import agent_admin_service_pb2 as agents_pb
from quotafleet.v1 import quota_service_pb2 as pb

_POLICIES: Final[dict[int, Policy]] = {pb.Policy.Value(f"POLICY_{policy.name}"): policy for policy in Policy}
_OVERRIDE_POLICIES: Final[dict[int, OverridePolicy]] = {
    pb.OverridePolicy.Value(f"OVERRIDE_POLICY_{policy.name}"): policy for policy in OverridePolicy
}
_SETTABLE_STATES: Final[dict[int, QuotaState]] = {
    pb.QUOTA_STATE_OPEN: QuotaState.OPEN,
    pb.QUOTA_STATE_SUSPENDED: QuotaState.SUSPENDED,
}
_DECISIONS: Final[dict[int, str]] = {pb.DECISION_APPROVE: "APPROVE", pb.DECISION_DENY: "DENY"}
_OVERRIDE_STATES: Final[dict[int, OverrideState]] = {number: state for state, number in STATES.items()}
_ASSUMPTIONS: Final[dict[int, Assume]] = {
    agents_pb.Assume.Value(f"ASSUME_{assume.name}"): assume for assume in Assume
}

_OUTPUTS: Final = ("uid", "state", "overcommitted", "recovering", "etag", "create_time")
_PERIOD: Final = ("start_time", "end_time")
_SETTINGS: Final = (
    *_PERIOD,
    "policy",
    "reserve_percent",
    "critical_percent",
    "override_policy",
    "max_offline",
)
MAX_STATES: Final = 16
_MUTABLE: Final = (*_SETTINGS, "state")


@dataclass(frozen=True, slots=True)
class Page:
    """What part of a list is asked for; `after` is the key of the last row of the page before."""

    size: int
    after: Any


@dataclass(frozen=True, slots=True)
class Part:
    """An assignment as it is asked for, by names."""

    quota: str
    agent: str
    assignment: Assignment
    with_initial_count: bool


# --- quotas ----------------------------------------------------------------------------------------------------------


def create_quota(message: pb.CreateQuotaRequest) -> Quota:
    """A quota to be opened; its uid is yet to be chosen."""
    given = message.quota
    with checking(message) as fields:
        name = fields.quota("quota.name", given.name)
        target = fields.units("quota.target", given.target)
        decimals = fields.integer("quota.decimals", given.decimals, 0, MAX_DECIMALS)
        settings = dict(_setting(fields, given, field, new=True) for field in _SETTINGS)
        for field, _ in given.ListFields():
            if field.name in _OUTPUTS:
                fields.bad(f"quota.{field.name}", "is set by the controller: leave it out")
        _check_period(fields, settings)
    return Quota(uid="", name=name, target=target, decimals=decimals, **settings)


def update_quota(message: pb.UpdateQuotaRequest) -> tuple[str, dict[str, Any], int | None, int]:
    """Name or uid, settings by field of the ledger's quota, version, wait."""
    given = message.quota
    with checking(message) as fields:
        name = fields.quota("quota.name", given.name)
        paths = list(message.update_mask.paths)
        if not paths or not set(paths) <= set(_MUTABLE):
            fields.bad("update_mask", f"must name at least one of {', '.join(_MUTABLE)}, and nothing else")
        settings = dict(_setting(fields, given, field, new=False) for field in _MUTABLE if field in paths)
        _check_period(fields, settings)
        wait_ms = fields.wait(message)
    return name, settings, version_of(given.etag), wait_ms


def set_target(message: pb.SetTargetRequest) -> tuple[str, int, int | None, int]:
    """Quota, target, version, wait."""
    with checking(message) as fields:
        name = fields.quota("quota", message.quota)
        target = fields.units("target", message.target)
        wait_ms = fields.wait(message)
    return name, target, version_of(message.etag), wait_ms


def set_agent_target(message: pb.SetAgentTargetRequest) -> tuple[str, str, int, int]:
    """Quota, agent, target, wait."""
    with checking(message) as fields:
        quota = fields.quota("quota", message.quota)
        agent = fields.agent("agent", message.agent)
        target = fields.units("target", message.target)
        wait_ms = fields.wait(message)
    return quota, agent, target, wait_ms


def rebalance(message: pb.RebalanceRequest) -> tuple[str, int]:
    """Quota, wait."""
    with checking(message) as fields:
        quota = fields.quota("quota", message.quota)
        wait_ms = fields.wait(message)
    return quota, wait_ms


def quota_name(message: pb.GetQuotaRequest | pb.CloseQuotaRequest | pb.WatchQuotaRequest) -> str:
    """Name or uid."""
    with checking(message) as fields:
        name = fields.quota("quota", message.quota)
    return name


def list_quotas(message: pb.ListQuotasRequest) -> Page:
    """The page."""
    return _page(message, paging.QUOTAS)


def get_count(message: pb.GetCountRequest) -> tuple[str, int, Page]:
    """Quota, wait, page (of size 0: no numbers of agents)."""
    with checking(message) as fields:
        quota = fields.quota("quota", message.quota)
        wait_ms = fields.wait(message)
        size = fields.page_size(message.page_size, default=0)
        after = fields.page_token(message.page_token, paging.ALLOCATIONS)
    return quota, wait_ms, Page(size, after)


def list_history(message: pb.ListHistoryRequest) -> tuple[str, Page]:
    """Quota, page."""
    with checking(message) as fields:
        quota = fields.quota("quota", message.quota)
        page = _page_of(fields, message, paging.HISTORY)
    return quota, page


# --- overrides -------------------------------------------------------------------------------------------------------


def request_override(message: pb.RequestOverrideRequest) -> tuple[str, str, int]:
    """Quota, agent, amount."""
    with checking(message) as fields:
        quota = fields.quota("quota", message.quota)
        agent = fields.agent("agent", message.agent)
        amount = fields.units("amount", message.amount, least=1)
    return quota, agent, amount


def decide_override(message: pb.DecideOverrideRequest) -> tuple[str, bool]:
    """Id, and whether it is approved."""
    with checking(message) as fields:
        override_id = fields.identifier("override_id", message.override_id)
        decision = fields.one_of("decision", message.decision, _DECISIONS)
    return override_id, decision == "APPROVE"


def revoke_override(message: pb.RevokeOverrideRequest) -> str:
    """Id."""
    with checking(message) as fields:
        override_id = fields.identifier("override_id", message.override_id)
    return override_id


def list_overrides(message: pb.ListOverridesRequest) -> tuple[str, str, list[OverrideState], Page]:
    """Quota and agent ("" for all), states (none for all), page."""
    with checking(message) as fields:
        quota = fields.quota("quota", message.quota) if message.quota else ""
        agent = fields.agent("agent", message.agent) if message.agent else ""
        states = [
            fields.one_of(f"states[{index}]", number, _OVERRIDE_STATES)
            for index, number in enumerate(message.states[:MAX_STATES])
        ]
        if len(message.states) > MAX_STATES:
            fields.bad("states", f"must be at most {MAX_STATES}")
        page = _page_of(fields, message, paging.OVERRIDES)
    return quota, agent, states, page


# --- agents ----------------------------------------------------------------------------------------------------------


def create_agent(message: agents_pb.CreateAgentRequest) -> str:
    """Name."""
    with checking(message) as fields:
        name = fields.agent("name", message.name)
    return name


def agent_name(message: agents_pb.GetAgentRequest) -> str:
    """Name or uid."""
    with checking(message) as fields:
        name = fields.agent("agent", message.agent)
    return name


def list_agents(message: agents_pb.ListAgentsRequest) -> Page:
    """The page."""
    return _page(message, paging.AGENTS)


def update_agent(message: agents_pb.UpdateAgentRequest) -> str:
    """Agent."""
    with checking(message) as fields:
        agent = fields.agent("agent", message.agent)
        if not message.HasField("active"):
            fields.bad("active", "must be set")
    return agent


def retire_agent(message: agents_pb.RetireAgentRequest) -> tuple[str, Assume]:
    """Agent, and what it is charged."""
    with checking(message) as fields:
        agent = fields.agent("agent", message.agent)
        assume = fields.one_of("assume", message.assume, _ASSUMPTIONS, Assume.SPENT_LIMIT)
    return agent, assume


def settle_agent(message: agents_pb.SettleAgentRequest) -> tuple[str, int, Assume]:
    """Agent, epoch (0: the newest), and what it is charged."""
    with checking(message) as fields:
        agent = fields.agent("agent", message.agent)
        epoch = fields.integer("epoch", message.epoch, 0, 2**63 - 1)
        assume = fields.one_of("assume", message.assume, _ASSUMPTIONS, Assume.SPENT_LIMIT)
    return agent, epoch, assume


def assign_quota(message: agents_pb.AssignQuotaRequest) -> tuple[Part, int]:
    """The part, wait."""
    given = message.assignment
    with checking(message) as fields:
        quota = fields.quota("assignment.quota", given.quota)
        agent = fields.agent("assignment.agent", given.agent)
        weight = given.weight if given.HasField("weight") else 1
        least = fields.units("assignment.min", given.min)
        most = fields.units("assignment.max", given.max) if given.HasField("max") else None
        if most is not None and most < least:
            fields.bad("assignment.max", "must not be below min")
        assignment = Assignment(
            quota_uid="",
            agent_uid="",
            weight=fields.integer("assignment.weight", weight, 1, MAX_WEIGHT),
            min=least,
            max=most,
            initial_count=fields.units("assignment.initial_count", given.initial_count),
        )
        if given.quota_uid:
            fields.bad("assignment.quota_uid", "is set by the controller: leave it out")
        if given.static_limit:
            fields.bad("assignment.static_limit", "is set by SetAgentTarget: leave it out")
        wait_ms = fields.wait(message)
    return Part(quota, agent, assignment, given.initial_count != 0), wait_ms


def unassign_quota(message: agents_pb.UnassignQuotaRequest) -> tuple[str, str, int]:
    """Quota, agent, wait."""
    with checking(message) as fields:
        quota = fields.quota("quota", message.quota)
        agent = fields.agent("agent", message.agent)
        wait_ms = fields.wait(message)
    return quota, agent, wait_ms


def get_recovery(message: agents_pb.GetRecoveryRequest) -> Page:
    """The page."""
    return _page(message, paging.UNHEARD)


def finish_recovery(message: agents_pb.FinishRecoveryRequest) -> bool:
    """Whether it is confirmed."""
    with checking(message):
        return message.confirm


# --- parts -----------------------------------------------------------------------------------------------------------


def _setting(fields: Fields, given: pb.Quota, field: str, *, new: bool) -> tuple[str, Any]:
    """A setting as (field of the ledger's quota, value). In a new quota absent policies have a default."""
    path = f"quota.{field}"
    match field:
        case "start_time":
            return "start_ms", fields.time(path, given)
        case "end_time":
            return "end_ms", fields.time(path, given)
        case "max_offline":
            return "max_offline_ms", fields.duration(path, given)
        case "policy":
            return field, fields.one_of(path, given.policy, _POLICIES, Policy.MAX_MIN if new else None)
        case "override_policy":
            default = OverridePolicy.ASK if new else None
            return field, fields.one_of(path, given.override_policy, _OVERRIDE_POLICIES, default)
        case "state":
            return field, fields.one_of(path, given.state, _SETTABLE_STATES)
        case _:
            return field, fields.integer(path, getattr(given, field), 0, 100)


def _check_period(fields: Fields, settings: dict[str, Any]) -> None:
    """As far as the request alone can tell; the ledger knows the rest."""
    start_ms, end_ms = settings.get("start_ms"), settings.get("end_ms")
    if start_ms is not None and end_ms is not None and start_ms >= end_ms:
        fields.bad("quota.end_time", "the period has to end after it starts")


def _page(message: Any, listing: paging.Listing) -> Page:
    with checking(message) as fields:
        page = _page_of(fields, message, listing)
    return page


def _page_of(fields: Fields, message: Any, listing: paging.Listing) -> Page:
    return Page(fields.page_size(message.page_size), fields.page_token(message.page_token, listing))
