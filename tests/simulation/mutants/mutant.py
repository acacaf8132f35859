"""What a mutant is."""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    """One change of one module's source: `find` is there exactly once."""

    name: str
    #: The rule that is broken, in a few words.
    what: str
    module: str
    find: str
    put: str
