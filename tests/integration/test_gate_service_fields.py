"""Bad fields of GateService are named by their paths, over real gRPC, and leave nothing behind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from quotafleet.agent.v1 import gate_service_pb2 as pb
from tests.agent_kit import ServedAgent, fails, served_agent


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[ServedAgent]:
    async with served_agent(tmp_path, {"visits": 10}) as agent:
        yield agent


LONG = "x" * 129
BAD_ACQUIRES: list[tuple[dict[str, Any], str]] = [
    ({"quota": ""}, "quota"),
    ({"quota": "Visits"}, "quota"),
    ({"quota": LONG}, "quota"),
    ({"quota": "a\nb"}, "quota"),
    ({"request_id": ""}, "request_id"),
    ({"request_id": LONG}, "request_id"),
    ({"request_id": "bell\a"}, "request_id"),
    ({"amount": 0}, "amount"),
    ({"amount": -5}, "amount"),
    ({"amount": 10**15 + 1}, "amount"),
    ({"mode": pb.ACQUIRE_MODE_UNSPECIFIED}, "mode"),
    ({"mode": 9}, "mode"),
    ({"hold": Duration()}, "hold"),
    ({"hold": Duration(seconds=-1)}, "hold"),
    ({"hold": Duration(seconds=86_400, nanos=1)}, "hold"),
    ({"hold": Duration(seconds=1, nanos=-5)}, "hold"),
    ({"max_wait": Duration(seconds=-1)}, "max_wait"),
    ({"max_wait": Duration(seconds=10, nanos=1)}, "max_wait"),
    ({"override_id": LONG}, "override_id"),
    ({"override_id": "o", "mode": pb.ACQUIRE_MODE_UP_TO}, "mode"),
    ({"override_id": "o", "hold": Duration(seconds=5)}, "hold"),
    ({"labels": {str(number): "" for number in range(17)}}, "labels"),
    ({"labels": {str(number): "" for number in range(10_000)}}, "labels"),
    ({"labels": {"": "x"}}, "labels"),
    ({"labels": {"k" * 65: "x"}}, "labels"),
    ({"labels": {"k": "v" * 257}}, "labels"),
    ({"labels": {"k": "line\nbreak"}}, "labels"),
]


@pytest.mark.parametrize(("values", "path"), BAD_ACQUIRES)
async def test_a_bad_field_is_named_as_in_the_proto(
    agent: ServedAgent, values: dict[str, Any], path: str
) -> None:
    """In a call of its own and as an item of a batch; the values themselves are not repeated."""
    request = pb.AcquireRequest(**{"quota": "visits", "request_id": "a", **values})
    alone = await fails(agent.stub.Acquire(request))
    assert (alone.code, alone.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert [field for field, _ in alone.fields] == [path]
    batch = await fails(
        agent.stub.AcquireBatch(
            pb.AcquireBatchRequest(items=[pb.AcquireRequest(quota="visits", request_id="b"), request])
        )
    )
    assert f"items[1].{path}" in [field for field, _ in batch.fields]
    assert (await agent.stub.GetCount(pb.GetCountRequest(quota="visits"))).balance.count == 0


STATES = [pb.ENTRY_STATE_HELD, pb.ENTRY_STATE_UNSPECIFIED]
BAD_CALLS: list[tuple[str, Message, list[str]]] = [
    ("Commit", pb.CommitRequest(quota="V", request_id=LONG), ["quota", "request_id"]),
    ("Cancel", pb.CancelRequest(), ["quota", "request_id"]),
    ("Release", pb.ReleaseRequest(quota="visits", request_id="\0"), ["request_id"]),
    ("GetEntry", pb.GetEntryRequest(request_id="a"), ["quota"]),
    ("GetCount", pb.GetCountRequest(), ["quota"]),
    ("CheckAvailability", pb.CheckAvailabilityRequest(quota="visits", amount=0), ["amount"]),
    ("ListEntries", pb.ListEntriesRequest(quota="visits", page_size=-1), ["page_size"]),
    ("ListEntries", pb.ListEntriesRequest(quota="visits", page_size=1_001), ["page_size"]),
    ("ListEntries", pb.ListEntriesRequest(quota="visits", page_token="-1"), ["page_token"]),
    ("ListEntries", pb.ListEntriesRequest(quota="visits", page_token="9" * 30), ["page_token"]),
    (
        "ListEntries",
        pb.ListEntriesRequest(quota="visits", states=STATES),
        ["states[1]"],
    ),
    ("GetStatus", pb.GetStatusRequest(page_size=1_001, page_token="?"), ["page_size", "page_token"]),
    (
        "RequestOverride",
        pb.RequestOverrideRequest(quota="visits", reason="x" * 1_025),
        ["amount", "reason", "request_id"],
    ),
]


@pytest.mark.parametrize(("method", "request_", "paths"), BAD_CALLS)
async def test_every_bad_field_of_a_call_is_named(
    agent: ServedAgent, method: str, request_: Message, paths: list[str]
) -> None:
    """All of them at once."""
    error = await fails(getattr(agent.stub, method)(request_))
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert sorted(path for path, _ in error.fields) == paths


async def test_a_batch_in_which_very_much_is_wrong_is_refused_in_words_that_arrive(
    agent: ServedAgent,
) -> None:
    """As many fields as a call's trailers hold, and how many more there are."""
    items = [pb.AcquireRequest(amount=-1, labels={"": ""}) for _ in range(1_000)]
    error = await fails(agent.stub.AcquireBatch(pb.AcquireBatchRequest(items=items)))
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert error.fields[0][0] == "items[0].quota"
    assert error.message.endswith(f" ... and {4_000 - len(error.fields)} more bad fields")
