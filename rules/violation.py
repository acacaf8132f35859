"""What a judgement says."""

from __future__ import annotations

from dataclasses import dataclass

from rules.malformed import Malformed
from rules.records import RecordRef


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that a record breaks after the transaction."""

    rule: str
    record: RecordRef
    #: The rule's text, then what was found.
    message: str
    #: Other records that belong to it, at most 100; `related_count` says how many there are.
    related: tuple[RecordRef, ...]
    related_count: int
    #: The changes, counted from 0, that made the rule be asked.
    triggered_by: tuple[int, ...]
    #: It broke the rule before the transaction too.
    preexisting: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """All that is wrong with a transaction; if anything is malformed, no rule was asked."""

    violations: tuple[Violation, ...] = ()
    malformed: tuple[Malformed, ...] = ()

    @property
    def introduced(self) -> tuple[Violation, ...]:
        """The violations that were not there before."""
        return tuple(each for each in self.violations if not each.preexisting)
