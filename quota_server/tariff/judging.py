"""Judges what comes in, typed or as an envelope: pure work that may take long, in pieces that can be given up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Final

from immutables import Map

from quota_server.tariff.judged import Judged, Summary
from quota_server.tariff.refusals import PathOf, envelope_invalid, records_malformed, refuse_wrong
from rules.catalogue import Profile
from rules.dataset import Dataset
from rules.engine import validate
from rules.malformed import Malformed
from rules.records import Change, Record
from rules.taric.errors import TaricError
from rules.taric.mapping import MapOptions, Mapped, to_changes
from rules.taric.reader import EnvelopeReader
from rules.taric.taric_record import TaricTransaction

#: What one transaction of an envelope may take in memory; the largest that is known takes 2 MB.
_MAX_TRANSACTION_BYTES: Final = 64 * 1024 * 1024
#: Of an envelope as a whole: its changes stay in memory.
MAX_CHANGES: Final = 1_000_000
#: An envelope is read in pieces of this size: between them others get their turn.
PIECE_BYTES: Final = 64 * 1024

GoOn = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Options:
    """How to judge; mechanisms and categories, by order number, are for envelopes."""

    today: date
    profile: Profile = Profile.UK
    mechanisms: Mapping[str, int] = Map()
    categories: Mapping[str, int] = Map()


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a commit is to store: transactions that were judged one after the other, and that change something."""

    judged_on: Dataset
    transactions: Sequence[Sequence[Change]]
    #: The data with all of them.
    after: Dataset
    summary: Summary


def judge_typed(
    data: Dataset, changes: Sequence[Change], wrong: Sequence[Malformed], options: Options, go_on: GoOn
) -> Judged:
    """A transaction of typed changes; `wrong` is everything that is malformed in it."""
    if wrong:
        return Judged(tuple(changes), malformed=tuple(wrong))
    verdict = validate(data, changes, options.today, options.profile, go_on)
    return Judged(tuple(changes), verdict.violations, verdict.malformed)


def prepare_typed(
    data: Dataset,
    changes: Sequence[Change],
    wrong: Sequence[Malformed],
    options: Options,
    path_of: PathOf,
    go_on: GoOn,
    *,
    allow_preexisting: bool,
) -> Prepared:
    """The same, to be stored. Raises RECORDS_MALFORMED, RULES_VIOLATED."""
    judged = judge_typed(data, changes, wrong, options, go_on)
    refuse_wrong(judged, path_of, allow_preexisting=allow_preexisting)
    summary = Summary().with_judged(judged)
    if not judged.changes:
        return Prepared(data, (), data, summary)
    return Prepared(data, (judged.changes,), data.apply(judged.changes), summary)


class EnvelopeJudgement:
    """Judges the transactions of an envelope as they come in, each on the data after those before it.

    A transaction with malformed records changes nothing; one that only breaks rules is taken as if it were stored.
    Methods raise ENVELOPE_INVALID if this is no envelope.
    """

    def __init__(self, data: Dataset, options: Options) -> None:
        self.data = data
        self.summary = Summary()
        self._options = options
        self._envelope = _MappedEnvelope(options)

    def feed(self, chunk: bytes, go_on: GoOn) -> Iterator[Judged]:
        """The transactions that end in this chunk, judged one by one."""
        for transaction in self._envelope.feed(chunk):
            go_on()
            mapped = self._envelope.map(transaction, self.data)
            judged = self._judge(transaction, mapped, go_on)
            self.summary = self.summary.with_judged(judged)
            yield judged

    def close(self) -> Summary:
        """Says that there is no more; what was judged."""
        reader = self._envelope.close()
        self.summary = replace(
            self.summary,
            envelope_id=reader.envelope_id,
            read_records=dict(reader.read),
            skipped_records=dict(reader.skipped),
        )
        return self.summary

    def _judge(self, transaction: TaricTransaction, mapped: Mapped, go_on: GoOn) -> Judged:
        judged = Judged(
            mapped.changes,
            change_lines=tuple(record.line for record in mapped.records),
            transaction_id=transaction.id,
            line=transaction.line,
        )
        if mapped.problems:
            return replace(
                judged,
                malformed=_malformed(mapped),
                malformed_lines=tuple(each.line for each in mapped.problems),
            )
        verdict = validate(self.data, mapped.changes, self._options.today, self._options.profile, go_on)
        assert not verdict.malformed  # the mapping reports it, by element
        if mapped.changes:
            self.data = self.data.apply(mapped.changes)
        return replace(judged, violations=verdict.violations)


class EnvelopeCommit:
    """Judges an envelope that is to be stored; what refuses it ends it.

    `feed` raises RECORDS_MALFORMED and RULES_VIOLATED for the first transaction that must not be stored.
    """

    def __init__(self, data: Dataset, options: Options, *, allow_preexisting: bool) -> None:
        self._judged_on = data
        self._judgement = EnvelopeJudgement(data, options)
        self._allow_preexisting = allow_preexisting
        self._transactions: list[tuple[Change, ...]] = []

    def feed(self, chunk: bytes, go_on: GoOn) -> None:
        """Judges the transactions that end in this chunk."""
        for judged in self._judgement.feed(chunk, go_on):
            refuse_wrong(judged, _line_path, allow_preexisting=self._allow_preexisting)
            if judged.changes:
                self._transactions.append(judged.changes)

    def close(self) -> Prepared:
        """Says that there is no more; what is to be stored."""
        summary = self._judgement.close()
        return Prepared(self._judged_on, self._transactions, self._judgement.data, summary)


def sent_data(
    records: Iterable[Record], envelope: bytes, options: Options, path: str, go_on: GoOn
) -> Dataset:
    """Data to judge against: well-formed records, then an envelope that stands at `path`; nothing of it is judged.

    Raises RECORDS_MALFORMED, ENVELOPE_INVALID.
    """
    data = Dataset.of(records)
    if not envelope:
        return data
    reading = _MappedEnvelope(options, path)
    for piece in pieces(envelope):
        for transaction in reading.feed(piece):
            go_on()
            mapped = reading.map(transaction, data)
            if mapped.problems:
                lines = [each.line for each in mapped.problems]
                raise records_malformed(
                    _malformed(mapped),
                    lambda each, line: f"{path}: {_line_path(each, line)}",
                    lines,
                    transaction.id,
                )
            data = data.apply(mapped.changes)
    reading.close()
    return data


def pieces(chunk: bytes) -> Iterator[bytes]:
    """A chunk in pieces that do not take long."""
    for begin in range(0, len(chunk), PIECE_BYTES):
        yield chunk[begin : begin + PIECE_BYTES]


class _MappedEnvelope:
    """Reads an envelope and maps its transactions, within bounds; in the errors of ours."""

    def __init__(self, options: Options, path: str = "") -> None:
        self._options = MapOptions(options.mechanisms, options.categories)
        self._reader = EnvelopeReader(_MAX_TRANSACTION_BYTES)
        self._changes = 0
        self._path = path

    def feed(self, chunk: bytes) -> list[TaricTransaction]:
        try:
            return self._reader.feed(chunk)
        except TaricError as error:
            raise envelope_invalid(error, self._path) from None

    def map(self, transaction: TaricTransaction, data: Dataset) -> Mapped:
        mapped = to_changes(transaction, data, self._options)
        self._changes += len(mapped.changes)
        if self._changes > MAX_CHANGES:
            problem = f"must have at most {MAX_CHANGES:,} changes: split it"
            raise envelope_invalid(TaricError(transaction.line, "envelope", problem), self._path)
        return mapped

    def close(self) -> EnvelopeReader:
        try:
            self._reader.close()
        except TaricError as error:
            raise envelope_invalid(error, self._path) from None
        return self._reader


def _malformed(mapped: Mapped) -> tuple[Malformed, ...]:
    return tuple(Malformed(each.index, each.element, each.expected) for each in mapped.problems)


def _line_path(wrong: Malformed, line: int) -> str:
    return f"line {line}: {wrong.field}"
