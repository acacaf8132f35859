"""Where inputs are: those that are kept with the project, and what a run works with under build/fuzz."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
KEPT: Final = ROOT / "tests" / "data" / "fuzz"
BUILD: Final = ROOT / "build" / "fuzz"


def kept(name: str) -> list[Path]:
    """The files of a target's corpus, in order; every input that once failed is among them."""
    return sorted(path for path in (KEPT / name).glob("*") if path.is_file())


def name_of(data: bytes) -> str:
    """The name of an input's file."""
    return hashlib.sha256(data).hexdigest()[:16]


def failures(name: str) -> Path:
    """Where a target's findings are saved; made when asked for."""
    folder = BUILD / name / "failures"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def save_failure(name: str, data: bytes) -> Path:
    """Saves an input that found something; its path within the project."""
    path = failures(name) / name_of(data)
    path.write_bytes(data)
    return path.relative_to(ROOT)


def found(name: str) -> list[Path]:
    """What all runs have found to reach something new."""
    return sorted((BUILD / name).glob("run-*/found/*"))


class Workplace:
    """The folders of one process that fuzzes: others may fuzz the same target beside it."""

    def __init__(self, name: str, process: int) -> None:
        self._root = BUILD / name / f"run-{process}"

    def prepare(self, inputs: Iterable[bytes]) -> tuple[Path, Path]:
        """An empty folder for inputs that reach something new, and one with the inputs to begin with."""
        shutil.rmtree(self._root, ignore_errors=True)
        new, start = self._root / "found", self._root / "start"
        for folder in (new, start):
            folder.mkdir(parents=True)
        for data in inputs:
            (start / name_of(data)).write_bytes(data)
        return new, start

    def clear(self, *, keep_found: bool) -> None:
        """Takes away what is of no more use."""
        shutil.rmtree(self._root / "start" if keep_found else self._root, ignore_errors=True)
