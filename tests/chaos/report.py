"""What a run says: on the terminal while it goes on, at its end as tables or JSON."""

from __future__ import annotations

import json
import time

from rich.console import Console
from rich.table import Table

from tests.chaos.schedule import Fault
from tests.chaos.verdict import Ending, Outcome
from tests.chaos.world import Tally


class Reporter:
    """Prints one event a line, with the time since the beginning."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._began

    def say(self, sentence: str, style: str = "") -> None:
        """One line."""
        line = f"{self.seconds:7.1f}  {sentence}"
        self._console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)

    def fault(self, fault: Fault, what: str) -> None:
        """A fault begins, or is healed."""
        self.say(f"{fault} {what}".rstrip(), "dim" if what else "yellow")

    def ending(self, ending: Ending, seed: int, step: int) -> None:
        """The verdict; `step` is the number of the fault that was begun last."""
        where = f"at seed {seed}, step {step}"
        if ending.outcome is Outcome.HELD:
            self.say(f"every guarantee held (seed {seed})", "bold green")
        elif ending.outcome is Outcome.BROKEN:
            self.say(f"VIOLATION {where}: {ending.reason}", "bold red")
        elif ending.outcome is Outcome.FAILED:
            self.say(f"FAILED {where}, it could not be run: {ending.reason}", "bold red")
        else:
            self.say(f"interrupted {where}: {ending.reason}", "bold yellow")


def tables(tally: Tally) -> list[Table]:
    """Faults, calls and checks, counted."""
    faults = Table("fault", "times", title="Faults")
    for kind, times in sorted(tally.faults.items()):
        faults.add_row(kind, str(times))
    calls = Table("call", "outcome", "times", title="Calls")
    for (kind, outcome), times in sorted(tally.calls.items()):
        calls.add_row(kind, outcome, str(times))
    checks = Table("check", "times", title="Checks")
    for what, times in sorted(tally.checks.items()):
        checks.add_row(what, str(times))
    return [faults, calls, checks]


def as_json(seed: int, seconds: float, tally: Tally, ending: Ending) -> str:
    """The same for programs."""
    calls: dict[str, dict[str, int]] = {}
    for (kind, outcome), times in sorted(tally.calls.items()):
        calls.setdefault(kind, {})[outcome] = times
    fields = {
        "ok": ending.code == 0,
        "outcome": ending.outcome,
        "exit_code": ending.code,
        "reason": ending.reason,
        "seed": seed,
        "seconds": round(seconds, 1),
        "faults": dict(sorted(tally.faults.items())),
        "left_out": tally.left_out,
        "calls": calls,
        "checks": dict(sorted(tally.checks.items())),
        "broken": ending.reason if ending.outcome is Outcome.BROKEN else None,
    }
    return json.dumps(fields)
