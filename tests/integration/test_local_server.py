"""The agent's local server: health, reflection, its socket and its port."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from quota_agent.local.server import SERVICE, CannotListen, LocalServer, loopback_address
from quota_agent.local.service import GateServicer
from quotafleet.agent.v1 import gate_service_pb2 as pb
from quotafleet.agent.v1 import gate_service_pb2_grpc as pb_grpc
from quotafleet.errors import from_rpc_error
from tests.agent_kit import ServedAgent, served_agent

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[ServedAgent]:
    async with served_agent(tmp_path, {"visits": 10, "seats": 100_000}) as agent:
        yield agent


def take(request_id: str, quota: str = "visits", labels: dict[str, str] | None = None) -> pb.AcquireRequest:
    return pb.AcquireRequest(quota=quota, request_id=request_id, labels=labels)


async def test_a_full_disk_is_unavailable_and_heals(agent: ServedAgent) -> None:
    """Nothing was counted, health says NOT_SERVING, and both recover when there is room again."""
    health = health_pb2_grpc.HealthStub(agent.channel)
    changed: asyncio.Queue[bool] = asyncio.Queue()
    agent.gate.watch_health(changed.put_nowait)
    await agent.store.limit_pages(1)
    error, number = None, 0
    while error is None:  # the file has room for a few yet
        number += 1
        request = take(f"{number}", "seats", labels={f"{key}": "v" * 256 for key in range(16)})
        try:
            await agent.stub.Acquire(request)
        except grpc.RpcError as caught:
            error = from_rpc_error(caught)
    assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
    assert not await changed.get()
    await agent.server.set_healthy(agent.gate.healthy)
    for service in ("", SERVICE):
        checked = await health.Check(health_pb2.HealthCheckRequest(service=service))
        assert checked.status == NOT_SERVING
    assert (await agent.stub.GetCount(pb.GetCountRequest(quota="seats"))).balance.count == number - 1
    await agent.store.limit_pages(1_000_000)
    assert (await agent.stub.Acquire(request)).balance.count == number
    assert await changed.get()
    await agent.server.set_healthy(agent.gate.healthy)
    assert (await health.Check(health_pb2.HealthCheckRequest(service=SERVICE))).status == SERVING


async def test_generic_clients_find_their_way(agent: ServedAgent) -> None:
    """Reflection lists every service and describes ours."""
    stub = reflection_pb2_grpc.ServerReflectionStub(agent.channel)
    asked = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE),
    ]
    listed, described = [answer async for answer in stub.ServerReflectionInfo(iter(asked))]
    assert {service.name for service in listed.list_services_response.service} == {
        SERVICE,
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    assert described.file_descriptor_response.file_descriptor_proto


async def test_it_also_serves_on_loopback(agent: ServedAgent) -> None:
    """The same gate."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{agent.server.port}") as channel:
        stub = pb_grpc.GateServiceStub(channel)
        await stub.Acquire(take("a"))
    assert (await agent.stub.GetCount(pb.GetCountRequest(quota="visits"))).balance.count == 1


async def test_the_socket_belongs_to_its_owner_alone(agent: ServedAgent) -> None:
    """And so does the folder made for it."""
    assert stat.S_IMODE(agent.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(agent.path.parent.stat().st_mode) == 0o700


async def test_a_socket_in_use_is_not_taken_over(agent: ServedAgent) -> None:
    """But one that nobody serves any more is."""
    with pytest.raises(CannotListen, match="another agent serves"):
        async with LocalServer(GateServicer(agent.gate, lambda: False), agent.path):
            pass


@pytest.mark.parametrize(
    "spoil", [lambda path: path.write_text("mine"), lambda path: path.mkdir(), lambda path: None]
)
async def test_what_is_no_socket_is_not_removed(
    agent: ServedAgent, tmp_path: Path, spoil: Callable[[Path], object]
) -> None:
    """Nor is a path taken that is too long for a socket."""
    path = tmp_path / "taken"
    spoil(path)
    if not path.exists():
        path = tmp_path / ("x" * 108)
    with pytest.raises(CannotListen, match=r"not a socket|longer than"):
        async with LocalServer(GateServicer(agent.gate, lambda: False), path):
            pass


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.0:1", "192.0.2.1:80", "[::]:1", "example.org:1", "127.0.0.1", ":80", "127.0.0.1:x"),
        pytest.param("127.0.0.1:" + "1" * 5_000, id="a port of thousands of digits"),
    ],
)
def test_only_loopback_is_served(address: str) -> None:
    """Whoever reaches the agent can spend."""
    with pytest.raises(CannotListen):
        loopback_address(address)


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:7070", "localhost:7070", "127.1.2.3:1"])
def test_loopback_is_served(address: str) -> None:
    """In all its spellings."""
    assert loopback_address(address) == address
