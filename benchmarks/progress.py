"""What is under way, on stderr: measuring takes minutes, and stdout is for the figures."""

from __future__ import annotations

import sys


def say(what: str) -> None:
    """One line about what is measured now."""
    print(f"measuring: {what} ...", file=sys.stderr, flush=True)
