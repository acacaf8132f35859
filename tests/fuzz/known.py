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


KNOWN: Final[tuple[Known, ...]] = (
    Known(
        "a standing of a generation that never was fails in the ledger",
        "ledger",
        bytes.fromhex(
            "0547000a450a01401a0573746f72652a08406f66666572656430013a02080142130a0769642d303030311202100518202200300342140a0769642d303030331202100418810122003002044b000a490a01401a0573746f72652a08406f66666572656430013a02080142150a0769642d3030303112021004182222020803300442160a0769642d3030303212040807100318a01f22003002"
        ),
        lambda error: "a generation never goes back" in str(error),
    ),
    Known(
        "a store with rows that no agent writes ends in a traceback, at the start or later",
        "store",
        _frame(1, b'[3, 4, 0, "LOST"]'),
        lambda error: not str(error).startswith("S1 is broken") and _passes(error, "/quota_agent/"),
    ),
    Known(
        "a batch in which very much is wrong is refused with more than a call's trailers hold",
        "gate",
        _frame(1, b"\n\0" * 200),
        lambda error: "would not arrive" in str(error),
    ),
    Known(
        "a standing that cannot be is refused without the name of its message",
        "ledger",
        bytes.fromhex("0419000a170a01401a017330013a02080142090a0171120022020801"),
        lambda error: "ConnectRequest has no field 'standings'" in str(error),
    ),
    Known(
        "a credential file that is nested deeply ends in a traceback",
        "config",
        _frame(0, b"[" * 2_000),
        lambda error: isinstance(error, RecursionError),
    ),
    Known(
        "a port of thousands of digits ends in a traceback",
        "config",
        _frame(1, b"127.0.0.1:" + b"1" * 5_000),
        lambda error: isinstance(error, ValueError) and "integer string conversion" in str(error),
    ),
    Known(
        "an empty text passes for a transaction without changes",
        "rules_files",
        b'{"transaction": ""}',
        lambda error: "must be a list of changes" in str(error) and str(error).endswith("arrives as ()"),
    ),
    Known(
        "an unknown field whose name UTF-8 cannot hold ends in a traceback",
        "rules_files",
        b'[{"update_type":"CREATE","record":{"kind":"monetary_unit","\\ud800":1}}]',
        lambda error: isinstance(error, UnicodeEncodeError),
    ),
    Known(
        "data with a strange `deleted` end in a traceback",
        "rules_files",
        b'[{"kind":"monetary_unit","code":"EUR","valid_between":{"start":"2020-01-01","end":null},"deleted":1}]',
        lambda error: type(error).__name__ == "FormError" and "deleted" in str(error),
    ),
    Known(
        "what stands behind the envelope is told in other words byte by byte",
        "taric",
        b'<env:envelope xmlns:env="urn:publicid:-:DGTAXUD:GENERAL:ENVELOPE:1.0"></env:envelope>a:b="c"',
        lambda error: "make a difference" in str(error) and "something stands behind it" in str(error),
    ),
)
