"""Findings that wait to be mended: they are said at each run and stop none. Each has an input that still shows it.

Nothing of the project is imported here: the engine would not watch it any more.
"""

from __future__ import annotations

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


def name_of(target: str, error: Exception) -> str:
    """The name of the known finding that this is, or ""."""
    return next((each.name for each in KNOWN if each.target == target and each.is_it(error)), "")


KNOWN: Final[tuple[Known, ...]] = (
    Known(
        "a damaged store in which an override is of no quota fails when it is asked for its state",
        "store",
        b"\0\x05\0D/\0\0,",
        lambda error: isinstance(error, KeyError) and "uid-" in str(error),
    ),
    Known(
        "a store at the last revision there is takes the ledger past what a database holds",
        "ledger",
        bytes.fromhex(
            "054c000a4a0a01401a0573746f72652a08406f66666572656430013a020801421b0a0769642d30303031120a10"
            "ffffffffffffffff7f18202200300342110a0769642d303030331202100422003002"
        ),
        lambda error: "a number has grown to 9223372036854775808" in str(error),
    ),
    Known(
        "an agent that was told of the last dial there is cannot dial any more",
        "from_controller",
        b"\0\x0c\0\x12\n\x08\xff\xff\xff\xff\xff\xff\xff\xff\x7f\2\0\0",
        lambda error: isinstance(error, ValueError) and "9223372036854775808" in str(error),
    ),
)
