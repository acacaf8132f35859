"""What people know from quota apps with a single site, and expect to find again; on real gRPC, end to end."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from quotafleet.agent.v1 import gate_service_pb2 as gate_pb
from quotafleet.errors import QuotafleetError, from_rpc_error
from quotafleet.v1 import agent_admin_service_pb2 as admin_pb
from quotafleet.v1 import quota_service_pb2 as pb
from tests.databases import on_both
from tests.server_kit import Agent, Fleet, open_fleet

pytestmark = on_both

HOUR_SECONDS = 3_600


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    async with open_fleet(tmp_path) as opened:
        yield opened


async def site(fleet: Fleet, target: int = 10, **quota: Any) -> Agent:
    """One site with all of a quota."""
    await fleet.quota(target=target, **quota)
    return await fleet.agent("site")


async def refusal_of(agent: Agent, **request: Any) -> QuotafleetError:
    with pytest.raises(QuotafleetError) as refused:
        await agent.acquire("q", **request)
    return refused.value


async def test_units_are_granted_up_to_the_target_and_then_refused(fleet: Fleet) -> None:
    agent = await site(fleet, target=10)
    assert await agent.spend("q") == 10
    error = await refusal_of(agent, amount=3)
    assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_REACHED")
    assert error.metadata == {"quota": "q", "limit": "10", "count": "10", "held": "0", "requested": "3"}
    assert (await fleet.count()).count == 10


async def test_a_raised_target_grants_exactly_the_difference(fleet: Fleet) -> None:
    agent = await site(fleet, target=10)
    await agent.spend("q")
    response = await fleet.set_target(13)
    assert [o.outcome for o in response.outcomes] == [pb.OUTCOME_APPLIED]
    assert await agent.spend("q") == 3


async def test_a_target_lowered_to_the_count_is_fine_and_then_refuses(fleet: Fleet) -> None:
    agent = await site(fleet, target=10)
    await agent.spend("q", 6)
    await fleet.count()
    await fleet.set_target(6)
    assert (await refusal_of(agent)).reason == "QUOTA_REACHED"


async def test_a_target_lowered_below_the_count_is_refused_and_nothing_changes(fleet: Fleet) -> None:
    agent = await site(fleet, target=10)
    await agent.spend("q", 6)
    await fleet.count()
    with pytest.raises(QuotafleetError) as refused:
        await fleet.set_target(5)
    assert refused.value.reason == "TARGET_BELOW_COUNT"
    assert refused.value.code is grpc.StatusCode.FAILED_PRECONDITION
    assert (await fleet.count()).target == 10
    assert await agent.spend("q") == 4


async def test_a_target_of_zero_is_legal_and_grants_nothing(fleet: Fleet) -> None:
    agent = await site(fleet, target=0)
    assert (await refusal_of(agent)).reason == "QUOTA_REACHED"
    await fleet.set_target(1)
    assert await agent.spend("q") == 1
    await fleet.count()
    await fleet.set_target(1)


async def test_before_the_start_and_after_the_end_each_has_its_own_reason(fleet: Fleet) -> None:
    now = int(time.time())
    later, past = {"seconds": now + HOUR_SECONDS}, {"seconds": now - HOUR_SECONDS}
    await fleet.quota("early", start_time=later)
    await fleet.quota("over", start_time={"seconds": now - 2 * HOUR_SECONDS}, end_time=past)
    await fleet.quota("open", start_time=past, end_time=later)
    agent = await fleet.agent("site", quota=None)
    reasons = []
    for quota in ("early", "over"):
        await fleet.assign("site", quota)
        with pytest.raises(QuotafleetError) as refused:
            await agent.acquire(quota)
        reasons.append(refused.value.reason)
    assert reasons == ["QUOTA_NOT_STARTED", "QUOTA_EXPIRED"]
    await fleet.assign("site", "open")
    assert await agent.acquire("open") == 1


async def test_a_period_that_ends_before_it_starts_is_refused(fleet: Fleet) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await fleet.quota(start_time={"seconds": 2_000_000_000}, end_time={"seconds": 1_900_000_000})
    error = from_rpc_error(refused.value)
    assert (error.reason, [path for path, _ in error.fields]) == ("FIELD_INVALID", ["quota.end_time"])


async def test_the_same_id_twice_counts_once(fleet: Fleet) -> None:
    agent = await site(fleet)
    assert await agent.acquire("q", request_id="p-1") == await agent.acquire("q", request_id="p-1") == 1
    assert (await agent.count("q")).count == 1


async def test_a_release_gives_the_slot_back_to_the_same_site(fleet: Fleet) -> None:
    agent = await site(fleet, target=2)
    await agent.acquire("q", request_id="p-1")
    await agent.acquire("q", request_id="p-2")
    await agent.stub.Release(gate_pb.ReleaseRequest(quota="q", request_id="p-1"))
    assert await agent.acquire("q", request_id="p-3") == 1
    assert (await refusal_of(agent, request_id="p-1")).reason == "ENTRY_ENDED"
    assert (await fleet.count()).count == 2


async def test_an_inactive_agent_gets_nothing(fleet: Fleet) -> None:
    agent = await site(fleet)
    await agent.acquire("q")
    await fleet.served.agents.UpdateAgent(admin_pb.UpdateAgentRequest(agent="site", active=False))
    await fleet.count()
    assert (await refusal_of(agent)).reason == "AGENT_INACTIVE"
    await fleet.served.agents.UpdateAgent(admin_pb.UpdateAgentRequest(agent="site", active=True))
    await fleet.count()
    assert await agent.spend("q") == 9


async def test_an_unassigned_agent_gets_nothing(fleet: Fleet) -> None:
    await fleet.quota()
    agent = await fleet.agent("site", quota=None)
    assert (await refusal_of(agent)).reason == "NOT_ASSIGNED"
    await fleet.assign("site")
    assert await agent.acquire("q") == 1
    await fleet.served.agents.UnassignQuota(admin_pb.UnassignQuotaRequest(quota="q", agent="site"))
    assert (await refusal_of(agent)).reason == "NOT_ASSIGNED"
    assert (await fleet.count()).count == 1


async def test_a_suspended_quota_refuses_until_it_is_resumed_and_a_closed_one_for_good(fleet: Fleet) -> None:
    agent = await site(fleet)
    for state, reason in ((pb.QUOTA_STATE_SUSPENDED, "QUOTA_SUSPENDED"), (pb.QUOTA_STATE_OPEN, "")):
        request = pb.UpdateQuotaRequest(quota=pb.Quota(name="q", state=state))
        request.update_mask.paths.append("state")
        await fleet.served.quotas.UpdateQuota(request)
        if reason:
            assert (await refusal_of(agent)).reason == reason
        else:
            assert await agent.acquire("q") == 1
    closed = await fleet.served.quotas.CloseQuota(pb.CloseQuotaRequest(quota="q"))
    counted = await fleet.served.quotas.GetCount(pb.GetCountRequest(quota=closed.quota.uid, refresh=True))
    assert counted.count.count == 1
    assert (await refusal_of(agent)).reason == "QUOTA_CLOSED"


@pytest.mark.parametrize(
    "policy", [pb.POLICY_EQUAL, pb.POLICY_WEIGHTED, pb.POLICY_PROPORTIONAL, pb.POLICY_MAX_MIN]
)
async def test_wanted_limits_sum_to_the_pool_unless_all_are_at_their_max(
    fleet: Fleet, policy: pb.Policy
) -> None:
    await fleet.quota(target=1_000, policy=policy, reserve_percent=10)
    for index, name in enumerate(("a", "b", "c")):
        await fleet.agent(name, weight=index + 1)
    response = await fleet.rebalance()
    assert sum(o.wanted_limit for o in response.outcomes) == 900
    for name in ("a", "b", "c"):
        await fleet.assign(name, max=200)
    response = await fleet.rebalance()
    assert [o.wanted_limit for o in response.outcomes] == [200, 200, 200]


async def test_wanted_limits_are_the_floors_where_these_exceed_the_pool(fleet: Fleet) -> None:
    await fleet.quota(target=100, policy=pb.POLICY_EQUAL)
    a, b = await fleet.agent("a"), await fleet.agent("b")
    await a.cut()
    assert await b.spend("q", 20) == 20
    await fleet.count()
    response = await fleet.set_target(40)
    assert {o.agent: o.wanted_limit for o in response.outcomes} == {"a": 50, "b": 20}
    assert (await fleet.count()).overcommitted


async def test_every_round_is_in_the_history_with_who_was_reached(fleet: Fleet) -> None:
    await fleet.quota(target=100, policy=pb.POLICY_EQUAL)
    await fleet.agent("here")
    gone = await fleet.agent("gone")
    await gone.cut()
    await fleet.set_target(120)
    await fleet.rebalance()
    listed = await fleet.served.quotas.ListHistory(pb.ListHistoryRequest(quota="q"))
    rounds = {entry.action: entry for entry in listed.entries}
    for action in ("set-target", "rebalance"):
        reached = {o.agent: o.outcome for o in rounds[action].reached}
        assert reached == {"here": pb.OUTCOME_APPLIED, "gone": pb.OUTCOME_PENDING_OFFLINE}
    assert rounds["set-target"].reason == "the story says so"
    await fleet.served.agents.RetireAgent(admin_pb.RetireAgentRequest(agent="gone"))
    outcomes: list[tuple[str, int]] = []
    while not outcomes:  # nobody waits for these: they come when they are known
        listed = await fleet.served.quotas.ListHistory(pb.ListHistoryRequest(quota="q"))
        entry = next(entry for entry in listed.entries if entry.action == "retire-agent")
        outcomes = [(o.agent, o.outcome) for o in entry.reached]
    assert outcomes == [("here", pb.OUTCOME_APPLIED)]
    assert '"target": 120' in rounds["set-target"].after_json
