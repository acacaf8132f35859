"""Pages of lists: opaque tokens that carry the key of a page's last row."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

Row = TypeVar("Row")

_MAX_TOKEN_CHARS: Final = 1_024
_MAX_NUMBER: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Listing:
    """A list with its own tokens, and the types of its key."""

    name: str
    key: tuple[type, ...]


QUOTAS: Final = Listing("quotas", (str, str))
AGENTS: Final = Listing("agents", (str, str))
ALLOCATIONS: Final = Listing("allocations", (str, int, str))
OVERRIDES: Final = Listing("overrides", (int, str))
HISTORY: Final = Listing("history", (int,))
UNHEARD: Final = Listing("unheard", (str, int))
RECORDS: Final = Listing("records", (str, int, str, str))
RULES: Final = Listing("rules", (str,))


def encode(listing: Listing, key: Sequence[str | int]) -> str:
    """The token of the page after the row with this key."""
    text = json.dumps([listing.name, *key], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def decode(token: str, listing: Listing) -> tuple[Any, ...]:
    """The key in a token. Raises ValueError for anything that `encode` does not make for this list."""
    if len(token) > _MAX_TOKEN_CHARS or not token.isascii():
        raise ValueError("not a page token")
    padded = token + "=" * (-len(token) % 4)
    content = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    if not isinstance(content, list) or len(content) != 1 + len(listing.key) or content[0] != listing.name:
        raise ValueError("not a page token of this list")
    key = tuple(content[1:])
    if not all(_fits(part, kind) for part, kind in zip(key, listing.key, strict=True)):
        raise ValueError("not a key of this list")
    return key


def cut(
    rows: list[Row], size: int, listing: Listing, key: Callable[[Row], Sequence[str | int]]
) -> tuple[list[Row], str]:
    """A page out of `size` + 1 rows, or fewer at the end, and the token of the next one ("" for none)."""
    if len(rows) <= size:
        return rows, ""
    page = rows[:size]
    return page, encode(listing, key(page[-1]))


def _fits(part: Any, kind: type) -> bool:
    """Whether a database can compare with it: no lone surrogates, no number beyond 64 bits."""
    if type(part) is not kind:
        return False
    if isinstance(part, str):
        return part.isascii() and part.isprintable()
    return isinstance(part, int) and 0 <= part <= _MAX_NUMBER
