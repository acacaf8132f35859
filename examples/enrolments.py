"""Made-up enrolments of a trial at five sites, the data of the demo.

    python -m examples.enrolments            writes examples/enrolments.csv
    python -m examples.enrolments --check    says whether the file is what this script makes

Each row says that a site asked for a place for a participant: `time` (UTC), `site`, `participant`. Two things in it
are there to be noticed:

- Some rows repeat a participant at the SAME site: somebody got no answer and asked again. They COUNT ONCE, because the
  demo uses the participant's id as the request id, and a site's agent knows the ids that it has granted.
- Some participants turn up at TWO sites. They COUNT TWICE: a request id is unique per agent and quota, and agents do
  not talk to each other, or they could not work offline. Whoever must not count one person twice has to see to it
  before asking for a place.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Final

CSV: Final = Path(__file__).with_name("enrolments.csv")
SEED: Final = 20260302
START: Final = datetime(2026, 3, 2, tzinfo=UTC)
LENGTH: Final = timedelta(days=28)
COLUMNS: Final = ("time", "site", "participant")

#: Participants that turn up at a second site.
AT_TWO_SITES: Final = 40
#: Rows that repeat an earlier one of the same site.
REPEATS: Final = 120


@dataclass(frozen=True, slots=True)
class Plan:
    """A site: how many participants it enrols, and how its pace changes: (days, pace) after each other."""

    participants: int
    phases: tuple[tuple[int, int], ...]


PLANS: Final = {
    "leeds": Plan(700, ((28, 1),)),  # large and steady
    "cardiff": Plan(480, ((7, 1), (7, 3), (14, 2))),  # a campaign in the second week
    "belfast": Plan(340, ((4, 0), (24, 1))),  # opens late
    "dundee": Plan(220, ((14, 1), (14, 3))),  # gets going in the second half
    "exeter": Plan(140, ((10, 4), (18, 1))),  # a good start, then little
}


@dataclass(frozen=True, slots=True, order=True)
class Enrolment:
    """One row of the file."""

    time: datetime
    site: str
    participant: str


def make(seed: int = SEED) -> list[Enrolment]:
    """All rows in the order of time: the same for the same seed, on every machine."""
    chance = Random(seed)
    rows = _participants(chance)
    _send_to_second_sites(rows, chance)
    return sorted(rows + _repeats(rows, chance))


def read(path: Path = CSV) -> list[Enrolment]:
    """The rows of a file."""
    with path.open(encoding="utf-8", newline="") as file:
        return [
            Enrolment(datetime.fromisoformat(row["time"]), row["site"], row["participant"])
            for row in csv.DictReader(file)
        ]


def text(rows: list[Enrolment]) -> str:
    """What the file holds."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows((row.time.strftime("%Y-%m-%dT%H:%M:%SZ"), row.site, row.participant) for row in rows)
    return out.getvalue()


def _participants(chance: Random) -> list[Enrolment]:
    """Everybody's first row, numbered in the order of time."""
    times = sorted(
        (_time(plan, chance), site) for site, plan in PLANS.items() for _ in range(plan.participants)
    )
    return [Enrolment(time, site, f"p{number:04}") for number, (time, site) in enumerate(times, start=1)]


def _time(plan: Plan, chance: Random) -> datetime:
    """A time by the site's pace, to the second."""
    # Only Random.random() is promised to stay the same from one Python to the next.
    weight = chance.random() * sum(days * pace for days, pace in plan.phases)
    begin = START
    for days, pace in plan.phases:
        if weight < days * pace:
            return begin + timedelta(seconds=int(weight / pace * 86_400))
        weight -= days * pace
        begin += timedelta(days=days)
    return START + LENGTH - timedelta(seconds=1)


def _send_to_second_sites(rows: list[Enrolment], chance: Random) -> None:
    """Let some later rows be of participants that another site has enrolled before."""
    taken: set[str] = set()
    while len(taken) < AT_TWO_SITES:
        first, second = sorted((int(chance.random() * len(rows)), int(chance.random() * len(rows))))
        known, later = rows[first], rows[second]
        if known.site != later.site and not {known.participant, later.participant} & taken:
            taken.add(known.participant)
            rows[second] = Enrolment(later.time, later.site, known.participant)


def _repeats(rows: list[Enrolment], chance: Random) -> list[Enrolment]:
    """Rows that ask again: half of them within the hour, the others within three days."""
    end = START + LENGTH - timedelta(seconds=1)
    repeats = []
    for number in range(REPEATS):
        row = rows[int(chance.random() * len(rows))]
        most_seconds = 3_600 if number % 2 else 3 * 86_400
        later = row.time + timedelta(seconds=1 + int(chance.random() * most_seconds))
        repeats.append(Enrolment(min(later, end), row.site, row.participant))
    return repeats


def summary(rows: list[Enrolment]) -> str:
    """What is in the rows, in a line."""
    places = {(row.site, row.participant) for row in rows}
    sites = Counter(participant for _, participant in places)
    twice = sum(1 for count in sites.values() if count > 1)
    return (
        f"{len(rows)} rows, {len(places)} places asked for at {len(PLANS)} sites, {len(rows) - len(places)} repeats, "
        f"{twice} participants at two sites"
    )


def main(arguments: list[str] | None = None) -> int:
    """Write the file, or check it."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.enrolments", description="Make the data of the demo."
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit code 1 if the file is another"
    )
    options = parser.parse_args(arguments)
    rows = make()
    if not options.check:
        CSV.write_text(text(rows), encoding="utf-8")
        print(f"{CSV}: {summary(rows)}")
        return 0
    if CSV.is_file() and CSV.read_text(encoding="utf-8") == text(rows):
        print(f"{CSV} is what the script makes: {summary(rows)}")
        return 0
    print(f"{CSV} is not what the script makes: run `python -m examples.enrolments`", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
