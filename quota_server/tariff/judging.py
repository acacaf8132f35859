"""Judges what comes in, typed or as an envelope: pure work that may take long, in pieces that can be given up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date

from immutables import Map

from rules.catalogue import Profile
from rules.dataset import Dataset
from rules.engine import validate
from rules.malformed import Malformed
from rules.records import Change
from rules.taric.mapping import MapOptions, to_changes
from rules.taric.reader import EnvelopeReader
from rules.taric.taric_record import TaricTransaction
from rules.violation import Violation

GoOn = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Options:
    """How to judge."""

    today: date
    profile: Profile = Profile.UK
    mechanisms: Mapping[str, int] = Map()
    categories: Mapping[str, int] = Map()


@dataclass(frozen=True, slots=True)
class Judged:
    """A transaction and what is wrong with it."""

    changes: tuple[Change, ...]
    violations: tuple[Violation, ...] = ()
    malformed: tuple[Malformed, ...] = ()
    #: Line of each change, and of each malformed field; empty if there was no envelope.
    change_lines: tuple[int, ...] = ()
    malformed_lines: tuple[int, ...] = ()
    transaction_id: str = ""
    line: int = 0

    @property
    def is_clean(self) -> bool:
        """Whether there is nothing to say."""
        return not self.violations and not self.malformed

    def line_of(self, violation: Violation) -> int:
        """The line of the first change that triggered it; 0 if there was no envelope."""
        return self.change_lines[violation.triggered_by[0]] if self.change_lines else 0


@dataclass(frozen=True, slots=True)
class Summary:
    """What was judged."""

    envelope_id: str = ""
    transactions: int = 0
    changes: int = 0
    violations: int = 0
    preexisting: int = 0
    malformed: int = 0
    read_records: Mapping[str, int] = field(default_factory=dict)
    skipped_records: Mapping[str, int] = field(default_factory=dict)

    def with_judged(self, judged: Judged) -> Summary:
        """The summary with one more transaction."""
        return replace(
            self,
            transactions=self.transactions + 1,
            changes=self.changes + len(judged.changes),
            violations=self.violations + len(judged.violations),
            preexisting=self.preexisting + sum(each.preexisting for each in judged.violations),
            malformed=self.malformed + len(judged.malformed),
        )


def judge_typed(
    data: Dataset,
    changes: Sequence[Change],
    wrong: Sequence[Malformed],
    options: Options,
    go_on: GoOn,
) -> Judged:
    """A transaction of typed changes; `wrong` is what did not even become a change."""
    if wrong:
        return Judged(tuple(changes), malformed=tuple(wrong))
    verdict = validate(data, changes, options.today, options.profile, go_on)
    return Judged(tuple(changes), verdict.violations, verdict.malformed)


class EnvelopeJudgement:
    """Judges the transactions of an envelope as they come in, each on the data after those before it.

    A transaction with malformed records changes nothing; one that only breaks rules is taken as if it were stored.
    Raises TaricError if this is no envelope.
    """

    def __init__(self, data: Dataset, options: Options) -> None:
        self.data = data
        self.summary = Summary()
        self._options = options
        self._map_options = MapOptions(options.mechanisms, options.categories)
        self._reader = EnvelopeReader()

    def feed(self, chunk: bytes, go_on: GoOn) -> Iterable[Judged]:
        """The transactions that end in this chunk, judged one by one."""
        for transaction in self._reader.feed(chunk):
            go_on()
            judged = self._judge(transaction, go_on)
            self.summary = self.summary.with_judged(judged)
            yield judged

    def close(self) -> Summary:
        """Says that there is no more; what was judged."""
        self._reader.close()
        reader = self._reader
        self.summary = replace(
            self.summary,
            envelope_id=reader.envelope_id,
            read_records=Counter(reader.read),
            skipped_records=Counter(reader.skipped),
        )
        return self.summary

    def _judge(self, transaction: TaricTransaction, go_on: GoOn) -> Judged:
        mapped = to_changes(transaction, self.data, self._map_options)
        named = {"transaction_id": transaction.id, "line": transaction.line}
        if mapped.problems:
            return Judged(
                mapped.changes,
                malformed=tuple(
                    Malformed(each.index, each.element, each.expected) for each in mapped.problems
                ),
                malformed_lines=tuple(each.line for each in mapped.problems),
                **named,  # type: ignore[arg-type]
            )
        lines = tuple(record.line for record in mapped.records)
        verdict = validate(self.data, mapped.changes, self._options.today, self._options.profile, go_on)
        assert not verdict.malformed  # the mapping reports it, by element
        if mapped.changes:
            self.data = self.data.apply(mapped.changes)
        return Judged(mapped.changes, verdict.violations, change_lines=lines, **named)  # type: ignore[arg-type]
