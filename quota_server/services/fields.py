"""Checks of a request's fields: all that are bad are refused at once, each by its path in the proto."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from google.protobuf.message import Message

from quota_server.errors import fields_invalid
from quota_server.services import paging
from quotafleet.errors import FieldError
from quotafleet.link import checks

MAX_REQUEST_ID_CHARS: Final = 128
MAX_WEIGHT: Final = 1_000_000
MAX_DECIMALS: Final = 3
DEFAULT_PAGE: Final = 100
MAX_PAGE: Final = 1_000
DEFAULT_WAIT_MS: Final = 5_000
MAX_WAIT_MS: Final = 60_000
#: An error travels in the call's trailers, which are bounded.
MAX_PROBLEMS: Final = 20

AGENT_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_etag: Final = re.compile(r"[1-9][0-9]{0,17}").fullmatch
#: No version of a quota: an etag that was never given out matches nothing.
NEVER: Final = -1

T = TypeVar("T")


class Fields:
    """Collects what is wrong, up to a bound. Methods return the checked value, or a harmless one if it is bad."""

    def __init__(self) -> None:
        self._problems: dict[str, str] = {}

    def bad(self, path: str, problem: str) -> None:
        """Notes a problem; of several of one field the first counts."""
        if len(self._problems) < MAX_PROBLEMS:
            self._problems.setdefault(path, problem)

    def refuse(self) -> None:
        """Raises FIELD_INVALID if anything is bad."""
        if self._problems:
            raise fields_invalid(self._problems)

    def quota(self, path: str, value: str) -> str:
        """Name or uid of a quota."""
        if not checks.QUOTA_NAME.fullmatch(value):
            self.bad(path, f"must match {checks.QUOTA_NAME.pattern}")
        return value

    def agent(self, path: str, value: str) -> str:
        """Name or uid of an agent."""
        if not AGENT_NAME.fullmatch(value):
            self.bad(path, f"must match {AGENT_NAME.pattern}")
        return value

    def identifier(self, path: str, value: str) -> str:
        """An id that the controller gave out."""
        return self._checked(checks.identifier, value, path, value)

    def units(self, path: str, value: int, *, least: int = 0) -> int:
        """An amount in smallest units."""
        return self._checked(checks.some_units if least else checks.units, value, path, 0)

    def integer(self, path: str, value: int, least: int, most: int) -> int:
        """An integer within bounds."""
        if not least <= value <= most:
            self.bad(path, f"must be from {least} to {most}")
        return value

    def text(self, path: str, value: str, max_chars: int) -> str:
        """Words for people."""
        try:
            return checks.text(value, path, max_chars)
        except FieldError as error:
            self.bad(error.path, error.problem)
            return ""

    def one_of(self, path: str, number: int, values: Mapping[int, T], default: T | None = None) -> T:
        """An enum's value. 0 is `default` if there is one; other unknown numbers are refused."""
        if number == 0 and default is not None:
            return default
        if number not in values:
            names = ", ".join(str(value) for value in values.values())
            self.bad(path, f"must be one of {names}")
            return next(iter(values.values()))
        return values[number]

    def time(self, path: str, holder: Message) -> int | None:
        """The Timestamp that is the last part of `path`, in milliseconds; None if unset."""
        name = path.rpartition(".")[2]
        if not holder.HasField(name):
            return None
        return self._checked(checks.wall_ms, getattr(holder, name), path, 0)

    def duration(self, path: str, holder: Message) -> int | None:
        """The Duration above 0 that is the last part of `path`, in milliseconds; None if unset."""
        name = path.rpartition(".")[2]
        if not holder.HasField(name):
            return None
        try:
            return checks.duration_ms(getattr(holder, name), path, 1)
        except FieldError as error:
            self.bad(path, error.problem)
            return 1

    def wait(self, message: Message) -> int:
        """`wait` of a fan-out in milliseconds."""
        if not message.HasField("wait"):
            return DEFAULT_WAIT_MS
        wait_ms = self._checked(checks.duration_ms, getattr(message, "wait"), "wait", 0)  # noqa: B009 - any message
        if wait_ms > MAX_WAIT_MS:
            self.bad("wait", f"must be from 0 to {MAX_WAIT_MS // 1000} s")
        return wait_ms

    def page_size(self, value: int, default: int = DEFAULT_PAGE) -> int:
        """Size of a page; 0 is the default."""
        return self.integer("page_size", value, 0, MAX_PAGE) or default

    def page_token(self, value: str, listing: paging.Listing) -> tuple[Any, ...] | None:
        """The key after which a page begins; None for the first page."""
        try:
            return paging.decode(value, listing) if value else None
        except ValueError:
            self.bad("page_token", "must be the next_page_token of an earlier answer to the same call")
            return None

    def _checked(self, check: Callable[[Any, str], T], value: Any, path: str, instead: T) -> T:
        try:
            return check(value, path)
        except FieldError as error:
            self.bad(error.path, error.problem)
            return instead


@contextmanager
def checking(message: Message) -> Iterator[Fields]:
    """Checks the fields of a request; `request_id` and `reason`, if it has them, are checked here."""
    fields = Fields()
    known = message.DESCRIPTOR.fields_by_name
    if "request_id" in known:
        fields.text("request_id", getattr(message, "request_id"), MAX_REQUEST_ID_CHARS)  # noqa: B009
    if "reason" in known:
        fields.text("reason", getattr(message, "reason"), checks.MAX_REASON_CHARS)  # noqa: B009
    yield fields
    fields.refuse()


def version_of(etag: str) -> int | None:
    """The version that an etag stands for; None for an empty one. Etags are opaque: a strange one matches nothing."""
    if not etag:
        return None
    return int(etag) if _etag(etag) else NEVER
