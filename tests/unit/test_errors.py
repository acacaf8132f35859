"""Errors are sent and read back whole, and every reason has its status code."""

from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from quotafleet import errors


class FailedCall(grpc.RpcError):
    """What a client gets when a call fails."""

    def __init__(
        self, code: grpc.StatusCode, details: str | None, trailing: tuple[tuple[str, bytes], ...]
    ) -> None:
        super().__init__()
        self._code, self._details, self._trailing = code, details, trailing

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str | None:
        return self._details

    def trailing_metadata(self) -> Any:
        return self._trailing


def test_every_reason_has_a_status_code() -> None:
    """The table and the proto name the same reasons."""
    assert errors.known_reasons() == errors.CODES.keys()


@pytest.mark.parametrize("reason", sorted(errors.CODES))
def test_an_error_is_read_back_as_it_was_sent(reason: str) -> None:
    """Code, reason, message, metadata and fields arrive."""
    status = errors.to_status(reason, "no", {"limit": "5"}, [("items[3].amount", "must be positive")])
    trailing = ((errors.DETAILS_KEY, status.SerializeToString()),)
    error = errors.from_rpc_error(FailedCall(errors.CODES[reason], "no", trailing))
    assert (error.code, error.reason, error.message) == (errors.CODES[reason], reason, "no")
    assert error.metadata == {"limit": "5"}
    assert error.fields == (("items[3].amount", "must be positive"),)


def test_an_error_of_the_transport_has_no_reason() -> None:
    """Its code and message are those of the call."""
    error = errors.from_rpc_error(FailedCall(grpc.StatusCode.UNAVAILABLE, "connection refused", ()))
    assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "")
    assert str(error) == "UNAVAILABLE: connection refused"


@pytest.mark.parametrize("details", [b"\xff\xff", status_pb2.Status(code=3).SerializeToString()])
def test_details_that_make_no_sense_are_left_aside(details: bytes) -> None:
    """Neither bytes that are no status nor a status with another code replaces what the call says."""
    call = FailedCall(grpc.StatusCode.INTERNAL, None, ((errors.DETAILS_KEY, details),))
    error = errors.from_rpc_error(call)
    assert (error.code, error.reason, error.message) == (grpc.StatusCode.INTERNAL, "", "")


def test_a_reason_of_another_domain_is_not_ours() -> None:
    """Only errors of the domain "quotafleet" have a reason to switch on."""
    status = errors.to_status("QUOTA_REACHED", "no")
    foreign = status_pb2.Status(code=status.code, message="no")
    info = error_details_pb2.ErrorInfo(reason="QUOTA_REACHED", domain="example.org")
    foreign.details.add().Pack(info)
    assert errors.from_status(foreign).reason == ""
