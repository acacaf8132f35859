"""RulesService over real gRPC and a real database: typed transactions, judged and stored."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.type.date_pb2 import Date
from google.type.decimal_pb2 import Decimal

from quota_server.services.refusals import ACTOR_KEY
from quotafleet.errors import from_rpc_error
from quotafleet.v1 import rules_service_pb2 as pb
from quotafleet.v1 import tariff_records_pb2 as records_pb
from rules.records import Change
from tests.agent_kit import fails
from tests.databases import on_both
from tests.rules_kit import area, create, definition, delete, origin, suspension, update
from tests.server_kit import Served, open_controller
from tests.tariff_kit import (
    BASE,
    OPTIONS,
    commit,
    day,
    definitions,
    envelope,
    listed,
    many,
    message,
    year,
)

pytestmark = on_both

NO_MECHANISM = records_pb.MECHANISM_UNSPECIFIED


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with open_controller(tmp_path) as served:
        yield served


async def validate(served: Served, *changes: Change, **more: Any) -> pb.ValidateTransactionResponse:
    more.setdefault("options", OPTIONS)
    request = pb.ValidateTransactionRequest(transaction=message(changes), **more)
    return await served.rules.ValidateTransaction(request)


def rules_of(answer: pb.ValidateTransactionResponse) -> list[str]:
    return [each.rule for verdict in answer.verdicts for each in verdict.violations]


# --- validate --------------------------------------------------------------------------------------------------------


async def test_nothing_wrong_is_said_in_one_empty_verdict_and_nothing_is_stored(served: Served) -> None:
    answer = await validate(served, *BASE)
    assert list(answer.verdicts) == [pb.TransactionVerdict()]
    assert answer.summary == pb.EnvelopeSummary(transactions=1, changes=4)
    assert answer.HasField("data_version")
    assert answer.data_version == 0
    assert await listed(served) == []


async def test_a_violation_names_rule_record_text_related_records_and_the_changes_to_blame(
    served: Served,
) -> None:
    await commit(served, [*BASE, create(year(50))])
    answer = await validate(served, create(area(12)), create(definition(99, start="2050-06-01", end=None)))
    (found,) = [each for each in answer.verdicts[0].violations if each.rule == "OverlappingQuotaDefinition"]
    assert found.record == records_pb.RecordKey(kind=records_pb.RECORD_KIND_QUOTA_DEFINITION, sid=99)
    assert [key.sid for key in found.related] == [50]
    assert found.related_count == 1
    assert list(found.triggered_by) == [1]
    assert not found.preexisting
    assert "quota_definition 50" in found.message
    assert found.line == 0
    assert answer.summary.violations == len(answer.verdicts[0].violations)
    assert answer.data_version == 1


async def test_today_and_the_profile_are_asked_for(served: Served) -> None:
    await commit(served, [*BASE, create(year(50))])
    change = delete(year(50))
    begun = pb.JudgeOptions(today=day("2050-03-01"))
    assert "PreventQuotaDefinitionDeletion" not in rules_of(await validate(served, change))
    assert "PreventQuotaDefinitionDeletion" in rules_of(await validate(served, change, options=begun))
    begun.profile = pb.RULE_PROFILE_EU
    assert rules_of(await validate(served, change, options=begun)) == []


async def test_without_today_it_is_the_date_in_utc(served: Served) -> None:
    """A quota that began in 2020 cannot be deleted any more, whatever the day of this test."""
    old = definition(50, start="2020-01-01", end="2020-12-31")
    await commit(served, [*BASE, create(old)])
    answer = await validate(served, delete(old), options=pb.JudgeOptions())
    assert "PreventQuotaDefinitionDeletion" in rules_of(answer)


async def test_malformed_records_are_all_named_and_no_rule_is_asked(served: Served) -> None:
    transaction = message([*BASE, create(year(50)), create(year(50))])
    transaction.changes[0].update_type = pb.UPDATE_TYPE_UNSPECIFIED
    transaction.changes[1].ClearField("record")
    broken = transaction.changes[4].record.quota_definition
    broken.volume.CopyFrom(Decimal(value="1e3"))
    broken.valid_between.start_date.CopyFrom(Date(year=2026, month=2, day=30))
    broken.ClearField("maximum_precision")
    request = pb.ValidateTransactionRequest(transaction=transaction, options=OPTIONS)
    answer = await served.rules.ValidateTransaction(request)
    (verdict,) = answer.verdicts
    assert [(each.change, each.field) for each in verdict.malformed] == [
        (0, "update_type"),
        (1, "record"),
        (4, "volume"),
        (4, "maximum_precision"),
        (4, "valid_between"),
    ]
    assert all(each.expected for each in verdict.malformed)
    assert not verdict.violations
    assert answer.summary.malformed == 5


async def test_only_so_many_violations_are_answered_and_all_are_counted(served: Served) -> None:
    wrong = [create(origin(sid, of=404)) for sid in range(1, 31)]
    answer = await validate(served, *wrong, max_violations=7)
    assert len(rules_of(answer)) == 7
    assert answer.summary.violations >= 30
    whole = await validate(served, *wrong)
    assert len(rules_of(whole)) == whole.summary.violations


async def test_an_answer_fits_into_a_message_however_much_is_wrong(served: Served) -> None:
    """Every change breaks a rule, and names many others; the client takes 4 MiB."""
    same = [create(definition(sid, volume="1", start="2050-01-01", end=None)) for sid in range(1, 400)]
    answer = await validate(served, *BASE, *same, max_violations=10_000)
    assert answer.ByteSize() < 4 * 1024 * 1024
    assert answer.summary.violations >= 399
    crowded = max(answer.verdicts[0].violations, key=lambda each: each.related_count)
    assert crowded.related_count == 398
    assert len(crowded.related) == 100


async def test_data_that_is_sent_along_counts_instead_of_what_is_stored(served: Served) -> None:
    await commit(served, BASE)
    nothing = pb.JudgeOptions(today=OPTIONS.today, data=pb.SentData())
    answer = await validate(served, create(year(50)), options=nothing)
    assert rules_of(answer) == ["QD3", "QD5"]
    assert not answer.HasField("data_version")
    typed = pb.SentData(records=[each.record for each in message(BASE).changes])
    of_its_own = pb.JudgeOptions(today=OPTIONS.today, data=typed)
    assert rules_of(await validate(served, create(year(50)), options=of_its_own)) == []
    of_its_own.data.CopyFrom(pb.SentData(envelope=envelope(BASE)))
    assert rules_of(await validate(served, create(year(50)), options=of_its_own)) == []
    of_its_own.data.records.add().quota_definition.CopyFrom(
        message([create(year(50))]).changes[0].record.quota_definition
    )
    clash = await validate(served, create(year(50)), options=of_its_own)
    assert rules_of(clash) == ["UniqueIdentifyingFields"]


@pytest.mark.parametrize(
    ("data", "reason", "field"),
    [
        (
            pb.SentData(records=[records_pb.TariffRecord()]),
            "RECORDS_MALFORMED",
            "options.data.records[0]",
        ),
        (
            pb.SentData(
                records=[
                    records_pb.TariffRecord(measurement_unit=records_pb.MeasurementUnit(code="KGM")),
                    records_pb.TariffRecord(measurement_unit=records_pb.MeasurementUnit(code="kg")),
                ]
            ),
            "RECORDS_MALFORMED",
            "options.data.records[0].measurement_unit.valid_between",
        ),
        (pb.SentData(envelope=b"<junk/>"), "ENVELOPE_INVALID", ""),
    ],
)
async def test_data_that_is_sent_along_must_be_well_formed(
    served: Served, data: pb.SentData, reason: str, field: str
) -> None:
    error = await fails(validate(served, *BASE, options=pb.JudgeOptions(data=data)))
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert field in [path for path, _ in error.fields] or "options.data.envelope" in error.message


# --- commit ----------------------------------------------------------------------------------------------------------


async def test_a_commit_is_stored_and_counted(served: Served) -> None:
    first = await commit(served, BASE)
    assert first.data_version == 1
    assert first.summary == pb.EnvelopeSummary(transactions=1, changes=4)
    assert (await commit(served, definitions(50, 2), expected=1)).data_version == 2
    assert len(await listed(served)) == 6


async def test_a_commit_that_breaks_rules_is_refused_and_says_which(served: Served) -> None:
    await commit(served, BASE)
    error = await fails(commit(served, [create(area(12)), create(origin(22, of=404))]))
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "RULES_VIOLATED")
    assert "of quota_order_number_origin 22" in error.message
    assert error.metadata["record"] == "quota_order_number_origin 22"
    assert error.metadata["rule"] in error.message
    assert (error.metadata["preexisting"], error.metadata["line"]) == ("0", "0")
    assert len(await listed(served)) == len(BASE)


async def test_of_many_violations_the_first_five_are_named_and_the_error_stays_small(served: Served) -> None:
    wrong = [create(suspension(sid, of=404_000_000_000 + sid)) for sid in range(1, 501)]
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await commit(served, wrong)
    error = from_rpc_error(failed.value)
    assert error.reason == "RULES_VIOLATED"
    assert "; and " in error.message
    assert error.message.count("of quota_suspension") == 5
    trailers = failed.value.trailing_metadata() or ()
    assert sum(len(key) + len(value) for key, value in trailers) + len(error.message) < 4096


async def test_malformed_records_refuse_a_commit_by_the_paths_of_the_proto(served: Served) -> None:
    transaction = message([*BASE, *definitions(50, 30)])
    for change in transaction.changes[4:]:
        change.record.quota_definition.volume.value = "1.2345"
    transaction.changes[1].update_type = 77  # type: ignore[assignment]
    transaction.changes[2].record.Clear()
    request = pb.CommitTransactionRequest(transaction=transaction, options=OPTIONS)
    error = await fails(served.rules.CommitTransaction(request))
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "RECORDS_MALFORMED")
    paths = [path for path, _ in error.fields]
    assert paths[:3] == [
        "transaction.changes[1].update_type",
        "transaction.changes[2].record",
        "transaction.changes[4].record.quota_definition.volume",
    ]
    assert len(paths) == 20
    assert error.metadata["malformed"] == "32"
    assert await listed(served) == []


async def test_with_preexisting_violations_allowed_only_new_ones_refuse(tmp_path: Path) -> None:
    """The fault gets in under the rules of the EU, which do not know of it."""
    async with open_controller(tmp_path) as served:
        lax = pb.JudgeOptions(today=OPTIONS.today, profile=pb.RULE_PROFILE_EU)
        twice = [create(definition(sid, start=f"2050-0{sid - 49}-01", end="2050-12-31")) for sid in (50, 51)]
        request = pb.CommitTransactionRequest(transaction=message([*BASE, *twice]), options=lax)
        await served.rules.CommitTransaction(request)
        touched = [update(definition(50, start="2050-01-01", end="2050-12-31", description="x"))]
        verdict = await validate(served, *touched)
        assert set(rules_of(verdict)) == {"OverlappingQuotaDefinition"}
        assert all(each.preexisting for each in verdict.verdicts[0].violations)
        count = verdict.summary.violations
        assert verdict.summary.preexisting == count > 0
        error = await fails(commit(served, touched))
        assert (error.reason, error.metadata["preexisting"]) == ("RULES_VIOLATED", str(count))
        stored = await commit(served, touched, allow_preexisting=True)
        assert stored.data_version == 2
        assert (stored.summary.violations, stored.summary.preexisting) == (count, count)
        worse = [*touched, create(origin(22, of=404))]
        assert (await fails(commit(served, worse, allow_preexisting=True))).reason == "RULES_VIOLATED"


async def test_a_commit_that_names_another_version_is_refused_and_can_be_tried_again(served: Served) -> None:
    await commit(served, BASE)
    for stale in (0, 2, 2**63 - 1):
        error = await fails(commit(served, definitions(50, 1), expected=stale))
        assert (error.code, error.reason) == (grpc.StatusCode.ABORTED, "DATA_CHANGED")
        assert error.metadata == {"expected_data_version": str(stale), "data_version": "1"}
    assert (await commit(served, definitions(50, 1), expected=1)).data_version == 2


async def test_nothing_to_store_makes_no_version(served: Served) -> None:
    await commit(served, BASE)
    answer = await commit(served, [])
    assert answer.data_version == 1
    assert answer.summary == pb.EnvelopeSummary(transactions=1)
    assert (await commit(served, definitions(50, 1), expected=1)).data_version == 2


# --- request ids -----------------------------------------------------------------------------------------------------


async def test_a_repeat_gets_the_recorded_answer_also_after_a_restart(tmp_path: Path) -> None:
    async with open_controller(tmp_path) as served:
        first = await commit(served, BASE, request_id="r")
        await commit(served, definitions(50, 1))
        assert await commit(served, BASE, request_id="r") == first
    async with open_controller(tmp_path) as served:
        assert await commit(served, BASE, request_id="r") == first
        assert len(await listed(served)) == 5


async def test_a_repeat_is_one_whatever_has_become_of_the_data(served: Served) -> None:
    """Also where the same content would break rules now, or names an old version."""
    first = await commit(served, BASE, request_id="r", expected=0)
    assert await commit(served, BASE, request_id="r", expected=0) == first


async def test_other_content_under_the_same_id_is_refused(served: Served) -> None:
    await commit(served, BASE, request_id="r")
    for other in (
        commit(served, definitions(50, 1), request_id="r"),
        commit(served, BASE, request_id="r", expected=0),
        commit(served, BASE, request_id="r", reason="another"),
    ):
        error = await fails(other)
        assert (error.code, error.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")


async def test_what_was_refused_may_come_again_under_its_id(served: Served) -> None:
    error = await fails(commit(served, definitions(50, 1), request_id="r"))
    assert error.reason == "RULES_VIOLATED"
    await commit(served, BASE)
    assert (await commit(served, definitions(50, 1), request_id="r")).data_version == 2


# --- requests --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({}, "input"),
        ({"request_id": "x" * 129}, "request_id"),
        ({"options": pb.JudgeOptions(profile=9)}, "options.profile"),  # type: ignore[arg-type]
        ({"options": pb.JudgeOptions(today=Date(year=2026, month=2, day=30))}, "options.today"),
        ({"options": pb.JudgeOptions(today=Date(year=0, month=1, day=1))}, "options.today"),
        ({"options": pb.JudgeOptions(data=pb.SentData())}, "options.data"),
        (
            {"options": pb.JudgeOptions(mechanisms={"051234": records_pb.MECHANISM_UNSPECIFIED})},
            "options.mechanisms[051234]",
        ),
        ({"options": pb.JudgeOptions(mechanisms={"5": records_pb.MECHANISM_LICENSED})}, "options.mechanisms"),
        ({"options": pb.JudgeOptions(categories={"051234": 4})}, "options.categories[051234]"),
        ({"commit": pb.CommitOptions(expected_data_version=-1)}, "commit.expected_data_version"),
        ({"commit": pb.CommitOptions(reason="x" * 1025)}, "commit.reason"),
    ],
)
async def test_a_bad_field_of_a_commit_is_named(served: Served, fields: dict[str, Any], path: str) -> None:
    if path != "input":
        fields["transaction"] = message(BASE)
    error = await fails(served.rules.CommitTransaction(pb.CommitTransactionRequest(**fields)))
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert [field for field, _ in error.fields] == [path]


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({}, "input"),
        ({"transaction": pb.TariffTransaction(), "max_violations": 10_001}, "max_violations"),
        ({"transaction": pb.TariffTransaction(), "max_violations": -1}, "max_violations"),
    ],
)
async def test_a_bad_field_of_a_judgement_is_named(served: Served, fields: dict[str, Any], path: str) -> None:
    error = await fails(served.rules.ValidateTransaction(pb.ValidateTransactionRequest(**fields)))
    assert error.reason == "FIELD_INVALID"
    assert [field for field, _ in error.fields] == [path]


async def test_who_committed_and_why_is_kept(served: Served) -> None:
    request = pb.CommitTransactionRequest(
        transaction=message(BASE), options=OPTIONS, commit=pb.CommitOptions(reason="regulation 1")
    )
    await served.rules.CommitTransaction(request, metadata=((ACTOR_KEY, "anne"),))
    found = await listed(served)
    assert {(each.actor, each.reason, each.data_version) for each in found} == {("anne", "regulation 1", 1)}
    assert all(each.commit_time.seconds > 1_700_000_000 for each in found)


async def test_a_large_commit_is_one(served: Served) -> None:
    """More rows than one statement takes."""
    await commit(served, BASE)
    assert (await commit(served, many(1_000, 2_345))).data_version == 2
    found = await listed(served, page_size=1_000)
    assert len(found) == 2_345 + len(BASE)
    assert {each.data_version for each in found} == {1, 2}
