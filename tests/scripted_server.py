"""Serves a servicer that answers as a test says, from a thread: for commands that run in the test's own process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import grpc

S = TypeVar("S")


@contextmanager
def serving(servicer: S, add: Callable[[S, grpc.Server], None]) -> Iterator[str]:
    """The address at which it is served; `add` is what grpcio-tools generate to add it to a server."""
    server = grpc.server(ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)])
    add(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()
