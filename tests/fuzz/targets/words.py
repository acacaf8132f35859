"""Single words from outside: amounts, times, labels, page tokens, agents' tokens, session marks, errors of others."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, Final, TypeVar

import typer
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc import status_pb2

from quota_agent.cli import amounts as agent_amounts
from quota_agent.cli import options as agent_options
from quota_server.cli import amounts, rules_keys, times
from quota_server.keys import MasterKey, TokenInvalid
from quota_server.ledger.marks import MarkForged, Marks
from quota_server.ledger.model import AgentKey, Mark
from quota_server.services import fields, paging
from quotafleet import errors
from quotafleet.agent.v1 import gate_service_pb2 as gate_pb
from quotafleet.link import checks
from tests.fuzz.mutate import frames, json_values, text
from tests.fuzz.mutate.frames import Frame
from tests.fuzz.target import Target

T = TypeVar("T")

_KEY: Final = MasterKey(b"k" * 32)
_MARKS: Final = Marks(_KEY.mark_key)
_AGENT: Final = AgentKey("9b1c", 3)
_LISTINGS: Final = (
    *(paging.QUOTAS, paging.AGENTS, paging.ALLOCATIONS, paging.OVERRIDES),
    *(paging.HISTORY, paging.UNHEARD, paging.RECORDS, paging.RULES),
)


def check(data: bytes) -> None:
    """Each word is read, or refused as its reader promises; what was read and written reads the same."""
    for frame in frames.unpack(data):
        _CHECKS[frame.operation % len(_CHECKS)](frame.body)


def taken(read: Callable[..., T], *arguments: Any) -> T | None:
    """What was read, or None if the command line refuses it, in words."""
    try:
        return read(*arguments)
    except typer.BadParameter as error:
        assert error.message
        return None


def check_amount(word: str) -> None:
    """The same on both command lines, for any decimals; written and read again it is the same."""
    for decimals in range(4):
        server = taken(amounts.parse, word, decimals, "--target")
        known = gate_pb.QuotaStatus(quota="q", decimals=decimals)
        agent = taken(agent_amounts.parse, word, known)
        # The agent's bounds the digits more tightly.
        assert agent in (server, None), f"{word!r} is {server} for one and {agent} for the other"
        if server is not None:
            assert 0 <= server <= amounts.LARGEST
            assert amounts.parse(amounts.shown(server, decimals), decimals, "--target") == server
            assert agent_options.decimal(server, decimals) == amounts.shown(server, decimals)


def check_time(word: str) -> None:
    """A moment, a day, a time zone."""
    zone = taken(times.zone, word)
    for within in (times.zone("UTC"), zone):
        if within is not None:
            start, end = taken(times.start, word, within), taken(times.end, word, within)
            if start is not None and end is not None:
                assert (start.seconds, start.nanos) <= (end.seconds, end.nanos)
                if 0 <= start.seconds <= checks.MAX_SECONDS:  # what is beyond, the controller refuses
                    assert times.start(start.ToJsonString(), times.zone("UTC")) == start
    day = taken(times.day, word, "--today")
    if day is not None:
        assert times.shown_day(day) == word


def check_duration(word: str) -> None:
    """A length of time: the same on both command lines, as far as both know its unit."""
    server = taken(times.duration, word, "--wait")
    agent = taken(agent_options.duration, word)
    for each in (server, agent):
        if each is not None:
            assert each.seconds >= 0
            assert 0 <= each.nanos < 10**9
            assert times.shown_duration(each) or each == Duration()
    if server is not None and agent is not None:
        assert (server.seconds, server.nanos) == (agent.seconds, agent.nanos - agent.nanos % 10**6)


def check_labels(word: str) -> None:
    """KEY=VALUE, one a line."""
    pairs = word.split("\n")
    found = taken(agent_options.labels, pairs)
    if found is not None:
        assert [f"{key}={value}" for key, value in found.items()] == pairs


def check_page_token(word: str) -> None:
    """A key that the list could have given out, or ValueError."""
    for listing in _LISTINGS:
        try:
            key = paging.decode(word, listing)
        except ValueError:
            continue
        assert tuple(map(type, key)) == listing.key
        assert paging.decode(paging.encode(listing, key), listing) == key


def check_etag(word: str) -> None:
    """A version, or one that matches nothing."""
    version = fields.version_of(word)
    assert version is None or version == fields.NEVER or str(version) == word


def check_token(word: str) -> None:
    """Nobody can make a token: only those of the key are taken."""
    try:
        agent = _KEY.agent_of(word)
    except TokenInvalid as error:
        assert str(error) and (len(word) < 12 or word not in str(error)), "the refusal repeats the token"
        return
    assert _KEY.token(agent) == word


def check_mark(content: bytes) -> None:
    """Nobody can make a mark: only those of the key are taken."""
    try:
        mark = _MARKS.decode(_AGENT, content)
    except MarkForged:
        return
    assert (_MARKS.encode(_AGENT, mark) if content else b"") == content


def check_key(word: str) -> None:
    """A record's kind and key: refused, or a message that can be sent."""
    name, _, key = word.partition(" ")
    kind = taken(rules_keys.kind, name, "KIND")
    if kind is not None:
        found = taken(rules_keys.key, kind, key)
        assert found is None or found.kind == kind


def check_error(content: bytes) -> None:
    """An error as a client reads it, whoever made it."""
    try:
        status = status_pb2.Status.FromString(content)
    except DecodeError:
        return
    error = errors.from_status(status)
    assert all(len(each) == 2 for each in error.fields)


def _of_text(check: Callable[[str], None]) -> Callable[[bytes], None]:
    return lambda content: check(content.decode(errors="replace"))


_CHECKS: Final[tuple[Callable[[bytes], Any], ...]] = (
    *map(
        _of_text,
        (
            check_amount,
            check_time,
            check_duration,
            check_labels,
            check_page_token,
            check_etag,
            check_token,
            check_key,
        ),
    ),
    check_mark,
    check_error,
)


def mutate(data: bytes, other: bytes, random: Random) -> bytes:
    """Words."""
    return frames.mutate(data, other, random, _body, operations=len(_CHECKS))


def _body(frame: Frame, random: Random) -> bytes:
    if frame.operation % len(_CHECKS) == _PAGE_TOKEN and random.random() < _MOSTLY:
        return _changed_token(frame.body, random)
    if frame.operation % len(_CHECKS) >= _BINARY:
        at = random.randint(0, len(frame.body))
        return (
            frame.body[:at] + random.randbytes(random.randint(0, 3)) + frame.body[at + random.randint(0, 2) :]
        )
    return text.change(frame.body.decode(errors="replace"), random).encode(errors="replace")


def _changed_token(token: bytes, random: Random) -> bytes:
    """What is within the token, changed."""
    try:
        content = base64.urlsafe_b64decode(token + b"===")
    except ValueError:
        content = b"[]"
    changed = json_values.mutate(content, b'["quotas",1,null]', random)
    return base64.urlsafe_b64encode(changed).rstrip(b"=")


_PAGE_TOKEN: Final = 4
_MOSTLY: Final = 0.8
#: From here on a body is no text.
_BINARY: Final = 8


def seeds() -> Iterator[bytes]:
    """A few good ones of each."""
    good: tuple[tuple[int, tuple[str, ...]], ...] = (
        (0, ("12", "12.345", "0.001", "0", "1000000000000000")),
        (
            1,
            (
                "2026-12-31",
                "2026-12-31T18:00:00Z",
                "2026-12-31T18:00:00.5+01:00",
                "Europe/London",
                "9999-12-31",
            ),
        ),
        (2, ("90s", "1.5m", "7d", "250ms", "12h", "3")),
        (3, ("a=b\nc=d", "k=")),
        (4, tuple(paging.encode(each, [kind("1") for kind in each.key]) for each in _LISTINGS)),
        (5, ("1", "17")),
        (6, (_KEY.token(_AGENT),)),
        (7, ("quota_definition 20153", "quota-association 12/13", "monetary_unit EUR")),
        (7, ("quota_event 12/30/2026-01-01T00:00:00", "measure x")),
    )
    for operation, words in good:
        yield frames.pack(Frame(operation, word.encode()) for word in words)
    yield frames.pack([Frame(8, _MARKS.encode(_AGENT, Mark(1, 2))), Frame(8, b"")])
    status = errors.to_status("QUOTA_REACHED", "no more", {"limit": "5"}, [("amount", "too large")])
    yield frames.pack([Frame(9, status.SerializeToString())])


TARGET: Final = Target("words", check, mutate, seeds, max_bytes=4 * 1024)
