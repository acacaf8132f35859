"""Logging for people and for collectors: one event, one line."""

from __future__ import annotations

import logging
import time
from typing import Final

LEVELS: Final = ("debug", "info", "warning", "error")


class OneLine(logging.Formatter):
    """Time in UTC, level, logger, message; a traceback is folded into the line."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).replace("\n", "\\n")


def begin(level: str) -> None:
    """Log to stderr, from `level` on."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
