"""What a judgement says about what came in, typed or as an envelope."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from immutables import Map

from rules.malformed import Malformed
from rules.records import Change
from rules.violation import Violation

_NONE: Final[Mapping[str, int]] = Map()


@dataclass(frozen=True, slots=True)
class Judged:
    """A transaction and what is wrong with it."""

    changes: tuple[Change, ...]
    violations: tuple[Violation, ...] = ()
    malformed: tuple[Malformed, ...] = ()
    #: Lines of the changes, and of what is malformed; empty if there was no envelope.
    change_lines: tuple[int, ...] = ()
    malformed_lines: tuple[int, ...] = ()
    transaction_id: str = ""
    line: int = 0

    @property
    def is_clean(self) -> bool:
        """Whether there is nothing to say."""
        return not self.violations and not self.malformed

    def line_of(self, violation: Violation) -> int:
        """The line of the record's own change, else of the first that triggered it; 0 if there was no envelope."""
        if not self.change_lines:
            return 0
        name = violation.record
        own = (
            index
            for index in violation.triggered_by
            if (record := self.changes[index].record).kind == name.kind and record.key == name.key
        )
        return self.change_lines[next(own, violation.triggered_by[0])]


@dataclass(frozen=True, slots=True)
class Summary:
    """What was judged, all in all."""

    envelope_id: str = ""
    transactions: int = 0
    changes: int = 0
    violations: int = 0
    preexisting: int = 0
    malformed: int = 0
    #: By code.
    read_records: Mapping[str, int] = _NONE
    skipped_records: Mapping[str, int] = _NONE

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
