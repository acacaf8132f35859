"""Wall clocks that jump while a process runs: libfaketime, which leaves monotonic time alone."""

from __future__ import annotations

import os
from pathlib import Path

from tests.chaos.verdict import CannotRun

_PLACES = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/opt/homebrew/lib")
_NAME = "libfaketimeMT.so.1"


def find_library() -> Path:
    """The library of Debian's package `faketime`. Raises CannotRun if it is not installed."""
    for place in _PLACES:
        for pattern in (f"faketime/{_NAME}", f"*/faketime/{_NAME}"):
            for found in Path(place).glob(pattern):
                return found
    raise CannotRun(
        "clocks cannot be changed: libfaketime is not installed (Debian and Ubuntu: apt-get install faketime); "
        "--without-clock runs without these faults"
    )


class Clock:
    """The wall clock of one process. Without a library it is the machine's, and cannot jump."""

    def __init__(self, file: Path, library: Path | None) -> None:
        self._file = file
        self._library = library
        self.jump(0)

    @property
    def prefix(self) -> list[str]:
        """What to put before a command so that it runs by this clock."""
        if self._library is None:
            return []
        return [
            "/usr/bin/env",
            f"LD_PRELOAD={self._library}",
            f"FAKETIME_TIMESTAMP_FILE={self._file}",
            "FAKETIME_CACHE_DURATION=1",
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
            "FAKETIME_FORCE_MONOTONIC_FIX=0",  # it would wake waiting threads all the time
            "NO_FAKE_STAT=1",
        ]

    def jump(self, seconds: int) -> None:
        """From the next second on it is that far from the true time. The file is never seen half written."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        os.replace(new, self._file)
