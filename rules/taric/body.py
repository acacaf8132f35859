"""What the table in `rules.taric.elements` is made of: records' bodies and the elements in them."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Final

from rules.records import Record
from rules.taric.lexical import Lexical

ENVELOPE_NAMESPACE: Final = "urn:publicid:-:DGTAXUD:GENERAL:ENVELOPE:1.0"
MESSAGE_NAMESPACE: Final = "urn:publicid:-:DGTAXUD:TARIC:MESSAGE:1.0"

#: The two ends of the field `valid_between`.
START: Final = "valid_between.start"
END: Final = "valid_between.end"
#: Elements that have no field of their own: kept by name in the record's `elements` or `data`.
KEPT: Final = "*"


@dataclass(frozen=True, slots=True)
class Slot:
    """One element of a body."""

    element: str
    lexical: Lexical
    #: The field that it fills; "" if it fills none, KEPT if it is kept under its name.
    field: str = ""
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Body:
    """The body of a record."""

    #: Record code and subrecord code.
    code: str
    element: str
    slots: tuple[Slot, ...]
    #: None if no rule asks about such records.
    kind: type[Record] | None = None
    #: Whether reading looks into it.
    judged: bool = True
    #: What it was in older schemas, if that is still accepted.
    older: Body | None = None
    by_name: Mapping[str, Slot] = field(init=False, repr=False)
    mandatory: frozenset[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        names = {slot.element: slot for slot in self.slots}
        object.__setattr__(self, "by_name", names)
        object.__setattr__(
            self, "mandatory", frozenset(slot.element for slot in self.slots if not slot.optional)
        )

    def slot_of(self, field: str) -> Slot | None:
        """The element that fills a field."""
        return next((slot for slot in self.slots if slot.field == field), None)

    def form_of(self, names: Container[str]) -> Body:
        """The older form if it is the one that has these elements, else this."""
        if self.older is not None and any(name in names for name in self.older.by_name.keys() - self.by_name):
            return self.older
        return self
