"""Fields of requests: every bad one is named by its path in the proto, all of a request at once."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from quota_server.errors import LedgerRefusal
from quota_server.ledger.model import Assume, OverridePolicy, QuotaState
from quota_server.ledger.policies import Policy
from quota_server.services import paging, requests
from quota_server.services.fields import NEVER, version_of
from quotafleet.v1 import agent_admin_service_pb2 as admin_pb
from quotafleet.v1 import quota_service_pb2 as pb

UNITS = 10**15
LONG = "x" * 129
REASON = "x" * 1025
QUOTA_NAMES = ("", "-a", "A", "a b", "a" * 129, "ä", "a\n")
AGENT_NAMES = ("", "-a", "A", "a/b", "a" * 64, "a\n")


def quota(**fields: Any) -> pb.Quota:
    return pb.Quota(**{"name": "q", "target": 1, **fields})


def create(**fields: Any) -> pb.CreateQuotaRequest:
    return pb.CreateQuotaRequest(quota=quota(**fields))


def update(*paths: str, **fields: Any) -> pb.UpdateQuotaRequest:
    return pb.UpdateQuotaRequest(quota=pb.Quota(name="q", **fields), update_mask=FieldMask(paths=paths))


def part(**fields: Any) -> admin_pb.AssignQuotaRequest:
    return admin_pb.AssignQuotaRequest(
        assignment=admin_pb.Assignment(**{"quota": "q", "agent": "a", **fields})
    )


def token(*content: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


def refused(check: Any, request: Message) -> dict[str, str]:
    with pytest.raises(LedgerRefusal) as caught:
        check(request)
    assert caught.value.reason == "FIELD_INVALID"
    return caught.value.fields


BAD: list[tuple[Any, Message, set[str]]] = [
    (requests.create_quota, pb.CreateQuotaRequest(), {"quota.name"}),
    *[(requests.create_quota, create(name=name), {"quota.name"}) for name in QUOTA_NAMES],
    (requests.create_quota, create(target=-1), {"quota.target"}),
    (requests.create_quota, create(target=UNITS + 1), {"quota.target"}),
    (requests.create_quota, create(decimals=4), {"quota.decimals"}),
    (requests.create_quota, create(decimals=-1), {"quota.decimals"}),
    (requests.create_quota, create(policy=6), {"quota.policy"}),
    (requests.create_quota, create(override_policy=4), {"quota.override_policy"}),
    (requests.create_quota, create(reserve_percent=101), {"quota.reserve_percent"}),
    (requests.create_quota, create(reserve_percent=-1), {"quota.reserve_percent"}),
    (requests.create_quota, create(critical_percent=101), {"quota.critical_percent"}),
    (requests.create_quota, create(start_time=Timestamp(seconds=-1)), {"quota.start_time"}),
    (requests.create_quota, create(end_time=Timestamp(seconds=253_402_300_800)), {"quota.end_time"}),
    (requests.create_quota, create(start_time=Timestamp(nanos=10**9)), {"quota.start_time"}),
    (
        requests.create_quota,
        create(start_time=Timestamp(seconds=5), end_time=Timestamp(seconds=5)),
        {"quota.end_time"},
    ),
    (requests.create_quota, create(max_offline=Duration()), {"quota.max_offline"}),
    (requests.create_quota, create(max_offline=Duration(seconds=-1)), {"quota.max_offline"}),
    (requests.create_quota, create(max_offline=Duration(seconds=315_576_000_001)), {"quota.max_offline"}),
    (requests.create_quota, create(uid="u"), {"quota.uid"}),
    (requests.create_quota, create(state=pb.QUOTA_STATE_OPEN), {"quota.state"}),
    (requests.create_quota, create(overcommitted=True), {"quota.overcommitted"}),
    (requests.create_quota, create(recovering=True), {"quota.recovering"}),
    (requests.create_quota, create(etag="1"), {"quota.etag"}),
    (requests.create_quota, create(create_time=Timestamp(seconds=1)), {"quota.create_time"}),
    (requests.create_quota, pb.CreateQuotaRequest(request_id=LONG, quota=quota()), {"request_id"}),
    (requests.create_quota, pb.CreateQuotaRequest(request_id="a\x00", quota=quota()), {"request_id"}),
    (
        requests.create_quota,
        pb.CreateQuotaRequest(request_id=LONG, quota=quota(name="", target=-1, decimals=9, uid="u")),
        {"request_id", "quota.name", "quota.target", "quota.decimals", "quota.uid"},
    ),
    (requests.update_quota, update(), {"update_mask"}),
    (requests.update_quota, update("target"), {"update_mask"}),
    (requests.update_quota, update("*"), {"update_mask"}),
    (requests.update_quota, update("policy"), {"quota.policy"}),
    (requests.update_quota, update("override_policy"), {"quota.override_policy"}),
    (requests.update_quota, update("state"), {"quota.state"}),
    (requests.update_quota, update("state", state=pb.QUOTA_STATE_CLOSED), {"quota.state"}),
    (requests.update_quota, update("reserve_percent", reserve_percent=101), {"quota.reserve_percent"}),
    (requests.quota_name, pb.GetQuotaRequest(quota=""), {"quota"}),
    (requests.quota_name, pb.CloseQuotaRequest(quota="q", reason=REASON), {"reason"}),
    (requests.quota_name, pb.CloseQuotaRequest(quota="q", reason="a\nb"), {"reason"}),
    *[(requests.list_quotas, pb.ListQuotasRequest(page_size=size), {"page_size"}) for size in (-1, 1001)],
    (requests.list_quotas, pb.ListQuotasRequest(page_token="!"), {"page_token"}),
    (requests.set_target, pb.SetTargetRequest(target=-1), {"quota", "target"}),
    (requests.set_target, pb.SetTargetRequest(quota="q", target=UNITS + 1), {"target"}),
    (requests.set_target, pb.SetTargetRequest(quota="q", wait=Duration(seconds=61)), {"wait"}),
    (requests.set_target, pb.SetTargetRequest(quota="q", wait=Duration(seconds=-1)), {"wait"}),
    (requests.set_target, pb.SetTargetRequest(quota="q", wait=Duration(seconds=1, nanos=-1)), {"wait"}),
    (requests.set_agent_target, pb.SetAgentTargetRequest(target=-1), {"quota", "agent", "target"}),
    (requests.rebalance, pb.RebalanceRequest(reason=REASON), {"quota", "reason"}),
    (requests.get_count, pb.GetCountRequest(quota="q", page_size=1001), {"page_size"}),
    (requests.get_count, pb.GetCountRequest(quota="q", page_token=token("quotas", "a", "b")), {"page_token"}),
    (requests.list_history, pb.ListHistoryRequest(page_size=-1), {"quota", "page_size"}),
    (requests.request_override, pb.RequestOverrideRequest(), {"quota", "agent", "amount"}),
    (
        requests.request_override,
        pb.RequestOverrideRequest(quota="q", agent="a", amount=UNITS + 1, reason=REASON),
        {"amount", "reason"},
    ),
    (requests.decide_override, pb.DecideOverrideRequest(), {"override_id", "decision"}),
    (requests.decide_override, pb.DecideOverrideRequest(override_id="x", decision=3), {"decision"}),  # type: ignore[arg-type]
    (requests.revoke_override, pb.RevokeOverrideRequest(override_id=LONG), {"override_id"}),
    (
        requests.list_overrides,
        pb.ListOverridesRequest(quota="Q", agent="A", states=[1, 0, 7], page_size=1001),  # type: ignore[list-item]
        {"quota", "agent", "states[1]", "states[2]", "page_size"},
    ),
    (requests.list_overrides, pb.ListOverridesRequest(states=[1] * 17), {"states"}),  # type: ignore[list-item]
    *[(requests.create_agent, admin_pb.CreateAgentRequest(name=name), {"name"}) for name in AGENT_NAMES],
    (requests.agent_name, admin_pb.GetAgentRequest(), {"agent"}),
    (requests.update_agent, admin_pb.UpdateAgentRequest(agent="a"), {"active"}),
    (requests.retire_agent, admin_pb.RetireAgentRequest(assume=3), {"agent", "assume"}),  # type: ignore[arg-type]
    (requests.settle_agent, admin_pb.SettleAgentRequest(agent="a", epoch=-1), {"epoch"}),
    (requests.assign_quota, admin_pb.AssignQuotaRequest(), {"assignment.quota", "assignment.agent"}),
    (requests.assign_quota, part(weight=0), {"assignment.weight"}),
    (requests.assign_quota, part(weight=1_000_001), {"assignment.weight"}),
    (requests.assign_quota, part(min=-1), {"assignment.min"}),
    (requests.assign_quota, part(max=-1), {"assignment.max"}),
    (requests.assign_quota, part(min=5, max=4), {"assignment.max"}),
    (requests.assign_quota, part(initial_count=UNITS + 1), {"assignment.initial_count"}),
    (requests.assign_quota, part(quota_uid="u"), {"assignment.quota_uid"}),
    (requests.assign_quota, part(static_limit=1), {"assignment.static_limit"}),
    (requests.unassign_quota, admin_pb.UnassignQuotaRequest(), {"quota", "agent"}),
    (requests.get_recovery, admin_pb.GetRecoveryRequest(page_size=1001), {"page_size"}),
    (
        requests.finish_recovery,
        admin_pb.FinishRecoveryRequest(request_id=LONG, reason=REASON),
        {"request_id", "reason"},
    ),
]


@pytest.mark.parametrize(("check", "request_", "paths"), BAD)
def test_bad_fields_are_refused_by_their_path(check: Any, request_: Message, paths: set[str]) -> None:
    """All bad fields of a request are named, and no good one."""
    assert refused(check, request_).keys() == paths


def test_a_new_quota_takes_absent_policies_as_their_defaults() -> None:
    """The names of the proto, and nothing more than what was said."""
    stored = requests.create_quota(create(target=UNITS))
    assert (stored.policy, stored.override_policy) == (Policy.MAX_MIN, OverridePolicy.ASK)
    assert (stored.target, stored.start_ms, stored.end_ms, stored.max_offline_ms) == (UNITS, None, None, None)


def test_a_new_quota_takes_everything() -> None:
    """Each field arrives where it belongs; times in milliseconds."""
    stored = requests.create_quota(
        create(
            target=7,
            decimals=3,
            start_time=Timestamp(seconds=1, nanos=500_000_000),
            end_time=Timestamp(seconds=2),
            policy=pb.POLICY_STATIC,
            reserve_percent=100,
            critical_percent=1,
            override_policy=pb.OVERRIDE_POLICY_DENY,
            max_offline=Duration(nanos=1_000_000),
        )
    )
    assert (stored.name, stored.target, stored.decimals) == ("q", 7, 3)
    assert (stored.start_ms, stored.end_ms, stored.max_offline_ms) == (1500, 2000, 1)
    assert (stored.policy, stored.override_policy) == (Policy.STATIC, OverridePolicy.DENY)
    assert (stored.reserve_percent, stored.critical_percent) == (100, 1)


def test_an_update_takes_what_its_mask_names() -> None:
    """A field of the mask that is unset takes the setting away; others stay as they are."""
    request = update(
        "end_time", "state", "reserve_percent", state=pb.QUOTA_STATE_SUSPENDED, critical_percent=5, etag="3"
    )
    name, settings, version, wait_ms = requests.update_quota(request)
    assert (name, version, wait_ms) == ("q", 3, 5_000)
    assert settings == {"end_ms": None, "state": QuotaState.SUSPENDED, "reserve_percent": 0}


@pytest.mark.parametrize(
    ("wait", "wait_ms"),
    [(None, 5_000), (Duration(), 0), (Duration(seconds=60), 60_000), (Duration(nanos=5_000_000), 5)],
)
def test_wait_tells_absent_from_zero(wait: Duration | None, wait_ms: int) -> None:
    """Absent is the default; 0 is allowed."""
    assert requests.set_target(pb.SetTargetRequest(quota="q", wait=wait)) == ("q", 0, None, wait_ms)


@pytest.mark.parametrize(
    ("etag", "version"), [("", None), ("7", 7), ("07", NEVER), ("-1", NEVER), ("abc", NEVER), ("²", NEVER)]
)
def test_etags_are_opaque(etag: str, version: int | None) -> None:
    """Only those that were given out match anything."""
    assert version_of(etag) == version


def test_settling_takes_an_absent_assumption_as_the_safe_one() -> None:
    """And epoch 0 as the newest."""
    assert requests.settle_agent(admin_pb.SettleAgentRequest(agent="a")) == ("a", 0, Assume.SPENT_LIMIT)


def test_an_assignment_has_defaults() -> None:
    """Weight 1, no bounds; an initial count only if there is one."""
    asked, wait_ms = requests.assign_quota(part())
    assert (asked.quota, asked.agent, asked.with_initial_count, wait_ms) == ("q", "a", False, 5_000)
    assert (asked.assignment.weight, asked.assignment.min, asked.assignment.max) == (1, 0, None)
    assert requests.assign_quota(part(initial_count=3, max=0))[0].with_initial_count


# --- pages -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listing", "key"),
    [
        (paging.QUOTAS, ("a/b", "uid")),
        (paging.ALLOCATIONS, ("a", 1_000_001, "uid")),
        (paging.OVERRIDES, (2**63 - 1, "id")),
        (paging.HISTORY, (0,)),
    ],
)
def test_tokens_carry_the_key(listing: paging.Listing, key: tuple[Any, ...]) -> None:
    """What goes in comes out."""
    assert paging.decode(paging.encode(listing, key), listing) == key


@pytest.mark.parametrize(
    "bad",
    [
        "x",
        "ä",
        "A" * 2_000,
        "=" * 5,
        token(),
        token("history"),
        token("history", "1"),
        token("history", 1, 2),
        token("history", -1),
        token("history", 2**63),
        token("history", True),
        token("history", 1.0),
        token("unheard", "a", 1),
        base64.urlsafe_b64encode(b"[" * 500).decode(),
        base64.urlsafe_b64encode(b'{"a": 1}').decode(),
        base64.urlsafe_b64encode(b"\xff\xfe").decode(),
    ],
)
def test_other_tokens_are_refused(bad: str) -> None:
    """Whatever somebody makes up, it never reaches the database."""
    with pytest.raises(ValueError):  # noqa: PT011 - of several kinds
        paging.decode(bad, paging.HISTORY)


def test_keys_that_no_database_takes_are_refused() -> None:
    """Lone surrogates cannot be stored, so no key has them."""
    with pytest.raises(ValueError, match="key"):
        paging.decode(token("quotas", "\ud800", "u"), paging.QUOTAS)


@pytest.mark.parametrize(
    ("rows", "page", "more"), [([], [], False), ([1, 2], [1, 2], False), ([1, 2, 3], [1, 2], True)]
)
def test_a_page_has_a_token_if_there_is_more(rows: list[int], page: list[int], more: bool) -> None:
    """One row more than the page is read to know."""
    found, next_token = paging.cut(rows, 2, paging.HISTORY, lambda row: (row,))
    assert found == page
    assert bool(next_token) is more
    if more:
        assert paging.decode(next_token, paging.HISTORY) == (2,)
