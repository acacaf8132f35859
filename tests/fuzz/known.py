"""Findings that wait to be mended: they are said at each run and stop none. Each has an input that still shows it.

Nothing of the project is imported here: the engine would not watch it any more.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Known:
    """A finding; the test that runs `shown_by` fails once it is mended, so that it is taken out of here."""

    name: str
    target: str
    shown_by: bytes
    is_it: Callable[[Exception], bool]


def _frame(operation: int, body: bytes) -> bytes:
    return bytes([operation]) + len(body).to_bytes(2, "little") + body


def _passes(error: Exception, folder: str) -> bool:
    """Whether it came through a file of this folder."""
    return any(folder in step.filename for step in traceback.extract_tb(error.__traceback__))


def name_of(target: str, error: Exception) -> str:
    """The name of the known finding that this is, or ""."""
    return next((each.name for each in KNOWN if each.target == target and each.is_it(error)), "")


KNOWN: Final[tuple[Known, ...]] = ()
