"""The rules: records validated per second by size of data and of transaction, and what an index costs.

The sizes of data take turns, so that what else the machine does meets both alike.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from benchmarks.tariff_data import TODAY, base, transaction
from rules.dataset import Dataset
from rules.engine import validate
from rules.json_form import read_changes, write_change
from rules.records import Change

T = TypeVar("T")

DEFINITIONS = (5_000, 50_000)
CHANGES = (1, 200, 5_000)
_ROUNDS = {1: 500, 200: 25, 5_000: 7}


def run() -> dict[str, float]:
    """Figures by name: records per second, milliseconds of a transaction, seconds to index 100,000 records."""
    figures: dict[str, float] = {}
    data: dict[int, Dataset] = {}
    for definitions in DEFINITIONS:
        records = list(base(definitions))
        seconds = _seconds(lambda given: data.update({definitions: Dataset.of(given)}), records)  # noqa: B023
        figures[f"rules index 100,000 of {definitions} s"] = seconds / len(records) * 100_000
    # As the controller does: what stays for ever is no business of the garbage collector.
    gc.collect()
    gc.freeze()
    for changes in CHANGES:
        taken: dict[int, list[float]] = {definitions: [] for definitions in DEFINITIONS}
        reading = []
        for turn in range(_ROUNDS[changes]):
            for definitions in DEFINITIONS:
                made = transaction(data[definitions], definitions, changes, turn * changes)
                taken[definitions].append(_seconds(_validator(data[definitions]), made))
            reading.append(_seconds(read_changes, [write_change(change) for change in made]))
        for definitions in DEFINITIONS:
            seconds = _median(taken[definitions])
            figures[f"rules {changes} of {definitions} per_s"] = changes / seconds
            figures[f"rules {changes} of {definitions} ms"] = 1_000 * seconds
            figures[f"rules {changes} of {definitions} ratio"] = seconds / _median(reading)
        small, large = (figures[f"rules {changes} of {definitions} ms"] for definitions in DEFINITIONS)
        figures[f"rules {changes} growth"] = large / small
    gc.unfreeze()
    return figures


def _validator(data: Dataset) -> Callable[[Sequence[Change]], None]:
    def check(changes: Sequence[Change]) -> None:
        verdict = validate(data, changes, TODAY)
        if verdict.violations or verdict.malformed:
            raise RuntimeError(f"the transaction breaks rules: {verdict}")

    return check


def _seconds(work: Callable[[T], object], given: T) -> float:
    begun = time.perf_counter()
    work(given)
    return time.perf_counter() - begun


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


if __name__ == "__main__":
    for name, value in run().items():
        print(f"{name:36} {value:12,.3f}")
