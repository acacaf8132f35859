"""The cap (S2) and the controller's upper bound (S7), held against what clients were told: pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.chaos.history import History
from tests.chaos.verdict import Violation


@dataclass(slots=True)
class Allowance:
    """What may have been spent of one quota. Targets and approvals are entered before they are asked for."""

    name: str
    #: Targets that may be in force.
    targets: set[int] = field(default_factory=set)
    #: Units of every override that may have been approved.
    overrides: int = 0
    #: Units that a settlement put at risk.
    at_risk: int = 0
    #: Units that no cap covered, as the controller says.
    overage: int = 0
    #: Grows when a target is asked for and again when that was answered: odd while one is under way.
    changes: int = 0

    @property
    def units(self) -> int:
        """The most that may have been spent."""
        return max(self.targets, default=0) + self.overrides + self.at_risk + self.overage


@dataclass(frozen=True, slots=True)
class Moment:
    """What was certain when a call was begun."""

    uid: str
    certain: int
    releasing: int
    excused: int


class Bounds:
    """Allowances by quota uid, and the checks against a history."""

    def __init__(self, history: History) -> None:
        self._history = history
        self.quotas: dict[str, Allowance] = {}

    def check_cap(self, uid: str) -> None:
        """Raises Violation (S2) if more is certain than is allowed."""
        allowance = self.quotas.get(uid)
        if allowance is None:
            raise Violation("RUN", "grants only in quotas that were created", uid)
        self.check_total(uid, self._history.certain[uid] - self._history.excused[uid])

    def check_total(self, uid: str, total: int) -> None:
        """Raises Violation (S2) if a total is more than is allowed."""
        allowance = self.quotas[uid]
        if total > allowance.units:
            seen = f"{total} units are spent; {allowance}"
            raise Violation("S2", f"at most {allowance.units} units of {allowance.name} ({uid})", seen)

    def begin(self, uid: str) -> Moment:
        """A call for the count is about to be made."""
        history = self._history
        return Moment(uid, history.certain[uid], history.releasing[uid], history.excused[uid])

    def check_bound(self, begun: Moment, upper_bound: int | None) -> None:
        """The call was answered. Raises Violation (S7) if the bound is below what was spent all the while."""
        if upper_bound is None:  # unknown while recovering
            return
        released = self._history.releasing[begun.uid] - begun.releasing
        spent = begun.certain - begun.excused - released
        if spent > upper_bound:
            seen = f"{spent} units had been granted before the call began ({begun})"
            raise Violation("S7", f"at most {upper_bound} units, as the controller answered", seen)


def check_unseen(totals: Mapping[str, int], upper_bounds: Mapping[str, int | None]) -> None:
    """When nothing is under way: raises Violation (S7) if a total is above the bound stated for it."""
    for uid, total in Counter(totals).items():
        bound = upper_bounds.get(uid)
        if bound is not None and total > bound:
            raise Violation("S7", f"at most {bound} units of {uid}", f"{total} units are on disks")
