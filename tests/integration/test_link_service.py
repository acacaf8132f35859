"""The link on real gRPC: who may speak, what is refused, and that a refusal changes nothing."""

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from quotafleet.errors import QuotafleetError, from_rpc_error
from quotafleet.link import wire
from quotafleet.link.messages import (
    FromAgent,
    FromController,
    Hello,
    Report,
    Revision,
    Standing,
    Totals,
    Welcome,
)
from quotafleet.v1 import agent_admin_service_pb2 as admin_pb
from quotafleet.v1 import agent_link_service_pb2 as pb
from quotafleet.v1 import quota_service_pb2 as quota_pb
from tests.databases import on_both
from tests.server_kit import Served, open_controller

pytestmark = on_both

Requests = list[pb.ConnectRequest]


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with open_controller(tmp_path, heartbeat_ms=60_000) as opened:
        quota = quota_pb.Quota(name="q", target=100)
        await opened.quotas.CreateQuota(quota_pb.CreateQuotaRequest(quota=quota))
        yield opened


async def enrol(served: Served, name: str = "a") -> admin_pb.AgentCredential:
    created = await served.agents.CreateAgent(admin_pb.CreateAgentRequest(name=name))
    assignment = admin_pb.Assignment(quota="q", agent=name)
    await served.agents.AssignQuota(admin_pb.AssignQuotaRequest(assignment=assignment))
    return created.credential


def hello(credential: admin_pb.AgentCredential, dial: int = 1) -> Hello:
    return Hello(credential.agent_uid, credential.epoch, "store", dial, b"", 1, ())


async def talk(
    served: Served, token: str | None, *messages: FromAgent | pb.ConnectRequest
) -> list[FromController]:
    """Sends messages on one stream and reads until it ends. Raises QuotafleetError."""
    metadata = () if token is None else (("authorization", f"Bearer {token}"),)
    call = served.links.Connect(metadata=metadata)
    answers = []
    try:
        for message in messages:
            await call.write(message if isinstance(message, pb.ConnectRequest) else wire.to_request(message))
        await call.done_writing()
        async for response in call:
            answers.append(wire.from_response(response))
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error
    return answers


async def refusal(
    served: Served, token: str | None, *messages: FromAgent | pb.ConnectRequest
) -> QuotafleetError:
    with pytest.raises(QuotafleetError) as refused:
        await talk(served, token, *messages)
    return refused.value


async def test_no_token_and_somebody_elses_secret_are_unauthenticated(served: Served) -> None:
    credential = await enrol(served)
    forged = credential.token[:-4] + "AAAA"
    for token in (None, "nonsense", forged, "qfa1.x.1.y", "qfa1.x.99999999999999999999.y"):
        error = await refusal(served, token, hello(credential))
        assert (error.code, error.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID")


async def test_an_agent_can_speak_only_for_itself_and_its_own_epoch(served: Served) -> None:
    mine, other = await enrol(served, "mine"), await enrol(served, "other")
    error = await refusal(served, mine.token, hello(other))
    assert (error.code, error.reason) == (grpc.StatusCode.PERMISSION_DENIED, "NOT_YOUR_AGENT")
    mine.epoch += 1
    assert (await refusal(served, mine.token, hello(mine))).reason == "NOT_YOUR_AGENT"


async def test_a_link_that_speaks_before_hello_is_refused(served: Served) -> None:
    credential = await enrol(served)
    error = await refusal(served, credential.token, Report(1, b"", 1))
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert error.fields == (("message", "a stream begins with hello"),)


async def test_a_second_hello_is_refused(served: Served) -> None:
    credential = await enrol(served)
    error = await refusal(served, credential.token, hello(credential), hello(credential, dial=2))
    assert [path for path, _ in error.fields] == ["hello"]


@pytest.mark.parametrize(
    ("standing", "path"),
    [
        ({"limit": -1}, "report.standings[0].limit"),
        ({"limit": 10**15 + 1}, "report.standings[0].limit"),
        ({"held": -5}, "report.standings[0].held"),
        ({"sequence": -1}, "report.standings[0].sequence"),
        ({"quota_uid": "x" * 200}, "report.standings[0].quota_uid"),
    ],
)
async def test_bad_fields_are_named_and_change_nothing(
    served: Served, standing: dict[str, object], path: str
) -> None:
    credential = await enrol(served)
    request = wire.to_request(Report(1, b"", 1, (Standing("q", Revision(), 0, Totals(), 0, 1),)))
    for name, value in standing.items():
        setattr(request.report.standings[0], name, value)
    error = await refusal(served, credential.token, hello(credential), request)
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert [found for found, _ in error.fields] == [path]
    counted = await served.quotas.GetCount(quota_pb.GetCountRequest(quota="q"))
    assert (counted.count.count, counted.count.held) == (0, 0)


async def test_an_empty_message_is_refused(served: Served) -> None:
    credential = await enrol(served)
    error = await refusal(served, credential.token, pb.ConnectRequest())
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")


async def test_a_message_that_is_too_large_gets_grpcs_own_status(served: Served) -> None:
    credential = await enrol(served)
    huge = pb.ConnectRequest(report=pb.Report(mark=b"x" * 5_000_000))
    error = await refusal(served, credential.token, hello(credential), huge)
    assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "")


async def test_a_store_past_its_own_limit_is_refused_and_not_counted(served: Served) -> None:
    credential = await enrol(served)
    (welcome,) = await talk(served, credential.token, hello(credential))
    assert isinstance(welcome, Welcome)
    (given,) = welcome.allocations
    over = Standing(
        given.quota_uid, Revision(0, given.revision.number), given.limit, Totals(given.limit + 1), 0, 1
    )
    error = await refusal(
        served, credential.token, hello(credential, dial=2), Report(1, welcome.mark, 1, (over,))
    )
    assert error.reason == "FIELD_INVALID"
    counted = await served.quotas.GetCount(quota_pb.GetCountRequest(quota="q"))
    assert counted.count.count == 0


async def test_a_newer_stream_of_the_same_agent_ends_the_older_one(served: Served) -> None:
    credential = await enrol(served)
    metadata = (("authorization", f"Bearer {credential.token}"),)
    older = served.links.Connect(metadata=metadata)
    await older.write(wire.to_request(hello(credential)))
    assert isinstance(await older.read(), pb.ConnectResponse)
    newer = served.links.Connect(metadata=metadata)
    await newer.write(wire.to_request(hello(credential, dial=2)))
    assert isinstance(await newer.read(), pb.ConnectResponse)
    assert await older.read() is grpc.aio.EOF
    newer.cancel()
