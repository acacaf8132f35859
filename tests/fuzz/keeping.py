"""Makes a corpus small: an input stays if it goes where no smaller one went."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from types import CodeType, FrameType
from typing import Any, Final

from tests.fuzz import corpus
from tests.fuzz.engine import WATCHED
from tests.fuzz.target import Target

#: A step from one line to another within a function.
Arc = tuple[CodeType, int, int]
_FOLDERS: Final = tuple(str(corpus.ROOT / name) for name in (*WATCHED[:3], "protos"))
#: Of a target's corpus: it is kept in git.
MAX_BYTES: Final = 150_000


def worth_keeping(target: Target, inputs: Iterable[bytes], known: Iterable[bytes]) -> list[bytes]:
    """Those of the inputs that reach what neither `known` nor a smaller one reaches, as many as fit."""
    reached: set[Arc] = set()
    for data in known:
        reached |= arcs(target, data) or set()
    chosen, room = [], MAX_BYTES
    for data in sorted(set(inputs), key=lambda each: (len(each), each)):
        new = (arcs(target, data) or set()) - reached
        if new and len(data) <= room:
            reached |= new
            room -= len(data)
            chosen.append(data)
    return chosen


def arcs(target: Target, data: bytes) -> set[Arc] | None:
    """The way that an input takes through the project's own code; None if it finds something, mended or not."""
    found: set[Arc] = set()

    def local(code: CodeType) -> Any:
        last = 0

        def trace(frame: FrameType, event: str, _argument: Any) -> Any:
            nonlocal last
            if event == "line":
                found.add((code, last, frame.f_lineno))
                last = frame.f_lineno
            return trace

        return trace

    def begin(frame: FrameType, _event: str, _argument: Any) -> Any:
        return local(frame.f_code) if frame.f_code.co_filename.startswith(_FOLDERS) else None

    before = sys.gettrace()
    sys.settrace(begin)
    try:
        target.check(data)
    except Exception:
        return None
    finally:
        sys.settrace(before)
    return found
