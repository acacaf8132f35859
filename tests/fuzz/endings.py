"""What a call may end with: a refusal as the contract has it, fields by their paths; and a context without a net."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final, NoReturn
from urllib.parse import quote

import grpc
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.rpc import status_pb2

from quotafleet.errors import CODES, DETAILS_KEY, FIELD_INVALID, from_status

_part: Final = re.compile(r"\.?([a-z_][a-z0-9_]*)(\[[^\]]*\])?").match
#: A place in an envelope of TARIC3, which a request brings.
_in_envelope: Final = re.compile(r"line [1-9][0-9]*: \S.*").fullmatch
#: gRPC's clients begin to drop trailers above 8 KiB; what else is in them has some 250 bytes.
_MAX_TRAILER_BYTES: Final = 7_900

#: What gRPC does not write as %XX.
_PLAIN: Final = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")

#: Fields that are in no message but are named all the same: metadata of the call.
METADATA_FIELDS: Final = ("quotafleet-actor",)


class Ended(Exception):
    """A call ended with a status; what the service's own context would raise."""


class FakeContext:
    """A call's context: who calls, and how the call ended."""

    def __init__(self, metadata: Iterable[tuple[str, str]] = ()) -> None:
        self.metadata = tuple(metadata)
        self.code: grpc.StatusCode | None = None
        self.details = ""
        self.trailing: tuple[tuple[str, Any], ...] = ()
        self.written: list[Any] = []

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self.metadata

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    async def write(self, message: Any) -> None:
        self.written.append(message)

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: tuple[tuple[str, Any], ...] = ()
    ) -> NoReturn:
        self.code, self.details, self.trailing = code, details, trailing_metadata
        raise grpc.aio.AbortError(details)

    def set_code(self, code: grpc.StatusCode) -> None:
        self.code = code

    def set_details(self, details: str) -> None:
        self.details = details

    def set_trailing_metadata(self, trailing: tuple[tuple[str, Any], ...]) -> None:
        self.trailing = trailing

    def refusal(self, request: type[Message]) -> str:
        """The reason with which the call was refused, "" if it was not; fails if a refusal is not as it must be."""
        if self.code is None:
            return ""
        status = status_pb2.Status.FromString(dict(self.trailing).get(DETAILS_KEY, b""))
        error = from_status(status)
        assert error.reason in CODES, f"{self.code} without a reason: {self.details!r}"
        assert CODES[error.reason] is self.code is error.code, f"{error.reason} came with {self.code}"
        assert self.details, f"{error.reason} says nothing"
        size = status.ByteSize() + len(quote(self.details, safe=_PLAIN))
        assert size <= _MAX_TRAILER_BYTES, f"a refusal of {size} bytes would not arrive"
        assert bool(error.fields) >= (error.reason == FIELD_INVALID), "no field is named"
        for path, problem in error.fields:
            assert problem, f"nothing is said of {path}"
            check_path(path, request)
        return error.reason


def check_path(path: str, message: type[Message]) -> None:
    """Fails unless the path names a field, as in `report.standings[3].totals.released`, or a oneof."""
    if path in METADATA_FIELDS or _in_envelope(path):
        return
    inside: Any = message.DESCRIPTOR
    rest = path
    while rest:
        match = _part(rest)
        assert match is not None, f"no path: {path!r}"
        assert inside is not None, f"there is nothing within: {path!r}"
        name = match[1]
        rest = rest[match.end() :]
        if name in inside.oneofs_by_name:
            inside = None
            continue
        field = inside.fields_by_name.get(name)
        assert field is not None, f"{inside.full_name} has no field {name!r}: {path!r}"
        assert match[2] is None or field.is_repeated, f"{name} is no list: {path!r}"
        inside = field.message_type if field.type == FieldDescriptor.TYPE_MESSAGE else None
        if inside is not None and inside.GetOptions().map_entry:
            return  # its keys are texts of any sort
