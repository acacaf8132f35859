"""JSON: whole values are replaced, moved and taken from elsewhere; now and then the text itself is broken."""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random
from typing import Any, Final

from tests.fuzz.mutate import text

_ODD: Final[tuple[Any, ...]] = (
    *(None, True, False, [], {}, "", 0, -1, 1.5, 1e300, float("nan"), float("inf")),
    *([[]], {"": None}),
)
_BROKEN: Final = (
    "[" * 3_000,
    '{"a":' * 3_000,
    "]",
    '"',
    "\\",
    "\\ud800",
    "1" * 5_000,
    ",",
    ":",
    "NaN",
    "\x00",
    "\ufeff",
)
_DEEPEST: Final = 200
#: Of more values nothing is repeated often.
_MANY: Final = 300

#: Where a value stands: what holds it, and under what.
Place = tuple[Any, Any]


def places(root: Any, depth: int = 0) -> Iterator[Place]:
    """Every value within another."""
    pairs = root.items() if isinstance(root, dict) else enumerate(root) if isinstance(root, list) else ()
    for key, value in list(pairs):
        yield root, key
        if depth < _DEEPEST:
            yield from places(value, depth + 1)


def mutate(data: bytes, other: bytes, random: Random) -> bytes:
    """A document after a few changes, values from `other` among them."""
    try:
        root, donor = json.loads(data), [json.loads(other)]
    except (ValueError, RecursionError):
        return break_text(data, random)
    if random.randrange(20) == 0:
        return break_text(data, random)
    holder = [root]
    for _ in range(random.choice((1, 1, 2, 4))):
        _change(holder, donor, random)
    try:
        ascii_only, separators = random.random() < 0.5, random.choice(((",", ":"), (", ", ": ")))
        return json.dumps(holder[0], ensure_ascii=ascii_only, separators=separators).encode(errors="replace")
    except (ValueError, RecursionError, TypeError):  # it holds itself, or is too deep
        return break_text(data, random)


def break_text(data: bytes, random: Random) -> bytes:
    """Damage that no writer of JSON makes."""
    at = random.randint(0, len(data))
    until = min(len(data), at + random.choice((0, 1, 3, 30)))
    return data[:at] + random.choice(_BROKEN).encode() + data[until:]


def _change(root: list[Any], donor: list[Any], random: Random) -> None:
    there = list(places(root))
    holder, key = random.choice(there)
    kind = random.randrange(8)
    if kind == 0:
        holder[key] = _copy(random.choice(_ODD))
    elif kind == 1:
        source, name = random.choice(list(places(donor)))
        holder[key] = _copy(source[name])
    elif kind == 2 and holder is not root:
        del holder[key]
    elif kind == 3 and isinstance(holder, list) and holder is not root:
        holder[key:key] = [
            _copy(holder[key]) for _ in range(random.choice((1, 1, 2, 30 if len(there) < _MANY else 2)))
        ]
    elif kind == 4 and isinstance(holder, dict):
        holder[text.change(key, random)] = holder[key]
    elif kind == 5:
        source, name = random.choice(there)
        holder[key] = _copy(source[name])
    else:
        holder[key] = _changed(holder[key], random)


def _changed(value: Any, random: Random) -> Any:
    if isinstance(value, bool) or value is None:
        return _copy(random.choice(_ODD))
    if isinstance(value, int):
        return text.number(random, value)
    if isinstance(value, str):
        return text.change(value, random)
    if isinstance(value, dict) and value:
        key = random.choice(list(value))
        return {**value, key: _changed(value[key], random)}
    return [value] if random.random() < 0.5 else _copy(random.choice(_ODD))


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(each) for key, each in value.items()}
    return [_copy(each) for each in value] if isinstance(value, list) else value
