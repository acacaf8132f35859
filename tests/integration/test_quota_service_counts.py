"""QuotaService with agents: fan-outs and their outcomes, counts, history, pages, watches."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from quota_server.services import counts
from quotafleet.v1 import agent_admin_service_pb2 as admin_pb
from quotafleet.v1 import agent_link_service_pb2 as link_pb
from quotafleet.v1 import quota_service_pb2 as pb
from quotafleet.v1 import quota_service_pb2_grpc as quota_grpc
from tests.agent_kit import fails
from tests.databases import on_both
from tests.server_kit import Fleet, Served, open_controller, open_fleet, until

pytestmark = on_both

#: Long enough that a mute stream is not ended as silent.
SLOW_HEARTBEAT_MS = 60_000


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    async with open_fleet(tmp_path) as fleet:
        yield fleet


@asynccontextmanager
async def mute_agent(served: Served, name: str, quota: str = "q") -> AsyncIterator[None]:
    """An agent that says hello, and never acknowledges anything."""
    created = await served.agents.CreateAgent(admin_pb.CreateAgentRequest(name=name))
    credential = created.credential
    part = admin_pb.Assignment(quota=quota, agent=name)
    await served.agents.AssignQuota(admin_pb.AssignQuotaRequest(assignment=part))
    stream = served.links.Connect(metadata=(("authorization", f"Bearer {credential.token}"),))
    hello = link_pb.Hello(
        agent_uid=credential.agent_uid,
        epoch=credential.epoch,
        store_id=name,
        dial=1,
        protocol_version=1,
        clock_time=Timestamp(seconds=1),
    )
    await stream.write(link_pb.ConnectRequest(hello=hello))
    answer = await stream.read()
    assert isinstance(answer, link_pb.ConnectResponse)
    assert answer.HasField("welcome")
    try:
        yield
    finally:
        stream.cancel()


async def eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    """Waits for something that only the controller can tell."""
    async with asyncio.timeout(20):
        while not await holds():  # noqa: ASYNC110 - nothing here could set an event
            await asyncio.sleep(0.005)


async def newest(served: Served, quota: str = "q") -> pb.HistoryEntry:
    history = await served.quotas.ListHistory(pb.ListHistoryRequest(quota=quota, page_size=1))
    return history.entries[0]


# --- fan-out ---------------------------------------------------------------------------------------------------------


async def test_outcomes_tell_who_was_reached(fleet: Fleet) -> None:
    """Those connected have applied it, those away get it later; both are in the history."""
    await fleet.quota(target=100)
    await fleet.agent("here")
    await fleet.agent("away", connect=False)
    answer = await fleet.set_target(60)
    outcomes = {each.agent: each for each in answer.outcomes}
    assert list(outcomes) == ["away", "here"]
    assert outcomes["here"].outcome == pb.OUTCOME_APPLIED
    assert outcomes["here"].HasField("acknowledged_after")
    assert outcomes["here"].wanted_limit == outcomes["here"].exposure == 30
    assert outcomes["away"].outcome == pb.OUTCOME_PENDING_OFFLINE
    assert (outcomes["away"].wanted_limit, outcomes["away"].exposure) == (30, 0)
    entry = await newest(fleet.served)
    assert (entry.action, entry.reason) == ("set-target", "the story says so")
    assert list(entry.reached) == list(answer.outcomes)
    assert json.loads(entry.before_json)["target"] == 100
    assert json.loads(entry.after_json) == {"limits": {"away": 30, "here": 30}, "target": 60}


async def test_every_change_says_who_was_reached(fleet: Fleet) -> None:
    """Also the closing, which answers before anybody is."""
    await fleet.quota(target=100)
    await fleet.agent("a")
    quotas, uid = fleet.served.quotas, (await fleet.count()).quota_uid
    await quotas.Rebalance(pb.RebalanceRequest(quota="q"))
    await quotas.SetAgentTarget(pb.SetAgentTargetRequest(quota="q", agent="a", target=10))
    await quotas.UpdateQuota(
        pb.UpdateQuotaRequest(
            quota=pb.Quota(name="q", state=pb.QUOTA_STATE_SUSPENDED), update_mask=FieldMask(paths=["state"])
        )
    )
    await quotas.CloseQuota(pb.CloseQuotaRequest(quota="q"))

    async def closing_reached() -> bool:
        return [each.outcome for each in (await newest(fleet.served, uid)).reached] == [pb.OUTCOME_APPLIED]

    await eventually(closing_reached)
    entries = (await quotas.ListHistory(pb.ListHistoryRequest(quota=uid))).entries
    by_action = {entry.action: [each.outcome for each in entry.reached] for entry in entries}
    for action in ("rebalance", "set-agent-target", "suspend", "close"):
        assert by_action[action] == [pb.OUTCOME_APPLIED], action


async def test_a_repeat_after_the_fan_out_has_its_outcomes(fleet: Fleet) -> None:
    """The answer recorded with the decision is replaced by the full one."""
    await fleet.quota(target=100)
    await fleet.agent("a")
    request = pb.SetTargetRequest(request_id="one", quota="q", target=50)
    first = await fleet.served.quotas.SetTarget(request)
    assert [each.outcome for each in first.outcomes] == [pb.OUTCOME_APPLIED]
    assert await fleet.served.quotas.SetTarget(request) == first


async def test_who_does_not_acknowledge_times_out(tmp_path: Path) -> None:
    """`wait` of 0 answers at once; a repeat before the wait is over gets what was known at the decision."""
    async with open_controller(tmp_path, SLOW_HEARTBEAT_MS) as served:
        await served.quotas.CreateQuota(pb.CreateQuotaRequest(quota=pb.Quota(name="q", target=100)))
        async with mute_agent(served, "mute"):
            at_once = pb.SetTargetRequest(quota="q", target=50, wait=Duration())
            answer = await served.quotas.SetTarget(at_once)
            assert [each.outcome for each in answer.outcomes] == [pb.OUTCOME_TIMED_OUT]
            assert not answer.outcomes[0].HasField("acknowledged_after")
            patient = pb.SetTargetRequest(request_id="one", quota="q", target=40, wait=Duration(seconds=60))
            call = served.quotas.SetTarget(patient)
            await eventually(lambda: target_is(served, 40))
            repeat = await served.quotas.SetTarget(patient)
            assert [each.outcome for each in repeat.outcomes] == [pb.OUTCOME_TIMED_OUT]
            call.cancel()


async def target_is(served: Served, target: int) -> bool:
    return (await served.quotas.GetQuota(pb.GetQuotaRequest(quota="q"))).quota.target == target


async def test_a_caller_that_hangs_up_cuts_nothing_apart(tmp_path: Path) -> None:
    """The decision stands, its fan-out goes on, and its outcome is recorded."""
    async with open_controller(tmp_path, SLOW_HEARTBEAT_MS) as served:
        await served.quotas.CreateQuota(pb.CreateQuotaRequest(quota=pb.Quota(name="q", target=100)))
        async with mute_agent(served, "mute"):
            request = pb.SetTargetRequest(request_id="one", quota="q", target=40, wait=Duration(seconds=60))
            call = served.quotas.SetTarget(request)
            await eventually(lambda: target_is(served, 40))
            call.cancel()

        async def recorded() -> bool:
            return [each.outcome for each in (await newest(served)).reached] == [pb.OUTCOME_PENDING_OFFLINE]

        await eventually(recorded)

        async def replaced() -> bool:
            answer = await served.quotas.SetTarget(request)
            return [each.outcome for each in answer.outcomes] == [pb.OUTCOME_PENDING_OFFLINE]

        await eventually(replaced)


# --- counts ----------------------------------------------------------------------------------------------------------


async def test_counts_add_up(fleet: Fleet) -> None:
    """What agents report, what they hold, and the bound that the truth never passes."""
    await fleet.quota(target=100, decimals=1, critical_percent=10)
    a = await fleet.agent("a")
    await fleet.agent("b")
    await a.acquire("q", 7)
    await a.acquire("q", 3, hold=Duration(seconds=60))
    count = await fleet.count()
    assert (count.target, count.count, count.held, count.decimals) == (100, 7, 3, 1)
    assert (count.upper_bound, count.escrowed, count.agents, count.connected_agents) == (100, 100, 2, 2)
    assert count.critical
    assert not count.exhausted
    assert count.HasField("oldest_report_age")
    await fleet.set_target(10)
    assert (await fleet.count()).exhausted


async def test_numbers_of_agents_come_in_pages(fleet: Fleet) -> None:
    """By name and epoch; with refresh each row says what became of the question."""
    await fleet.quota(target=100)
    await fleet.agent("b")
    await fleet.agent("a", connect=False)
    await fleet.agent("c")
    await fleet.agents["b"].acquire("q", 5)
    rows: list[pb.AgentCount] = []
    request = pb.GetCountRequest(quota="q", page_size=2, refresh=True)
    while True:
        page = await fleet.served.quotas.GetCount(request)
        rows += page.agents
        request.page_token = page.next_page_token
        if not page.next_page_token:
            break
    assert [(row.agent, row.count, row.connected, row.member) for row in rows] == [
        ("a", 0, False, True),
        ("b", 5, True, True),
        ("c", 0, True, True),
    ]
    assert [row.outcome for row in rows] == [
        pb.OUTCOME_PENDING_OFFLINE,
        pb.OUTCOME_APPLIED,
        pb.OUTCOME_APPLIED,
    ]
    assert [row.HasField("acknowledged_after") for row in rows] == [False, True, True]
    assert [row.HasField("report_time") for row in rows] == [False, True, True]
    plain = await fleet.served.quotas.GetCount(pb.GetCountRequest(quota="q"))
    assert not plain.agents
    assert not plain.count.HasField("oldest_report_age"), "one of them has never reported"


async def test_rows_of_one_name_and_epoch_do_not_hide_each_other(fleet: Fleet) -> None:
    """A retired agent's name is free: the next one of that name begins with epoch 1 too."""
    await fleet.quota(target=100)
    for _ in range(3):
        await fleet.served.agents.CreateAgent(admin_pb.CreateAgentRequest(name="a"))
        await fleet.assign("a")
        await fleet.served.agents.RetireAgent(admin_pb.RetireAgentRequest(agent="a"))
    rows: list[pb.AgentCount] = []
    request = pb.GetCountRequest(quota="q", page_size=1)
    while not rows or request.page_token:
        page = await fleet.served.quotas.GetCount(request)
        rows += page.agents
        request.page_token = page.next_page_token
    assert [(row.agent, row.epoch, row.member) for row in rows] == [("a", 1, False)] * 3


async def test_a_question_that_is_not_answered_times_out(tmp_path: Path) -> None:
    """Being up to date does not answer it."""
    async with open_controller(tmp_path, SLOW_HEARTBEAT_MS) as served:
        await served.quotas.CreateQuota(pb.CreateQuotaRequest(quota=pb.Quota(name="q", target=100)))
        async with mute_agent(served, "mute"):
            request = pb.GetCountRequest(
                quota="q", refresh=True, page_size=10, wait=Duration(nanos=10_000_000)
            )
            answer = await served.quotas.GetCount(request)
            assert [row.outcome for row in answer.agents] == [pb.OUTCOME_TIMED_OUT]


async def test_lists_come_in_pages(fleet: Fleet) -> None:
    """Every row once, in order, whatever the size of a page."""
    for number in range(5):
        await fleet.quota(f"q{number}", 100)
    for target in range(4):
        await fleet.set_target(target, "q0")
    quotas = fleet.served.quotas
    names: list[str] = []
    lists = pb.ListQuotasRequest(page_size=2)
    while not names or lists.page_token:
        page = await quotas.ListQuotas(lists)
        names += [quota.name for quota in page.quotas]
        lists.page_token = page.next_page_token
    assert names == ["q0", "q1", "q2", "q3", "q4"]
    numbers: list[int] = []
    history = pb.ListHistoryRequest(quota="q0", page_size=2)
    while not numbers or history.page_token:
        entries = await quotas.ListHistory(history)
        numbers += [entry.number for entry in entries.entries]
        history.page_token = entries.next_page_token
    assert len(numbers) == 5
    assert numbers == sorted(numbers, reverse=True)


# --- watch -----------------------------------------------------------------------------------------------------------


async def test_a_watch_sees_every_change(fleet: Fleet) -> None:
    """The numbers now, then what they become; changes in quick succession come as one."""
    await fleet.quota(target=100)
    stream = fleet.served.quotas.WatchQuota(pb.WatchQuotaRequest(quota="q"))
    first = await stream.read()
    assert isinstance(first, pb.WatchQuotaResponse)
    assert first.count.target == 100
    for target in range(50, 0, -1):
        await fleet.set_target(target)
    seen: list[int] = []
    while not seen or seen[-1] != 1:
        response = await stream.read()
        assert isinstance(response, pb.WatchQuotaResponse)
        seen.append(response.count.target)
    assert seen == sorted(seen, reverse=True)
    assert len(seen) < 50
    await fleet.served.quotas.CloseQuota(pb.CloseQuotaRequest(quota="q"))
    last = await stream.read()
    assert isinstance(last, pb.WatchQuotaResponse)
    assert last.count.state == pb.QUOTA_STATE_CLOSED
    stream.cancel()


async def test_a_watch_sees_who_connects(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though nothing is decided then; what has not changed is not sent again."""
    monkeypatch.setattr(counts, "WATCH_LOOK_MS", 50)
    await fleet.quota(target=100)
    a = await fleet.agent("a")
    await fleet.count()
    stream = fleet.served.quotas.WatchQuota(pb.WatchQuotaRequest(quota="q"))
    numbers: list[int] = []
    while numbers[-1:] != [0]:
        response = await stream.read()
        assert isinstance(response, pb.WatchQuotaResponse)
        numbers.append(response.count.connected_agents)
        if numbers == [1]:
            await a.cut()
    assert numbers == [1, 0]
    stream.cancel()


async def test_a_watcher_that_has_gone_leaves_nothing(fleet: Fleet) -> None:
    """Neither does one that asked for what does not exist."""
    await fleet.quota(target=100)
    watchers = fleet.served.app.fleet._watchers
    streams = [fleet.served.quotas.WatchQuota(pb.WatchQuotaRequest(quota="q")) for _ in range(3)]
    for stream in streams:
        await stream.read()
    assert sum(map(len, watchers.values())) == 3
    for stream in streams:
        stream.cancel()
    await until(lambda: not watchers, "all watchers are gone")
    assert (await fails(fleet.served.quotas.WatchQuota(pb.WatchQuotaRequest(quota="no")).read())).reason
    assert not watchers


async def test_a_controller_that_stops_ends_its_watches(tmp_path: Path) -> None:
    """It does not wait for those who watch; they hear that they should dial again."""
    async with AsyncExitStack() as stack:
        async with open_controller(tmp_path) as served:
            await served.quotas.CreateQuota(pb.CreateQuotaRequest(quota=pb.Quota(name="q", target=100)))
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(served.address))
            stream = quota_grpc.QuotaServiceStub(channel).WatchQuota(pb.WatchQuotaRequest(quota="q"))
            await stream.read()
            reading = asyncio.create_task(fails(stream.read()))
        error = await reading
    assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "")
    assert "watch again" in error.message
