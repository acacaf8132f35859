"""What the demo holds Quotafleet to: pure functions from what was observed to what is broken.

Nothing is ever released in the demo, so the true total only grows, and any sum of what was seen granted is at most
the true total at any later moment. That is why each `Sample` is taken in this order: what clients had been answered,
then the agents' own numbers, then the controller's upper bound, then what is allowed. A total that is above a bound
which was read after it breaks the bound, whatever happened in between.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field


class Guarantee(enum.StrEnum):
    """What must hold; the value is what people read."""

    CAP = "never more than the target and the approved overrides"
    BOUND = "never more than the controller's upper bound"
    LIMIT = "no agent goes past its own limit"
    DURABLE = "what was answered is kept"
    ONCE = "a participant counts once per site"
    SUMS = "the controller's numbers are the agents' sums"
    EXACT = "the whole target is granted, and no more"
    SERVED = "nobody is refused while the connected fleet has units to spare"


@dataclass(frozen=True, slots=True)
class Broken:
    """A guarantee that did not hold, and the numbers."""

    guarantee: Guarantee
    sentence: str


@dataclass(frozen=True, slots=True)
class Reading:
    """One agent's own numbers, as it answered them, and whether it had a link."""

    count: int
    held: int
    limit: int
    overridden: int = 0
    connected: bool = True

    @property
    def used(self) -> int:
        """Units spent, under the limit and under overrides."""
        return self.count + self.overridden

    @property
    def spare(self) -> int:
        """Units that could be acquired at once."""
        return self.limit - self.count - self.held


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at everything, in the order of the fields. Times are of one monotonic clock, in seconds."""

    #: Before anything was read.
    began: float
    #: Units by site in the answers that its clients had by then.
    answered: Mapping[str, int]
    #: By site; one whose agent did not answer is not in it.
    readings: Mapping[str, Reading]
    #: When all agents had answered.
    ended: float
    #: None while the controller does not answer, or does not know.
    upper_bound: int | None
    #: The highest target that may be in force, and all approved overrides.
    allowed: int
    #: How often the story has begun or ended an interference with the fleet.
    changes: int = 0


@dataclass(frozen=True, slots=True)
class Refusal:
    """A place that was refused with QUOTA_REACHED; the numbers are those that the refusal came with."""

    site: str
    asked_at: float
    refused_at: float
    limit: int
    used: int
    requested: int = 1


@dataclass(frozen=True, slots=True)
class SiteAccount:
    """One site at the end, when nothing is under way."""

    #: Units by request id, as clients were answered.
    answered: Mapping[str, int]
    #: (request id, units) of the agent's counted entries.
    entries: Sequence[tuple[str, int]]
    #: The agent's own numbers.
    agent: Reading
    #: What the controller says of it after a refresh: count, held, overridden.
    controller: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Account:
    """Everything at the end."""

    sites: Mapping[str, SiteAccount]
    target: int
    #: Units of approved overrides.
    overrides: int
    #: The controller's sums after a refresh: count, held, overridden.
    controller: tuple[int, int, int]
    upper_bound: int | None

    @property
    def total(self) -> int:
        """Units spent in truth: what agents hold or clients were answered, whichever is more."""
        return sum(max(site.agent.used, sum(site.answered.values())) for site in self.sites.values())

    @property
    def overshoot(self) -> int:
        """Units beyond the target and the approved overrides."""
        return max(0, self.total - self.target - self.overrides)


@dataclass(slots=True)
class Watch:
    """Takes samples one after another, and says what each of them breaks."""

    #: The most that each agent ever said it had spent.
    known: dict[str, int] = field(default_factory=dict)
    #: The highest total seen.
    total: int = 0

    def take(self, sample: Sample) -> list[Broken]:
        """What this sample breaks, in the light of those before it."""
        broken = [
            each for site, reading in sample.readings.items() for each in self._agent(site, reading, sample)
        ]
        for site, reading in sample.readings.items():
            self.known[site] = max(self.known.get(site, 0), reading.used)
        sites = self.known.keys() | sample.answered.keys()
        self.total = sum(max(self.known.get(site, 0), sample.answered.get(site, 0)) for site in sites)
        if sample.upper_bound is not None and self.total > sample.upper_bound:
            said = f"{self.total} units were spent when the controller said at most {sample.upper_bound}"
            broken.append(Broken(Guarantee.BOUND, said))
        if self.total > sample.allowed:
            said = f"{self.total} units were spent when at most {sample.allowed} were allowed"
            broken.append(Broken(Guarantee.CAP, said))
        return broken

    def _agent(self, site: str, reading: Reading, sample: Sample) -> Iterable[Broken]:
        if reading.spare < 0:
            said = f"{site}: count {reading.count} and held {reading.held} are past the limit {reading.limit}"
            yield Broken(Guarantee.LIMIT, said)
        answered = sample.answered.get(site, 0)
        if reading.used < answered:
            said = f"{site}: {answered} units had been answered, and its agent knows of {reading.used}"
            yield Broken(Guarantee.DURABLE, said)
        if reading.used < self.known.get(site, 0):
            said = f"{site}: its agent had counted {self.known[site]} units, and later only {reading.used}"
            yield Broken(Guarantee.DURABLE, said)


def settle(account: Account) -> list[Broken]:
    """What is broken at the end."""
    broken = [each for name, site in account.sites.items() for each in _settle_site(name, site)]
    agents = [site.agent for site in account.sites.values()]
    sums = (sum(a.count for a in agents), sum(a.held for a in agents), sum(a.overridden for a in agents))
    if account.controller != sums:
        said = f"{_numbers(account.controller)}, but its agents come to {_numbers(sums)}"
        broken.append(Broken(Guarantee.SUMS, f"the controller says {said}"))
    wanted = account.target + account.overrides
    if account.overshoot:
        said = (
            f"{account.total} units were spent: {account.overshoot} more than the {wanted} that were allowed"
        )
        broken.append(Broken(Guarantee.CAP, said))
    elif account.total != wanted:
        said = f"{account.total} units were spent where {wanted} were allowed and more were asked for"
        broken.append(Broken(Guarantee.EXACT, said))
    if account.upper_bound is not None and account.total > account.upper_bound:
        said = f"{account.total} units were spent; the controller says at most {account.upper_bound}"
        broken.append(Broken(Guarantee.BOUND, said))
    return broken


def _settle_site(name: str, site: SiteAccount) -> Iterable[Broken]:
    entries: Counter[str] = Counter()
    for request_id, granted in site.entries:
        entries[request_id] += granted
    rows = Counter(request_id for request_id, _ in site.entries)
    # What counts twice has an entry too many, or more units than were answered.
    twice = sorted(
        key for key in entries if rows[key] > 1 or entries[key] > site.answered.get(key, entries[key])
    )
    if twice:
        yield Broken(Guarantee.ONCE, f"{name}: {_some(twice)} counted more than once")
    lost = sorted(key for key, granted in site.answered.items() if entries[key] < granted)
    if lost:
        yield Broken(Guarantee.DURABLE, f"{name}: {_some(lost)} answered as granted, but no entry covers it")
    # Every request was repeated until it was answered, so nothing may be granted that nobody was told of.
    unknown = sorted(entries.keys() - site.answered.keys())
    if unknown:
        yield Broken(
            Guarantee.ONCE, f"{name}: {_some(unknown)} has an entry, but was never answered as granted"
        )
    if site.agent.used != entries.total():
        said = f"{name}: its agent counts {site.agent.used} units, and its entries come to {entries.total()}"
        yield Broken(Guarantee.ONCE, said)
    own = (site.agent.count, site.agent.held, site.agent.overridden)
    if site.controller != own:
        said = f"{name}: the controller says {_numbers(site.controller)}, its agent {_numbers(own)}"
        yield Broken(Guarantee.SUMS, said)


def _numbers(numbers: tuple[int, int, int]) -> str:
    count, held, overridden = numbers
    return f"count {count}, held {held}, overridden {overridden}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} others" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def refused_with_room(refusal: Refusal) -> Broken | None:
    """A refusal must be true by its own numbers."""
    left = refusal.limit - refusal.used
    if left < refusal.requested:
        return None
    said = f"{refusal.site} was refused {refusal.requested} by an agent that had {left} left"
    return Broken(Guarantee.SERVED, said)


def spare_units(refusal: Refusal, samples: Sequence[Sample], bound: float, gap: float) -> int | None:
    """Units that the connected fleet had to spare all the while that a request waited in vain; None: cannot be judged.

    "Nobody is refused while the fleet has headroom" is easily got wrong, because units that are on their way, or that
    somebody else is about to take, look like headroom too. So this counts only what is certain:

    - The request must have waited for at least `bound` seconds, the time in which a connected fleet has to find units
      for it, and only samples taken while it waited, and after its agent had been connected all along, are looked at.
    - Nothing may have interfered meanwhile: no link cut, no process killed, no target changed, and the controller has
      answered every time. Samples must follow each other within `gap` seconds: where this machine itself stood still,
      nothing can be said of the fleet.
    - An agent's spare units are the FEWEST that it had in any of these samples. Units that pass through it, or that
      came at the last moment, do not count; those that it sat on all the time do.
    - What it spent itself in that time is taken off: units that it was about to use were asked for.
    - Agents that were not connected in every one of the samples do not count: nothing can be taken from them.

    A fleet that moves units by demand leaves 0 here: an agent with spare units grants every request at once, so it has
    no open request, and by MAX_MIN its units go to those who have. A fleet that is stuck leaves more.
    """
    window = [s for s in samples if refusal.asked_at <= s.began and s.ended <= refusal.refused_at]
    if not window or refusal.refused_at - window[0].began < bound:
        return None
    ends = [sample.ended for sample in window]
    if any(
        later - earlier > gap for earlier, later in zip(ends, [*ends[1:], refusal.refused_at], strict=True)
    ):
        return None
    if len({sample.changes for sample in window}) > 1 or any(sample.upper_bound is None for sample in window):
        return None
    readings = [readings for site in _sites(window) if (readings := _connected(site, window))]
    if not _connected(refusal.site, window):
        return None
    return sum(_idle(each) for each in readings)


def _sites(window: Sequence[Sample]) -> list[str]:
    return sorted({site for sample in window for site in sample.readings})


def _connected(site: str, window: Sequence[Sample]) -> list[Reading]:
    """The site's readings, if there is one in every sample and it was connected in all of them."""
    readings = [reading for sample in window if (reading := sample.readings.get(site)) and reading.connected]
    return readings if len(readings) == len(window) else []


def _idle(readings: Sequence[Reading]) -> int:
    spent = readings[-1].used - readings[0].used
    return max(0, min(reading.spare for reading in readings) - spent)


def judge(
    refusals: Iterable[Refusal], samples: Sequence[Sample], *, bound: float, gap: float
) -> tuple[list[Broken], int]:
    """What the refusals break, and how many of them could be judged; see `spare_units`."""
    broken, judged = [], 0
    for refusal in refusals:
        if false := refused_with_room(refusal):
            broken.append(false)
        spare = spare_units(refusal, samples, bound, gap)
        if spare is None:
            continue
        judged += 1
        if spare >= refusal.requested:
            waited = refusal.refused_at - refusal.asked_at
            said = f"{refusal.site} was refused after {waited:.1f} s in which connected agents sat on {spare} units"
            broken.append(Broken(Guarantee.SERVED, said))
    return broken, judged


def first_of_each(broken: Iterable[Broken]) -> list[Broken]:
    """The first sentence of each guarantee that is broken, and how many more there are."""
    sentences: dict[Guarantee, list[str]] = {}
    for each in broken:
        sentences.setdefault(each.guarantee, []).append(each.sentence)
    return [
        Broken(guarantee, said[0] if len(said) == 1 else f"{said[0]} (and {len(said) - 1} more)")
        for guarantee, said in sentences.items()
    ]
