"""Amounts as people write and read them. Integers all the way: no float ever holds a unit."""

from __future__ import annotations

import re
from typing import Final

import typer

AMOUNT_HELP: Final = "An integer counts smallest units; with a point it counts whole ones (12.345)."

_amount: Final = re.compile(r"([0-9]{1,16})(?:\.([0-9]{1,20}))?").fullmatch


def parse(text: str, decimals: int, name: str) -> int:
    """Smallest units: "12345" is 12345 of them; "12.345" is as many if the quota has 3 decimals."""
    match = _amount(text)
    if match is None:
        raise typer.BadParameter(
            f"{text!r} is no amount: write an integer, or digits around one point", param_hint=name
        )
    whole, fraction = match.groups()
    if fraction is None:
        return int(whole)
    if len(fraction) > decimals:
        allowed = f"{decimals} decimal places" if decimals else "no decimal places: write an integer"
        raise typer.BadParameter(f"{text!r}: this quota has {allowed}", param_hint=name)
    return int(whole + fraction.ljust(decimals, "0"))


def shown(units: int, decimals: int) -> str:
    """Whole units: 12345 smallest ones with 3 decimals are 12.345."""
    if decimals == 0:
        return str(units)
    sign, digits = "-" if units < 0 else "", str(abs(units)).rjust(decimals + 1, "0")
    return f"{sign}{digits[:-decimals]}.{digits[-decimals:]}"
