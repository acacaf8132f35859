"""RulesService over real gRPC and a real database: TARIC3 envelopes, whole and in chunks, good and bad."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from quota_server.ledger.store import RecordedAnswer
from quota_server.tariff.data import TariffData
from quotafleet.v1 import rules_service_pb2 as pb
from quotafleet.v1 import tariff_records_pb2 as records_pb
from tests.agent_kit import fails
from tests.databases import on_both
from tests.rules_kit import create, origin
from tests.server_kit import Served, open_controller
from tests.tariff_kit import (
    BAD,
    BASE,
    GOOD,
    ON_BASE,
    OPTIONS,
    commit,
    committed,
    committed_whole,
    country,
    definitions,
    envelope,
    listed,
    many,
    message,
    validated,
    year,
)

pytestmark = on_both


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with open_controller(tmp_path) as served:
        yield served


# --- validate --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 1000, 1_000_000])
async def test_an_envelope_without_faults_has_only_a_summary(served: Served, size: int) -> None:
    content = envelope(*GOOD)
    verdicts, last = await validated(served, content, size)
    assert verdicts == []
    assert last.data_version == 0
    assert last.summary == pb.EnvelopeSummary(
        envelope_id="260001",
        transactions=3,
        changes=7,
        read_records={"250 00": 1, "210 00": 1, "360 00": 1, "360 10": 1, "370 00": 3},
    )
    assert await listed(served) == []


async def test_each_transaction_is_judged_on_those_before_it(served: Served) -> None:
    """One that breaks rules is taken as if it were stored: what comes after it is judged all the same."""
    content = envelope(*BAD)
    verdicts, last = await validated(served, content)
    assert [each.transaction_id for each in verdicts] == ["2"]
    (verdict,) = verdicts
    lines = content.decode().splitlines()
    assert lines[verdict.line - 1].strip() == '<env:transaction id="2">'
    (line,) = {each.line for each in verdict.violations}
    assert lines[line - 1].strip() == "<oub:record>"
    assert "quota.order.number.origin" in lines[line + 5]
    assert last.summary.violations == len(verdict.violations) > 0
    assert last.summary.transactions == 4


async def test_an_envelope_in_one_message_gets_the_same_verdicts(served: Served) -> None:
    content = envelope(*BAD)
    verdicts, last = await validated(served, content)
    request = pb.ValidateTransactionRequest(envelope=content, options=OPTIONS)
    whole = await served.rules.ValidateTransaction(request)
    assert (list(whole.verdicts), whole.summary) == (verdicts, last.summary)
    assert whole.data_version == last.data_version == 0


async def test_malformed_records_are_named_by_line_and_element_and_change_nothing(served: Served) -> None:
    content = envelope(BASE, definitions(50, 1), definitions(51, 1))
    content = content.replace(b"<oub:volume>100<", b"<oub:volume>much<", 1)
    verdicts, last = await validated(served, content)
    (verdict,) = verdicts
    (found,) = verdict.malformed
    assert (verdict.transaction_id, found.change, found.field) == ("2", 0, "volume")
    assert b"much" in content.splitlines()[found.line - 1]
    assert "'much'" in found.expected
    assert (last.summary.malformed, last.summary.violations) == (1, 0)


async def test_a_verdict_with_very_many_violations_comes_in_several_messages(served: Served) -> None:
    wrong = [create(origin(sid, of=404)) for sid in range(1, 1201)]
    verdicts, last = await validated(served, envelope(BASE, wrong), 100_000)
    assert len(verdicts) > 2
    assert {each.transaction_id for each in verdicts} == {"2"}
    assert max(len(each.violations) for each in verdicts) <= 500
    found = [violation for each in verdicts for violation in each.violations]
    assert len(found) == last.summary.violations >= 1200
    keys = [violation.SerializeToString(deterministic=True) for violation in found]
    assert len(set(keys)) == len(keys)


async def test_verdicts_come_before_the_envelope_has_ended(served: Served) -> None:
    content = envelope(*BAD)
    end = content.index(b'<env:transaction id="3">')
    call = served.rules.ValidateEnvelope()
    await call.write(pb.ValidateEnvelopeRequest(options=OPTIONS))
    await call.write(pb.ValidateEnvelopeRequest(chunk=content[:end]))
    first: Any = await call.read()
    assert first.verdict.transaction_id == "2"
    await call.write(pb.ValidateEnvelopeRequest(chunk=content[end:]))
    await call.done_writing()
    last: Any = await call.read()
    assert last.HasField("summary")
    assert await call.read() is grpc.aio.EOF


async def test_an_envelope_is_judged_on_data_that_is_sent_along(served: Served) -> None:
    data = pb.SentData(records=[each.record for each in message(BASE).changes])
    options = pb.JudgeOptions(today=OPTIONS.today, data=data)
    content = envelope(definitions(50, 2), data=ON_BASE)
    verdicts, last = await validated(served, content, options=options)
    assert verdicts == []
    assert not last.HasField("data_version")
    verdicts, _ = await validated(served, content)
    assert len(verdicts) == 1


async def test_mechanisms_and_categories_are_said_beside_the_envelope(served: Served) -> None:
    options = pb.JudgeOptions(
        today=OPTIONS.today,
        mechanisms={"050001": records_pb.MECHANISM_LICENSED},
        categories={"050001": 3},
    )
    await committed(served, envelope(BASE), judge=options)
    (found,) = await listed(served, kind=records_pb.RECORD_KIND_QUOTA_ORDER_NUMBER)
    order_number = found.record.quota_order_number
    assert (order_number.mechanism, order_number.category) == (records_pb.MECHANISM_LICENSED, 3)


async def test_records_of_other_kinds_are_counted_as_skipped(served: Served) -> None:
    sample = sorted((Path(__file__).parents[1] / "data").glob("taric/cli_create.xml"))[0].read_bytes()
    content = sample.replace(b"<oub:record.code>210<", b"<oub:record.code>999<")
    _, last = await validated(served, content)
    assert dict(last.summary.skipped_records) == {"999 00": 1}


# --- commit ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 1000, 1_000_000])
async def test_every_transaction_of_an_envelope_gets_its_number(served: Served, size: int) -> None:
    content = envelope(*GOOD)
    answer = await committed(served, content, size, reason="regulation 1")
    assert answer.data_version == 3
    assert (answer.summary.transactions, answer.summary.changes) == (3, 7)
    found = await listed(served)
    assert sorted(each.data_version for each in found) == [1] * 4 + [2, 2, 3]
    assert {each.reason for each in found} == {"regulation 1"}


async def test_an_envelope_in_one_message_is_stored_alike(tmp_path: Path) -> None:
    content, found = envelope(*GOOD), []
    for way in (committed, committed_whole):
        async with open_controller(tmp_path / way.__name__) as served:
            answer = await way(served, content)
            versions = [(each.record, each.data_version) for each in await listed(served)]
            found.append((answer.data_version, answer.summary, versions))
    assert found[0] == found[1]


async def test_an_envelope_is_stored_as_a_whole_or_not_at_all(served: Served) -> None:
    for way in (committed, committed_whole):
        error = await fails(way(served, envelope(*BAD)))
        assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "RULES_VIOLATED")
        assert error.message.startswith("transaction 2: ")
        assert error.metadata["transaction_id"] == "2"
        assert int(error.metadata["line"]) > 0
        assert await listed(served, include_deleted=True) == []


async def test_malformed_records_refuse_an_envelope_by_their_lines(served: Served) -> None:
    content = envelope(*GOOD).replace(b"<oub:volume>100<", b"<oub:volume>much<", 2)
    for way in (committed, committed_whole):
        error = await fails(way(served, content))
        assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "RECORDS_MALFORMED")
        line = content[: content.index(b"much")].count(b"\n") + 1
        assert error.fields[0][0] == f"line {line}: volume"
        assert await listed(served) == []


async def test_an_envelope_that_names_another_version_is_refused(served: Served) -> None:
    await commit(served, BASE)
    content = envelope(definitions(50, 1), data=ON_BASE)
    error = await fails(committed(served, content, expected_data_version=0))
    assert (error.code, error.reason) == (grpc.StatusCode.ABORTED, "DATA_CHANGED")
    assert (await committed(served, content, expected_data_version=1)).data_version == 2


async def test_a_repeat_of_an_envelope_is_known_by_its_bytes(served: Served) -> None:
    content = envelope(*GOOD)
    first = await committed(served, content, request_id="r")
    assert await committed(served, content, 77, request_id="r") == first
    for other in (
        committed(served, content + b"\n", request_id="r"),
        committed(served, content, request_id="r", reason="another"),
        committed_whole(served, content, request_id="r"),
    ):
        error = await fails(other)
        assert (error.code, error.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
    assert len(await listed(served)) == 7


@pytest.mark.parametrize("expected", [{}, {"expected_data_version": 0}], ids=["any version", "a version"])
async def test_a_repeat_that_begins_while_the_first_try_is_stored_gets_its_answer(
    served: Served, monkeypatch: pytest.MonkeyPatch, expected: dict[str, Any]
) -> None:
    """It must not be judged on data that hold what it repeats."""
    content, ask = envelope(*GOOD), TariffData.recorded
    asked, stored = asyncio.Event(), asyncio.Event()

    async def held(data: TariffData, request_id: str) -> RecordedAnswer | None:
        found = await ask(data, request_id)
        if not asked.is_set():
            asked.set()
            await stored.wait()
        return found

    monkeypatch.setattr(TariffData, "recorded", held)
    repeat = asyncio.ensure_future(committed(served, content, request_id="r", **expected))
    await asked.wait()
    first = await committed(served, content, request_id="r", **expected)
    stored.set()
    assert await repeat == first


async def half_sent(served: Served, content: bytes, **more: Any) -> Any:
    """A commit of an envelope whose first half has been taken."""
    call = served.rules.CommitEnvelope()
    options = pb.CommitEnvelopeOptions(options=OPTIONS, commit=pb.CommitOptions(**more))
    await call.write(pb.CommitEnvelopeRequest(options=options))
    await call.write(pb.CommitEnvelopeRequest(chunk=content[: len(content) // 2]))
    return call


async def test_a_stream_that_breaks_stores_nothing(served: Served) -> None:
    """Although all transactions have ended, and but the end of the stream is missing."""
    content = envelope(*GOOD)
    call = await half_sent(served, content)
    await call.write(pb.CommitEnvelopeRequest(chunk=content[len(content) // 2 :]))
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (await commit(served, many(1, 1))).data_version == 1
    assert len(await listed(served)) == 1


async def test_what_was_committed_meanwhile_is_judged_on(served: Served) -> None:
    """Somebody slow does not hold up others, and is judged again on what they have stored."""
    content = envelope(*GOOD)
    call = await half_sent(served, content)
    assert (await commit(served, many(1, 1))).data_version == 1
    await call.write(pb.CommitEnvelopeRequest(chunk=content[len(content) // 2 :]))
    await call.done_writing()
    answer = await call
    assert answer.data_version == 4
    call = await half_sent(served, envelope([create(country(2))]))
    await commit(served, [create(country(2))])
    rest = envelope([create(country(2))])
    await call.write(pb.CommitEnvelopeRequest(chunk=rest[len(rest) // 2 :]))
    await call.done_writing()
    error = await fails(call)
    assert error.reason == "RULES_VIOLATED"
    assert "UniqueIdentifyingFields" in error.message


async def test_what_was_committed_meanwhile_refuses_who_named_a_version(served: Served) -> None:
    content = envelope(*GOOD)
    call = await half_sent(served, content, expected_data_version=0)
    await commit(served, many(1, 1))
    await call.write(pb.CommitEnvelopeRequest(chunk=content[len(content) // 2 :]))
    await call.done_writing()
    assert (await fails(call)).reason == "DATA_CHANGED"
    assert (await committed(served, content, expected_data_version=1)).data_version == 4


# --- streams -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "path"),
    [
        ([], "options"),
        ([pb.ValidateEnvelopeRequest(chunk=b"x")], "options"),
        ([pb.ValidateEnvelopeRequest()], "options"),
        ([pb.ValidateEnvelopeRequest(options=OPTIONS)] * 2, "chunk"),
        ([pb.ValidateEnvelopeRequest(options=OPTIONS), pb.ValidateEnvelopeRequest()], "chunk"),
        ([pb.ValidateEnvelopeRequest(options=pb.JudgeOptions(profile=9))], "options.profile"),  # type: ignore[arg-type]
    ],
)
async def test_options_come_first_and_then_chunks(
    served: Served, parts: list[pb.ValidateEnvelopeRequest], path: str
) -> None:
    async def judge() -> None:
        async for _ in served.rules.ValidateEnvelope(iter(parts)):
            pass

    error = await fails(judge())
    assert error.reason == "FIELD_INVALID"
    assert [field for field, _ in error.fields] == [path]


async def test_a_commit_takes_no_data_of_its_own(served: Served) -> None:
    judge = pb.JudgeOptions(data=pb.SentData())
    error = await fails(committed(served, envelope(*GOOD), judge=judge))
    assert [field for field, _ in error.fields] == ["options.options.data"]


async def test_a_year_s_definition_is_what_it_was(served: Served) -> None:
    """What TARIC3 carries of a definition comes back as it was written."""
    await committed(served, envelope(BASE, [create(year(50, description="a < b & c"))]))
    (found,) = await listed(served, kind=records_pb.RECORD_KIND_QUOTA_DEFINITION)
    assert found.record == message([create(year(50, description="a < b & c"))]).changes[0].record
