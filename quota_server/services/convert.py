"""The ledger's values as the protos have them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from quota_server.fleet.fanout import AgentOutcome, Outcome
from quota_server.ledger.enrolment import Enrolment
from quota_server.ledger.model import Agent, Assignment, Epoch, Override, OverridePolicy, Quota, QuotaState
from quota_server.ledger.policies import Policy
from quota_server.ledger.store import AllocationView, HistoryView, QuotaNumbers
from quotafleet.link.parts import STATES
from quotafleet.v1 import agent_admin_service_pb2 as agents_pb
from quotafleet.v1 import quota_service_pb2 as pb

_POLICIES: Final = {policy: pb.Policy.Value(f"POLICY_{policy.name}") for policy in Policy}
_OVERRIDE_POLICIES: Final = {
    policy: pb.OverridePolicy.Value(f"OVERRIDE_POLICY_{policy.name}") for policy in OverridePolicy
}
_QUOTA_STATES: Final = {state: pb.QuotaState.Value(f"QUOTA_STATE_{state.name}") for state in QuotaState}
_OUTCOMES: Final = {outcome: pb.Outcome.Value(f"OUTCOME_{outcome.name}") for outcome in Outcome}


def timestamp(wall_ms: int) -> Timestamp:
    """A moment."""
    return Timestamp(seconds=wall_ms // 1000, nanos=wall_ms % 1000 * 1_000_000)


def duration(milliseconds: int) -> Duration:
    """A length of time, not negative."""
    return Duration(seconds=milliseconds // 1000, nanos=milliseconds % 1000 * 1_000_000)


def _moment(wall_ms: int | None) -> Timestamp | None:
    return None if wall_ms is None else timestamp(wall_ms)


def _length(milliseconds: int | None) -> Duration | None:
    return None if milliseconds is None else duration(milliseconds)


def quota(value: Quota) -> pb.Quota:
    """A quota; its etag is its version."""
    return pb.Quota(
        name=value.name,
        uid=value.uid,
        target=value.target,
        decimals=value.decimals,
        start_time=_moment(value.start_ms),
        end_time=_moment(value.end_ms),
        policy=_POLICIES[value.policy],
        reserve_percent=value.reserve_percent,
        critical_percent=value.critical_percent,
        override_policy=_OVERRIDE_POLICIES[value.override_policy],
        max_offline=_length(value.max_offline_ms),
        state=_QUOTA_STATES[value.state],
        overcommitted=value.overcommitted,
        recovering=value.recovering,
        etag=str(value.version),
        create_time=timestamp(value.create_ms),
    )


def outcome(value: AgentOutcome) -> pb.AgentOutcome:
    """What became of a change on an agent."""
    return pb.AgentOutcome(
        agent=value.name,
        outcome=_OUTCOMES[value.outcome],
        acknowledged_after=_length(value.after_ms),
        wanted_limit=value.wanted,
        exposure=value.exposure,
    )


def outcomes(values: Iterable[AgentOutcome]) -> list[pb.AgentOutcome]:
    """What became of a change on every agent."""
    return [outcome(value) for value in values]


def _reached(value: Mapping[str, Any]) -> pb.AgentOutcome:
    """An outcome as the history keeps it."""
    return pb.AgentOutcome(
        agent=value["agent"],
        outcome=_OUTCOMES[Outcome(value["outcome"])],
        acknowledged_after=_length(value["after_ms"]),
        wanted_limit=value["wanted"],
        exposure=value["exposure"],
    )


def count(numbers: QuotaNumbers, now_ms: int) -> pb.Count:
    """The numbers of a quota."""
    value, sums = numbers.quota, numbers.quota.sums
    used = sums.count + sums.charge + sums.held
    oldest = numbers.oldest_report_ms
    return pb.Count(
        quota=value.name,
        quota_uid=value.uid,
        target=value.target,
        count=sums.count + sums.charge,
        held=sums.held,
        overridden=sums.overridden,
        at_risk=sums.at_risk,
        upper_bound=value.upper_bound,
        escrowed=value.escrowed,
        overage=sums.overage,
        oldest_report_age=None if oldest is None else duration(max(0, now_ms - oldest)),
        agents=numbers.agents,
        connected_agents=numbers.connected_agents,
        critical=value.critical_percent > 0 and used * 100 >= value.target * value.critical_percent,
        exhausted=used >= value.target,
        state=_QUOTA_STATES[value.state],
        overcommitted=value.overcommitted,
        recovering=value.recovering,
        decimals=value.decimals,
    )


def agent_count(view: AllocationView, asked: AgentOutcome | None) -> pb.AgentCount:
    """The numbers of one allocation; `asked` is what became of the question, if there was one."""
    allocation = view.allocation
    message = pb.AgentCount(
        agent=view.agent.name,
        epoch=allocation.epoch,
        count=allocation.totals.count,
        held=allocation.held,
        overridden=allocation.totals.overridden,
        wanted_limit=allocation.wanted,
        exposure=allocation.exposure,
        charge=allocation.charge + allocation.copies,
        at_risk=allocation.at_risk,
        connected=view.epoch.online,
        report_time=_moment(allocation.report_ms),
        member=view.assignment.assigned and not view.epoch.ended and not view.agent.retired,
    )
    if asked is not None:
        message.outcome = _OUTCOMES[asked.outcome]
        if asked.after_ms is not None:
            message.acknowledged_after.CopyFrom(duration(asked.after_ms))
    return message


def override(value: Override, quota_name: str, agent_name: str) -> pb.Override:
    """An override."""
    return pb.Override(
        override_id=value.override_id,
        quota=quota_name,
        quota_uid=value.quota_uid,
        agent=agent_name,
        epoch=value.epoch,
        amount=value.amount,
        spent=value.spent,
        state=STATES[value.state],
        revoked=value.revoked,
        reason=value.reason,
        decision_reason=value.decision_reason,
        decided_by=value.decided_by,
        create_time=timestamp(value.create_ms),
        decide_time=_moment(value.decide_ms),
    )


def history_entry(view: HistoryView) -> pb.HistoryEntry:
    """One entry of a history."""
    note = view.note
    return pb.HistoryEntry(
        number=view.number,
        time=timestamp(note.time_ms),
        actor=note.actor,
        action=note.action,
        reason=note.reason,
        before_json=json.dumps(note.before, sort_keys=True, ensure_ascii=False),
        after_json=json.dumps(note.after, sort_keys=True, ensure_ascii=False),
        reached=[_reached(each) for each in view.reached],
        quota_uid=note.quota_uid,
    )


def agent(value: Agent, epoch: Epoch, parts: Iterable[tuple[Assignment, Quota]] = ()) -> agents_pb.Agent:
    """An agent with its newest epoch, and the parts that it still has."""
    return agents_pb.Agent(
        name=value.name,
        uid=value.uid,
        epoch=value.epoch,
        active=value.active,
        retired=value.retired,
        connected=epoch.online,
        last_contact_time=_moment(epoch.contact_ms),
        fenced=epoch.fenced or epoch.ended,
        create_time=timestamp(value.create_ms),
        assignments=[assignment(part, whole.name, value.name) for part, whole in parts if part.assigned],
    )


def assignment(value: Assignment, quota_name: str, agent_name: str) -> agents_pb.Assignment:
    """An agent's part in a quota."""
    return agents_pb.Assignment(
        quota=quota_name,
        quota_uid=value.quota_uid,
        agent=agent_name,
        weight=value.weight,
        min=value.min,
        max=value.max,
        initial_count=value.initial_count,
        static_limit=value.static_limit,
    )


def settlements(enrolment: Enrolment) -> list[agents_pb.Settlement]:
    """What the end of one or more epochs came to, one per quota."""
    sums: dict[str, agents_pb.Settlement] = {}
    for whole, allocation in enrolment.settlements:
        settlement = sums.setdefault(whole.uid, agents_pb.Settlement(quota=whole.name, quota_uid=whole.uid))
        settlement.charge += allocation.charge
        settlement.at_risk += allocation.at_risk
    return sorted(sums.values(), key=lambda each: (each.quota, each.quota_uid))


def credential(value: Agent, token: str = "") -> agents_pb.AgentCredential:
    """What the newest enrolment of an agent dials with; the token is left out where it would be stored."""
    return agents_pb.AgentCredential(agent=value.name, agent_uid=value.uid, epoch=value.epoch, token=token)
