"""Sequences: an input that is a list of steps, each an operation's number and a body."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from random import Random
from typing import Final, NamedTuple

_HEAD: Final = struct.Struct("<BH")
MAX_FRAMES: Final = 64


class Frame(NamedTuple):
    """A step."""

    operation: int
    body: bytes


def pack(frames: Iterable[Frame]) -> bytes:
    """Frames as an input; a body of more than 64 KiB is cut."""
    cut = ((frame.operation, frame.body[:0xFFFF]) for frame in frames)
    return b"".join(_HEAD.pack(operation, len(body)) + body for operation, body in cut)


def unpack(data: bytes) -> list[Frame]:
    """The frames in any bytes; the last one may be cut short."""
    frames: list[Frame] = []
    at = 0
    while at + _HEAD.size <= len(data) and len(frames) < MAX_FRAMES:
        operation, size = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        frames.append(Frame(operation, data[at : at + size]))
        at += size
    return frames


def mutate(
    data: bytes,
    other: bytes,
    random: Random,
    body: Callable[[Frame, Random], bytes],
    operations: int,
) -> bytes:
    """Steps are changed, left out, repeated, moved and taken from `other`; `body` changes a step's own."""
    frames, donor = unpack(data), unpack(other)
    for _ in range(random.choice((1, 1, 2, 3))):
        frames = _change(frames, donor, random, body, operations)
    return pack(frames)


def _change(
    frames: list[Frame],
    donor: list[Frame],
    random: Random,
    body: Callable[[Frame, Random], bytes],
    operations: int,
) -> list[Frame]:
    at = random.randint(0, max(0, len(frames) - 1))
    kind = random.randrange(10)
    if not frames or kind == 0:
        fresh = Frame(random.randrange(operations), b"")
        taken = (
            random.choice(donor)
            if donor and random.random() < 0.7
            else fresh._replace(body=body(fresh, random))
        )
        return [*frames[:at], taken, *frames[at:]]
    if kind == 1:
        return [*frames[:at], *frames[at + 1 :]]
    if kind == 2:
        return [*frames[: at + 1], *frames[at:]]
    if kind == 3:
        again = random.randrange(len(frames))
        frames[at], frames[again] = frames[again], frames[at]
        return frames
    if kind == 4 and donor:
        return [*frames[:at], *donor[random.randrange(len(donor)) :]]
    if kind == 5:
        frames[at] = frames[at]._replace(operation=random.randrange(operations))
        return frames
    frames[at] = frames[at]._replace(body=body(frames[at], random))
    return frames
