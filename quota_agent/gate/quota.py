"""One quota on this agent: its numbers, and the few ways in which they may change."""

from __future__ import annotations

from dataclasses import dataclass, fields

from quota_agent.gate.model import MAX_TOTAL, Balance
from quotafleet.link.messages import MAX_UNITS, AllocationUpdate, Revision, Standing, Terms, Totals

_NO_REVISION = Revision()
_NO_TOTALS = Totals()


@dataclass(slots=True)
class Quota:
    """A quota's durable state on this store, in its smallest unit.

    Between groups it is a value that nobody changes: a group changes copies of its own, which take the place of the
    originals once the store has them.
    """

    uid: str
    #: Order in which this store met its quotas, from 1.
    number: int
    terms: Terms
    revision: Revision = _NO_REVISION
    #: The limit that the controller wants.
    wanted: int = 0
    #: The limit in force: above `wanted` only where more was in use already.
    limit: int = 0
    consumed: int = 0
    released: int = 0
    override_consumed: int = 0
    override_released: int = 0
    held: int = 0
    #: Grows with every durable change of this quota.
    sequence: int = 0
    #: Totals of when least was in use since the newest session mark that is known to have been shown was stored: what a
    #: copy is charged above.
    marked: Totals = _NO_TOTALS
    #: The same since the session mark held now was stored, of which nobody knows yet whether it will ever be shown.
    marking: Totals = _NO_TOTALS
    #: Number of the newest entry.
    last_entry: int = 0

    def copy(self) -> Quota:
        """A copy to change."""
        return Quota(*[getattr(self, name) for name in _FIELDS])

    @property
    def used(self) -> int:
        """Units that the limit cannot go below: count + held."""
        return self.consumed - self.released + self.held

    @property
    def totals(self) -> Totals:
        """The running totals; each only grows."""
        return Totals(self.consumed, self.released, self.override_consumed, self.override_released)

    def balance(self) -> Balance:
        """The numbers that answers carry."""
        count = self.consumed - self.released
        return Balance(count, self.held, self.limit - count - self.held, self.limit)

    def standing(self) -> Standing:
        """What this store may tell the controller, without the demand."""
        return Standing(self.uid, self.revision, self.limit, self.totals, self.held, self.sequence)

    def apply(self, update: AllocationUpdate) -> None:
        """Take a newer revision. What is in use stays in use, so the limit in force may be above the wanted one."""
        assert update.revision > self.revision, "only a newer revision is applied"
        assert 0 <= update.limit <= MAX_UNITS
        self.revision = update.revision
        self.terms = update.terms
        self.wanted = update.limit
        self.limit = max(update.limit, self.used)

    def store_mark(self) -> None:
        """Move both baselines on: the store takes another session mark.

        A controller gives out a mark only after the one before was presented, so the one held until now is known to
        have been shown. The new one is not: its controller may accept another store instead, and what this one spent
        before it took the mark would be in nobody's numbers if it were the baseline.
        """
        self.marked, self.marking = self.marking, self.totals

    def ratchet(self) -> None:
        """Let the limit fall after units came back; it never rises within a revision."""
        if self.limit > self.wanted:
            self.limit = max(self.wanted, self.used)

    def lower_marks(self) -> None:
        """Let the baselines fall after units came back.

        Whoever copied this store may have done so at any moment since the mark. What was released before that moment
        the other store has released too: it must not make up for what was spent here since.
        """
        totals = self.totals
        in_use = totals.count + totals.overridden
        if in_use < self.marked.count + self.marked.overridden:
            self.marked = totals
        if in_use < self.marking.count + self.marking.overridden:
            self.marking = totals

    def check(self, before: Quota | None) -> None:
        """Assert what must hold in every durable state (S1), and against the state before (S5)."""
        assert self.held >= 0
        assert 0 <= self.released <= self.consumed <= MAX_TOTAL, "a total is out of bounds"
        assert 0 <= self.override_released <= self.override_consumed <= MAX_TOTAL, "a total is out of bounds"
        assert self.used <= self.limit, "S1: count + held <= limit"
        if before is None:
            return
        assert self.totals.covers(before.totals), "S5: totals only grow"
        assert self.sequence > before.sequence, "every change has its number"
        assert self.revision >= before.revision
        if self.revision == before.revision:
            assert self.limit <= before.limit, "S3: within one revision the limit only falls"


_FIELDS = tuple(field.name for field in fields(Quota))
