"""Ctrl-C and SIGTERM for commands that have something to say, or to end, when they are interrupted."""

import signal
from typing import NoReturn


def interrupt_once() -> None:
    """Have the first of them raise KeyboardInterrupt; what follows does not disturb the end, which is near."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)


def _interrupt(*_: object) -> NoReturn:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt
