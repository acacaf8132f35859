"""`python -m tests.simulation.mutants_page`: hunt every mutant and write down which seed catches it, at which event.

The table goes into docs/guarantees.md, the seeds into `mutants/seeds.py`, so that they are tried first.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.simulation.mutants import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/guarantees.md"
SEEDS = ROOT / "tests/simulation/mutants/seeds.py"
BEGIN, END = "<!-- mutants: written by make mutants -->\n", "<!-- end of mutants -->\n"


def hunt(mutant: Mutant) -> dict[str, Any]:
    """What came of one mutant, in a process of its own."""
    command = [sys.executable, "-O", "-m", "tests.simulation.mutate", mutant.name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if not done.stdout:
        raise RuntimeError(f"{mutant.name}: {done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


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


def main() -> int:
    """Hunt them all; 1 if one survives, and then nothing is written."""
    out = Console(highlight=False)
    found: list[dict[str, Any]] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for each in pool.map(hunt, MUTANTS):
            found.append(each)
            said = (
                f"{each['guarantee']} at seed {each['seed']}, event {each['event']:,}"
                if each["guarantee"]
                else ""
            )
            out.print(f"{each['name']:32} {said or '[red]survived[/]'}")
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
    sys.exit(main())
