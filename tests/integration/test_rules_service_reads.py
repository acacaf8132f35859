"""RulesService over real gRPC and a real database: records as they are and were, page by page; the rules."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.type.date_pb2 import Date
from google.type.datetime_pb2 import DateTime

from quota_server.services.tariff_convert import (
    date_message,
    key_to_proto,
    record_from_proto,
    record_to_proto,
)
from quotafleet.v1 import rules_service_pb2 as pb
from quotafleet.v1 import tariff_records_pb2 as records_pb
from rules.catalogue import RULES
from rules.records import KINDS, Record, RecordRef
from tests.agent_kit import fails
from tests.databases import on_both
from tests.rules_kit import (
    area,
    association,
    blocking,
    certificate,
    create,
    definition,
    delete,
    event,
    exclusion,
    measure,
    membership,
    money,
    order_number,
    origin,
    qualifier,
    suspension,
    unit,
    update,
)
from tests.server_kit import Served, open_controller
from tests.tariff_kit import BASE, commit, day, definitions, listed, many, year

pytestmark = on_both

GROUP = [area(100, code=1), membership(100, 11), origin(22, area=100)]
#: One record of every kind that break no rule together.
OF_EVERY_KIND: tuple[Record, ...] = (
    area(11),
    area(100, code=1),
    membership(100, 11),
    certificate(31),
    unit(),
    qualifier(),
    money(),
    order_number(1, certificates=(31,)),
    order_number(2, "050002"),
    origin(21),
    origin(22, of=2, area=100),
    exclusion(22, 11),
    measure(41, area=11),
    year(50),
    definition(51, of=2, start="2050-01-01", end="2050-12-31"),
    association(50, 51),
    suspension(61, of=50, start="2050-02-01", end="2050-02-28"),
    blocking(71, of=50, start="2050-03-01", end="2050-03-31"),
    event(50),
)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with open_controller(tmp_path) as served:
        yield served


async def get(served: Served, record: Record, as_of: int | None = None) -> pb.RecordVersion:
    request = pb.GetRecordRequest(key=key_to_proto(RecordRef.to(record)), as_of_version=as_of)
    return (await served.rules.GetRecord(request)).version


def sids(found: list[pb.RecordVersion]) -> list[int]:
    return [getattr(each.record, each.record.WhichOneof("record") or "").sid for each in found]


# --- one record ------------------------------------------------------------------------------------------------------


async def test_a_record_of_every_kind_comes_back_as_it_was_given(served: Served) -> None:
    assert {type(record) for record in OF_EVERY_KIND} == set(KINDS)
    await commit(served, map(create, OF_EVERY_KIND))
    for record in OF_EVERY_KIND:
        found = await get(served, record)
        assert record_from_proto(found.record) == record
        assert found.record == record_to_proto(record)
    assert [record_from_proto(each.record) for each in await listed(served)] == sorted(
        OF_EVERY_KIND, key=lambda record: (record.kind, RecordRef.to(record).parts())
    )


async def test_every_version_of_a_record_can_be_had(served: Served) -> None:
    await commit(served, BASE, reason="one")
    changed = replace(order_number(1), category=2)
    await commit(served, [update(changed)], reason="two")
    await commit(served, [*map(delete, (origin(21), changed))], reason="three")
    found = [await get(served, changed, as_of) for as_of in (1, 2, 3, None)]
    assert [each.data_version for each in found] == [1, 2, 3, 3]
    assert [each.deleted for each in found] == [False, False, True, True]
    assert [each.reason for each in found] == ["one", "two", "three", "three"]
    assert [each.record.quota_order_number.category for each in found] == [1, 2, 2, 2]


async def test_a_record_that_was_not_there_is_unknown(served: Served) -> None:
    await commit(served, BASE)
    for record, as_of in ((year(50), None), (year(50), 1), (area(11), 0)):
        error = await fails(get(served, record, as_of))
        assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "RECORD_UNKNOWN")
        assert error.metadata["record"] == str(RecordRef.to(record))


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ({}, "key.kind"),
        ({"kind": 99}, "key.kind"),
        ({"kind": records_pb.RECORD_KIND_MEASURE}, "key.sid"),
        ({"kind": records_pb.RECORD_KIND_MEASURE, "code": "KGM"}, "key.sid"),
        ({"kind": records_pb.RECORD_KIND_MEASURE, "sid": 0}, "key.sid"),
        ({"kind": records_pb.RECORD_KIND_MONETARY_UNIT, "code": "\0"}, "key.code"),
        ({"kind": records_pb.RECORD_KIND_QUOTA_ASSOCIATION, "pair": {"first_sid": 1}}, "key.pair"),
        ({"kind": records_pb.RECORD_KIND_QUOTA_EVENT, "event": {"subrecord_code": "00"}}, "key.event"),
        (
            {
                "kind": records_pb.RECORD_KIND_QUOTA_EVENT,
                "event": records_pb.EventKey(
                    subrecord_code="00",
                    quota_definition_sid=1,
                    occurrence_timestamp=DateTime(year=2026, month=2, day=30),
                ),
            },
            "key.event",
        ),
    ],
)
async def test_a_bad_key_is_named(served: Served, key: dict[str, Any], path: str) -> None:
    error = await fails(served.rules.GetRecord(pb.GetRecordRequest(key=records_pb.RecordKey(**key))))
    assert error.reason == "FIELD_INVALID"
    assert [field for field, _ in error.fields] == [path]


# --- lists -----------------------------------------------------------------------------------------------------------


async def test_keys_sort_as_numbers(served: Served) -> None:
    await commit(served, [create(area(sid)) for sid in (9, 10, 100, 1, 2**62)])
    found = await listed(served, kind=records_pb.RECORD_KIND_GEOGRAPHICAL_AREA, page_size=2)
    assert sids(found) == [1, 9, 10, 100, 2**62]


async def test_lists_are_as_of_a_version(served: Served) -> None:
    await commit(served, BASE)
    await commit(served, definitions(50, 3))
    await commit(served, [delete(year(51)), update(year(50, description="new"))])
    kind = records_pb.RECORD_KIND_QUOTA_DEFINITION
    assert sids(await listed(served, kind=kind, as_of_version=1)) == []
    assert sids(await listed(served, kind=kind, as_of_version=2)) == [50, 51, 52]
    assert sids(await listed(served, kind=kind)) == [50, 52]
    with_deleted = await listed(served, kind=kind, include_deleted=True)
    assert [(each.deleted, each.data_version) for each in with_deleted] == [(False, 3), (True, 3), (False, 2)]
    assert with_deleted[0].record.quota_definition.description == "new"
    old = await listed(served, kind=kind, as_of_version=2)
    assert [each.record.quota_definition.description for each in old] == ["", "", ""]
    assert await listed(served, as_of_version=0) == []


async def test_lists_are_as_of_the_end_of_a_day(served: Served) -> None:
    await commit(served, BASE)
    today = datetime.now(UTC).date()
    answer = await served.rules.ListRecords(
        pb.ListRecordsRequest(as_of_date=date_message(today - timedelta(days=2)))
    )
    assert (list(answer.versions), answer.data_version) == ([], 0)
    for later in (today, today + timedelta(days=1), datetime.max.date()):
        answer = await served.rules.ListRecords(pb.ListRecordsRequest(as_of_date=date_message(later)))
        assert (len(answer.versions), answer.data_version) == (4, 1)


async def test_lists_are_of_what_is_valid_on_a_day(served: Served) -> None:
    """Kinds without a period are left out."""
    await commit(served, map(create, OF_EVERY_KIND))
    found = await listed(served, valid_on=day("2050-02-28"))
    kinds = {each.record.WhichOneof("record") for each in found}
    assert "quota_suspension" in kinds
    assert not kinds & {"quota_blocking", "quota_association", "quota_event"}
    kind = records_pb.RECORD_KIND_QUOTA_DEFINITION
    for on, valid in (("2049-12-31", []), ("2050-01-01", [50, 51]), ("2050-12-31", [50, 51])):
        assert sids(await listed(served, kind=kind, valid_on=day(on))) == valid
    assert sids(await listed(served, kind=kind, valid_on=day("2051-01-01"))) == []


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
async def test_pages_together_are_the_list(served: Served, size: int) -> None:
    await commit(served, map(create, OF_EVERY_KIND))
    whole = await listed(served)
    assert await listed(served, page_size=size) == whole
    assert len(whole) == len(OF_EVERY_KIND)


async def test_pages_are_of_the_first_ones_moment_while_commits_go_on(served: Served) -> None:
    await commit(served, many(1_000, 50))
    kind = records_pb.RECORD_KIND_GEOGRAPHICAL_AREA
    before = await listed(served, kind=kind)
    first = await served.rules.ListRecords(pb.ListRecordsRequest(kind=kind, page_size=10))
    found = list(first.versions)
    token = first.next_page_token
    for turn in range(4):
        changes = [create(area(turn + 1)), create(area(9_000 + turn)), delete(area(1_040 + turn))]
        await asyncio.gather(commit(served, changes), commit(served, [update(area(1_045, code=2))]))
        page = await served.rules.ListRecords(
            pb.ListRecordsRequest(kind=kind, page_size=10, page_token=token)
        )
        assert page.data_version == 1
        found += page.versions
        token = page.next_page_token
    assert token == ""
    assert found == before


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"kind": 99}, "kind"),
        ({"as_of_version": -1}, "as_of_version"),
        ({"as_of_version": 2}, "as_of_version"),
        ({"as_of_date": Date(year=2026, month=13, day=1)}, "as_of_date"),
        ({"valid_on": Date(year=2026)}, "valid_on"),
        ({"page_size": 1_001}, "page_size"),
        ({"page_token": "junk"}, "page_token"),
    ],
)
async def test_a_bad_field_of_a_list_is_named(served: Served, fields: dict[str, Any], path: str) -> None:
    await commit(served, BASE)
    error = await fails(served.rules.ListRecords(pb.ListRecordsRequest(**fields)))
    assert error.reason == "FIELD_INVALID"
    assert [field for field, _ in error.fields] == [path]


# --- rules -----------------------------------------------------------------------------------------------------------


async def rules(served: Served, **more: Any) -> list[pb.Rule]:
    found: list[pb.Rule] = []
    token = ""
    while True:
        answer = await served.rules.ListRules(pb.ListRulesRequest(page_token=token, **more))
        found += answer.rules
        token = answer.next_page_token
        if not token:
            return found


@pytest.mark.parametrize(
    "other",
    [
        {"kind": records_pb.RECORD_KIND_GEOGRAPHICAL_AREA},
        {"as_of_version": 1},
        {"as_of_date": Date(year=2030, month=1, day=1)},
        {"valid_on": Date(year=2030, month=1, day=1)},
        {"include_deleted": True},
    ],
    ids=lambda other: next(iter(other)),
)
async def test_a_page_token_is_for_the_same_list_only(served: Served, other: dict[str, Any]) -> None:
    """Going on in another list would leave records out, silently."""
    await commit(served, [create(area(sid)) for sid in (1, 2, 3)])
    first = await served.rules.ListRecords(pb.ListRecordsRequest(page_size=2))
    token = first.next_page_token
    rest = await served.rules.ListRecords(pb.ListRecordsRequest(page_size=2, page_token=token))
    assert len(first.versions) + len(rest.versions) == 3
    error = await fails(served.rules.ListRecords(pb.ListRecordsRequest(page_token=token, **other)))
    assert (error.reason, [field for field, _ in error.fields]) == ("FIELD_INVALID", ["page_token"])


async def test_all_rules_are_listed_by_code(served: Served) -> None:
    found = await rules(served)
    assert [each.code for each in found] == sorted(RULES)
    assert await rules(served, page_size=7) == found
    assert all(each.text and each.asked for each in found)
    assert await rules(served, profile=pb.RULE_PROFILE_EU) == [each for each in found if not each.only_uk]


async def test_a_rule_says_what_it_is_about_and_what_makes_it_be_asked(served: Served) -> None:
    by_code = {each.code: each for each in await rules(served)}
    assert list(by_code["ON2"].about) == [records_pb.RECORD_KIND_QUOTA_ORDER_NUMBER]
    assert by_code["ON2"].asked == pb.RULE_MOMENT_LIVE
    assert list(by_code["UpdateValidity"].about) == []
    assert by_code["UpdateValidity"].asked == pb.RULE_MOMENT_CHANGED
    assert list(by_code["QD7"].triggers) == [records_pb.RECORD_KIND_QUOTA_ORDER_NUMBER]
    assert by_code["PreventQuotaDefinitionDeletion"].only_uk


@pytest.mark.parametrize(
    ("fields", "path"), [({"profile": 9}, "profile"), ({"page_token": "x"}, "page_token")]
)
async def test_a_bad_field_of_the_list_of_rules_is_named(
    served: Served, fields: dict[str, Any], path: str
) -> None:
    error = await fails(served.rules.ListRules(pb.ListRulesRequest(**fields)))
    assert [field for field, _ in error.fields] == [path]
