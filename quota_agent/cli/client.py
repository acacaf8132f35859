"""A command's call to the agent, and its answer as JSON."""

from __future__ import annotations

import json
import socket as sockets
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import grpc
import typer
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from quota_agent.cli import exits
from quotafleet.agent.v1 import gate_service_pb2_grpc as gate_grpc
from quotafleet.errors import from_rpc_error

#: Above the longest max_wait.
CALL_SECONDS: Final = 30.0
#: How long an agent that was started just now may take to answer.
START_SECONDS: Final = 2.0
_PROBE_SECONDS: Final = 0.05

Answer = TypeVar("Answer")
#: protobuf has two types of descriptors, of its two implementations, and none for both.
FieldDescriptor = Any


class Client:
    """Calls to the agent behind `socket`. A call that fails ends the command with its exit code."""

    def __init__(self, socket: Path, *, as_json: bool) -> None:
        self._socket = socket
        self._as_json = as_json

    def call(
        self, method: Callable[[gate_grpc.GateServiceStub], Callable[..., Answer]], request: Message
    ) -> Answer:
        """Call once; `method` picks the RPC from the stub."""
        _wait_for(self._socket)
        with grpc.insecure_channel(f"unix:{self._socket.absolute()}") as channel:
            try:
                return method(gate_grpc.GateServiceStub(channel))(request, timeout=CALL_SECONDS)
            except grpc.RpcError as error:
                exits.fail_with(from_rpc_error(error), self._socket, as_json=self._as_json)


def _wait_for(path: Path) -> None:
    """Return once somebody listens there, or after a while: the call then says what is wrong."""
    end = time.monotonic() + START_SECONDS
    while not _listens(path) and time.monotonic() < end:
        time.sleep(_PROBE_SECONDS)


def _listens(path: Path) -> bool:
    """Whether somebody does, or waiting would not help."""
    with sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path.absolute()))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError:
            return True
    return True


def print_json(message: Message) -> None:
    """Print an answer on one line."""
    typer.echo(json.dumps(plain(message)))


def plain(message: Message) -> dict[str, Any]:
    """A message as JSON takes it: amounts as numbers (they fit), enums by name, times in RFC 3339."""
    return {
        field.name: _field(message, field) for field in message.DESCRIPTOR.fields if _shown(message, field)
    }


def _shown(message: Message, field: FieldDescriptor) -> bool:
    """Everything but messages and oneof members that are not set."""
    return not field.has_presence or message.HasField(field.name)


def _field(message: Message, field: FieldDescriptor) -> Any:
    value = getattr(message, field.name)
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        return dict(value)
    if field.is_repeated:
        return [_value(item, field) for item in value]
    return _value(value, field)


def _value(value: Any, field: FieldDescriptor) -> Any:
    if isinstance(value, Timestamp):
        return rfc3339(value)
    if isinstance(value, Message):
        return plain(value)
    if field.enum_type is not None:
        return enum_name(field, value)
    return value


def enum_name(field: FieldDescriptor, number: int) -> str:
    """The name of an enum's value, without the prefix that every value of it has."""
    enum = field.enum_type
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    known = enum.values_by_number.get(number)
    return str(number) if known is None else str(known.name).removeprefix(prefix)


def rfc3339(time: Timestamp) -> str:
    """A time in UTC."""
    at = datetime.fromtimestamp(time.seconds + time.nanos / 1e9, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
