"""Errors are sent and read back whole, and every reason has its status code."""

from typing import Any
from urllib.parse import quote

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


class Sent:
    """The context of a call: what it ends with."""

    def __init__(self) -> None:
        self.details = ""
        self.trailing: tuple[tuple[str, bytes], ...] = ()

    def set_trailing_metadata(self, trailing: tuple[tuple[str, bytes], ...]) -> None:
        self.trailing = trailing

    def set_code(self, code: grpc.StatusCode) -> None:
        assert code is grpc.StatusCode.INVALID_ARGUMENT

    def set_details(self, details: str) -> None:
        self.details = details


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


@pytest.mark.parametrize("problem", ["must be positive", "ü%" * 40], ids=["plain", "escaped"])
def test_of_very_many_bad_fields_as_many_are_sent_as_trailers_hold(problem: str) -> None:
    """Clients of gRPC begin to drop trailers above 8 KiB; the message says how many more there are."""
    fields = [(f"items[{number}].request_id", problem) for number in range(1_000)]
    sent = Sent()
    errors.set_error(sent, errors.FIELD_INVALID, "; ".join(map(": ".join, fields)), {}, fields)  # type: ignore[arg-type]
    status = status_pb2.Status.FromString(sent.trailing[0][1])
    assert status.message == sent.details
    assert len(quote(sent.details, safe=" ")) + status.ByteSize() < 7_900
    error = errors.from_status(status)
    assert list(error.fields) == fields[: len(error.fields)]
    assert len(error.fields) > 10
    assert error.message.endswith(f" ... and {1_000 - len(error.fields)} more bad fields")
    assert error.message.startswith("items[0].request_id: ")


def test_a_long_message_is_cut_between_characters_and_its_field_is_kept() -> None:
    """However long what is wrong with it is said."""
    sent = Sent()
    errors.set_error(sent, errors.FIELD_INVALID, "ü" * 2_000, {}, [("reason", "x" * 3_000)])  # type: ignore[arg-type]
    error = errors.from_status(status_pb2.Status.FromString(sent.trailing[0][1]))
    assert error.fields == (("reason", "x" * 3_000),)
    assert error.message == "ü" * ((1_024 - 4) // 2) + " ..."


def test_a_reason_of_another_domain_is_not_ours() -> None:
    """Only errors of the domain "quotafleet" have a reason to switch on."""
    status = errors.to_status("QUOTA_REACHED", "no")
    foreign = status_pb2.Status(code=status.code, message="no")
    info = error_details_pb2.ErrorInfo(reason="QUOTA_REACHED", domain="example.org")
    foreign.details.add().Pack(info)
    assert errors.from_status(foreign).reason == ""
