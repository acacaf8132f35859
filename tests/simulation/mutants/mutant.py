"""What a mutant is."""

from __future__ import annotations

from typing import NamedTuple


class Edit(NamedTuple):
    """A change of one module's source: `find` is there exactly once."""

    module: str
    find: str
    put: str


class Mutant(NamedTuple):
    """A program with one rule broken, or two where either alone would do."""

    name: str
    #: The rule that is broken, in a few words.
    what: str
    #: The guarantees that fall first without it; caught by another one, or by a crash, it counts as not caught.
    breaks: tuple[str, ...]
    module: str
    find: str
    put: str
    #: The rule behind it, where either alone would do.
    second: Edit | None = None

    @property
    def edits(self) -> tuple[Edit, ...]:
        """Everything that is changed."""
        first = Edit(self.module, self.find, self.put)
        return (first, self.second) if self.second is not None else (first,)
