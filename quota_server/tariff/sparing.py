"""Spares the garbage collector what stays.

Records hold no cycles, so nothing is ever found among them; but looking at 100,000 of them takes half a second in which
nothing else goes on, over and over while they become more.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

#: Versions of records.
_ENOUGH: Final = 5_000
#: What is younger than that is looked at before it is spared: much of it is garbage.
_YOUNG: Final = 1


class Sparing:
    """Counts what has come to stay."""

    def __init__(self) -> None:
        self._new = 0

    def note(self, versions: int) -> None:
        """So many versions have come to stay; once it is enough, all that there is is spared from now on."""
        self._new += versions
        if self._new >= _ENOUGH:
            gc.collect(_YOUNG)
            gc.freeze()
            self._new = 0

    @contextmanager
    def loading(self) -> Iterator[None]:
        """No collections while very much is loaded."""
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            if was_enabled:
                gc.enable()
