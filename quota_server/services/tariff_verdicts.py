"""Verdicts, versions and rules as the protos have them, each message small enough to be sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, repeat
from typing import Final

from quota_server.services.convert import timestamp
from quota_server.services.tariff_convert import KIND_NUMBERS, key_to_proto, record_to_proto
from quota_server.tariff.judged import Judged, Summary
from quota_server.tariff.refusals import shortened
from quota_server.tariff.store import StoredVersion
from quotafleet.v1 import rules_service_pb2 as pb
from rules.catalogue import Rule
from rules.malformed import Malformed
from rules.records import KINDS
from rules.violation import Violation

#: Of related records and of triggers of one violation.
MAX_NAMED: Final = 100
#: Of violations and malformed fields in one message of a stream.
_MAX_IN_MESSAGE: Final = 500
#: A message brings 4 MiB; this leaves room for what is beside the verdicts, and for the last one of them.
_MAX_BYTES: Final = 3 * 1024 * 1024
_MAX_MESSAGE_BYTES: Final = 4_000
_MAX_ID_BYTES: Final = 1_000


class Collected:
    """Gathers verdicts for one answer: at most so many violations, or malformed fields, and no more than fit."""

    def __init__(self, most: int) -> None:
        self.verdicts: list[pb.TransactionVerdict] = []
        self._left = most
        self._bytes_left = _MAX_BYTES

    def take(self, judged: Judged) -> None:
        """What is wrong with one more transaction; a typed one is told of although nothing is."""
        verdict = _begun(judged)
        for each in _parts(judged):
            if not self._left or self._bytes_left <= 0:
                break
            self._left -= 1
            self._bytes_left -= _add(verdict, each)
        if verdict.violations or verdict.malformed or not judged.line:
            self.verdicts.append(verdict)


def messages(judged: Judged) -> Iterator[pb.TransactionVerdict]:
    """What is wrong with a transaction, in as many messages as it takes; none if nothing is."""
    verdict, count, size = _begun(judged), 0, 0
    for each in _parts(judged):
        if count == _MAX_IN_MESSAGE or size > _MAX_BYTES:
            yield verdict
            verdict, count, size = _begun(judged), 0, 0
        count += 1
        size += _add(verdict, each)
    if count:
        yield verdict


def _add(verdict: pb.TransactionVerdict, each: pb.Violation | pb.MalformedField) -> int:
    """Adds it to a verdict; how many bytes it takes."""
    if isinstance(each, pb.Violation):
        verdict.violations.append(each)
    else:
        verdict.malformed.append(each)
    return each.ByteSize()


def _begun(judged: Judged) -> pb.TransactionVerdict:
    return pb.TransactionVerdict(
        transaction_id=shortened(judged.transaction_id, _MAX_ID_BYTES), line=judged.line
    )


def _parts(judged: Judged) -> Iterator[pb.Violation | pb.MalformedField]:
    return chain(
        (_violation(each, judged.line_of(each)) for each in judged.violations),
        map(_malformed, judged.malformed, judged.malformed_lines or repeat(0)),
    )


def _violation(each: Violation, line: int) -> pb.Violation:
    return pb.Violation(
        rule=each.rule,
        record=key_to_proto(each.record),
        message=shortened(each.message, _MAX_MESSAGE_BYTES),
        related=map(key_to_proto, each.related[:MAX_NAMED]),
        related_count=each.related_count,
        triggered_by=each.triggered_by[:MAX_NAMED],
        preexisting=each.preexisting,
        line=line,
    )


def _malformed(each: Malformed, line: int) -> pb.MalformedField:
    return pb.MalformedField(
        change=each.index,
        field=each.field,
        expected=shortened(each.expected, _MAX_MESSAGE_BYTES),
        line=line,
    )


def summary(value: Summary) -> pb.EnvelopeSummary:
    """What was judged."""
    return pb.EnvelopeSummary(
        envelope_id=shortened(value.envelope_id, _MAX_ID_BYTES),
        transactions=value.transactions,
        changes=value.changes,
        violations=value.violations,
        preexisting=value.preexisting,
        malformed=value.malformed,
        read_records=value.read_records,
        skipped_records=value.skipped_records,
    )


def version(stored: StoredVersion) -> pb.RecordVersion:
    """One version of a record."""
    return pb.RecordVersion(
        record=record_to_proto(stored.record),
        deleted=stored.deleted,
        data_version=stored.number,
        commit_time=timestamp(stored.create_ms),
        actor=stored.actor,
        reason=stored.reason,
    )


def rule(same: Sequence[Rule]) -> pb.Rule:
    """A rule, about all its kinds."""
    first = same[0]
    about = {each.about for each in same}
    triggers = {trigger.kind for each in same for trigger in each.triggers}
    return pb.Rule(
        code=first.code,
        text=first.text,
        about=(KIND_NUMBERS[kind.kind] for kind in KINDS if kind in about),
        asked=pb.RuleMoment.Value(f"RULE_MOMENT_{first.when.name}"),
        triggers=(KIND_NUMBERS[kind.kind] for kind in KINDS if kind in triggers),
        only_uk=first.only_uk,
    )
