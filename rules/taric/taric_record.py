"""An envelope's records as they stand in it: codes, and elements with their texts."""

from __future__ import annotations

from dataclasses import dataclass, field

from rules.records import UpdateType
from rules.taric.errors import Problem


@dataclass(frozen=True, slots=True)
class Element:
    """One element of a record's body."""

    name: str
    text: str
    line: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class TaricRecord:
    """One record of a kind that `rules.taric.elements` knows, with all elements of its body."""

    #: Record code and subrecord code, e.g. "370 00".
    code: str
    update_type: UpdateType
    elements: tuple[Element, ...]
    #: Its own transaction.id, which need not be that of the transaction that holds it.
    transaction_id: str = ""
    sequence_number: str = ""
    line: int = field(default=0, compare=False)

    def text(self, name: str) -> str | None:
        """The text of an element, or None if there is no such element."""
        return next((each.text for each in self.elements if each.name == name), None)

    def line_of(self, name: str) -> int:
        """The line of an element, or that of the record if it is not there."""
        return next((each.line for each in self.elements if each.name == name), self.line)


@dataclass(frozen=True, slots=True)
class TaricTransaction:
    """Records that are judged as a whole."""

    id: str
    records: tuple[TaricRecord, ...]
    #: What is wrong with records that could not be read; if there is anything, `records` is not all.
    problems: tuple[Problem, ...] = ()
    line: int = field(default=0, compare=False)
