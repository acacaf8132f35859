"""Judgements and commits as the controller makes them: what is sent, what comes back, and how far it has come."""

from __future__ import annotations

import contextlib
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import grpc
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from quota_server.cli import exits
from quota_server.cli.rules_files import InputError, Source
from quota_server.cli.rules_json import Typed
from quota_server.cli.session import Session
from quotafleet.errors import QuotafleetError
from quotafleet.v1 import rules_service_pb2 as pb

#: What the controller takes in one message.
MAX_MESSAGE: Final = 4 * 1024 * 1024
#: What it answers at most.
MAX_VIOLATIONS: Final = 10_000
#: Files below this are sent before a bar could be read.
_LONG: Final = 1024 * 1024
_ENVELOPE_INVALID: Final = "ENVELOPE_INVALID"

#: What is judged: an envelope, or changes that were read from JSON.
Content = Source | Typed
Answer = TypeVar("Answer")
Committed = pb.CommitTransactionResponse | pb.CommitEnvelopeResponse


@dataclass(frozen=True, slots=True)
class Wish:
    """How to judge, and how much of it is wanted."""

    options: pb.JudgeOptions
    #: Violations and malformed fields are kept up to here, each.
    limit: int = 1_000
    #: Violations that were there before are left out.
    only_new: bool = False


@dataclass(slots=True)
class Judgement:
    """What is wrong with a file, up to the limit; the summary counts all of it."""

    name: str
    answer: pb.ValidateTransactionResponse = field(default_factory=pb.ValidateTransactionResponse)
    #: The envelope can be read up to here only.
    unreadable: QuotafleetError | None = None

    def code(self, *, only_new: bool) -> int:
        """How a command that judges ends."""
        summary = self.answer.summary
        if self.unreadable or summary.malformed:
            return exits.BAD_USAGE
        counted = summary.violations - (summary.preexisting if only_new else 0)
        return exits.REFUSED if counted else 0


def judge(session: Session, content: Content, wish: Wish) -> Judgement:
    """Asks the controller. Raises InputError if the file cannot be read to its end."""
    if isinstance(content, Typed):
        return _judge_typed(session, content, wish)
    return _judge_envelope(session, content, wish)


def _judge_typed(session: Session, content: Typed, wish: Wish) -> Judgement:
    judged = Judgement(content.name)
    collected = _Collected(judged.answer, wish)
    if content.malformed:
        collected.take(pb.TransactionVerdict(malformed=content.malformed))
        judged.answer.summary.malformed = len(content.malformed)
        return judged
    # Those that are left out count there too.
    most = MAX_VIOLATIONS if wish.only_new else min(wish.limit, MAX_VIOLATIONS)
    request = pb.ValidateTransactionRequest(
        transaction=content.transaction, options=wish.options, max_violations=most
    )
    _check_size(request, content.name)
    answer = session.call(session.rules.ValidateTransaction, request)
    for verdict in answer.verdicts:
        collected.take(verdict)
    del answer.verdicts[:]
    judged.answer.MergeFrom(answer)
    return judged


def _judge_envelope(session: Session, source: Source, wish: Wish) -> Judgement:
    judged = Judgement(source.name)

    def receive(responses: Iterator[pb.ValidateEnvelopeResponse]) -> None:
        judged.answer.Clear()  # a second try begins anew
        collected = _Collected(judged.answer, wish)
        for each in responses:
            if each.HasField("verdict"):
                collected.take(each.verdict)
            elif each.HasField("summary"):
                judged.answer.summary.CopyFrom(each.summary)
            if each.HasField("data_version"):
                judged.answer.data_version = each.data_version

    first = pb.ValidateEnvelopeRequest(options=wish.options)
    _check_size(first, "what is sent along")
    try:
        _exchange(session, source, session.rules.ValidateEnvelope, first, receive)
    except QuotafleetError as failure:
        if failure.reason != _ENVELOPE_INVALID:
            session.fail(failure)
        judged.unreadable = failure
    else:
        if not judged.answer.HasField("summary"):
            session.fail(QuotafleetError(grpc.StatusCode.UNKNOWN, "", "the answer has ended before its end"))
    return judged


def commit_content(
    session: Session, content: Content, options: pb.JudgeOptions, allowed: pb.CommitOptions
) -> Committed:
    """Stores it, or ends the command. Raises InputError if the file cannot be read to its end."""
    if isinstance(content, Typed):
        request = pb.CommitTransactionRequest(
            transaction=content.transaction, options=options, commit=allowed
        )
        _check_size(request, content.name)
        return session.call(session.rules.CommitTransaction, request)
    first = pb.CommitEnvelopeRequest(
        options=pb.CommitEnvelopeOptions(request_id=str(uuid.uuid4()), options=options, commit=allowed)
    )

    def receive(response: pb.CommitEnvelopeResponse) -> pb.CommitEnvelopeResponse:
        return response

    try:
        return _exchange(session, content, session.rules.CommitEnvelope, first, receive)
    except QuotafleetError as failure:
        session.fail(failure)


def _exchange(
    session: Session, source: Source, rpc: Callable[..., Any], first: Any, receive: Callable[[Any], Answer]
) -> Answer:
    """Sends options and chunks. An envelope that cannot be read to its end is cut off, not ended."""
    problems: list[InputError] = []
    message: Callable[..., Any] = type(first)

    with _progress(source) as seen:

        def requests() -> Iterator[Any]:
            yield first
            try:
                for chunk in source.chunks(seen):
                    yield message(chunk=chunk)
            except InputError as problem:
                problems.append(problem)
                raise  # gRPC cancels the call

        try:
            return session.exchange(rpc, requests, receive)
        except QuotafleetError:
            if problems:
                raise problems[0] from None
            raise


def _check_size(request: Any, name: str) -> None:
    if request.ByteSize() > MAX_MESSAGE:
        raise InputError(
            name,
            f"has more than the {MAX_MESSAGE // 1024 // 1024} MiB that one message can bring",
            "split it, or write it as a TARIC3 envelope; data to judge against can be committed first, "
            "on a controller with a data folder of its own",
        )


class _Collected:
    """Gathers verdicts up to the limit."""

    def __init__(self, answer: pb.ValidateTransactionResponse, wish: Wish) -> None:
        self._answer = answer
        self._only_new = wish.only_new
        self._violations_left = self._malformed_left = wish.limit

    def take(self, verdict: pb.TransactionVerdict) -> None:
        """One with very many violations comes in several messages: they become one again."""
        violations = [each for each in verdict.violations if not (self._only_new and each.preexisting)]
        del violations[self._violations_left :]
        malformed = verdict.malformed[: self._malformed_left]
        if not violations and not malformed:
            return
        self._violations_left -= len(violations)
        self._malformed_left -= len(malformed)
        last = self._answer.verdicts[-1] if self._answer.verdicts else None
        if last is None or (last.transaction_id, last.line) != (verdict.transaction_id, verdict.line):
            last = self._answer.verdicts.add(transaction_id=verdict.transaction_id, line=verdict.line)
        last.violations.extend(violations)
        last.malformed.extend(malformed)


@contextlib.contextmanager
def _progress(source: Source) -> Iterator[Callable[[int], None]]:
    """A bar for long files, if there is a terminal to show it."""
    screen = Console(stderr=True)
    if source.size < _LONG or not sys.stderr.isatty() or screen.is_dumb_terminal:
        yield lambda position: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=screen, transient=True) as bar:
        task = bar.add_task(source.name, total=source.size)
        yield lambda position: bar.update(task, completed=position)
