"""A RulesService that answers as a test says, and remembers what it was sent."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from typer.testing import CliRunner, Result

from quota_server.cli.quotactl import app
from quotafleet import errors
from quotafleet.v1 import rules_service_pb2 as pb
from quotafleet.v1 import rules_service_pb2_grpc as rules_grpc
from quotafleet.v1 import tariff_records_pb2 as records_pb
from tests.scripted_server import serving

ENVELOPE = b'<?xml version="1.0"?>\n<env:envelope/>\n'


@dataclass
class Refusal:
    """An error of ours, or the transport's if it has no reason."""

    reason: str
    message: str
    metadata: dict[str, str] = field(default_factory=dict)
    #: How often, before it goes well.
    times: int = 1_000


@dataclass
class Sent:
    """A stream of a client."""

    options: Any
    size: int = 0
    largest: int = 0
    digest: str = ""


class ScriptedRules(rules_grpc.RulesServiceServicer):
    """What is not scripted is in order: nothing is wrong, everything is stored."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.streams: list[Sent] = []
        self.commits = 0
        self.verdicts: list[pb.TransactionVerdict] = []
        self.summary = pb.EnvelopeSummary(transactions=1, changes=2)
        self.version: int | None = 7
        self.refusals: dict[str, Refusal] = {}
        self.answers: dict[str, list[Message]] = {}

    def ValidateEnvelope(
        self, request_iterator: Iterator[pb.ValidateEnvelopeRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.ValidateEnvelopeResponse]:
        self._receive(request_iterator)
        for verdict in self.verdicts:
            yield pb.ValidateEnvelopeResponse(verdict=verdict)
        self._refuse("ValidateEnvelope", context)
        yield pb.ValidateEnvelopeResponse(summary=self.summary, data_version=self.version)

    def CommitEnvelope(
        self, request_iterator: Iterator[pb.CommitEnvelopeRequest], context: grpc.ServicerContext
    ) -> pb.CommitEnvelopeResponse:
        self.commits += 1
        self._receive(request_iterator)
        self._refuse("CommitEnvelope", context)
        return pb.CommitEnvelopeResponse(data_version=8, summary=self.summary)

    def ValidateTransaction(
        self, request: pb.ValidateTransactionRequest, context: grpc.ServicerContext
    ) -> pb.ValidateTransactionResponse:
        self.requests.append(request)
        self._refuse("ValidateTransaction", context)
        return pb.ValidateTransactionResponse(
            verdicts=self.verdicts, summary=self.summary, data_version=self.version
        )

    def CommitTransaction(
        self, request: pb.CommitTransactionRequest, context: grpc.ServicerContext
    ) -> pb.CommitTransactionResponse:
        self.requests.append(request)
        self._refuse("CommitTransaction", context)
        return pb.CommitTransactionResponse(data_version=8, summary=self.summary)

    def GetRecord(self, request: pb.GetRecordRequest, context: grpc.ServicerContext) -> Any:
        return self._next("GetRecord", request, context)

    def ListRecords(self, request: pb.ListRecordsRequest, context: grpc.ServicerContext) -> Any:
        return self._next("ListRecords", request, context)

    def ListRules(self, request: pb.ListRulesRequest, context: grpc.ServicerContext) -> Any:
        return self._next("ListRules", request, context)

    def _next(self, name: str, request: Message, context: grpc.ServicerContext) -> Message:
        self.requests.append(request)
        self._refuse(name, context)
        return self.answers[name].pop(0)

    def _receive(self, requests: Iterator[Any]) -> None:
        digest = hashlib.sha256()
        sent = Sent(next(requests).options)
        for each in requests:
            assert each.WhichOneof("part") == "chunk"
            sent.size += len(each.chunk)
            sent.largest = max(sent.largest, len(each.chunk))
            digest.update(each.chunk)
        sent.digest = digest.hexdigest()
        self.streams.append(sent)

    def _refuse(self, name: str, context: grpc.ServicerContext) -> None:
        refusal = self.refusals.get(name)
        if refusal is None or refusal.times == 0:
            return
        refusal.times -= 1
        if not refusal.reason:
            context.abort(grpc.StatusCode.UNAVAILABLE, refusal.message)
        status = errors.to_status(refusal.reason, refusal.message, refusal.metadata)
        context.set_trailing_metadata(((errors.DETAILS_KEY, status.SerializeToString()),))
        context.abort(errors.CODES[refusal.reason], refusal.message)


@dataclass
class RulesShell:
    """`quotactl rules` in this process, and the service that it speaks to."""

    service: ScriptedRules
    address: str

    def __call__(self, *arguments: str, given: bytes | None = None) -> Result:
        command = ["--server", self.address, "rules", *arguments]
        # As wide as what goes to a file.
        return CliRunner(env={"COLUMNS": "240"}).invoke(app, command, input=given)


@contextmanager
def open_rules(service: ScriptedRules | None = None) -> Iterator[RulesShell]:
    """A shell on a service; it needs no script to be asked."""
    service = service or ScriptedRules()
    with serving(service, rules_grpc.add_RulesServiceServicer_to_server) as address:
        yield RulesShell(service, address)


@contextmanager
def open_rules_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RulesShell]:
    """A shell in a folder, with a small envelope in it."""
    monkeypatch.chdir(folder)
    Path("e.xml").write_bytes(ENVELOPE)
    with open_rules() as shell:
        yield shell


def violation(rule: str, sid: int, line: int = 0, *, preexisting: bool = False) -> pb.Violation:
    key = records_pb.RecordKey(kind=records_pb.RECORD_KIND_QUOTA_DEFINITION, sid=sid)
    return pb.Violation(
        rule=rule,
        record=key,
        message=f"the text of {rule}: what was found",
        line=line,
        triggered_by=[3],
        preexisting=preexisting,
    )
