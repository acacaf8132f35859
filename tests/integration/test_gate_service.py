"""GateService over real gRPC on a unix socket, with a real gate on real SQLite."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from quotafleet.agent.v1 import gate_service_pb2 as pb
from quotafleet.errors import from_status
from quotafleet.link.messages import OverrideState, OverrideUpdate
from tests.agent_kit import ServedAgent, fails, served_agent

LIMITS = {"visits": 10, "seats": 100_000, "beds": 3}


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[ServedAgent]:
    async with served_agent(tmp_path, LIMITS) as agent:
        yield agent


def take(request_id: str, quota: str = "visits", **values: Any) -> pb.AcquireRequest:
    return pb.AcquireRequest(quota=quota, request_id=request_id, **values)


# --- the life of an entry ---------------------------------------------------------------------------------------------


async def test_acquire_answers_entry_and_numbers(agent: ServedAgent) -> None:
    """A repeat gets the same entry and counts once."""
    first = await agent.stub.Acquire(take("a", amount=4, labels={"who": "me"}))
    assert (first.granted, first.entry.state, first.entry.quota) == (4, pb.ENTRY_STATE_COUNTED, "visits")
    assert (first.entry.quota_uid, dict(first.entry.labels)) == ("uid-visits", {"who": "me"})
    assert first.balance == pb.Balance(count=4, remaining=6, limit=10)
    assert first.entry.create_time.seconds > 0
    assert not first.entry.HasField("expire_time")
    assert await agent.stub.Acquire(take("a", amount=4, labels={"who": "me"})) == first


async def test_the_default_amount_is_one(agent: ServedAgent) -> None:
    """An amount that is left out is 1; one that is sent as 0 is an error."""
    assert (await agent.stub.Acquire(take("a"))).granted == 1
    assert (await fails(agent.stub.Acquire(take("b", amount=0)))).fields[0][0] == "amount"


async def test_released_units_can_be_acquired_again(agent: ServedAgent) -> None:
    """But not under the same request_id."""
    await agent.stub.Acquire(take("a", amount=10))
    released = await agent.stub.Release(pb.ReleaseRequest(quota="visits", request_id="a"))
    assert (released.entry.state, released.balance.remaining) == (pb.ENTRY_STATE_RELEASED, 10)
    assert (await fails(agent.stub.Acquire(take("a", amount=10)))).reason == "ENTRY_ENDED"
    assert (await agent.stub.Acquire(take("b", amount=10))).granted == 10


async def test_a_hold_is_set_aside_until_it_is_committed_or_cancelled(agent: ServedAgent) -> None:
    """Commit makes it count, Cancel gives it back."""
    hold = Duration(seconds=60)
    held = await agent.stub.Acquire(take("a", amount=4, hold=hold))
    assert (held.entry.state, held.balance.held) == (pb.ENTRY_STATE_HELD, 4)
    assert held.entry.expire_time.seconds - held.entry.create_time.seconds == 60
    committed = await agent.stub.Commit(pb.CommitRequest(quota="visits", request_id="a"))
    assert (committed.entry.state, committed.balance.count) == (pb.ENTRY_STATE_COUNTED, 4)
    assert not committed.entry.HasField("expire_time")
    await agent.stub.Acquire(take("b", hold=hold))
    cancelled = await agent.stub.Cancel(pb.CancelRequest(quota="visits", request_id="b"))
    assert (cancelled.entry.state, cancelled.balance.held) == (pb.ENTRY_STATE_CANCELLED, 0)


async def test_up_to_takes_what_is_left(agent: ServedAgent) -> None:
    """At least one unit, or it is refused."""
    await agent.stub.Acquire(take("a", amount=8))
    rest = await agent.stub.Acquire(take("b", amount=8, mode=pb.ACQUIRE_MODE_UP_TO))
    assert (rest.granted, rest.entry.granted) == (2, 2)
    error = await fails(agent.stub.Acquire(take("c", amount=8, mode=pb.ACQUIRE_MODE_UP_TO)))
    assert error.reason == "QUOTA_REACHED"


async def test_an_override_pays_beyond_the_limit(agent: ServedAgent) -> None:
    """It shows in GetCount, apart from the count."""
    asked = pb.RequestOverrideRequest(quota="visits", amount=7, reason="a bus", request_id="o")
    pending = await agent.stub.RequestOverride(asked)
    assert pending.override == pb.Override(
        quota="visits", amount=7, state=pb.OVERRIDE_STATE_PENDING, request_id="o"
    )
    word = OverrideUpdate("over-1", "o", "uid-visits", 7, OverrideState.APPROVED)
    await agent.gate.apply((), (word,))
    assert (await agent.stub.RequestOverride(asked)).override.override_id == "over-1"
    await agent.stub.Acquire(take("a", amount=7, override_id="over-1"))
    numbers = await agent.stub.GetCount(pb.GetCountRequest(quota="visits"))
    assert (numbers.overridden, numbers.balance.count) == (7, 0)


async def test_check_availability_leaves_nothing_behind(agent: ServedAgent) -> None:
    """It says what an Acquire would come to now."""
    for amount, available in ((10, True), (11, False)):
        answer = await agent.stub.CheckAvailability(
            pb.CheckAvailabilityRequest(quota="visits", amount=amount)
        )
        assert (answer.available, answer.balance.count) == (available, 0)


# --- batches ----------------------------------------------------------------------------------------------------------


async def test_each_item_of_a_batch_is_answered_on_its_own(agent: ServedAgent) -> None:
    """A refused item carries the status that Acquire would have ended with."""
    items = [take("a", amount=8), take("b", amount=8), take("c", "unknown"), take("d", amount=2)]
    answers = (await agent.stub.AcquireBatch(pb.AcquireBatchRequest(items=items))).results
    assert [answer.WhichOneof("result") for answer in answers] == ["granted", "refused", "refused", "granted"]
    assert answers[3].granted.balance.remaining == 0
    reached, unknown = from_status(answers[1].refused), from_status(answers[2].refused)
    assert (reached.code, reached.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_REACHED")
    assert reached.metadata["requested"] == "8"
    assert unknown.reason == "NOT_ASSIGNED"


async def test_an_atomic_batch_keeps_all_or_nothing(agent: ServedAgent) -> None:
    """Over several quotas; the refusal names the item."""
    items = [take("a"), take("b", "beds", amount=4), take("c", "seats")]
    error = await fails(agent.stub.AcquireBatch(pb.AcquireBatchRequest(items=items, atomic=True)))
    assert (error.reason, error.metadata["index"]) == ("QUOTA_REACHED", "1")
    assert (await agent.stub.GetCount(pb.GetCountRequest(quota="visits"))).balance.count == 0
    items[1].amount = 3
    granted = await agent.stub.AcquireBatch(pb.AcquireBatchRequest(items=items, atomic=True))
    assert [answer.granted.entry.quota for answer in granted.results] == ["visits", "beds", "seats"]


async def test_every_bad_item_of_a_batch_is_named(agent: ServedAgent) -> None:
    """And none is kept."""
    items = [take("a"), take("b", amount=-1), take("", max_wait=Duration(seconds=1))]
    items.append(take("d", mode=pb.ACQUIRE_MODE_UP_TO))
    error = await fails(agent.stub.AcquireBatch(pb.AcquireBatchRequest(items=items, atomic=True)))
    assert error.reason == "FIELD_INVALID"
    assert sorted(path for path, _ in error.fields) == [
        "items[1].amount",
        "items[2].max_wait",
        "items[2].request_id",
        "items[3].mode",
    ]
    assert (await agent.stub.GetCount(pb.GetCountRequest(quota="visits"))).balance.count == 0


@pytest.mark.parametrize("count", [0, 1_001])
async def test_a_batch_has_1_to_1000_items(agent: ServedAgent, count: int) -> None:
    """Neither none nor more."""
    items = [take(str(number), "seats") for number in range(count)]
    error = await fails(agent.stub.AcquireBatch(pb.AcquireBatchRequest(items=items)))
    assert [path for path, _ in error.fields] == ["items"]


async def test_a_thousand_items_are_one_call(agent: ServedAgent) -> None:
    """The largest batch."""
    items = [take(str(number), "seats") for number in range(1_000)]
    answers = (await agent.stub.AcquireBatch(pb.AcquireBatchRequest(items=items))).results
    assert answers[-1].granted.balance.count == 1_000


# --- lists ------------------------------------------------------------------------------------------------------------


async def test_entries_come_in_pages(agent: ServedAgent) -> None:
    """In the order they were granted; the last page has no token."""
    for number in range(7):
        await agent.stub.Acquire(take(str(number)))
    request, found = pb.ListEntriesRequest(quota="visits", page_size=3), []
    while True:
        page = await agent.stub.ListEntries(request)
        found.append([entry.request_id for entry in page.entries])
        request.page_token = page.next_page_token
        if not page.next_page_token:
            break
    assert found == [["0", "1", "2"], ["3", "4", "5"], ["6"]]


async def test_entries_are_filtered_by_state(agent: ServedAgent) -> None:
    """And one can be asked for by its id."""
    for number in range(3):
        await agent.stub.Acquire(take(str(number)))
    await agent.stub.Release(pb.ReleaseRequest(quota="visits", request_id="1"))
    states = [pb.ENTRY_STATE_RELEASED]
    page = await agent.stub.ListEntries(pb.ListEntriesRequest(quota="visits", states=states))
    assert [entry.request_id for entry in page.entries] == ["1"]
    one = await agent.stub.GetEntry(pb.GetEntryRequest(quota="visits", request_id="1"))
    assert one.entry == page.entries[0]
    unknown = await fails(agent.stub.GetEntry(pb.GetEntryRequest(quota="visits", request_id="x")))
    assert (unknown.code, unknown.reason) == (grpc.StatusCode.NOT_FOUND, "ENTRY_UNKNOWN")


async def test_status_shows_agent_and_quotas(agent: ServedAgent) -> None:
    """A page of quotas, by name."""
    status = await agent.stub.GetStatus(pb.GetStatusRequest(page_size=2))
    assert (status.agent, status.epoch, status.store_ok, status.fenced) == ("site-a", 1, True, False)
    assert [quota.quota for quota in status.quotas] == ["beds", "seats"]
    rest = await agent.stub.GetStatus(pb.GetStatusRequest(page_token=status.next_page_token))
    assert ([quota.quota for quota in rest.quotas], rest.next_page_token) == (["visits"], "")


# --- refusals ---------------------------------------------------------------------------------------------------------


async def test_a_refusal_carries_its_numbers(agent: ServedAgent) -> None:
    """Status, reason and metadata, for the program; a message for people."""
    await agent.stub.Acquire(take("a", amount=7))
    error = await fails(agent.stub.Acquire(take("b", amount=4)))
    assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_REACHED")
    numbers = {"quota": "visits", "limit": "10", "count": "7", "held": "0", "requested": "4"}
    assert error.metadata == numbers
    assert error.message


async def test_other_content_under_the_same_id_is_refused(agent: ServedAgent) -> None:
    """ALREADY_EXISTS, REQUEST_ID_REUSED."""
    await agent.stub.Acquire(take("a"))
    error = await fails(agent.stub.Acquire(take("a", amount=2)))
    assert (error.code, error.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")


async def test_a_message_too_large_gets_grpcs_own_status(agent: ServedAgent) -> None:
    """It shares the code of QUOTA_REACHED, and has no reason: callers switch on the reason."""
    error = await fails(agent.stub.Acquire(take("x" * 5 * 1024 * 1024)))
    assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "")


async def test_many_callers_share_the_last_units(agent: ServedAgent) -> None:
    """Exactly as many are granted as fit."""
    calls = [agent.stub.Acquire(take(str(number))) for number in range(50)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(answer, pb.AcquireResponse) for answer in answers) == 10
