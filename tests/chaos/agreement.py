"""What has to agree when nothing is under way: the controller's rows and the agents' own numbers. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.chaos.images import Numbers

#: Name of an agent and epoch.
Enrolment = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Row:
    """What the controller says of one enrolment in one quota."""

    agent: str
    epoch: int
    count: int = 0
    held: int = 0
    overridden: int = 0
    wanted: int = 0
    exposure: int = 0
    charge: int = 0
    at_risk: int = 0
    connected: bool = True

    @property
    def enrolment(self) -> Enrolment:
        """Whose it is."""
        return self.agent, self.epoch


@dataclass(frozen=True, slots=True)
class Totals:
    """What the controller says of one quota."""

    target: int
    count: int
    held: int
    overridden: int
    upper_bound: int | None
    escrowed: int
    recovering: bool = False


@dataclass(frozen=True, slots=True)
class Ended:
    """What the stores of an ended enrolment hold in one quota."""

    numbers: Numbers
    #: Its store forgot something, or was copied: its charge is only known to be enough.
    loose: bool = False


#: What disagrees: the guarantee and a sentence.
Problem = tuple[str, str]


def compare(
    totals: Totals,
    rows: Sequence[Row],
    live: Mapping[Enrolment, Numbers],
    ended: Mapping[Enrolment, Ended],
    copies: Mapping[Enrolment, int],
) -> list[Problem]:
    """What does not agree. `copies` is what copies of a live enrolment's store spent beside it."""
    return [
        *_live(rows, live, copies),
        *_ended(rows, ended, copies),
        *_sums(totals, rows, live),
        *_reached(totals, rows, live),
    ]


def _live(
    rows: Sequence[Row], live: Mapping[Enrolment, Numbers], copies: Mapping[Enrolment, int]
) -> Iterator[Problem]:
    by_enrolment = {row.enrolment: row for row in rows}
    for enrolment, own in live.items():
        row = by_enrolment.get(enrolment)
        if row is None:
            if own.used or own.held:
                yield "S5", f"{enrolment}: the controller knows nothing of {own}"
            continue
        said = (row.count, row.held, row.overridden)
        if said != (own.count, own.held, own.overridden):
            yield "S5", f"{enrolment}: the controller says {said}, its agent {own}"
        if row.charge < copies.get(enrolment, 0):
            yield "S6", f"{enrolment}: {row.charge} charged, copies spent {copies[enrolment]}"
        if row.charge and enrolment not in copies:
            yield "S6", f"{enrolment}: {row.charge} charged although no copy was made"


def _ended(
    rows: Sequence[Row], ended: Mapping[Enrolment, Ended], copies: Mapping[Enrolment, int]
) -> Iterator[Problem]:
    by_enrolment = {row.enrolment: row for row in rows}
    for enrolment, own in ended.items():
        row = by_enrolment.get(enrolment, Row(*enrolment))
        extra = copies.get(enrolment, 0)
        if own.loose or extra:
            # What its overrides paid may be charged with the overrides, and not here.
            if row.charge < own.numbers.count + extra:
                seen = f"its stores have spent {own.numbers.count} and {extra}"
                yield "S6", f"{enrolment}: {row.charge} charged, {seen}"
        elif (row.charge, row.overridden) != (own.numbers.count, own.numbers.overridden):
            yield (
                "S6",
                f"{enrolment}: charged {row.charge} and {row.overridden}, its store says {own.numbers}",
            )
        if row.at_risk and not own.loose:
            yield "S6", f"{enrolment}: {row.at_risk} still at risk although its store turned up"


def _sums(totals: Totals, rows: Sequence[Row], live: Mapping[Enrolment, Numbers]) -> Iterator[Problem]:
    """Of an ended enrolment only its charge is in the totals."""
    counts = sum(row.count for row in rows if row.enrolment in live)
    charges = sum(row.charge for row in rows)
    said = (totals.count, totals.escrowed)
    summed = (counts + charges, sum(row.exposure for row in rows) + charges)
    if said != summed:
        yield "S5", f"the controller says (count, escrowed) {said}, its rows come to {summed}"
    held = sum(row.held for row in rows if row.enrolment in live)
    if totals.held != held:
        yield "S5", f"the controller says {totals.held} held, its rows come to {held}"
    if totals.recovering:
        yield "L3", "the quota is still recovering"


def _reached(totals: Totals, rows: Sequence[Row], live: Mapping[Enrolment, Numbers]) -> Iterator[Problem]:
    """Every connected agent has the limit it should have (L1), and nothing is shared out beyond the target (S2)."""
    for row in rows:
        own = live.get(row.enrolment)
        if own is None:
            continue
        if not row.connected:
            yield "L1", f"{row.enrolment} is not connected"
        wanted = max(row.wanted, own.count + own.held)
        if not own.limit == row.exposure == wanted:
            yield "L1", f"{row.enrolment}: wanted {wanted}, may enforce {row.exposure}, enforces {own.limit}"
    used = totals.count + totals.held
    if totals.escrowed > max(totals.target, used):
        yield "S2", f"{totals.escrowed} are shared out where the target is {totals.target}, used {used}"
