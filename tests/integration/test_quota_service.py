"""QuotaService over real gRPC and a real database: quotas from their creation to their end."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from quotafleet.v1 import agent_admin_service_pb2 as admin_pb
from quotafleet.v1 import quota_service_pb2 as pb
from tests.agent_kit import fails
from tests.databases import on_both
from tests.server_kit import Served, open_controller

pytestmark = on_both


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with open_controller(tmp_path) as served:
        yield served


async def create(served: Served, name: str = "q", target: int = 100, **fields: Any) -> pb.Quota:
    quota = pb.Quota(name=name, target=target, **fields)
    return (await served.quotas.CreateQuota(pb.CreateQuotaRequest(quota=quota))).quota


async def update(served: Served, *paths: str, etag: str = "", **fields: Any) -> pb.UpdateQuotaResponse:
    quota = pb.Quota(name="q", etag=etag, **fields)
    return await served.quotas.UpdateQuota(
        pb.UpdateQuotaRequest(quota=quota, update_mask=FieldMask(paths=paths), reason="because")
    )


async def state_of(served: Served) -> list[Message]:
    """Everything that can be read of quotas."""
    quotas = await served.quotas.ListQuotas(pb.ListQuotasRequest(include_closed=True))
    histories = [
        await served.quotas.ListHistory(pb.ListHistoryRequest(quota=quota.uid)) for quota in quotas.quotas
    ]
    return [quotas, *histories, await served.quotas.ListOverrides(pb.ListOverridesRequest())]


# --- life of a quota -------------------------------------------------------------------------------------------------


async def test_a_quota_is_stored_as_it_was_asked_for(served: Served, tmp_path: Path) -> None:
    """Also across a restart; what was left out has its defaults."""
    created = await create(
        served,
        "tariff/054001/2026",
        12345,
        decimals=3,
        start_time=Timestamp(seconds=1_767_225_600),
        end_time=Timestamp(seconds=1_798_761_600, nanos=5_000_000),
        reserve_percent=10,
        critical_percent=80,
        max_offline=Duration(seconds=3600),
    )
    assert (created.target, created.decimals, created.etag) == (12345, 3, "1")
    assert (created.policy, created.override_policy) == (pb.POLICY_MAX_MIN, pb.OVERRIDE_POLICY_ASK)
    assert created.state == pb.QUOTA_STATE_OPEN
    assert (created.start_time.seconds, created.end_time.nanos) == (1_767_225_600, 5_000_000)
    assert (created.reserve_percent, created.critical_percent, created.max_offline.seconds) == (10, 80, 3600)
    assert created.uid
    assert created.create_time.seconds > 0
    for name in ("tariff/054001/2026", created.uid):
        assert (await served.quotas.GetQuota(pb.GetQuotaRequest(quota=name))).quota == created


async def test_a_restart_loses_nothing(tmp_path: Path) -> None:
    """Quotas, recorded answers and history are in the database."""
    request = pb.CreateQuotaRequest(request_id="one", quota=pb.Quota(name="q", target=5))
    async with open_controller(tmp_path) as served:
        before = await served.quotas.CreateQuota(request)
        state = await state_of(served)
    async with open_controller(tmp_path) as served:
        assert await state_of(served) == state
        assert await served.quotas.CreateQuota(request) == before


async def test_an_open_name_is_taken_a_closed_one_is_free(served: Served) -> None:
    """The closed quota can still be read by its uid."""
    first = await create(served)
    refused = await fails(create(served))
    assert (refused.code, refused.reason) == (grpc.StatusCode.ALREADY_EXISTS, "QUOTA_EXISTS")
    assert refused.metadata == {"quota": "q"}
    closed = await served.quotas.CloseQuota(pb.CloseQuotaRequest(quota="q", reason="over"))
    assert (closed.quota.uid, closed.quota.state) == (first.uid, pb.QUOTA_STATE_CLOSED)
    gone = await fails(served.quotas.GetQuota(pb.GetQuotaRequest(quota="q")))
    assert (gone.code, gone.reason) == (grpc.StatusCode.NOT_FOUND, "QUOTA_UNKNOWN")
    second = await create(served)
    assert second.uid != first.uid
    read = await served.quotas.GetQuota(pb.GetQuotaRequest(quota=first.uid))
    assert read.quota.state == pb.QUOTA_STATE_CLOSED
    history = await served.quotas.ListHistory(pb.ListHistoryRequest(quota=first.uid))
    assert [(entry.action, entry.reason) for entry in history.entries] == [("close", "over"), ("create", "")]


async def test_a_closed_quota_takes_no_changes(served: Served) -> None:
    """Whoever names it by uid hears that it is closed."""
    uid = (await create(served)).uid
    await served.quotas.CloseQuota(pb.CloseQuotaRequest(quota="q"))
    await served.agents.CreateAgent(admin_pb.CreateAgentRequest(name="a"))
    calls = [
        served.quotas.CloseQuota(pb.CloseQuotaRequest(quota=uid)),
        served.quotas.SetTarget(pb.SetTargetRequest(quota=uid, target=5)),
        served.quotas.SetAgentTarget(pb.SetAgentTargetRequest(quota=uid, agent="a", target=5)),
        served.quotas.Rebalance(pb.RebalanceRequest(quota=uid)),
        served.quotas.RequestOverride(pb.RequestOverrideRequest(quota=uid, agent="a", amount=5)),
        served.quotas.UpdateQuota(
            pb.UpdateQuotaRequest(
                quota=pb.Quota(name=uid, state=pb.QUOTA_STATE_OPEN), update_mask=FieldMask(paths=["state"])
            )
        ),
        served.agents.AssignQuota(
            admin_pb.AssignQuotaRequest(assignment=admin_pb.Assignment(quota=uid, agent="a"))
        ),
    ]
    for call in calls:
        refused = await fails(call)
        assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "QUOTA_CLOSED")


async def test_settings_change_by_mask(served: Served) -> None:
    """Fields outside the mask stay; an unset field in it is taken away."""
    await create(served, critical_percent=50, end_time=Timestamp(seconds=10))
    answer = await update(served, "end_time", "reserve_percent", reserve_percent=20, critical_percent=1)
    assert (answer.quota.reserve_percent, answer.quota.critical_percent) == (20, 50)
    assert not answer.quota.HasField("end_time")
    assert answer.quota.etag == "2"
    (entry, _) = (await served.quotas.ListHistory(pb.ListHistoryRequest(quota="q"))).entries
    assert (entry.action, entry.reason) == ("update", "because")
    assert json.loads(entry.before_json) == {"end_ms": 10_000, "limits": {}, "reserve_percent": 0}
    assert json.loads(entry.after_json) == {"end_ms": None, "limits": {}, "reserve_percent": 20}


async def test_a_period_is_checked_against_what_is_stored(served: Served) -> None:
    """Though the request alone looks right."""
    await create(served, start_time=Timestamp(seconds=100))
    refused = await fails(update(served, "end_time", end_time=Timestamp(seconds=100)))
    assert (refused.reason, [path for path, _ in refused.fields]) == ("FIELD_INVALID", ["quota.end_time"])


async def test_a_quota_is_suspended_and_resumed(served: Served) -> None:
    """Both are in the history under their names."""
    await create(served)
    suspended = await update(served, "state", state=pb.QUOTA_STATE_SUSPENDED)
    assert suspended.quota.state == pb.QUOTA_STATE_SUSPENDED
    resumed = await update(served, "state", state=pb.QUOTA_STATE_OPEN)
    assert resumed.quota.state == pb.QUOTA_STATE_OPEN
    history = await served.quotas.ListHistory(pb.ListHistoryRequest(quota="q"))
    assert [entry.action for entry in history.entries] == ["resume", "suspend", "create"]


# --- repeats, etags, dry runs ----------------------------------------------------------------------------------------


async def test_a_repeat_gets_the_recorded_answer(served: Served) -> None:
    """Whatever has happened since; and nothing happens twice."""
    request = pb.CreateQuotaRequest(request_id="one", quota=pb.Quota(name="q", target=5))
    first = await served.quotas.CreateQuota(request)
    target = pb.SetTargetRequest(request_id="two", quota="q", target=7)
    second = await served.quotas.SetTarget(target)
    await served.quotas.SetTarget(pb.SetTargetRequest(quota="q", target=9))
    state = await state_of(served)
    assert await served.quotas.CreateQuota(request) == first
    assert await served.quotas.SetTarget(target) == second
    assert await state_of(served) == state


async def test_an_id_of_another_request_is_refused(served: Served) -> None:
    """Other content, or another method, under the same id."""
    await served.quotas.CreateQuota(
        pb.CreateQuotaRequest(request_id="one", quota=pb.Quota(name="q", target=5))
    )
    state = await state_of(served)
    for call in (
        served.quotas.CreateQuota(
            pb.CreateQuotaRequest(request_id="one", quota=pb.Quota(name="q", target=6))
        ),
        served.quotas.SetTarget(pb.SetTargetRequest(request_id="one", quota="q", target=5)),
        served.agents.CreateAgent(admin_pb.CreateAgentRequest(request_id="one", name="a")),
    ):
        refused = await fails(call)
        assert (refused.code, refused.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
    assert await state_of(served) == state


async def test_a_refused_id_may_try_again(served: Served) -> None:
    """Only what was done is remembered."""
    request = pb.SetTargetRequest(request_id="one", quota="q", target=7)
    assert (await fails(served.quotas.SetTarget(request))).reason == "QUOTA_UNKNOWN"
    await create(served)
    assert (await served.quotas.SetTarget(request)).quota.target == 7


async def test_a_lost_update_is_refused(served: Served) -> None:
    """The etag of a quota changes with every change of its settings."""
    etag = (await create(served)).etag
    changed = await served.quotas.SetTarget(pb.SetTargetRequest(quota="q", target=50, etag=etag))
    assert changed.quota.etag != etag
    for call in (
        served.quotas.SetTarget(pb.SetTargetRequest(quota="q", target=60, etag=etag)),
        served.quotas.SetTarget(pb.SetTargetRequest(quota="q", target=60, etag="never given out")),
        update(served, "policy", policy=pb.POLICY_EQUAL, etag=etag),
    ):
        refused = await fails(call)
        assert (refused.code, refused.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    await update(served, "policy", policy=pb.POLICY_EQUAL, etag=changed.quota.etag)


async def test_validate_only_changes_nothing(served: Served) -> None:
    """It answers as if, and refuses as if; the request id is not used up."""
    await create(served)
    state = await state_of(served)
    new = pb.CreateQuotaRequest(request_id="x", quota=pb.Quota(name="new"), validate_only=True)
    assert (await served.quotas.CreateQuota(new)).quota.uid == ""
    assert (await fails(create(served, "q"))).reason == "QUOTA_EXISTS"
    target = pb.SetTargetRequest(quota="q", target=7, validate_only=True)
    assert (await served.quotas.SetTarget(target)).quota.target == 7
    settings = pb.UpdateQuotaRequest(
        quota=pb.Quota(name="q", policy=pb.POLICY_STATIC),
        update_mask=FieldMask(paths=["policy"]),
        validate_only=True,
    )
    assert (await served.quotas.UpdateQuota(settings)).quota.policy == pb.POLICY_STATIC
    assert await state_of(served) == state
    new.validate_only = False
    assert (await served.quotas.CreateQuota(new)).quota.uid


# --- refusals --------------------------------------------------------------------------------------------------------


async def test_bad_requests_change_nothing(served: Served) -> None:
    """Each is INVALID_ARGUMENT / FIELD_INVALID, and names every bad field by its path."""
    await create(served)
    state = await state_of(served)
    quotas, agents = served.quotas, served.agents
    cases: list[tuple[Any, set[str]]] = [
        (
            quotas.CreateQuota(pb.CreateQuotaRequest(quota=pb.Quota(name="Q", target=-1))),
            {"quota.name", "quota.target"},
        ),
        (quotas.GetQuota(pb.GetQuotaRequest()), {"quota"}),
        (quotas.ListQuotas(pb.ListQuotasRequest(page_size=-1, page_token="?")), {"page_size", "page_token"}),
        (quotas.UpdateQuota(pb.UpdateQuotaRequest(quota=pb.Quota(name="q"))), {"update_mask"}),
        (quotas.CloseQuota(pb.CloseQuotaRequest(reason="x" * 1025)), {"quota", "reason"}),
        (quotas.GetCount(pb.GetCountRequest(quota="q", page_size=1001)), {"page_size"}),
        (quotas.SetTarget(pb.SetTargetRequest(quota="q", target=10**15 + 1)), {"target"}),
        (quotas.SetAgentTarget(pb.SetAgentTargetRequest(quota="q", target=-1)), {"agent", "target"}),
        (quotas.Rebalance(pb.RebalanceRequest(quota="q", wait=Duration(seconds=61))), {"wait"}),
        (quotas.RequestOverride(pb.RequestOverrideRequest(quota="q", agent="a")), {"amount"}),
        (quotas.DecideOverride(pb.DecideOverrideRequest(override_id="x")), {"decision"}),
        (quotas.ListOverrides(pb.ListOverridesRequest(quota="Q")), {"quota"}),
        (quotas.RevokeOverride(pb.RevokeOverrideRequest()), {"override_id"}),
        (quotas.ListHistory(pb.ListHistoryRequest(quota="q", page_token="x")), {"page_token"}),
        (agents.CreateAgent(admin_pb.CreateAgentRequest(name="a/b")), {"name"}),
        (agents.AssignQuota(admin_pb.AssignQuotaRequest()), {"assignment.quota", "assignment.agent"}),
    ]
    for call, paths in cases:
        refused = await fails(call)
        assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
        assert {path for path, _ in refused.fields} == paths
    stream = await fails(served.quotas.WatchQuota(pb.WatchQuotaRequest()).read())
    assert [path for path, _ in stream.fields] == ["quota"]
    assert await state_of(served) == state


async def test_unknown_quotas_are_not_found(served: Served) -> None:
    """By every call that names one."""
    await served.agents.CreateAgent(admin_pb.CreateAgentRequest(name="a"))
    for call in (
        served.quotas.GetQuota(pb.GetQuotaRequest(quota="no")),
        served.quotas.CloseQuota(pb.CloseQuotaRequest(quota="no")),
        served.quotas.GetCount(pb.GetCountRequest(quota="no")),
        served.quotas.SetTarget(pb.SetTargetRequest(quota="no")),
        served.quotas.Rebalance(pb.RebalanceRequest(quota="no")),
        served.quotas.ListHistory(pb.ListHistoryRequest(quota="no")),
        served.quotas.ListOverrides(pb.ListOverridesRequest(quota="no")),
        served.quotas.WatchQuota(pb.WatchQuotaRequest(quota="no")).read(),
        served.agents.UnassignQuota(admin_pb.UnassignQuotaRequest(quota="no", agent="a")),
    ):
        refused = await fails(call)
        assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "QUOTA_UNKNOWN")
        assert refused.metadata == {"quota": "no"}


async def test_who_acts_is_in_the_history(served: Served) -> None:
    """From the call's metadata; too long a name is refused."""
    await create(served)
    request = pb.SetTargetRequest(quota="q", target=5)
    await served.quotas.SetTarget(request, metadata=(("quotafleet-actor", "mary"),))
    history = await served.quotas.ListHistory(pb.ListHistoryRequest(quota="q"))
    assert [entry.actor for entry in history.entries] == ["mary", "unknown"]
    refused = await fails(served.quotas.SetTarget(request, metadata=(("quotafleet-actor", "x" * 129),)))
    assert [path for path, _ in refused.fields] == ["quotafleet-actor"]


async def test_a_bug_shows_as_internal_and_nothing_else(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its details are in the log, not in the answer."""

    async def broken(*_: object) -> None:
        raise RuntimeError("the secret is 42")

    monkeypatch.setattr(type(served.app.views), "quotas", broken)
    with caplog.at_level(logging.ERROR):
        error = await fails(served.quotas.ListQuotas(pb.ListQuotasRequest()))
    assert (error.code, error.reason) == (grpc.StatusCode.INTERNAL, "")
    assert "42" not in error.message
    assert "the secret is 42" in caplog.text
