"""What is to be judged, however it comes: typed or as an envelope, whole or in chunks, with or without data of its own.

All but what reads streams may take long: it is for a thread.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from quota_server.errors import field_invalid
from quota_server.services.tariff_convert import changes_from_proto, records_from_proto
from quota_server.services.tariff_requests import CommitWish
from quota_server.tariff import judging
from quota_server.tariff.judged import Judged, Summary
from quota_server.tariff.judging import EnvelopeCommit, EnvelopeJudgement, GoOn, Options, Prepared
from quota_server.tariff.refusals import PathOf, records_malformed
from quotafleet.v1 import rules_service_pb2 as pb
from quotafleet.v1 import tariff_records_pb2 as records_pb
from rules.dataset import Dataset
from rules.malformed import Malformed

#: Fields of a change that are not in its record.
_BESIDE = ("update_type", "record")


def judge(
    request: pb.ValidateTransactionRequest,
    data: Dataset,
    options: Options,
    take: Callable[[Judged], None],
    go_on: GoOn,
) -> Summary:
    """Judges every transaction of a request, and hands each out."""
    if request.WhichOneof("input") == "transaction":
        changes, wrong = changes_from_proto(request.transaction.changes, go_on)
        judged = judging.judge_typed(data, changes, wrong, options, go_on)
        take(judged)
        return Summary().with_judged(judged)
    judgement = EnvelopeJudgement(data, options)
    for piece in judging.pieces(request.envelope):
        for judged in judgement.feed(piece, go_on):
            take(judged)
    return judgement.close()


def prepare(request: pb.CommitTransactionRequest, data: Dataset, wish: CommitWish, go_on: GoOn) -> Prepared:
    """Judges every transaction of a request that is to be stored. Raises what refuses it."""
    if request.WhichOneof("input") == "transaction":
        messages = request.transaction.changes
        changes, wrong = changes_from_proto(messages, go_on)
        return judging.prepare_typed(
            data,
            changes,
            wrong,
            wish.options,
            _paths(lambda index: messages[index].record, "transaction.changes", "record."),
            go_on,
            allow_preexisting=wish.allow_preexisting,
        )
    commit = EnvelopeCommit(data, wish.options, allow_preexisting=wish.allow_preexisting)
    for piece in judging.pieces(request.envelope):
        commit.feed(piece, go_on)
    return commit.close()


def sent_data(given: pb.SentData, path: str, options: Options, go_on: GoOn) -> Dataset:
    """The data that was sent along; nothing in it is judged. Raises RECORDS_MALFORMED, ENVELOPE_INVALID."""
    messages = given.records
    records, wrong = records_from_proto(messages, go_on)
    if wrong:
        raise records_malformed(wrong, _paths(lambda index: messages[index], f"{path}.records"))
    return judging.sent_data(records, given.envelope, options, f"{path}.envelope", go_on)


def _paths(record_of: Callable[[int], records_pb.TariffRecord], path: str, to_record: str = "") -> PathOf:
    """Malformed fields are named as the proto has them."""

    def path_of(each: Malformed, _: int) -> str:
        base = f"{path}[{each.index}]"
        if each.field in _BESIDE:
            return f"{base}.{each.field}" if to_record else base
        return f"{base}.{to_record}{record_of(each.index).WhichOneof('record')}.{each.field}"

    return path_of


# --- streams ---------------------------------------------------------------------------------------------------------


async def options_part(parts: AsyncIterator[Any]) -> Any:
    """The first message of a stream, which must bring the options."""
    async for part in parts:
        if part.WhichOneof("part") == "options":
            return part.options
        break
    raise field_invalid("options", "must be the first message of the stream")


async def pieces(parts: AsyncIterator[Any]) -> AsyncIterator[bytes]:
    """The chunks that follow, in pieces that do not take long."""
    async for part in parts:
        if part.WhichOneof("part") != "chunk":
            raise field_invalid("chunk", "must be all that follows the options")
        for piece in judging.pieces(part.chunk):
            yield piece


def is_short(request: Any, few: int) -> bool:
    """Whether a request's changes are so few that they need not wait for what takes long."""
    changes: Sequence[Any] = request.transaction.changes
    data = request.options.data
    return not request.envelope and not data.envelope and len(changes) + len(data.records) <= few
