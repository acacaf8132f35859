"""What people see: live progress on a terminal, one event a line elsewhere, and the table at the end."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from examples.demo.checks import Reading
from examples.demo.sites import Site
from examples.demo.story import Ending, Story

_BAR_WIDTH = 32
_REFRESH_PER_SECOND = 8


class Lines:
    """One event a line, with the seconds since the beginning."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """There is nothing to end."""

    def follow(self, story: Story, sites: Mapping[str, Site]) -> None:
        """Lines show events only."""

    def event(self, text: str) -> None:
        """Print it."""
        seconds = time.monotonic() - self._began
        style = "bold red" if text.startswith("BROKEN") else ""
        self._console.print(Text.assemble((f"{seconds:5.1f} s  ", "dim"), (text, style)), soft_wrap=True)


class Progress(Lines):
    """Events above, and below them a bar for each site that is redrawn several times a second."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._story: Story | None = None
        self._sites: Mapping[str, Site] = {}
        self._live = Live(
            console=console, get_renderable=self._draw, refresh_per_second=_REFRESH_PER_SECOND, transient=True
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def follow(self, story: Story, sites: Mapping[str, Site]) -> None:
        """Show this story's numbers from now on."""
        self._story, self._sites = story, sites

    def _draw(self) -> Group | Text:
        story = self._story
        if story is None or story.observer.latest is None:
            return Text("starting a controller and five agents ...", "dim")
        sample, total = story.observer.latest, story.observer.total
        table = Table("site", "link", "used of its limit", "", "left", "refused", box=None, pad_edge=False)
        for name, site in self._sites.items():
            table.add_row(*_progress(name, site, sample.readings.get(name)))
        done = story.pace.done if story.pace else 0.0
        bound = "unknown" if sample.upper_bound is None else sample.upper_bound
        head = f"{total} used   {sample.allowed} allowed   controller's upper bound {bound}   replayed {done:.0%}"
        return Group(Text(), Text(head, "bold"), table)


def _progress(name: str, site: Site, reading: Reading | None) -> tuple[Any, ...]:
    refused = str(len(site.tally.refusals))
    if reading is None:
        return name, Text("agent down", "red"), Text("-"), f"{site.tally.units}", "", refused
    link = Text("linked", "green") if reading.connected else Text("no link", "yellow")
    bar = ProgressBar(total=max(1, reading.limit), completed=reading.count, width=_BAR_WIDTH)
    return name, link, bar, f"{reading.count}/{reading.limit}", str(reading.spare), refused


def reporter(console: Console) -> Lines:
    """Live progress where it can be shown."""
    return Progress(console) if console.is_terminal else Lines(console)


def as_json(ending: Ending, sites: Mapping[str, Site], seconds: float) -> str:
    """Everything at the end, for programs."""
    account = ending.account
    count, held, overridden = account.controller
    return json.dumps(
        {
            "ok": not ending.broken,
            "broken": [{"guarantee": b.guarantee.name, "sentence": b.sentence} for b in ending.broken],
            "target": account.target,
            "overrides": account.overrides,
            "total": account.total,
            "overshoot": account.overshoot,
            "upper_bound": account.upper_bound,
            "controller": {"count": count, "held": held, "overridden": overridden},
            "sites": [_site(name, ending, site) for name, site in sites.items()],
            "faults": ending.faults,
            "samples": ending.samples,
            "refusals_judged": ending.judged,
            "seconds": round(seconds, 1),
        },
        indent=2,
    )


def _site(name: str, ending: Ending, site: Site) -> dict[str, Any]:
    own, tally = ending.account.sites[name], site.tally
    return {
        "site": name,
        "rows": tally.rows,
        "count": own.agent.count,
        "overridden": own.agent.overridden,
        "limit": own.agent.limit,
        "entries": len(own.entries),
        "refused": len(tally.refusals),
        "repeats": tally.repeats,
        "sent_again": tally.retried,
    }


def table(ending: Ending, sites: Mapping[str, Site]) -> Table:
    """The sites at the end."""
    columns = ("rows", "count", "overridden", "limit", "refused", "repeats", "sent again")
    shown = Table(title="The sites at the end")
    shown.add_column("site")
    for column in columns:
        shown.add_column(column, justify="right")
    rows = [_site(name, ending, site) for name, site in sites.items()]
    for row in rows:
        shown.add_row(row["site"], *(str(row[column.replace(" ", "_")]) for column in columns))
    shown.add_section()
    shown.add_row("all", *(str(sum(row[column.replace(" ", "_")] for row in rows)) for column in columns))
    return shown


def summary(ending: Ending, sites: Mapping[str, Site], seconds: float) -> list[Text]:
    """What is said below the table."""
    account = ending.account
    places = [key for site in sites.values() for key in site.tally.answers]
    twice = len(places) - len(set(places))
    bound = "unknown" if account.upper_bound is None else account.upper_bound
    lines = [
        f"total {account.total}: target {account.target} and {account.overrides} by override;"
        f" upper bound {bound}; overshoot {account.overshoot}",
        f"faults: {'; '.join(ending.faults)}",
        f"looked at {ending.samples} times; {ending.judged} refusals judged against what the fleet had left",
        f"{twice} participants count TWICE, because they turned up at two sites: agents do not talk to each other",
        f"{seconds:.0f} s",
    ]
    if not ending.broken:
        return [*map(Text, lines), Text("Every guarantee held.", "bold green")]
    verdicts = [Text(f"BROKEN: {b.guarantee}: {b.sentence}", "bold red") for b in ending.broken]
    return [*map(Text, lines), *verdicts]
