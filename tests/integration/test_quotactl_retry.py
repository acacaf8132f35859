"""`quotactl` against a controller that is not there at first: one more try, under the same request id."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import grpc
from typer.testing import CliRunner

from quota_server.cli.quotactl import app
from quotafleet.v1 import quota_service_pb2 as pb
from quotafleet.v1 import quota_service_pb2_grpc as quota_grpc
from tests import scripted_server


class Faltering(quota_grpc.QuotaServiceServicer):
    """Is unavailable so many times, then answers."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.requests: list[pb.CreateQuotaRequest] = []

    def CreateQuota(
        self, request: pb.CreateQuotaRequest, context: grpc.ServicerContext
    ) -> pb.CreateQuotaResponse:
        self.requests.append(request)
        if len(self.requests) <= self.failures:
            context.abort(grpc.StatusCode.UNAVAILABLE, "not yet")
        return pb.CreateQuotaResponse(quota=request.quota)


def faltering(failures: int) -> Faltering:
    """What else the service has answers that it is not implemented."""
    return Faltering(failures)  # type: ignore[abstract]


@contextmanager
def serving(servicer: Faltering) -> Iterator[str]:
    with scripted_server.serving(servicer, quota_grpc.add_QuotaServiceServicer_to_server) as address:
        yield address


def create(address: str) -> int:
    command = ["--server", address, "quota", "create", "q", "--target", "1"]
    return CliRunner().invoke(app, command).exit_code


def test_one_failure_is_tried_again_under_the_same_id() -> None:
    """So that it is done once, whether or not the first try was."""
    with serving(servicer := faltering(1)) as address:
        assert create(address) == 0
    first, second = servicer.requests
    assert first == second
    assert len(first.request_id) > 20


def test_two_failures_are_the_end() -> None:
    """One more try, not many."""
    with serving(servicer := faltering(2)) as address:
        assert create(address) == 3
    assert len(servicer.requests) == 2


def test_each_command_has_its_own_id() -> None:
    """Two commands are two mutations."""
    with serving(servicer := faltering(0)) as address:
        assert create(address) == create(address) == 0
    assert len({request.request_id for request in servicer.requests}) == 2
