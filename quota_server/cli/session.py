"""A command's calls to the controller: who calls, ids for mutations, one more try, errors."""

from __future__ import annotations

import os
import pwd
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NoReturn, TypeVar
from urllib.parse import quote

import grpc
import typer
from google.protobuf.duration_pb2 import Duration

from quota_server.cli import exits
from quotafleet.errors import QuotafleetError, from_rpc_error
from quotafleet.v1 import agent_admin_service_pb2_grpc as agents_grpc
from quotafleet.v1 import quota_service_pb2 as pb
from quotafleet.v1 import quota_service_pb2_grpc as quotas_grpc
from quotafleet.v1 import rules_service_pb2_grpc as rules_grpc

DEFAULT_SERVER: Final = "127.0.0.1:7400"
SERVER_VARIABLE: Final = "QUOTAFLEET_SERVER"
#: For a call, beyond what it waits for agents.
CALL_SECONDS: Final = 15.0
#: How long a controller that was gone may take to come back before the one more try.
RETURN_SECONDS: Final = 2.0
#: The same while watching.
WATCH_RETURN_SECONDS: Final = 15.0
#: For a stream of any size; a controller that has gone is noticed at once.
STREAM_SECONDS: Final = 3_600.0
_MAX_ACTOR_CHARS: Final = 128
_HEALTH_CHECK: Final = "/grpc.health.v1.Health/Check"
#: Ten thousand violations are more than the 4 MiB that gRPC takes by default.
_CHANNEL_OPTIONS: Final = (("grpc.max_receive_message_length", 64 * 1024 * 1024),)

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Settings:
    """What was said before the subcommand."""

    server: str = DEFAULT_SERVER
    as_json: bool = False


class Session:
    """Calls of one command. A call that fails ends the command with its exit code."""

    def __init__(self, context: typer.Context, as_json: bool) -> None:
        settings: Settings = context.obj
        self.server = settings.server
        self.as_json = as_json or settings.as_json
        self._channel = grpc.insecure_channel(self.server, _CHANNEL_OPTIONS)
        context.call_on_close(self._channel.close)
        self.quotas = quotas_grpc.QuotaServiceStub(self._channel)
        self.agents = agents_grpc.AgentAdminServiceStub(self._channel)
        self.rules = rules_grpc.RulesServiceStub(self._channel)
        self._metadata = (("quotafleet-actor", user_name()),)

    def call(self, rpc: Callable[..., Answer], request: Any, wait: Duration | None = None) -> Answer:
        """Calls, and once more with the same request_id if the controller was not there.

        `wait` is how long the controller may wait for agents; None leaves that to it.
        """
        if "request_id" in request.DESCRIPTOR.fields_by_name:
            request.request_id = str(uuid.uuid4())
        if wait is not None:
            request.wait.CopyFrom(wait)
        seconds = CALL_SECONDS + (wait.ToMilliseconds() / 1000 if wait is not None else 0)
        try:
            return self._twice(lambda: rpc(request, timeout=seconds, metadata=self._metadata))
        except QuotafleetError as failure:
            self.fail(failure)

    def pages(self, rpc: Callable[..., Answer], request: Any) -> Iterator[Answer]:
        """Every page of a list; `request` asks for the first, and then for the one after the last that was given."""
        while True:
            page: Any = self.call(rpc, request)
            yield page
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def exchange(
        self,
        rpc: Callable[..., Any],
        requests: Callable[[], Iterable[Any]],
        receive: Callable[[Any], Answer],
    ) -> Answer:
        """Sends a stream and receives what comes back, from its beginning once more if the controller was not there.

        Unlike `call` it raises QuotafleetError: what is wrong with a stream is known only on the way.
        """
        return self._twice(
            lambda: receive(rpc(iter(requests()), timeout=STREAM_SECONDS, metadata=self._metadata))
        )

    def fail(self, failure: QuotafleetError) -> NoReturn:
        """Ends the command because a call failed."""
        exits.fail_with(failure, self.server, as_json=self.as_json)

    def _twice(self, attempt: Callable[[], Answer]) -> Answer:
        try:
            return attempt()
        except grpc.RpcError as error:
            failure = from_rpc_error(error)
        if failure.code is grpc.StatusCode.UNAVAILABLE and self._is_there(RETURN_SECONDS):
            try:
                return attempt()
            except grpc.RpcError as error:
                failure = from_rpc_error(error)
        raise failure

    def watch(self, quota_uid: str) -> Iterator[pb.Count]:
        """The numbers of a quota now and after every change; goes on when the controller comes back."""
        while True:
            try:
                request = pb.WatchQuotaRequest(quota=quota_uid)
                for response in self.quotas.WatchQuota(request, metadata=self._metadata):
                    yield response.count
                failure = QuotafleetError(grpc.StatusCode.UNAVAILABLE, "", "the watch has ended")
            except grpc.RpcError as error:
                failure = from_rpc_error(error)
            if not exits.unreachable(failure) or not self._is_there(WATCH_RETURN_SECONDS):
                self.fail(failure)

    def quota(self, name: str) -> pb.Quota:
        """A quota by name or uid."""
        return self.call(self.quotas.GetQuota, pb.GetQuotaRequest(quota=name)).quota

    def _is_there(self, seconds: float) -> bool:
        """Whether a controller answers within that time, whatever it answers."""
        check: Callable[..., bytes] = self._channel.unary_unary(_HEALTH_CHECK)
        try:
            check(b"", timeout=seconds, wait_for_ready=True)
        except grpc.RpcError as error:
            code = from_rpc_error(error).code
            return code not in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE)
        return True


def user_name() -> str:
    """The name of the user of this process, as call metadata can carry it."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = f"uid-{os.getuid()}"
    return quote(name, safe=" @+$")[:_MAX_ACTOR_CHARS]
