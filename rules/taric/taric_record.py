"""Records as they stand in an envelope: codes, and elements with their texts."""

from __future__ import annotations

from dataclasses import dataclass, field

from rules.records import UpdateType
from rules.taric.errors import Problem


@dataclass(frozen=True, slots=True)
class TaricRecord:
    """One record of a code that `rules.taric.elements` knows. Where it stood does not count when two are compared."""

    #: Record code and subrecord code: "370 00".
    code: str
    update_type: UpdateType
    #: Name and text of all elements of the body, in the order in which they stood.
    elements: tuple[tuple[str, str], ...]
    #: What the record itself says; it need not be the id of the transaction that holds it. "" if it says nothing.
    transaction_id: str = ""
    sequence_number: str = ""
    line: int = field(default=0, compare=False)
    #: Of each of `elements`; () if it was not read from an envelope.
    lines: tuple[int, ...] = field(default=(), compare=False, repr=False)

    @property
    def record_code(self) -> str:
        """Three digits."""
        return self.code[:3]

    @property
    def subrecord_code(self) -> str:
        """Two digits."""
        return self.code[4:]

    def text(self, name: str) -> str | None:
        """The text of the first element of this name, or None if there is none."""
        return next((text for each, text in self.elements if each == name), None)

    def line_of(self, name: str) -> int:
        """The line of the first element of this name; that of the record if there is none."""
        places = zip(self.elements, self.lines, strict=False)
        return next((line for (each, _), line in places if each == name), self.line)


@dataclass(frozen=True, slots=True)
class TaricTransaction:
    """Records that are judged as a whole."""

    #: What the envelope says.
    id: str
    #: Those of codes that `rules.taric.elements` knows, in their order.
    records: tuple[TaricRecord, ...]
    #: All that is wrong; if there is anything, `records` need not be complete.
    problems: tuple[Problem, ...] = ()
    line: int = field(default=0, compare=False)
