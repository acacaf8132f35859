"""Two controllers on one database: one order of changes, one tariff, and a backup that is put back."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from quotafleet.errors import from_rpc_error
from quotafleet.v1 import agent_admin_service_pb2 as admin_pb
from quotafleet.v1 import quota_service_pb2 as pb
from quotafleet.v1 import rules_service_pb2 as rules_pb
from tests.pair_kit import PairFleet, ServedElsewhere, open_pair
from tests.postgres_kit import PostgresServer, find_binaries
from tests.server_kit import until
from tests.tariff_kit import BASE, OPTIONS, message

SPENT = 1_000
#: Long enough that nobody looks unreachable on a busy machine.
BEAT_MS = 1_000


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as started:
        yield started


@pytest.fixture
async def fleet(tmp_path: Path, server: PostgresServer) -> AsyncIterator[PairFleet]:
    async with open_pair(tmp_path, server, heartbeat_ms=BEAT_MS) as opened:
        yield opened


async def set_target(served: ServedElsewhere, target: int, request_id: str = "") -> pb.SetTargetResponse:
    return await served.quotas.SetTarget(pb.SetTargetRequest(quota="q", target=target, request_id=request_id))


# --- one order -------------------------------------------------------------------------------------------------------


async def test_two_set_targets_at_once_through_different_controllers_have_one_order(fleet: PairFleet) -> None:
    await fleet.quota(target=100)
    agents = [await fleet.agent(name) for name in ("a", "b")]
    for turn in range(10):
        targets = (200 + turn, 300 + turn)
        answers = await asyncio.gather(*(set_target(fleet.at(n), targets[n]) for n in (0, 1)))
        listed = await fleet.at(0).quotas.ListHistory(pb.ListHistoryRequest(quota="q", page_size=1_000))
        entries = [entry for entry in listed.entries if entry.action == "set-target"]
        assert len(entries) == 2 * (turn + 1)
        (before, last), (_, first) = [
            (json.loads(e.before_json), json.loads(e.after_json)) for e in entries[:2]
        ]
        assert {first["target"], last["target"]} == set(targets)
        assert before["target"] == first["target"]
        versions = {answer.quota.target: answer.quota.etag for answer in answers}
        assert len(set(versions.values())) == 2
        count = await fleet.count()
        assert count.target == last["target"] >= count.escrowed
        for answer in answers:
            assert {o.agent for o in answer.outcomes} == {"a", "b"}
            assert {o.outcome for o in answer.outcomes} == {pb.OUTCOME_APPLIED}
    assert sum([await agent.spend("q", 10) for agent in agents]) == 20
    for served in fleet.every_served:
        answered = await served.quotas.GetCount(pb.GetCountRequest(quota="q", refresh=True, page_size=10))
        assert answered.count.count == 20
        assert {a.outcome for a in answered.agents} == {pb.OUTCOME_APPLIED}


async def test_one_request_id_through_both_controllers_at_once_is_done_once(fleet: PairFleet) -> None:
    await fleet.quota(target=100)
    await fleet.agent("a")
    answers = await asyncio.gather(*(set_target(served, 150, "same") for served in fleet.every_served))
    assert answers[0].quota == answers[1].quota
    listed = await fleet.at(0).quotas.ListHistory(pb.ListHistoryRequest(quota="q"))
    assert [entry.action for entry in listed.entries].count("set-target") == 1


async def test_one_name_at_once_through_both_controllers_is_given_once(fleet: PairFleet) -> None:
    request = admin_pb.CreateAgentRequest(name="twice")
    calls = (served.agents.CreateAgent(request) for served in fleet.every_served)
    answers = await asyncio.gather(*calls, return_exceptions=True)
    refused = [a for a in answers if isinstance(a, grpc.aio.AioRpcError)]
    assert [from_rpc_error(error).reason for error in refused] == ["AGENT_EXISTS"]


async def test_an_agent_that_dials_the_other_controller_leaves_the_first(fleet: PairFleet) -> None:
    """Its newer stream owns it; the older one is ended, whatever controller it was on."""
    await fleet.quota(target=100)
    agent = await fleet.agent("a")
    older, dialled = agent.uplink, agent.addresses[0]
    other = next(c.address for c in fleet.controllers if c.address != dialled)
    agent.connect(other)
    await agent.linked()
    await set_target(fleet.at(0), 120)
    assert await agent.spend("q", 200) == 120
    assert (await fleet.count()).count == 120
    assert older is not agent.uplink


async def test_a_watch_on_one_controller_sees_what_the_other_decides(fleet: PairFleet) -> None:
    await fleet.quota(target=100)
    watch = fleet.at(0).quotas.WatchQuota(pb.WatchQuotaRequest(quota="q"))
    assert await target_seen(watch) == 100
    await set_target(fleet.at(1), 170)
    assert await target_seen(watch) == 170
    watch.cancel()


async def target_seen(watch: Any) -> int:
    response: pb.WatchQuotaResponse = await watch.read()
    return response.count.target


async def test_an_override_decided_on_one_controller_reaches_an_agent_on_the_other(fleet: PairFleet) -> None:
    await fleet.quota(target=10)
    agents = [await fleet.agent(name) for name in ("a", "b")]
    await asyncio.gather(*(agent.spend("q") for agent in agents))
    for number, agent in enumerate(agents):
        served = fleet.at(number)
        asked = pb.RequestOverrideRequest(quota="q", agent=agent.name, amount=3, reason="the story says so")
        override = (await served.quotas.RequestOverride(asked)).override
        decision = pb.DecideOverrideRequest(override_id=override.override_id, decision=pb.DECISION_APPROVE)
        await fleet.at(1 - number).quotas.DecideOverride(decision)
        await until(lambda: bool(agent.gate.override_standings()), "the agent has it")  # noqa: B023 - at once
        [standing] = agent.gate.override_standings()
        assert (standing.override_id, standing.amount) == (override.override_id, 3)


# --- tariff data -----------------------------------------------------------------------------------------------------


async def test_tariff_data_committed_through_one_controller_is_what_the_other_judges_on(
    fleet: PairFleet,
) -> None:
    stored = await fleet.at(0).rules.CommitTransaction(
        rules_pb.CommitTransactionRequest(transaction=message(BASE), options=OPTIONS)
    )
    request = rules_pb.ValidateTransactionRequest(transaction=message(BASE), options=OPTIONS)
    judged = await fleet.at(1).rules.ValidateTransaction(request)
    async with asyncio.timeout(20):
        while judged.data_version < stored.data_version:
            judged = await fleet.at(1).rules.ValidateTransaction(request)
    assert judged.summary.violations > 0  # all of it is there already


# --- a backup put back -----------------------------------------------------------------------------------------------


def dump(server: PostgresServer, database: str, file: Path) -> None:
    program = str(find_binaries() / "pg_dump")
    subprocess.run([program, "-Fc", "-f", str(file), server.url(database)], check=True, timeout=60)


def put_back(server: PostgresServer, database: str, file: Path) -> None:
    program = str(find_binaries() / "pg_restore")
    subprocess.run(
        [program, "--clean", "--if-exists", "-d", server.url(database), str(file)], check=True, timeout=60
    )


def recover(fleet: PairFleet) -> str:
    command = [sys.executable, "-m", "quota_server.cli.server", "recover", "--yes"]
    command += ["--data-dir", str(fleet.folder / "controller"), "--database", fleet.url]
    return subprocess.run(command, check=True, timeout=60, capture_output=True, text=True).stdout


@pytest.mark.parametrize("declared", [True, False])
async def test_a_backup_from_before_1000_acquisitions_and_two_set_targets_is_put_back(
    fleet: PairFleet, server: PostgresServer, tmp_path: Path, declared: bool
) -> None:
    await fleet.quota(target=500)
    agents = [await fleet.agent(name) for name in ("a", "b", "c", "d")]
    await fleet.count()
    await asyncio.to_thread(dump, server, fleet.database, tmp_path / "backup")
    await set_target(fleet.at(0), 900)
    await set_target(fleet.at(1), 1_200)
    assert [await agent.spend("q", SPENT // 4) for agent in agents] == [SPENT // 4] * 4
    for controller in fleet.controllers:
        await controller.kill()
    await asyncio.to_thread(put_back, server, fleet.database, tmp_path / "backup")
    if declared:
        assert "generation 1" in await asyncio.to_thread(recover, fleet)
    for controller in fleet.controllers:
        await controller.start()
    for agent in agents:
        await agent.linked()
    count = await fleet.count()
    # The operator sees it: the old target is back, more is used than that, and the bound is unknown.
    assert (count.target, count.count, count.recovering) == (500, SPENT, True)
    assert not count.HasField("upper_bound")
    assert count.escrowed >= SPENT
    assert sum([await agent.spend("q") for agent in agents]) <= 200, "no limit grows"
    used = await fleet.true_total()
    status = await fleet.at(1).agents.GetRecovery(admin_pb.GetRecoveryRequest())
    async with asyncio.timeout(30):
        while status.unheard:  # an agent is heard when it has acknowledged something of the new generation
            status = await fleet.at(1).agents.GetRecovery(admin_pb.GetRecoveryRequest())
    assert status.recovering
    await fleet.at(1).agents.FinishRecovery(
        admin_pb.FinishRecoveryRequest(confirm=True, reason="all are heard")
    )
    count = await fleet.count()
    assert (count.count, count.recovering, count.overcommitted) == (used, False, True)
    history = await fleet.at(0).quotas.ListHistory(pb.ListHistoryRequest(quota="q", page_size=100))
    actions = [entry.action for entry in history.entries]
    assert "begin-recovery" in actions
    assert actions.count("adopted") >= len(agents)
    await set_target(fleet.at(0), used + 40)
    assert await fleet.hungry(*agents, total=used + 40) == 40
