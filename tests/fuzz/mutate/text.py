"""Texts: what breaks parsers of words and numbers, and changes of a text in place."""

from __future__ import annotations

from random import Random
from typing import Final

#: Around the bounds of what the project takes, and of what machines take.
NUMBERS: Final = (
    *(
        0,
        1,
        2,
        3,
        7,
        16,
        17,
        63,
        64,
        65,
        127,
        128,
        129,
        255,
        256,
        500,
        999,
        1_000,
        1_001,
        1_024,
        1_025,
        4_096,
    ),
    *(65_535, 65_536, 10**6, 10**6 + 1, 99_999_999, 10**8, 2**31 - 1, 2**31, 2**32, 10**11, 253_402_300_799),
    *(10**15 - 1, 10**15, 10**15 + 1, 315_576_000_000, 2**53, 2**62, 2**63 - 1, 2**63, 2**64, 10**40),
)
WORDS: Final = (
    *(
        "",
        " ",
        "0",
        "00",
        "-0",
        "-1",
        "+1",
        "1.",
        ".5",
        "1.5",
        "0.001",
        "1.0000",
        "1e5",
        "1E400",
        "NaN",
        "Infinity",
    ),
    *(
        "1_000",
        "0x10",
        "٣",
        "²",
        "½",
        "1\u066b5",
        "null",
        "true",
        "none",
        "None",
        "Y",
        "N",
        "1" * 5_000,
        "9" * 40,
    ),
    *("2026-01-01", "2026-02-30", "0000-01-01", "0001-01-01", "9999-12-31", "10000-01-01", "2024-02-29"),
    *(
        "2026-1-1",
        "2026-01-01T00:00:00",
        "2026-01-01T24:00:00",
        "2026-01-01T23:59:60Z",
        "9999-12-31T23:59:59-23:59",
    ),
    *("0001-01-01T00:00:00+23:59", "2026-01-01T00:00:00.123456789Z", "90s", "1.5m", "250ms", "999999999d"),
    *("a", "A", "é", "é", "ß", "İ", "\u202e", "\u2028", "\x00", "\t", "\n", "\r\n", "\x7f", "\x85", "\ufeff"),
    *(
        "\ufffe",
        "😀",
        "a" * 64,
        "a" * 128,
        "a" * 129,
        "a" * 1_025,
        "é" * 600,
        "..",
        "/",
        "../x",
        "a/b",
        "%s",
        "{}",
        "\\",
    ),
    *(
        "127.0.0.1:0",
        "[::1]:7400",
        "localhost:65536",
        ":1",
        "0:0",
        "[::ffff:127.0.0.1]:1",
        "127.0.0.1:٣",
        "UTC",
        "/UTC",
    ),
    *("Europe/London", "../../etc/localtime", "posixrules", "\ud800", "\udfff", "[" * 2_000, '{"a":' * 2_000),
)


def number(random: Random, near: int = 0) -> int:
    """A number that may be one too many, or beside one that stands there."""
    kind = random.randrange(4)
    if kind == 0:
        return near + random.choice((-1, 1, 2, -2, 10, -near, -2 * near))
    if kind == 1:
        return random.randrange(20)
    return random.choice(NUMBERS) * random.choice((1, 1, 1, -1))


def change(text: str, random: Random, words: tuple[str, ...] = WORDS) -> str:
    """The text with something put in, taken out, repeated or put in its place."""
    kind = random.randrange(7)
    at = random.randint(0, len(text))
    until = min(len(text), at + random.choice((0, 1, 1, 2, 5, 20)))
    if kind == 0:
        return random.choice(words)
    if kind == 1:
        return str(number(random, int(text) if text.isascii() and text.isdecimal() and len(text) < 30 else 0))
    if kind == 2:
        return text[:at] + text[until:]
    if kind == 3:
        return text[:until] + text[at:until] * random.choice((1, 1, 2, 60)) + text[until:]
    if kind == 4:
        return (
            text[:at] + chr(random.choice((random.randrange(128), random.randrange(0xD800)))) + text[until:]
        )
    return text[:at] + random.choice(words) + text[until:]
