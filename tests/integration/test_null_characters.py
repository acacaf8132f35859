"""U+0000 in a text, for which PostgreSQL has no room: refused at the border, as is any control character.

Every text field of every request is tried, those that come later too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp
from immutables import Map

from quotafleet.errors import FieldError, QuotafleetError, from_rpc_error
from quotafleet.link import wire
from quotafleet.v1 import agent_admin_service_pb2 as admin_pb
from quotafleet.v1 import agent_link_service_pb2 as link_pb
from quotafleet.v1 import quota_service_pb2 as quota_pb
from quotafleet.v1 import rules_service_pb2 as rules_pb
from tests.databases import on_both
from tests.rules_kit import area, create, unit
from tests.server_kit import Served, open_controller
from tests.tariff_kit import BASE, commit, listed, year

BAD = "a\0b"

#: Compared with what was given out, or read by nobody; the database never sees them.
UNSTORED = {"etag", "quota.etag", "quota.uid"}
#: Messages of tariff records, which are judged by their own forms.
TARIFF = ("transaction.", "key.", "options.data.")
#: Whose parts are not named one by one.
NAMED_AS = {
    "update_mask.paths[0]": "update_mask",
    "options.categories": "options.categories",
    "options.mechanisms": "options.mechanisms",
}


class Spot:
    """One text field somewhere in a message."""

    def __init__(self, *fields: FieldDescriptor) -> None:
        self._fields = fields

    @property
    def path(self) -> str:
        """As a refusal names it."""
        parts = [
            f"{field.name}[0]" if field.is_repeated and not _is_map(field) else field.name
            for field in self._fields
        ]
        path = ".".join(parts)
        return NAMED_AS.get(path, path)

    def spoil(self, message: Any) -> None:
        *way, last = self._fields
        for field in way:
            message = getattr(message, field.name)
            if field.is_repeated:
                message = message.add()
        if _is_map(last):
            assert last.message_type is not None
            given, value = getattr(message, last.name), last.message_type.fields_by_name["value"]
            if value.message_type is not None:
                given[BAD].SetInParent()
            else:
                given[BAD] = "x" if value.type == FieldDescriptor.TYPE_STRING else 1
        elif last.is_repeated:
            getattr(message, last.name).append(BAD)
        else:
            setattr(message, last.name, BAD)


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def spots(descriptor: Descriptor, *above: FieldDescriptor) -> Iterator[Spot]:
    for field in descriptor.fields:
        if _is_map(field) or field.type == FieldDescriptor.TYPE_STRING:
            yield Spot(*above, field)
        elif field.message_type is not None and field.message_type not in [f.message_type for f in above]:
            yield from spots(field.message_type, *above, field)


def methods() -> Iterator[MethodDescriptor]:
    for module in (quota_pb, admin_pb, rules_pb):
        for service in module.DESCRIPTOR.services_by_name.values():
            yield from service.methods


TRIED = [
    (method, spot)
    for method in methods()
    if not method.client_streaming
    for spot in spots(method.input_type)
    if spot.path not in UNSTORED and not spot.path.startswith(TARIFF)
]


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with open_controller(tmp_path) as served:
        yield served


async def refusal(served: Served, method: MethodDescriptor, request: Message) -> QuotafleetError | None:
    """What a call is refused with."""
    call: Any = served.channel.unary_unary(
        f"/{method.containing_service.full_name}/{method.name}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )
    try:
        await call(request)
    except grpc.aio.AioRpcError as error:
        return from_rpc_error(error)
    return None


@on_both
async def test_no_text_of_a_request_may_hold_it(served: Served) -> None:
    assert len(TRIED) > 60
    let_in = []
    for method, spot in TRIED:
        request = GetMessageClass(method.input_type)()
        spot.spoil(request)
        error = await refusal(served, method, request)
        if error is None or spot.path not in {path for path, _ in error.fields}:
            let_in.append(f"{method.name} {spot.path}: {error} {error and error.fields}")
    assert let_in == []
    await served.quotas.CreateQuota(quota_pb.CreateQuotaRequest(quota=quota_pb.Quota(name="q", target=1)))


@on_both
async def test_an_etag_that_was_never_given_out_matches_nothing(served: Served) -> None:
    await served.quotas.CreateQuota(quota_pb.CreateQuotaRequest(quota=quota_pb.Quota(name="q", target=1)))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await served.quotas.SetTarget(quota_pb.SetTargetRequest(quota="q", target=2, etag=BAD))
    assert from_rpc_error(refused.value).reason == "ETAG_MISMATCH"


@on_both
async def test_every_other_text_is_kept_as_it_is(served: Served) -> None:
    reasons = [
        "\\u0000",
        "Å ö → 数 🚀",
        "'); DROP TABLE quotas; --",
        '{"a": "\\"}',
        "%s :name $1 ?",
        "\u202e",
    ]
    await served.quotas.CreateQuota(quota_pb.CreateQuotaRequest(quota=quota_pb.Quota(name="q", target=1)))
    for target, reason in enumerate(reasons, 10):
        request = quota_pb.SetTargetRequest(quota="q", target=target, reason=reason, request_id=reason)
        answer = await served.quotas.SetTarget(request)
        assert (await served.quotas.SetTarget(request)).quota.etag == answer.quota.etag
    history = await served.quotas.ListHistory(quota_pb.ListHistoryRequest(quota="q"))
    assert [entry.reason for entry in history.entries][::-1][1:] == reasons
    await commit(served, BASE, reason=reasons[0])
    assert {version.reason for version in await listed(served)} == {reasons[0]}


@on_both
async def test_a_tariff_record_may_hold_it_in_words_and_not_in_its_key(served: Served) -> None:
    """Words are written as JSON, which has a way to say it."""
    noted = replace(area(12), area_id="0012", elements=Map({BAD: BAD}))
    await commit(served, (*BASE, create(noted), create(year(50, description=BAD))))
    found = [version.record for version in await listed(served)]
    assert [r.quota_definition.description for r in found if r.HasField("quota_definition")] == [BAD]
    elements = [r.geographical_area.elements for r in found if r.HasField("geographical_area")]
    assert [dict(each) for each in elements] == [{}, {BAD: BAD}]
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await commit(served, [create(unit(BAD))])
    assert from_rpc_error(refused.value).reason == "RECORDS_MALFORMED"


# --- the link --------------------------------------------------------------------------------------------------------


def test_no_text_that_an_agent_sends_may_hold_it() -> None:
    tried = list(spots(link_pb.ConnectRequest.DESCRIPTOR))
    assert len(tried) > 10
    for spot in tried:
        request = link_pb.ConnectRequest()
        spot.spoil(request)
        complete(request)
        with pytest.raises(FieldError) as refused:
            wire.from_request(request)
        assert refused.value.path == spot.path
        assert "control character" in refused.value.problem


def complete(message: Any) -> None:
    """Says the least that is to be said besides what is there."""
    for field in message.DESCRIPTOR.fields:
        if field.type == FieldDescriptor.TYPE_STRING:
            setattr(message, field.name, getattr(message, field.name) or "x")
        elif field.name == "amount":
            message.amount = 1
        elif field.name == "state":
            message.state = link_pb.OVERRIDE_STATE_APPROVED
        elif field.name == "kind":
            message.kind = link_pb.FENCE_KIND_COPY
        elif field.name == "clock_time":
            message.clock_time.seconds = 1
        elif field.message_type is not None and field.is_repeated:
            for item in getattr(message, field.name):
                complete(item)
        elif field.message_type is not None and message.HasField(field.name):
            complete(getattr(message, field.name))


@on_both
async def test_a_stream_whose_agent_sends_it_is_ended_and_the_next_one_is_served(served: Served) -> None:
    created = await served.agents.CreateAgent(admin_pb.CreateAgentRequest(name="anne"))
    token = (("authorization", f"Bearer {created.credential.token}"),)
    hello = link_pb.Hello(
        agent_uid=created.credential.agent_uid,
        epoch=created.credential.epoch,
        store_id=BAD,
        dial=1,
        protocol_version=1,
        clock_time=Timestamp(seconds=1),
    )
    stream = served.links.Connect(iter([link_pb.ConnectRequest(hello=hello)]), metadata=token)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stream.read()
    error = from_rpc_error(refused.value)
    assert (error.reason, [path for path, _ in error.fields]) == ("FIELD_INVALID", ["hello.store_id"])
    hello.store_id = "a"
    stream = served.links.Connect(iter([link_pb.ConnectRequest(hello=hello)]), metadata=token)
    answer = await stream.read()
    assert isinstance(answer, link_pb.ConnectResponse)
    assert answer.WhichOneof("message") == "welcome"
    stream.cancel()
