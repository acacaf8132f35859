"""Ctrl-C and SIGTERM for commands that have something to say, or to end, when they are interrupted."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NoReturn

_NUMBERS: Final = (signal.SIGINT, signal.SIGTERM)


def interrupt_once() -> None:
    """Have the first of them raise KeyboardInterrupt; what follows does not disturb the end, which is near."""
    for number in _NUMBERS:
        signal.signal(number, _interrupt)


def _interrupt(*_: object) -> NoReturn:
    for number in _NUMBERS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


@contextmanager
def held() -> Iterator[None]:
    """One that comes meanwhile is raised at the end: for what may not be left half done."""
    came: list[int] = []
    before = {number: signal.signal(number, lambda one, _: came.append(one)) for number in _NUMBERS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])
