"""Amounts as people write them, by the decimals of their quota. Integers all the way: no float ever holds a unit."""

from __future__ import annotations

import re
from typing import Final

import typer

from quota_agent.cli.client import Client
from quota_agent.cli.options import decimal
from quotafleet.agent.v1 import gate_service_pb2 as pb

AMOUNT_HELP: Final = "Units; of a quota with decimals, with a point (12.345)."

_amount: Final = re.compile(r"([0-9]{1,16})(?:\.([0-9]{1,20}))?").fullmatch
_PAGE: Final = 1_000
#: Smallest units.
_LARGEST: Final = 10**15


def status_of(client: Client, quota: str) -> pb.QuotaStatus:
    """What the agent knows of a quota; an empty status if it is none of the agent's."""
    request = pb.GetStatusRequest(page_size=_PAGE)
    while True:
        page = client.call(lambda stub: stub.GetStatus, request)
        for found in page.quotas:
            if found.quota == quota:
                return found
        if not page.next_page_token:
            return pb.QuotaStatus()
        request.page_token = page.next_page_token


def parse(text: str, known: pb.QuotaStatus) -> int:
    """Smallest units: "12" is 12 without decimals, "0.012" is as many with 3 of them.

    There "12" could be meant as that or as 12.000, so it is refused; 0 is 0 either way.
    """
    match = _amount(text)
    if match is None:
        raise _bad(f"{text!r} is no amount: write an integer, or digits around one point")
    whole, fraction = match.groups()
    decimals = known.decimals
    if fraction is None and decimals and int(whole):
        units = int(whole)
        whole_units, smallest = decimal(units * 10**decimals, decimals), decimal(units, decimals)
        raise _bad(
            f"{text!r} could mean two amounts, as {known.quota} has {decimals} decimal places: write {whole_units} for"
            f" whole units, or {smallest} for {units} of its smallest unit"
        )
    if fraction is not None and len(fraction) > decimals:
        allowed = f"at most {decimals} decimal places" if decimals else "no decimal places: write an integer"
        raise _bad(f"{text!r}: {known.quota or 'a quota that this agent does not know'} has {allowed}")
    units = int(whole + (fraction or "").ljust(decimals, "0"))
    if units > _LARGEST:
        raise _bad(f"{text!r}: an amount is at most {decimal(_LARGEST, decimals)}")
    return units


def parse_or_one(text: str | None, known: pb.QuotaStatus) -> int:
    """The same, and 1 without a text, if it is clear what 1 is."""
    if text is not None:
        return parse(text, known)
    if known.decimals:
        raise _bad(
            f"is needed, as {known.quota} has decimals: write it as in {decimal(10**known.decimals, known.decimals)}"
        )
    return 1


def _bad(problem: str) -> typer.BadParameter:
    return typer.BadParameter(problem, param_hint="--amount")
