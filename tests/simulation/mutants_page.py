"""`python -m tests.simulation.mutants_page`: hunt every mutant and write down which seed catches it, at which event.

The table goes into docs/guarantees.md, the seeds into `mutants/seeds.py`, so that they are tried first.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.interrupts import interrupt_once
from tests.simulation.mutants import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/guarantees.md"
SEEDS = ROOT / "tests/simulation/mutants/seeds.py"
BEGIN, END = "<!-- mutants: written by make mutants -->\n", "<!-- end of mutants -->\n"


class Hunters:
    """Processes that hunt one mutant each; all of them can be ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()
        self._over = False

    def hunt(self, mutant: Mutant) -> dict[str, Any]:
        """What came of one mutant. Raises RuntimeError if its process said nothing."""
        command = [sys.executable, "-O", "-m", "tests.simulation.mutate", mutant.name]
        with self._lock:
            if self._over:
                raise RuntimeError("it is over")
            # A group of its own: Ctrl-C is for this process, which then ends the others.
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                process_group=0,
            )
            self._running.add(process)
        said, noise = process.communicate()
        with self._lock:
            self._running.discard(process)
        if not said:
            raise RuntimeError(f"{mutant.name}: {noise}")
        found: dict[str, Any] = json.loads(said)
        return found

    def end(self) -> None:
        """End those that run; no other begins."""
        with self._lock:
            self._over = True
            for process in self._running:
                process.kill()


def table(found: Iterable[dict[str, Any]]) -> str:
    """The table of the page, by guarantee, the mutants in the order of their names."""
    rows = ["| broken | mutants, with the seed and the event of it at which they are caught |", "|---|---|"]
    by_guarantee: dict[str, list[dict[str, Any]]] = {}
    for each in found:
        by_guarantee.setdefault(each["guarantee"], []).append(each)
    for guarantee in sorted(by_guarantee):
        caught = sorted(by_guarantee[guarantee], key=lambda each: str(each["name"]))
        said = ", ".join(f"`{each['name']}` {each['seed']}/{each['event']:,}" for each in caught)
        rows.append(f"| {guarantee} | {said} |")
    return "\n".join(rows) + "\n"


def _hunt_all(found: list[dict[str, Any]], out: Console) -> bool:
    """Add what came of each mutant, in their order; whether it was interrupted."""
    hunters = Hunters()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            for each in pool.map(hunters.hunt, MUTANTS):
                found.append(each)
                said = f"{each['guarantee']} at seed {each['seed']}, event {each['event']:,}"
                out.print(f"{each['name']:32} {said if each['guarantee'] else '[red]survived[/]'}")
        except KeyboardInterrupt:
            return True
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            hunters.end()
    return False


def main(arguments: Sequence[str]) -> int:
    """Hunt them all; 1 if one survives, and then nothing is written."""
    argparse.ArgumentParser(
        prog="python -m tests.simulation.mutants_page",
        description="Hunt every mutant, then write docs/guarantees.md and tests/simulation/mutants/seeds.py.",
        epilog="Exit codes: 0 all were caught, 1 one survived, 2 bad usage, 130 interrupted.",
    ).parse_args(arguments)
    interrupt_once()
    out = Console(highlight=False)
    found: list[dict[str, Any]] = []
    if _hunt_all(found, out):
        out.print(f"interrupted after {len(found)} of {len(MUTANTS)} mutants: nothing is written")
        return 130
    if not all(each["guarantee"] for each in found):
        return 1
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}{table(found)}{END}{after}")
    seeds = "".join(f'    "{each["name"]}": {each["seed"]},\n' for each in found)
    head, _, _ = SEEDS.read_text().partition("SEEDS:")
    SEEDS.write_text(f"{head}SEEDS: dict[str, int] = {{\n{seeds}}}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
