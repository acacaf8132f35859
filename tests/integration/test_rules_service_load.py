"""RulesService over real gRPC: races, deadlines, cancellations, and a disk that is full."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from quota_server.tariff import judging
from quota_server.tariff.workers import GivenUp
from quotafleet.errors import QuotafleetError, from_rpc_error
from quotafleet.v1 import rules_service_pb2 as pb
from tests.agent_kit import fails
from tests.rules_kit import create, update
from tests.server_kit import Served, open_controller, until
from tests.tariff_kit import (
    BASE,
    OPTIONS,
    commit,
    contents,
    country,
    definitions,
    envelope,
    listed,
    many,
    message,
    open_data,
    year,
)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with open_controller(tmp_path) as served:
        yield served


# --- races -----------------------------------------------------------------------------------------------------------


async def test_of_commits_at_once_on_one_version_exactly_one_is_stored_and_the_others_can_retry(
    served: Served,
) -> None:
    await commit(served, BASE)

    async def try_(sid: int) -> pb.CommitTransactionResponse | QuotafleetError:
        try:
            return await commit(served, definitions(sid, 1), expected=1, request_id=f"r{sid}")
        except grpc.aio.AioRpcError as error:
            return from_rpc_error(error)

    ends = await asyncio.gather(*map(try_, range(50, 60)))
    refused = [sid for sid, end in zip(range(50, 60), ends, strict=True) if isinstance(end, QuotafleetError)]
    assert len(refused) == 9
    for end in ends:
        if isinstance(end, QuotafleetError):
            assert (end.code, end.reason) == (grpc.StatusCode.ABORTED, "DATA_CHANGED")
            assert end.metadata == {"expected_data_version": "1", "data_version": "2"}
    for version, sid in enumerate(refused, 2):
        answer = await commit(served, definitions(sid, 1), expected=version, request_id=f"r{sid}")
        assert answer.data_version == version + 1
    assert len(await listed(served)) == len(BASE) + 10


async def test_commits_at_once_that_name_no_version_are_all_judged_on_what_was_stored_before(
    served: Served,
) -> None:
    await commit(served, BASE)
    ends = await asyncio.gather(
        *(commit(served, [create(year(50)), create(year(60 + number))]) for number in range(8)),
        return_exceptions=True,
    )
    stored = [end for end in ends if isinstance(end, pb.CommitTransactionResponse)]
    assert [each.data_version for each in stored] == [2]
    reasons = {from_rpc_error(end).reason for end in ends if isinstance(end, grpc.RpcError)}
    assert reasons == {"RULES_VIOLATED"}


async def test_validations_and_lists_go_on_beside_commits_and_see_whole_versions(served: Served) -> None:
    await commit(served, BASE)

    async def write() -> None:
        for turn in range(15):
            await commit(served, many(1_000 + turn * 10, 10))

    writing = asyncio.create_task(write())
    while not writing.done():
        found = await listed(served, page_size=1_000)
        assert (len(found) - len(BASE)) % 10 == 0
        request = pb.ValidateTransactionRequest(transaction=message(definitions(50, 1)), options=OPTIONS)
        answer = await served.rules.ValidateTransaction(request)
        assert answer.summary.violations == 0
    await writing


# --- long judgements -------------------------------------------------------------------------------------------------


class Endless:
    """A judgement that goes on until it is given up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = threading.Event()
        self.given_up = threading.Event()
        self._monkeypatch = monkeypatch
        monkeypatch.setattr(judging, "validate", self._validate)

    def _validate(self, *given: Any) -> None:
        go_on: Callable[[], None] = given[-1]
        self.begun.set()
        try:
            while True:
                go_on()
        except GivenUp:
            self.given_up.set()
            raise

    def over(self) -> None:
        """From now on judgements are what they are."""
        self._monkeypatch.undo()


def calls(served: Served, timeout: float | None = None) -> dict[str, Callable[[], Any]]:
    """Every RPC that judges, on its way."""
    content = envelope(BASE)

    def parts(first: Message, kind: type[Any]) -> Iterator[Any]:
        yield first
        yield kind(chunk=content)

    validate = pb.ValidateTransactionRequest(transaction=message(BASE), options=OPTIONS)
    commit_ = pb.CommitTransactionRequest(transaction=message(BASE), options=OPTIONS)
    whole = pb.CommitTransactionRequest(envelope=content, options=OPTIONS)
    validated = pb.ValidateEnvelopeRequest(options=OPTIONS)
    committed = pb.CommitEnvelopeRequest(options=pb.CommitEnvelopeOptions(options=OPTIONS))
    rules = served.rules
    return {
        "ValidateTransaction": lambda: rules.ValidateTransaction(validate, timeout=timeout),
        "CommitTransaction": lambda: rules.CommitTransaction(commit_, timeout=timeout),
        "CommitTransaction, envelope": lambda: rules.CommitTransaction(whole, timeout=timeout),
        "ValidateEnvelope": lambda: rules.ValidateEnvelope(
            parts(validated, pb.ValidateEnvelopeRequest), timeout=timeout
        ).read(),
        "CommitEnvelope": lambda: rules.CommitEnvelope(
            parts(committed, pb.CommitEnvelopeRequest), timeout=timeout
        ),
    }


JUDGING = (
    "ValidateTransaction",
    "CommitTransaction",
    "CommitTransaction, envelope",
    "ValidateEnvelope",
    "CommitEnvelope",
)


@pytest.mark.parametrize("name", JUDGING)
async def test_a_deadline_ends_a_long_judgement_and_the_server_goes_on(
    served: Served, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless = Endless(monkeypatch)
    error = await fails(calls(served, timeout=0.5)[name]())
    assert error.code is grpc.StatusCode.DEADLINE_EXCEEDED
    await until(endless.given_up.is_set, "the judgement is given up")
    endless.over()
    assert await listed(served) == []
    assert (await commit(served, BASE)).data_version == 1


@pytest.mark.parametrize("name", JUDGING)
async def test_the_server_answers_others_during_a_long_judgement(
    served: Served, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless = Endless(monkeypatch)
    task = asyncio.ensure_future(calls(served)[name]())
    await until(endless.begun.is_set, "it judges")
    endless.over()
    request = pb.ValidateTransactionRequest(transaction=message(BASE), options=OPTIONS)
    assert (await served.rules.ValidateTransaction(request)).summary.violations == 0
    assert await listed(served) == []
    assert (await served.rules.ListRules(pb.ListRulesRequest())).rules
    task.cancel()
    await until(endless.given_up.is_set, "the judgement is given up")
    assert (await commit(served, BASE)).data_version == 1


async def test_a_controller_that_stops_lets_go_of_long_judgements(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quota_server.app._DRAIN_SECONDS", 0.1)
    endless = Endless(monkeypatch)
    async with open_controller(tmp_path) as served:
        task = asyncio.ensure_future(calls(served)["CommitTransaction"]())
        await until(endless.begun.is_set, "it judges")
    await until(endless.given_up.is_set, "the judgement is given up")
    await asyncio.wait([task])
    assert task.cancelled() or isinstance(task.exception(), grpc.RpcError)


# --- cancellations ---------------------------------------------------------------------------------------------------


async def test_a_call_cancelled_at_any_moment_of_its_commit_leaves_all_or_nothing(tmp_path: Path) -> None:
    """And the memory of the controller is what a restart loads."""
    async with open_controller(tmp_path) as served:
        for turn in range(40):
            sids = range(turn * 10 + 1, turn * 10 + 9)
            call = served.rules.CommitTransaction(
                pb.CommitTransactionRequest(transaction=message(many(sids[0], len(sids))), options=OPTIONS)
            )
            for _ in range(turn * 2):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            # Judged on what is in memory: an update finds the record there, or does not.
            request = pb.ValidateTransactionRequest(
                transaction=message([update(country(sid)) for sid in sids]), options=OPTIONS
            )
            verdict = await served.rules.ValidateTransaction(request)
            assert verdict.summary.violations in (0, len(sids))
        # Stored after whatever is still on its way: a call that was cancelled may go on to be stored.
        await commit(served, many(100_000, 1))
        found = await listed(served, page_size=1_000)
        assert len(found) % 8 == 1
    async with open_controller(tmp_path) as served:
        assert await listed(served, page_size=1_000) == found


# --- a full disk -----------------------------------------------------------------------------------------------------


async def test_a_full_disk_refuses_a_commit_and_stores_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from quota_server.storage import sqlite

    async with open_controller(tmp_path) as served:
        await commit(served, BASE)
    with monkeypatch.context() as patch:
        patch.setattr(sqlite, "_DURABLE", (*sqlite._DURABLE, "PRAGMA max_page_count=1"))
        async with open_controller(tmp_path) as served:
            before = await listed(served)
            for call in (
                commit(served, many(1_000, 5_000), request_id="r"),
                commit(served, many(1_000, 5_000), request_id="r"),
            ):
                error = await fails(call)
                assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
            assert await listed(served) == before
            request = pb.ValidateTransactionRequest(transaction=message(many(1_000, 1)), options=OPTIONS)
            answer = await served.rules.ValidateTransaction(request)
            assert (answer.summary.violations, answer.data_version) == (0, 1)
    async with open_controller(tmp_path) as served:
        assert (await commit(served, many(1_000, 5_000), request_id="r")).data_version == 2


async def test_what_is_served_is_what_a_restart_loads(tmp_path: Path) -> None:
    async with open_controller(tmp_path) as served:
        await commit(served, BASE)
        await asyncio.gather(*(commit(served, definitions(sid, 1)) for sid in range(50, 60)))
        await commit(served, [update(year(50, description="x"))])
        found = await listed(served)
    (tmp_path / "controller" / "quotafleet.db").rename(tmp_path / "controller" / "ledger.db")
    async with open_data(tmp_path / "controller") as (data, _):
        loaded = contents(await data.current())
        assert len(loaded) == len(found)
        assert {versions[-1][2] for versions in loaded.values()} == {each.data_version for each in found}
