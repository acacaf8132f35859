"""What an operator asked for is carried out once, however often and wherever it was asked, or not at all (S4)."""

from __future__ import annotations

from collections.abc import Iterable

from quota_server.ledger.model import Note
from tests.simulation.truth import require

_OPERATOR = "operator "


def actor_of(number: int) -> str:
    """Who asks, by the number of the call: so the history tells which call each entry is of."""
    return f"{_OPERATOR}{number}"


class OnceChecks:
    """Follows the history; each entry names its call."""

    def __init__(self) -> None:
        #: Calls that the history has.
        self._done: set[str] = set()

    def wrote(self, notes: Iterable[Note]) -> None:
        """One transaction added these."""
        calls = _calls(notes)
        twice = sorted(calls & self._done)
        require(not twice, "S4", f"{twice} was carried out twice")
        self._done |= calls

    def restored(self, history: Iterable[Note]) -> None:
        """The history is another one."""
        self._done = _calls(history)

    def is_done(self, actor: str) -> bool:
        """Whether the history has the call."""
        return actor in self._done


def _calls(notes: Iterable[Note]) -> set[str]:
    return {note.actor for note in notes if note.actor.startswith(_OPERATOR)}
