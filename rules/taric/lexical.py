"""How values stand in TARIC3: the simple types of its schema.

Reading is lenient in what is met in the wild (a Z after a time, 0 and 1 for N and Y) and else as strict as the schema.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

from rules.forms import fits, read_date, read_decimal, read_timestamp


@dataclass(frozen=True, slots=True)
class Lexical:
    """One type. `expected` completes "must be"."""

    expected: str
    #: Whether a text may be read, and whether the schema allows it in writing.
    accepts: Callable[[str], Any]
    allows: Callable[[str], Any]
    #: The value of a text that is accepted; any other text as it is.
    read: Callable[[str], Any] = str
    #: The text of a value that was read.
    write: Callable[[Any], str] = str

    def normal(self, text: str) -> str:
        """An accepted text as the schema wants it; any other text as it is."""
        return self.write(self.read(text)) if self.accepts(text) else text


#: All that can stand in XML at all, line ends included.
is_xml_text: Final = re.compile(r"[\t\n\r\x20-\uD7FF\uE000-\uFFFD\U00010000-\U0010FFFF]*").fullmatch

_integer: Final = re.compile(r"\+?[0-9]{1,18}").fullmatch
_bare_fraction: Final = re.compile(r"([+-]?)\.([0-9]+)").fullmatch


def _read_integer(text: str) -> Any:
    return int(text) if _integer(text) else text


def _write_integer(value: int) -> str:
    return str(int(value))  # a member of an IntEnum too


def _read_decimal(text: str) -> Any:
    fraction = _bare_fraction(text)
    return read_decimal(text if fraction is None else f"{fraction[1]}0.{fraction[2]}")


def _write_decimal(value: Decimal) -> str:
    if value == 0:
        return "0"
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _read_flag(text: str) -> Any:
    return {"Y": True, "1": True, "N": False, "0": False}.get(text, text)


def _matching(expected: str, pattern: str) -> Lexical:
    match = re.compile(pattern).fullmatch
    return Lexical(expected, match, match)


def _digit(expected: str, pattern: str) -> Lexical:
    match = re.compile(pattern).fullmatch
    return Lexical(expected, match, match, _read_integer, _write_integer)


def _number(low: int, high: int) -> Lexical:
    def holds(text: str) -> bool:
        value = _read_integer(text)
        return type(value) is int and low <= value <= high

    return Lexical(f"an integer from {low} to {high}", holds, holds, _read_integer, _write_integer)


def _decimal(decimals: int) -> Lexical:
    high = Decimal(10**11) - Decimal(1).scaleb(-decimals)

    def holds(text: str) -> bool:
        value = _read_decimal(text)
        return fits(value, decimals) and value <= high

    expected = f"a decimal up to {high} with at most {decimals} decimals"
    return Lexical(expected, holds, holds, _read_decimal, _write_decimal)


def _text(shortest: int, longest: int) -> Lexical:
    def holds(text: str) -> bool:
        return shortest <= len(text) <= longest and is_xml_text(text) is not None

    length = f"{shortest}" if shortest == longest else f"at most {longest:,}"
    return Lexical(f"text of {length} characters", holds, holds)


def _is_date(text: str) -> bool:
    return type(read_date(text)) is date


def _is_timestamp(text: str) -> bool:
    return type(read_timestamp(text)) is datetime


SID: Final = _number(1, 99_999_999)
DATE: Final = Lexical("a date, YYYY-MM-DD", _is_date, _is_date, read_date, date.isoformat)
TIMESTAMP: Final = Lexical(
    "a time without zone, YYYY-MM-DDThh:mm:ss",
    _is_timestamp,
    lambda text: _is_timestamp(text) and not text.endswith("Z"),
    read_timestamp,
    lambda value: datetime.isoformat(value, timespec="seconds"),
)
AMOUNT: Final = _decimal(3)
COEFFICIENT: Final = _decimal(5)
FLAG: Final = Lexical(
    "Y or N",
    lambda text: text in ("Y", "N", "1", "0"),
    lambda text: text in ("Y", "N"),
    _read_flag,
    lambda value: "Y" if value else "N",
)
ORDER_NUMBER: Final = _matching("six digits", "[0-9]{6}")
AREA_ID: Final = _matching("two or four capitals or digits", "[A-Z0-9]{2}|[A-Z0-9]{4}")
AREA_CODE: Final = _digit("0 (country), 1 (group) or 2 (region)", "[012]")
UNIT: Final = _matching("three capitals", "[A-Z]{3}")
QUALIFIER: Final = _matching("one capital", "[A-Z]")
PRECISION: Final = _digit("0, 1, 2 or 3", "[0123]")
PERCENT: Final = _number(0, 100)
BLOCKING_TYPE: Final = _digit("one digit", "[0-9]")
RELATION: Final = _matching("EQ or NM", "EQ|NM")
LETTER: Final = _matching("one capital or digit", "[A-Z0-9]")
LETTERS: Final = _matching("three capitals or digits", "[A-Z0-9]{3}")
LANGUAGE: Final = _matching("two capitals", "[A-Z]{2}")
GOODS: Final = _matching("ten digits", "[0-9]{10}")
MEASURE_TYPE: Final = _matching("three or six digits", "[0-9]{3}|[0-9]{6}")
SERIES: Final = _matching("one or two capitals", "[A-Z][A-Z]?")
ROLE: Final = _matching("a digit from 1 to 8", "[1-8]")
REGULATION: Final = _text(8, 8)
DIGIT_1_TO_9: Final = _matching("a digit from 1 to 9", "[1-9]")
DIGIT_0_OR_1: Final = _matching("0 or 1", "[01]")
DIGIT_0_TO_2: Final = _matching("0, 1 or 2", "[012]")
CAPTURE: Final = _matching("1 or 2", "[12]")
LEVEL: Final = _matching("2, 4, 6, 8 or 10", "[2468]|10")
DESCRIPTION: Final = _text(0, 1000)
