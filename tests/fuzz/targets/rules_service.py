"""Requests about tariff data: RulesService, typed and with envelopes, on a real schema in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from random import Random
from typing import Any, Final

from google.protobuf.message import DecodeError, Message

from quota_server.services.tariff_convert import record_to_proto
from quotafleet.v1 import rules_service_pb2 as pb
from quotafleet.v1 import tariff_records_pb2 as records_pb
from tests.fuzz import calls
from tests.fuzz.calls import Method
from tests.fuzz.mutate import frames, xml
from tests.fuzz.mutate.frames import Frame
from tests.fuzz.target import Target
from tests.tariff_kit import BAD, BASE, GOOD, OPTIONS, definitions, envelope, message

METHODS: Final = (
    Method("rules", "ValidateTransaction", pb.ValidateTransactionRequest, reads=True),
    Method("rules", "ValidateEnvelope", pb.ValidateEnvelopeRequest, streams=True, reads=True),
    Method("rules", "CommitTransaction", pb.CommitTransactionRequest),
    Method("rules", "CommitEnvelope", pb.CommitEnvelopeRequest, streams=True),
    Method("rules", "GetRecord", pb.GetRecordRequest, reads=True),
    Method("rules", "ListRecords", pb.ListRecordsRequest, reads=True),
    Method("rules", "ListRules", pb.ListRulesRequest, reads=True),
)
_NUMBERS: Final = {method.request: number for number, method in enumerate(METHODS)}
_WORDS: Final = (
    *(
        "100",
        "100.5",
        "KGM",
        "E",
        "EUR",
        "050001",
        "0011",
        "NM",
        "2021-06-01",
        "00",
        "uk",
        "once",
        "QD1",
        "",
        1,
        2,
        3,
    ),
    *(11, 21, 50, 51, 52, 2_020, 2_021, 12, 31, 1_000, envelope(*GOOD), envelope(*BAD)),
)


def check(data: bytes) -> None:
    """Answered, or refused cleanly and nothing is stored; a repeat is answered the same."""
    calls.check(data, METHODS)


def mutate(data: bytes, other: bytes, random: Random) -> bytes:
    """Calls, each a request; now and then the envelope within one."""
    steps = frames.unpack(data)
    if steps and random.randrange(4) == 0:
        at = random.randrange(len(steps))
        steps[at] = steps[at]._replace(body=_changed_envelope(steps[at], random))
        return frames.pack(steps)
    return calls.mutate(data, other, random, METHODS, _WORDS)


def _changed_envelope(step: Frame, random: Random) -> bytes:
    request: Any = METHODS[step.operation % len(METHODS)].request()
    field = next((name for name in ("envelope", "chunk") if name in request.DESCRIPTOR.fields_by_name), None)
    if field is None:
        return step.body
    with suppress(DecodeError):
        request.ParseFromString(step.body)
    given = getattr(request, field) or envelope(*GOOD)
    setattr(request, field, xml.mutate(given, envelope(*BAD), random))
    return bytes(request.SerializeToString())


def seeds() -> Iterator[bytes]:
    """Good and bad transactions, typed and as envelopes; reads of what is stored."""
    commit = pb.CommitOptions(expected_data_version=2)
    typed = message(definitions(52, 1))
    bad, good = envelope(*BAD), envelope(*GOOD)
    data = pb.SentData(records=[record_to_proto(change.record) for change in BASE])
    sent = pb.JudgeOptions(today=OPTIONS.today, data=data)
    yield _packed(pb.ValidateTransactionRequest(transaction=message(BASE), options=OPTIONS))
    yield _packed(pb.ValidateTransactionRequest(transaction=typed, options=sent))
    yield _packed(pb.ValidateTransactionRequest(envelope=bad, options=OPTIONS))
    yield _packed(pb.ValidateEnvelopeRequest(options=sent), pb.ValidateEnvelopeRequest(chunk=bad))
    yield _packed(
        pb.CommitTransactionRequest(transaction=typed, options=OPTIONS, commit=commit, request_id="once")
    )
    yield _packed(pb.CommitTransactionRequest(envelope=good, options=OPTIONS))
    wish = pb.CommitEnvelopeOptions(request_id="once", options=OPTIONS, commit=commit)
    yield _packed(pb.CommitEnvelopeRequest(options=wish), pb.CommitEnvelopeRequest(chunk=good))
    key = records_pb.RecordKey(kind=records_pb.RECORD_KIND_QUOTA_DEFINITION, sid=50)
    yield _packed(
        pb.GetRecordRequest(key=key), pb.ListRecordsRequest(page_size=2), pb.ListRulesRequest(page_size=3)
    )
    for change in message(GOOD[0]).changes:
        yield _packed(pb.CommitTransactionRequest(transaction=pb.TariffTransaction(changes=[change])))


def _packed(*requests: Message) -> bytes:
    given: Any = requests
    return frames.pack(Frame(_NUMBERS[type(each)], each.SerializeToString()) for each in given)


TARGET: Final = Target("rules_service", check, mutate, seeds)
