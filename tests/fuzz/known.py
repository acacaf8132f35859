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
        "a credential file that is nested deeply ends in a traceback",
        "config",
        b"\0" + (2_000).to_bytes(2, "little") + b"[" * 2_000,
        lambda error: isinstance(error, RecursionError),
    ),
    Known(
        "a port of thousands of digits ends in a traceback",
        "config",
        b"\1" + (5_010).to_bytes(2, "little") + b"127.0.0.1:" + b"1" * 5_000,
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
