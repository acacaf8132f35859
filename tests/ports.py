"""Ports for programs that are stopped and started again at the same address."""

import random
import socket
from contextlib import suppress
from pathlib import Path

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
#: Above what needs privileges and most of what has a name.
_LOWEST = 10_000


def free_port() -> int:
    """A port of 127.0.0.1 where nobody listens.

    The port is below those that the system gives to whoever dials or asks for any port, so that nobody gets it while
    its owner is down; and drawn by chance, so that tests that run at the same time hardly ever draw the same.
    """
    above = int(_RANGE.read_text().split()[0])
    while True:
        address = ("127.0.0.1", random.SystemRandom().randrange(_LOWEST, above))
        with socket.socket() as probe, suppress(OSError):
            probe.bind(address)
            return address[1]
