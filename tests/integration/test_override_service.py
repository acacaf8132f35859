"""Overrides through QuotaService, with real agents that spend them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from quotafleet.errors import QuotafleetError
from quotafleet.v1 import agent_admin_service_pb2 as admin_pb
from quotafleet.v1 import agent_link_service_pb2 as link_pb
from quotafleet.v1 import quota_service_pb2 as pb
from tests.agent_kit import fails
from tests.databases import on_both
from tests.server_kit import Fleet, open_fleet

pytestmark = on_both


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    async with open_fleet(tmp_path) as fleet:
        yield fleet


async def ask(fleet: Fleet, amount: int = 5, agent: str = "a") -> pb.Override:
    request = pb.RequestOverrideRequest(quota="q", agent=agent, amount=amount, reason="a customer waits")
    answer = await fleet.served.quotas.RequestOverride(request, metadata=(("quotafleet-actor", "mary"),))
    return answer.override


async def decide(fleet: Fleet, override: pb.Override, decision: pb.Decision.ValueType) -> pb.Override:
    request = pb.DecideOverrideRequest(override_id=override.override_id, decision=decision, reason="fine")
    answer = await fleet.served.quotas.DecideOverride(request, metadata=(("quotafleet-actor", "paul"),))
    return answer.override


async def states(fleet: Fleet) -> list[link_pb.OverrideState.ValueType]:
    found = await fleet.served.quotas.ListOverrides(pb.ListOverridesRequest())
    return [override.state for override in found.overrides]


async def test_an_override_is_asked_for_approved_and_spent(fleet: Fleet) -> None:
    """It counts towards the upper bound from its approval on; the target does not move."""
    quota = await fleet.quota(target=10)
    a = await fleet.agent("a")
    assert await a.spend("q") == 10
    asked = await ask(fleet)
    assert (asked.quota, asked.quota_uid, asked.agent, asked.epoch) == ("q", quota.uid, "a", 1)
    assert (asked.amount, asked.state, asked.reason) == (
        5,
        link_pb.OVERRIDE_STATE_PENDING,
        "a customer waits",
    )
    assert not asked.HasField("decide_time")
    assert (await fleet.count()).upper_bound == 10
    approved = await decide(fleet, asked, pb.DECISION_APPROVE)
    assert (approved.state, approved.decided_by) == (link_pb.OVERRIDE_STATE_APPROVED, "paul")
    assert (approved.decision_reason, approved.HasField("decide_time")) == ("fine", True)
    count = await fleet.count()  # who answers has heard of the approval
    assert (count.upper_bound, count.target) == (15, 10)
    assert await a.acquire("q", 4, override_id=asked.override_id) == 4
    count = await fleet.count()
    assert (count.count, count.overridden, count.upper_bound) == (10, 4, 14)
    (used,) = (await fleet.served.quotas.ListOverrides(pb.ListOverridesRequest(quota="q"))).overrides
    assert (used.state, used.spent) == (link_pb.OVERRIDE_STATE_USED, 4)


async def test_a_decision_is_made_once(fleet: Fleet) -> None:
    """Denied is denied; a repeat of the same request gets its answer."""
    await fleet.quota(target=10)
    await fleet.agent("a", connect=False)
    asked = await ask(fleet)
    request = pb.DecideOverrideRequest(
        request_id="one", override_id=asked.override_id, decision=pb.DECISION_DENY, reason="no"
    )
    denied = await fleet.served.quotas.DecideOverride(request)
    assert denied.override.state == link_pb.OVERRIDE_STATE_DENIED
    assert await fleet.served.quotas.DecideOverride(request) == denied
    for call in (
        fleet.served.quotas.DecideOverride(
            pb.DecideOverrideRequest(override_id=asked.override_id, decision=pb.DECISION_APPROVE)
        ),
        fleet.served.quotas.RevokeOverride(pb.RevokeOverrideRequest(override_id=asked.override_id)),
    ):
        refused = await fails(call)
        assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "OVERRIDE_DECIDED")
    assert await states(fleet) == [link_pb.OVERRIDE_STATE_DENIED]


async def test_a_revoked_override_is_closed_by_its_agent(fleet: Fleet) -> None:
    """It counts until the agent says that it is closed unspent."""
    await fleet.quota(target=10)
    a = await fleet.agent("a")
    asked = await decide(fleet, await ask(fleet), pb.DECISION_APPROVE)
    await fleet.count()
    await a.cut()
    revoked = await fleet.served.quotas.RevokeOverride(
        pb.RevokeOverrideRequest(override_id=asked.override_id)
    )
    assert (revoked.override.state, revoked.override.revoked) == (link_pb.OVERRIDE_STATE_APPROVED, True)
    assert (await fleet.count()).upper_bound == 15
    a.connect()
    await a.linked()
    await fleet.count()
    assert (await fleet.count()).upper_bound == 10
    assert await states(fleet) == [link_pb.OVERRIDE_STATE_DEAD]
    with pytest.raises(QuotafleetError):
        await a.acquire("q", 5, override_id=asked.override_id)


async def test_a_pending_one_that_is_revoked_is_denied(fleet: Fleet) -> None:
    """At once: nobody has it yet."""
    await fleet.quota(target=10)
    await fleet.agent("a", connect=False)
    asked = await ask(fleet)
    request = pb.RevokeOverrideRequest(override_id=asked.override_id)
    assert (await fleet.served.quotas.RevokeOverride(request)).override.state == link_pb.OVERRIDE_STATE_DENIED


async def test_the_quotas_policy_answers(fleet: Fleet) -> None:
    """DENY says no; FROM_RESERVE raises the limit while there is room, then asks."""
    await fleet.quota(target=100, override_policy=pb.OVERRIDE_POLICY_DENY)
    await fleet.agent("a")
    denied = await ask(fleet)
    assert (denied.state, denied.decided_by) == (link_pb.OVERRIDE_STATE_DENIED, "")
    await fleet.quota("r", 100, override_policy=pb.OVERRIDE_POLICY_FROM_RESERVE, reserve_percent=20)
    await fleet.assign("a", "r")
    request = pb.RequestOverrideRequest(quota="r", agent="a", amount=20)
    first = (await fleet.served.quotas.RequestOverride(request)).override
    assert first.state == link_pb.OVERRIDE_STATE_FROM_RESERVE
    second = (await fleet.served.quotas.RequestOverride(request)).override
    assert second.state == link_pb.OVERRIDE_STATE_PENDING
    assert (await fleet.count("r")).upper_bound == 100


async def test_overrides_are_listed_newest_first(fleet: Fleet) -> None:
    """By quota, agent and state, in pages."""
    await fleet.quota(target=10)
    for name in ("a", "b"):
        await fleet.agent(name, connect=False)
    asked = [await ask(fleet, amount, agent) for amount, agent in ((1, "a"), (2, "b"), (3, "a"))]
    await decide(fleet, asked[2], pb.DECISION_DENY)

    async def amounts(**fields: object) -> list[int]:
        found: list[int] = []
        request = pb.ListOverridesRequest(page_size=1, **fields)  # type: ignore[arg-type]
        while True:
            page = await fleet.served.quotas.ListOverrides(request)
            found += [override.amount for override in page.overrides]
            request.page_token = page.next_page_token
            if not request.page_token:
                return found

    assert sorted(await amounts()) == [1, 2, 3]
    assert sorted(await amounts(agent="a")) == [1, 3]
    assert await amounts(quota="q", agent="b") == [2]
    assert await amounts(states=[link_pb.OVERRIDE_STATE_DENIED]) == [3]
    assert await amounts(states=[link_pb.OVERRIDE_STATE_USED]) == []


async def test_who_cannot_have_one_is_told(fleet: Fleet) -> None:
    """No part in the quota, no such override, or nobody left to spend it."""
    await fleet.quota(target=10)
    await fleet.agent("a", None, connect=False)
    request = pb.RequestOverrideRequest(quota="q", agent="a", amount=5)
    assert (await fails(fleet.served.quotas.RequestOverride(request))).reason == "NOT_ASSIGNED"
    unknown = await fails(
        fleet.served.quotas.DecideOverride(
            pb.DecideOverrideRequest(override_id="x", decision=pb.DECISION_DENY)
        )
    )
    assert (unknown.code, unknown.reason) == (grpc.StatusCode.NOT_FOUND, "OVERRIDE_UNKNOWN")
    await fleet.assign("a")
    asked = await ask(fleet)
    await fleet.served.agents.SettleAgent(admin_pb.SettleAgentRequest(agent="a"))
    approve = pb.DecideOverrideRequest(override_id=asked.override_id, decision=pb.DECISION_APPROVE)
    assert (await fails(fleet.served.quotas.DecideOverride(approve))).reason == "OVERRIDE_DECIDED"
