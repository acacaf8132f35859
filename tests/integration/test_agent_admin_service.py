"""AgentAdminService over real gRPC and a real database: agents, their parts, their ends, and the recovery."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from quota_server.app import declare_restored
from quota_server.ledger.model import AgentKey
from quotafleet.errors import QuotafleetError
from quotafleet.v1 import agent_admin_service_pb2 as pb
from quotafleet.v1 import quota_service_pb2 as quota_pb
from tests.agent_kit import fails
from tests.databases import on_both
from tests.server_kit import Fleet, open_fleet, until

pytestmark = on_both


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    async with open_fleet(tmp_path) as fleet:
        yield fleet


async def get(fleet: Fleet, name: str) -> pb.Agent:
    return (await fleet.served.agents.GetAgent(pb.GetAgentRequest(agent=name))).agent


async def add(fleet: Fleet, name: str, **fields: bool) -> pb.CreateAgentResponse:
    request = pb.CreateAgentRequest(request_id=f"add {name}", name=name, **fields)
    return await fleet.served.agents.CreateAgent(request)


async def actions(fleet: Fleet, quota: str = "q") -> list[str]:
    history = await fleet.served.quotas.ListHistory(quota_pb.ListHistoryRequest(quota=quota))
    return [entry.action for entry in reversed(history.entries)]


async def part_of(fleet: Fleet, agent: str) -> quota_pb.AgentCount:
    request = quota_pb.GetCountRequest(quota="q", page_size=1000)
    (row,) = [row for row in (await fleet.served.quotas.GetCount(request)).agents if row.agent == agent]
    return row


# --- agents ----------------------------------------------------------------------------------------------------------


async def test_an_agent_is_enrolled_once(fleet: Fleet) -> None:
    """With a uid, an epoch, and a credential that the controller knows again."""
    created = await add(fleet, "a")
    agent, credential = created.agent, created.credential
    assert (agent.name, agent.epoch, agent.active, agent.retired) == ("a", 1, True, False)
    assert (agent.connected, agent.fenced, agent.HasField("last_contact_time")) == (False, False, False)
    assert (credential.agent, credential.agent_uid, credential.epoch) == ("a", agent.uid, 1)
    assert fleet.served.app.keys.agent_of(credential.token) == AgentKey(agent.uid, 1)
    assert await add(fleet, "a") == created, "a repeat gets the same answer, the token too"
    refused = await fails(fleet.served.agents.CreateAgent(pb.CreateAgentRequest(name="a")))
    assert (refused.code, refused.reason) == (grpc.StatusCode.ALREADY_EXISTS, "AGENT_EXISTS")
    for name in ("a", agent.uid):
        assert await get(fleet, name) == agent


async def test_no_token_is_stored(fleet: Fleet) -> None:
    """Not in the records, not in the recorded answers; repeats get it all the same."""
    created = await add(fleet, "a")
    request = pb.SettleAgentRequest(request_id="settle", agent="a")
    settled = await fleet.served.agents.SettleAgent(request)
    assert await fleet.served.agents.SettleAgent(request) == settled
    tokens = [created.credential.token, settled.credential.token]
    assert tokens[0] != tokens[1]
    for path in fleet.served.app.config.data_dir.iterdir():
        content = path.read_bytes()
        for token in tokens:
            assert token.rpartition(".")[2].encode() not in content, path
            assert token.encode() not in content, path


async def test_agents_are_listed_by_name_in_pages(fleet: Fleet) -> None:
    """Retired ones only if asked for."""
    for name in ("c", "a", "b"):
        await add(fleet, name)
    await fleet.served.agents.RetireAgent(pb.RetireAgentRequest(agent="b"))

    async def names(request: pb.ListAgentsRequest) -> list[str]:
        found: list[str] = []
        while not found or request.page_token:
            page = await fleet.served.agents.ListAgents(request)
            found += [agent.name for agent in page.agents]
            request.page_token = page.next_page_token
        return found

    assert await names(pb.ListAgentsRequest(page_size=1)) == ["a", "c"]
    assert await names(pb.ListAgentsRequest(page_size=2, include_retired=True)) == ["a", "b", "c"]


async def test_unknown_agents_are_not_found(fleet: Fleet) -> None:
    """By every call that names one."""
    await fleet.quota()
    agents = fleet.served.agents
    for call in (
        agents.GetAgent(pb.GetAgentRequest(agent="no")),
        agents.UpdateAgent(pb.UpdateAgentRequest(agent="no", active=True)),
        agents.RetireAgent(pb.RetireAgentRequest(agent="no")),
        agents.SettleAgent(pb.SettleAgentRequest(agent="no")),
        agents.AssignQuota(pb.AssignQuotaRequest(assignment=pb.Assignment(quota="q", agent="no"))),
        agents.UnassignQuota(pb.UnassignQuotaRequest(quota="q", agent="no")),
        fleet.served.quotas.SetAgentTarget(quota_pb.SetAgentTargetRequest(quota="q", agent="no")),
        fleet.served.quotas.ListOverrides(quota_pb.ListOverridesRequest(agent="no")),
    ):
        refused = await fails(call)
        assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "AGENT_UNKNOWN")
        assert refused.metadata == {"agent": "no"}


async def test_an_agent_is_switched_off_and_on(fleet: Fleet) -> None:
    """Off, it leaves the sharing out and refuses; its quotas' histories tell."""
    await fleet.quota(target=100)
    a = await fleet.agent("a")
    await fleet.agent("b")
    off = await fleet.served.agents.UpdateAgent(
        pb.UpdateAgentRequest(agent="a", active=False, reason="repair")
    )
    assert not off.agent.active
    await fleet.count()  # whoever answers has heard what was sent before

    async def refused() -> QuotafleetError:
        with pytest.raises(QuotafleetError) as caught:
            await a.acquire("q")
        return caught.value

    assert (await refused()).reason == "AGENT_INACTIVE"
    assert (await part_of(fleet, "a")).wanted_limit == 0
    on = await fleet.served.agents.UpdateAgent(pb.UpdateAgentRequest(agent="a", active=True))
    assert on.agent.active
    await fleet.count()
    assert (await part_of(fleet, "a")).wanted_limit > 0
    assert (await actions(fleet)).count("update-agent") == 2


# --- parts -----------------------------------------------------------------------------------------------------------


async def test_a_part_is_given_changed_and_taken_away(fleet: Fleet) -> None:
    """What is not given is set to its default; what was used goes on counting."""
    quota = await fleet.quota(target=100)
    a = await fleet.agent("a", None)
    request = pb.AssignQuotaRequest(
        assignment=pb.Assignment(quota="q", agent="a", weight=3, min=10, max=50, initial_count=7)
    )
    answer = await fleet.served.agents.AssignQuota(request)
    assert answer.assignment == pb.Assignment(
        quota="q", quota_uid=quota.uid, agent="a", weight=3, min=10, max=50, initial_count=7
    )
    assert [(each.agent, each.outcome) for each in answer.outcomes] == [("a", quota_pb.OUTCOME_APPLIED)]
    assert list((await get(fleet, "a")).assignments) == [answer.assignment]
    assert (await fleet.count()).count == 7
    assert await a.spend("q") == 50
    await fleet.assign("a")
    changed = (await get(fleet, "a")).assignments[0]
    assert (changed.weight, changed.min, changed.HasField("max"), changed.initial_count) == (1, 0, False, 7)
    await fleet.served.agents.UnassignQuota(pb.UnassignQuotaRequest(quota="q", agent="a"))
    assert not (await get(fleet, "a")).assignments
    assert (await fleet.count()).count == 57
    refused = await fails(fleet.served.agents.UnassignQuota(pb.UnassignQuotaRequest(quota="q", agent="a")))
    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "NOT_ASSIGNED")
    assert await actions(fleet) == ["create", "assign", "assign", "unassign"]


async def test_what_does_not_fit_the_target_is_refused(fleet: Fleet) -> None:
    """Mins, initial counts and fixed limits; nothing is changed then."""
    await fleet.quota(target=100)
    await fleet.agent("a", min=60)
    await add(fleet, "b")
    agents, quotas = fleet.served.agents, fleet.served.quotas
    before = await actions(fleet)
    for assignment in (
        pb.Assignment(quota="q", agent="b", min=41),
        pb.Assignment(quota="q", agent="b", initial_count=1),
    ):
        refused = await fails(agents.AssignQuota(pb.AssignQuotaRequest(assignment=assignment)))
        assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "TARGET_EXCEEDED")
        assert refused.metadata["target"] == "100"
    fixed = quota_pb.SetAgentTargetRequest(quota="q", agent="a", target=101)
    assert (await fails(quotas.SetAgentTarget(fixed))).reason == "TARGET_EXCEEDED"
    assert await actions(fleet) == before
    later = pb.Assignment(quota="q", agent="a", initial_count=5)
    refused = await fails(agents.AssignQuota(pb.AssignQuotaRequest(assignment=later)))
    assert [path for path, _ in refused.fields] == ["assignment.initial_count"]


async def test_one_agents_limit_is_fixed(fleet: Fleet) -> None:
    """Its min and max become the target; the others share the rest."""
    await fleet.quota(target=100)
    a, b = await fleet.agent("a"), await fleet.agent("b")
    request = quota_pb.SetAgentTargetRequest(quota="q", agent="a", target=30)
    answer = await fleet.served.quotas.SetAgentTarget(request)
    assert {each.agent: each.wanted_limit for each in answer.outcomes} == {"a": 30, "b": 70}
    part = (await get(fleet, "a")).assignments[0]
    assert (part.min, part.max) == (30, 30)
    assert await a.spend("q") == 30
    await fleet.count()
    assert await b.spend("q") == 70


# --- ends ------------------------------------------------------------------------------------------------------------


async def test_settling_charges_what_could_have_been_spent(fleet: Fleet) -> None:
    """Until the store turns up: it is fenced, and its final totals replace the charge."""
    await fleet.quota(target=100)
    a = await fleet.agent("a")
    await a.acquire("q", 30)
    await fleet.count()
    await a.cut()
    settled = await fleet.served.agents.SettleAgent(pb.SettleAgentRequest(agent="a", reason="stolen"))
    assert [(each.quota, each.charge, each.at_risk) for each in settled.settlements] == [("q", 100, 0)]
    assert (settled.agent.epoch, settled.credential.epoch, settled.agent.fenced) == (2, 2, False)
    assert (await fleet.count()).count == 100
    a.connect()
    await until(lambda: a.gate.status().fenced, "the old store is fenced")
    with pytest.raises(QuotafleetError) as refused:
        await a.acquire("q")
    assert refused.value.reason == "AGENT_FENCED"
    async for response in fleet.served.quotas.WatchQuota(quota_pb.WatchQuotaRequest(quota="q")):
        if response.count.count == 30:
            break
    history = await fleet.served.quotas.ListHistory(quota_pb.ListHistoryRequest(quota="q"))
    (entry,) = [entry for entry in history.entries if entry.action == "settle-agent"]
    assert entry.reason == "stolen"
    assert json.loads(entry.after_json)["charge"] == 100


async def test_a_known_risk_needs_confirmation(fleet: Fleet) -> None:
    """LAST_REPORTED charges the last report, and shows the rest as at risk."""
    await fleet.quota(target=100)
    a = await fleet.agent("a")
    await a.acquire("q", 30)
    await fleet.count()
    await a.cut()
    request = pb.RetireAgentRequest(agent="a", assume=pb.ASSUME_LAST_REPORTED)
    refused = await fails(fleet.served.agents.RetireAgent(request))
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "CONFIRMATION_NEEDED")
    assert not (await get(fleet, "a")).retired
    request.confirm = True
    retired = await fleet.served.agents.RetireAgent(request)
    assert [(each.charge, each.at_risk) for each in retired.settlements] == [(30, 70)]
    assert retired.agent.retired
    count = await fleet.count()
    assert (count.count, count.at_risk, count.escrowed, count.upper_bound) == (30, 70, 30, 100)
    assert (
        await fails(fleet.served.agents.GetAgent(pb.GetAgentRequest(agent="a")))
    ).reason == "AGENT_UNKNOWN"
    assert (await get(fleet, retired.agent.uid)).retired
    assert (await add(fleet, "a")).agent.uid != retired.agent.uid, "its name is free"


async def test_an_epoch_is_settled_once_and_only_if_it_exists(fleet: Fleet) -> None:
    await fleet.quota(target=100)
    await add(fleet, "a")
    await fleet.served.agents.SettleAgent(pb.SettleAgentRequest(agent="a", epoch=1))
    for epoch in (1, 3):
        refused = await fails(fleet.served.agents.SettleAgent(pb.SettleAgentRequest(agent="a", epoch=epoch)))
        assert [path for path, _ in refused.fields] == ["epoch"]


# --- recovery --------------------------------------------------------------------------------------------------------


async def test_there_is_nothing_to_recover(fleet: Fleet) -> None:
    """Unless a restore was declared."""
    answer = await fleet.served.agents.GetRecovery(pb.GetRecoveryRequest())
    assert not answer.recovering
    assert not answer.unheard
    unconfirmed = await fails(fleet.served.agents.FinishRecovery(pb.FinishRecoveryRequest()))
    assert unconfirmed.reason == "CONFIRMATION_NEEDED"
    early = await fails(fleet.served.agents.FinishRecovery(pb.FinishRecoveryRequest(confirm=True)))
    assert (early.code, early.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "RECOVERY_STATE")


async def test_a_recovery_ends_when_everybody_is_heard_or_settled(tmp_path: Path) -> None:
    """Until then no upper bound is known; a repeat of its end gets the same answer."""
    async with open_fleet(tmp_path) as fleet:
        await fleet.quota(target=100)
        for name in ("a", "b", "c"):
            await add(fleet, name)
            await fleet.assign(name)
    assert await declare_restored(fleet.served.app.config) == 1
    async with open_fleet(tmp_path) as fleet:
        count = await fleet.count()
        assert count.recovering
        assert not count.HasField("upper_bound")
        unheard: list[str] = []
        request = pb.GetRecoveryRequest(page_size=2)
        while not unheard or request.page_token:
            page = await fleet.served.agents.GetRecovery(request)
            assert (page.recovering, page.generation) == (True, 1)
            unheard += [each.agent for each in page.unheard]
            request.page_token = page.next_page_token
        assert unheard == ["a", "b", "c"]
        finish = pb.FinishRecoveryRequest(request_id="finish", confirm=True)
        early = await fails(fleet.served.agents.FinishRecovery(finish))
        assert (early.reason, early.metadata) == ("RECOVERY_STATE", {"unheard": "3"})
        for name in unheard:
            settled = await fleet.served.agents.SettleAgent(pb.SettleAgentRequest(agent=name))
            assert settled.credential.epoch > 1_000_000, "epochs contain the generation"
        assert (await fleet.served.agents.FinishRecovery(finish)).quotas == 1
        assert (await fleet.served.agents.FinishRecovery(finish)).quotas == 1
        assert not (await fleet.count()).recovering
        assert (await actions(fleet))[-1] == "finish-recovery"
