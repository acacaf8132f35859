"""Many processes on one agent at its limit: never one unit more, and never one less."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import grpc
import pytest

from quotafleet.agent.v1 import gate_service_pb2 as pb
from quotafleet.agent.v1 import gate_service_pb2_grpc as pb_grpc
from quotafleet.errors import from_rpc_error
from tests.agent_kit import FakeController, agent_process, quota_agent, serve

PROCESSES = 8
LIMIT = 100
ATTEMPTS = 25  # of each process: twice the limit in all
RUNS = 10

#: What a worker process keeps from run to run.
_worker: dict[str, Any] = {}


def begin(socket: str, barrier: Barrier) -> None:
    """Connect a worker process."""
    _worker["barrier"] = barrier
    _worker["stub"] = pb_grpc.GateServiceStub(grpc.insecure_channel(f"unix:{socket}"))


def hammer(quota: str, worker: int) -> list[str]:
    """Begin together with the others, and answer what became of each attempt."""
    calls = []
    _worker["barrier"].wait(30)
    for attempt in range(ATTEMPTS):
        request = pb.AcquireRequest(quota=quota, request_id=f"{worker}-{attempt}")
        calls.append(_worker["stub"].Acquire.future(request, timeout=30))
    return [outcome(call) for call in calls]


def outcome(call: Any) -> str:
    """Granted, or the reason of the refusal."""
    try:
        call.result()
    except grpc.RpcError as error:
        return from_rpc_error(error).reason
    return "granted"


async def grant(folder: Path) -> None:
    """Give an agent its limits, one quota for each run."""
    controller = FakeController()
    for run in range(RUNS):
        controller.want(f"run-{run}", LIMIT)
    async with serve(controller) as port:
        with agent_process(folder, f"127.0.0.1:{port}") as agent:
            await controller.until(lambda heard: len(heard.view) == RUNS)
            await asyncio.to_thread(agent.stop)


@pytest.fixture(scope="module")
def socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The socket of an agent whose controller is gone."""
    folder = tmp_path_factory.mktemp("hammer")
    asyncio.run(grant(folder))
    with agent_process(folder, "127.0.0.1:1") as agent:
        yield agent.socket


@pytest.fixture(scope="module")
def workers(socket: Path) -> Iterator[ProcessPoolExecutor]:
    """Eight processes that are connected and begin together."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(PROCESSES)
    with ProcessPoolExecutor(PROCESSES, context, begin, (str(socket), barrier)) as pool:
        yield pool


@pytest.mark.parametrize("run", range(RUNS))
def test_exactly_the_limit_is_granted(socket: Path, workers: ProcessPoolExecutor, run: int) -> None:
    """Eight processes ask for twice what there is, all at once."""
    quota = f"run-{run}"
    futures = [workers.submit(hammer, quota, worker) for worker in range(PROCESSES)]
    outcomes = [outcome for future in futures for outcome in future.result(60)]
    assert outcomes.count("granted") == LIMIT
    assert outcomes.count("QUOTA_REACHED") == PROCESSES * ATTEMPTS - LIMIT


def test_what_was_granted_is_on_disk(socket: Path, workers: ProcessPoolExecutor) -> None:
    """As many entries as grants, in every quota that was hammered."""
    status = quota_agent(socket, "status", "--json").json
    counts = {quota["quota"]: quota["balance"]["count"] for quota in status["quotas"]}
    for name, count in counts.items():
        entries = quota_agent(socket, "entries", name, "--limit", "1000", "--json").json["entries"]
        assert len({entry["request_id"] for entry in entries}) == count <= LIMIT


def test_eight_commands_with_one_request_id_count_once(socket: Path) -> None:
    """Each is a process of its own, and all get the same entry."""
    counted = quota_agent(socket, "entries", "run-0", "--state", "counted", "--json").json["entries"]
    for entry in counted[:1]:  # hammered: make room
        quota_agent(socket, "release", "run-0", entry["request_id"])
    acquire = ("acquire", "run-0", "--request-id", "again", "--json", "--socket", str(socket))
    command = [sys.executable, "-m", "quota_agent.cli.main", *acquire]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(PROCESSES)]
    entries = [json.loads(process.communicate(timeout=60)[0])["entry"] for process in processes]
    assert entries == entries[:1] * PROCESSES
    again = quota_agent(socket, "entries", "run-0", "--limit", "1000", "--json").json["entries"]
    assert [entry["request_id"] for entry in again].count("again") == 1
