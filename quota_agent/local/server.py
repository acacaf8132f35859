"""The agent's local server: GateService, health and reflection on a unix socket and, if wanted, on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import re
import socket
from pathlib import Path
from types import TracebackType
from typing import Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from quota_agent.errors import AgentError
from quota_agent.local.service import GateServicer
from quotafleet.agent.v1 import gate_service_pb2, gate_service_pb2_grpc

SERVICE: Final = gate_service_pb2.DESCRIPTOR.services_by_name["GateService"].full_name
MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024
#: What the kernel takes as the path of a unix socket.
MAX_SOCKET_PATH_BYTES: Final = 107

_port: Final = re.compile(r"[0-9]{1,5}").fullmatch

_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", -1),
    # Two agents on one port would share the calls out between them, and count twice.
    ("grpc.so_reuseport", 0),
)


class CannotListen(AgentError):
    """The address cannot be served on; the message says why and what to do."""


class SocketLost(AgentError):
    """The socket's path leads elsewhere or nowhere: no command finds this agent any more."""


class LocalServer:
    """Serves from entry to exit of `async with`.

    The socket and, if it has to be made, its folder belong to their owner alone. Leaving drains: new calls are
    refused, and those in flight have `grace_seconds` to finish.
    """

    def __init__(
        self,
        servicer: GateServicer,
        socket_path: Path,
        *,
        listen: str | None = None,
        grace_seconds: float = 15.0,
    ) -> None:
        """`listen` is a loopback HOST:PORT; port 0 takes a free one."""
        self._servicer = servicer
        self._path = socket_path.absolute()  # as gRPC binds it, and bounded so
        self._listen = listen
        self._grace_seconds = grace_seconds
        self._health = health.aio.HealthServicer()
        self._server: grpc.aio.Server | None = None
        self._bound: tuple[int, int] | None = None
        #: The port that `listen` came to; None without it.
        self.port: int | None = None

    async def __aenter__(self) -> LocalServer:
        listen = None if self._listen is None else loopback_address(self._listen)
        await asyncio.to_thread(_make_room, self._path)
        server = grpc.aio.server(options=_OPTIONS)
        gate_service_pb2_grpc.add_GateServiceServicer_to_server(self._servicer, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        _listen_on_socket(server, self._path)
        self._bound = _identity(self._path)
        if listen is not None:
            self.port = _listen_on_port(server, listen)
        await server.start()
        self._server = server
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.drain()

    async def drain(self) -> None:
        """Refuse new calls, and let those in flight finish. A repeat does nothing."""
        assert self._server is not None, "only within `async with`"
        await self._health.enter_graceful_shutdown()
        await self._server.stop(self._grace_seconds)
        if self.owns_socket:
            with contextlib.suppress(FileNotFoundError):
                self._path.unlink()

    @property
    def owns_socket(self) -> bool:
        """Whether the path still leads to the socket that was bound.

        The kernel keeps the inode of a bound socket until it is closed, so no other file can have its number.
        """
        return self._bound is not None and _identity(self._path) == self._bound

    async def set_healthy(self, healthy: bool) -> None:
        """Tell the health service, for the whole server and for GateService."""
        status = (
            health_pb2.HealthCheckResponse.SERVING if healthy else health_pb2.HealthCheckResponse.NOT_SERVING
        )
        for service in ("", SERVICE):
            await self._health.set(service, status)


def loopback_address(address: str) -> str:
    """The address, if it is HOST:PORT on loopback; CannotListen otherwise."""
    host, separator, port = address.rpartition(":")
    if not separator or not _port(port) or int(port) > 65_535:
        raise CannotListen(f"--listen takes HOST:PORT, as in 127.0.0.1:7070, not {address!r}")
    bare = host.removeprefix("[").removesuffix("]")
    try:
        local = bare == "localhost" or ipaddress.ip_address(bare).is_loopback
    except ValueError:
        local = False
    if not local:
        raise CannotListen(
            f"{host!r} is not a loopback address: whoever reaches the agent can spend, so it serves this machine only"
        )
    return address


def _make_room(path: Path) -> None:
    """Make the socket's folder, and take away the socket of an agent that is gone."""
    if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
        raise CannotListen(f"the path of the socket is longer than {MAX_SOCKET_PATH_BYTES} bytes: {path}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            return
        if not path.is_socket():
            raise CannotListen(
                f"{path} is there already, and is not a socket: move it away, or choose another --socket"
            )
        if _answers(path):
            raise CannotListen(f"another agent serves {path}: stop it, or choose another --socket")
        path.unlink()
    except OSError as error:
        raise CannotListen(f"cannot use {path} as a socket: {error.strerror}") from error


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file is there: its device and inode; None without one."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
    return True


def _listen_on_socket(server: grpc.aio.Server, path: Path) -> None:
    # The mask holds from the moment the socket is there; a chmod afterwards would come too late.
    mask = os.umask(0o177)
    try:
        server.add_insecure_port(f"unix:{path.absolute()}")
    except RuntimeError as error:
        raise CannotListen(f"cannot listen on {path}: {error}") from error
    finally:
        os.umask(mask)


def _listen_on_port(server: grpc.aio.Server, address: str) -> int:
    try:
        return server.add_insecure_port(address)
    except RuntimeError as error:
        raise CannotListen(f"cannot listen on {address}: is the port in use?") from error
