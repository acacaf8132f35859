"""Amounts as people write and read them. Integers all the way: no float ever holds a unit."""

from __future__ import annotations

import re
from typing import Final

import typer

AMOUNT_HELP: Final = "An integer; if the quota has decimals, always with a point (13000.000)."
#: Smallest units.
LARGEST: Final = 10**15

_amount: Final = re.compile(r"([0-9]{1,40})(?:\.([0-9]{1,20}))?").fullmatch


def parse(text: str, decimals: int, name: str) -> int:
    """Smallest units: "12.345" is 12345 of them if the quota has 3 decimals.

    There "12345" could be meant as that or as 12345.000, so it is refused; 0 is 0 either way.
    """
    match = _amount(text)
    if match is None:
        raise typer.BadParameter(
            f"{text!r} is no amount: write an integer, or digits around one point", param_hint=name
        )
    whole, fraction = match.groups()
    if fraction is None and decimals and int(whole):
        places, either = f"{decimals} decimal place{'s' if decimals > 1 else ''}", shown(int(whole), decimals)
        raise typer.BadParameter(
            f"{text!r} is ambiguous: this quota has {places}, so write {whole}.{'0' * decimals} or {either}",
            param_hint=name,
        )
    fraction = fraction or ""
    if len(fraction) > decimals:
        allowed = f"{decimals} decimal places" if decimals else "no decimal places: write an integer"
        raise typer.BadParameter(f"{text!r}: this quota has {allowed}", param_hint=name)
    units = int(whole + fraction.ljust(decimals, "0"))
    if units > LARGEST:
        bound = f"10^15 smallest units, {shown(LARGEST, decimals)}" if decimals else "10^15"
        raise typer.BadParameter(f"{text!r}: an amount is at most {bound}", param_hint=name)
    return units


def shown(units: int, decimals: int) -> str:
    """Whole units: 12345 smallest ones with 3 decimals are 12.345."""
    if decimals == 0:
        return str(units)
    sign, digits = "-" if units < 0 else "", str(abs(units)).rjust(decimals + 1, "0")
    return f"{sign}{digits[:-decimals]}.{digits[-decimals:]}"
