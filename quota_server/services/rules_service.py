"""RulesService: tariff quota data, judged and stored."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, Final

from quota_server.clock import Clock
from quota_server.errors import AlreadyAnswered, LedgerRefusal, field_invalid
from quota_server.ledger.calls import Call
from quota_server.services import tariff_input
from quota_server.services import tariff_requests as requests
from quota_server.services import tariff_verdicts as verdicts
from quota_server.services.paging import RECORDS, RULES, cut
from quota_server.services.refusals import Context, actor_of, guarded
from quota_server.services.tariff_input import is_short, options_part, pieces
from quota_server.tariff.data import SHORT, Committed, TariffData
from quota_server.tariff.judging import EnvelopeCommit, EnvelopeJudgement, GoOn, Prepared
from quota_server.tariff.refusals import data_changed
from quota_server.tariff.spool import Spool
from quota_server.tariff.store import TariffViews
from quota_server.tariff.workers import Workers
from quotafleet.v1 import rules_service_pb2 as pb
from quotafleet.v1 import rules_service_pb2_grpc as pb_grpc
from rules import catalogue
from rules.catalogue import Profile
from rules.dataset import Dataset

_SERVICE: Final = pb.DESCRIPTOR.services_by_name["RulesService"].full_name


class RulesService(pb_grpc.RulesServiceServicer):
    """Serves the rules on the tariff data in memory. Whatever may take long is done by `workers`."""

    def __init__(self, data: TariffData, views: TariffViews, workers: Workers, clock: Clock) -> None:
        self._data = data
        self._views = views
        self._workers = workers
        self._clock = clock

    async def drain(self) -> None:
        """Lets the commit end that is under way; for when the server has stopped."""
        await self._data.settle()
        self._workers.close()

    # --- validate ----------------------------------------------------------------------------------------------------

    @guarded
    async def ValidateTransaction(
        self, request: pb.ValidateTransactionRequest, context: Context
    ) -> pb.ValidateTransactionResponse:
        options, most = requests.validate_transaction(request, self._clock.wall_ms())
        stored = await self._data.current()
        is_sent = request.options.HasField("data")

        def work(go_on: GoOn) -> pb.ValidateTransactionResponse:
            data = stored
            if is_sent:
                data = tariff_input.sent_data(request.options.data, "options.data", options, go_on)
            collected = verdicts.Collected(most)
            summary = tariff_input.judge(request, data, options, collected.take, go_on)
            return pb.ValidateTransactionResponse(
                verdicts=collected.verdicts, summary=verdicts.summary(summary)
            )

        response = await self._workers.do(work, short=is_short(request, SHORT))
        if not is_sent:
            response.data_version = stored.number
        return response

    @guarded
    async def ValidateEnvelope(  # type: ignore[override]
        self, request_iterator: AsyncIterator[pb.ValidateEnvelopeRequest], context: Context
    ) -> None:
        given: pb.JudgeOptions = await options_part(request_iterator)
        options = requests.judge_options(given, self._clock.wall_ms())
        data = stored = await self._data.current()
        is_sent = given.HasField("data")
        if is_sent:
            data = await self._workers.do(
                lambda go_on: tariff_input.sent_data(given.data, "options.data", options, go_on)
            )
        judgement = EnvelopeJudgement(data, options)
        async for piece in pieces(request_iterator):
            for message in await self._workers.do(partial(_judge_piece, judgement, piece)):
                await context.write(pb.ValidateEnvelopeResponse(verdict=message))
        last = pb.ValidateEnvelopeResponse(summary=verdicts.summary(judgement.close()))
        if not is_sent:
            last.data_version = stored.number
        await context.write(last)

    # --- commit ------------------------------------------------------------------------------------------------------

    @guarded
    async def CommitTransaction(
        self, request: pb.CommitTransactionRequest, context: Context
    ) -> pb.CommitTransactionResponse:
        wish = requests.commit_transaction(request, self._clock.wall_ms())
        digest = hashlib.sha256(request.SerializeToString(deterministic=True)).digest()
        call = self._call(context, "CommitTransaction", wish, digest, _transaction_answer)

        async def judge(data: Dataset) -> Prepared:
            return await self._workers.do(
                lambda go_on: tariff_input.prepare(request, data, wish, go_on), commit=True
            )

        try:
            return _transaction_answer(await self._data.commit(call, wish.expected, judge))
        except AlreadyAnswered as again:
            return pb.CommitTransactionResponse.FromString(again.answer)

    @guarded
    async def CommitEnvelope(
        self, request_iterator: AsyncIterator[pb.CommitEnvelopeRequest], context: Context
    ) -> pb.CommitEnvelopeResponse:
        given: pb.CommitEnvelopeOptions = await options_part(request_iterator)
        wish = requests.commit_envelope(given, self._clock.wall_ms())
        # The data first: if this repeats a call that is stored meanwhile, either it is known or the data is older.
        data = await self._data.current(wish.expected)
        # A repeat is recognised by its bytes: it is read to its end, and not judged again.
        is_repeat = await self._data.recorded(wish.request_id) is not None
        if not is_repeat and wish.expected is not None and wish.expected != data.number:
            raise data_changed(wish.expected, data.number)
        incoming = _Incoming(given, wish, None if is_repeat else data)
        async for piece in pieces(request_iterator):
            await self._workers.do(partial(incoming.feed, piece))
        ahead = incoming.close()

        async def judge(data: Dataset) -> Prepared:
            return await self._workers.do(lambda go_on: incoming.judge_again(data, go_on), commit=True)

        call = self._call(context, "CommitEnvelope", wish, incoming.digest, _envelope_answer)
        try:
            return _envelope_answer(await self._data.commit(call, wish.expected, judge, ahead))
        except AlreadyAnswered as again:
            return pb.CommitEnvelopeResponse.FromString(again.answer)

    # --- read --------------------------------------------------------------------------------------------------------

    @guarded
    async def GetRecord(self, request: pb.GetRecordRequest, context: Context) -> pb.GetRecordResponse:
        ref, number = requests.get_record(request)
        number = await self._known(number)
        found = await self._views.version(ref, number)
        if found is None:
            raise LedgerRefusal(
                "RECORD_UNKNOWN",
                f"there is no {ref} as of data version {number}",
                metadata={"record": str(ref), "data_version": number},
            )
        return pb.GetRecordResponse(version=verdicts.version(found))

    @guarded
    async def ListRecords(self, request: pb.ListRecordsRequest, context: Context) -> pb.ListRecordsResponse:
        wanted = requests.list_records(request)
        if wanted.day is not None:
            number = await self._views.number_before(requests.end_of_day_ms(wanted.day))
        else:
            number = await self._known(wanted.number)
        found = await self._views.versions(
            number,
            wanted.kind,
            wanted.valid_on,
            wanted.after,
            wanted.size + 1,
            include_deleted=wanted.include_deleted,
        )
        rows, token = cut(
            found, wanted.size, RECORDS, lambda each: (wanted.asked, number, each.record.kind, each.place)
        )
        return pb.ListRecordsResponse(
            versions=map(verdicts.version, rows), next_page_token=token, data_version=number
        )

    @guarded
    async def ListRules(self, request: pb.ListRulesRequest, context: Context) -> pb.ListRulesResponse:
        profile, size, after = requests.list_rules(request)
        found = [
            same
            for code, same in sorted(catalogue.RULES.items())
            if code > after and not (profile is Profile.EU and same[0].only_uk)
        ]
        rows, token = cut(found[: size + 1], size, RULES, lambda same: (same[0].code,))
        return pb.ListRulesResponse(rules=map(verdicts.rule, rows), next_page_token=token)

    # --- inside ------------------------------------------------------------------------------------------------------

    async def _known(self, number: int | None) -> int:
        """The data version asked for, or the newest. Raises FIELD_INVALID for one that is yet to come."""
        newest = await self._views.newest_number()
        if number is not None and number > newest:
            raise field_invalid("as_of_version", f"must be at most {newest}, the newest data version")
        return newest if number is None else number

    def _call(
        self,
        context: Context,
        method: str,
        wish: requests.CommitWish,
        fingerprint: bytes,
        answer: Callable[[Committed], Any],
    ) -> Call:
        return Call(
            actor=actor_of(context),
            now_ms=self._clock.wall_ms(),
            reason=wish.reason,
            request_id=wish.request_id,
            method=f"/{_SERVICE}/{method}",
            fingerprint=fingerprint,
            encode=lambda committed: answer(committed).SerializeToString(),
        )


class _Incoming:
    """An envelope that is to be stored, while it comes in; judged on `data` at once, or later if there is none."""

    def __init__(
        self, given: pb.CommitEnvelopeOptions, wish: requests.CommitWish, data: Dataset | None
    ) -> None:
        self._wish = wish
        self._commit = None if data is None else self._begin(data)
        self._digest = hashlib.sha256(given.SerializeToString(deterministic=True))
        self._spool = Spool()

    @property
    def digest(self) -> bytes:
        """Of the options and the bytes so far."""
        return self._digest.digest()

    def feed(self, piece: bytes, go_on: GoOn) -> None:
        """Takes the next bytes. Raises what refuses the commit."""
        self._digest.update(piece)
        if self._commit is not None:
            self._spool.add(piece)
            self._commit.feed(piece, go_on)

    def close(self) -> Prepared | None:
        """Says that there is no more; what is to be stored, if it was judged."""
        self._spool.close()
        return None if self._commit is None else self._commit.close()

    def judge_again(self, data: Dataset, go_on: GoOn) -> Prepared:
        """Judges all of it on other data."""
        commit = self._begin(data)
        for piece in self._spool.pieces():
            commit.feed(piece, go_on)
        return commit.close()

    def _begin(self, data: Dataset) -> EnvelopeCommit:
        return EnvelopeCommit(data, self._wish.options, allow_preexisting=self._wish.allow_preexisting)


def _judge_piece(judgement: EnvelopeJudgement, piece: bytes, go_on: GoOn) -> list[pb.TransactionVerdict]:
    return [message for judged in judgement.feed(piece, go_on) for message in verdicts.messages(judged)]


def _transaction_answer(committed: Committed) -> pb.CommitTransactionResponse:
    return pb.CommitTransactionResponse(
        data_version=committed.number, summary=verdicts.summary(committed.summary)
    )


def _envelope_answer(committed: Committed) -> pb.CommitEnvelopeResponse:
    return pb.CommitEnvelopeResponse(
        data_version=committed.number, summary=verdicts.summary(committed.summary)
    )
