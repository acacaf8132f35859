"""What a target of the fuzzing is, and the bounds in work and memory that all of them are held to."""

from __future__ import annotations

import sys
import tracemalloc
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random
from typing import Any, Final, TypeVar

T = TypeVar("T")

#: An input, another one to take parts from, and chance: the next input.
Mutate = Callable[[bytes, bytes, Random], bytes]

DEFAULT_MAX_BYTES: Final = 16 * 1024
#: One input in so many is also measured, which slows it down.
_MEASURED: Final = 8


@dataclass(frozen=True)
class Target:
    """A parser, and what has to hold for any input to it."""

    name: str
    #: Raises anything at all if something does not hold.
    check: Callable[[bytes], None]
    #: Knows the structure of the inputs.
    mutate: Mutate
    #: What to begin with, beside the files of the corpus.
    seeds: Callable[[], Iterable[bytes]]
    max_bytes: int = DEFAULT_MAX_BYTES


def within_bounds(data: bytes, work: Callable[[], T], *, calls_per_byte: int, bytes_per_byte: int) -> T:
    """The result of `work` on `data`, some inputs measured: its calls and its memory must be linear in the input.

    Calls of Python functions stand for time, so that the answer is the same on every machine.
    """
    if zlib.crc32(data) % _MEASURED:
        return work()
    calls = 0

    def count(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal calls
        calls += event == "call"

    before = sys.getprofile()
    tracemalloc.start()
    sys.setprofile(count)
    try:
        result = work()
    finally:
        sys.setprofile(before)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    size = len(data)
    assert calls <= 20_000 + calls_per_byte * size, f"{calls} calls for {size} bytes"
    assert peak <= 4_000_000 + bytes_per_byte * size, f"{peak} bytes of memory for {size} bytes"
    return result
