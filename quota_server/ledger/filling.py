"""Water-filling in exact integers: one amount poured over vessels of different width."""

import heapq
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Vessel:
    """What one member can take of an amount that is poured; all but the weight in units.

    It holds `low` before anything is poured and `high` (>= `low`) when full. The water in it is measured from
    `bottom`. `weight` (>= 0) is its width; a vessel of weight 0 takes water only when every wider one is full.
    """

    name: str
    bottom: int
    low: int
    high: int
    weight: int


def fill(vessels: Sequence[Vessel], amount: int) -> dict[str, int]:
    """Pour `amount` (>= 0 units) and answer what each vessel then holds, by name.

    All of it is poured unless every vessel is full. Each unit goes to the least (water + 1/2) / weight, ties
    ascending by name (Webster's rule). So the water per weight is as equal as whole units allow: no unit moved from
    one vessel to another would bring the two closer together. And a larger amount never leaves less in any vessel,
    as rounding by largest remainder would.
    """
    levels = {vessel.name: vessel.low for vessel in vessels}
    takers = [vessel for vessel in vessels if vessel.high > vessel.low]
    wide = [vessel for vessel in takers if vessel.weight > 0]
    last_in_line = [replace(vessel, weight=1) for vessel in takers if vessel.weight == 0]
    for tier in (wide, last_in_line):
        room = sum(vessel.high - vessel.low for vessel in tier)
        if room <= amount:
            levels.update((vessel.name, vessel.high) for vessel in tier)
        else:
            levels.update(_pour(tier, amount))
        amount -= min(amount, room)
    return levels


def exact_shift(weights: Iterable[int]) -> int:
    """Bits for which `(x << bits) // weight` orders the fractions x / weight exactly, ties included.

    Two different fractions differ by at least 1 / (weight * weight'), so by at least 1 once shifted that far.
    """
    return 2 * max(weights, default=1).bit_length()


@dataclass(frozen=True, slots=True)
class _Surface:
    """A vessel and the marks at which it takes water: unit k above its bottom at (2k - 1) / weight.

    Marks are shifted as `exact_shift` says. `first` is the mark of the unit next above `low`, `last` that of the
    unit that reaches `high`.
    """

    vessel: Vessel
    shift: int
    first: int
    last: int

    @classmethod
    def of(cls, vessel: Vessel, shift: int) -> "_Surface":
        """The surface of a vessel that is not full."""
        first = ((2 * (vessel.low - vessel.bottom) + 1) << shift) // vessel.weight
        last = ((2 * (vessel.high - vessel.bottom) - 1) << shift) // vessel.weight
        return cls(vessel, shift, first, last)

    def level(self, mark: int) -> int:
        """What the vessel holds when the water stands at `mark`."""
        vessel = self.vessel
        if mark < self.first:
            return vessel.low
        if mark >= self.last:
            return vessel.high
        # The largest 2k - 1 whose mark, rounded down, is not above this one.
        odd = ((mark + 1) * vessel.weight - 1) >> self.shift
        return vessel.bottom + (odd + 1) // 2

    def mark_above(self, level: int) -> int:
        """The mark of the unit that would come next."""
        return ((2 * (level - self.vessel.bottom) + 1) << self.shift) // self.vessel.weight


def _pour(vessels: Sequence[Vessel], amount: int) -> dict[str, int]:
    """`fill` for an amount too small to fill these vessels, all of them with a weight and not full.

    The surface is placed by arithmetic so that at most a few units per vessel are missing; those follow one by one.
    """
    shift = exact_shift(vessel.weight for vessel in vessels)
    surfaces = [_Surface.of(vessel, shift) for vessel in vessels]
    mark = _mark_not_above(surfaces, amount, shift)
    levels = {surface.vessel.name: surface.level(mark) for surface in surfaces}
    missing = amount - sum(levels[vessel.name] - vessel.low for vessel in vessels)
    by_name = {surface.vessel.name: surface for surface in surfaces}
    turns = [
        (surface.mark_above(levels[name]), name)
        for name, surface in by_name.items()
        if levels[name] < surface.vessel.high
    ]
    heapq.heapify(turns)
    for _ in range(missing):
        _, name = turns[0]
        levels[name] += 1
        if levels[name] < by_name[name].vessel.high:
            heapq.heapreplace(turns, (by_name[name].mark_above(levels[name]), name))
        else:
            heapq.heappop(turns)
    return levels


def _mark_not_above(surfaces: Sequence[_Surface], amount: int, shift: int) -> int:
    """A mark at which at most `amount` is poured, and no more than a few units per vessel less."""
    # Between two neighbouring marks at which vessels begin or end to take water, what is poured grows evenly.
    marks = sorted({mark for surface in surfaces for mark in (surface.first, surface.last)})
    marks.insert(0, marks[0] - 1)  # there, nothing is poured yet

    def poured(mark: int) -> int:
        return sum(surface.level(mark) - surface.vessel.low for surface in surfaces)

    upper = bisect_right(marks, amount, key=poured)  # exists: at the last mark all are full, which is more
    low, high = marks[upper - 1], marks[upper]
    rising = [surface.vessel.weight for surface in surfaces if surface.first <= low and surface.last >= high]
    # Rounding adds at most one unit to each rising vessel.
    surely_above = amount - poured(low) - len(rising)
    if not rising or surely_above <= 0:
        return low
    return min(low + (surely_above << (shift + 1)) // sum(rising), high - 1)
