"""Requests about tariff data, checked and turned into values of ours. Each raises FIELD_INVALID."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

from google.protobuf.message import Message
from google.type.date_pb2 import Date

from quota_server.services.fields import MAX_REQUEST_ID_CHARS, Fields, checking
from quota_server.services.paging import RECORDS, RULES
from quota_server.services.tariff_convert import KIND_NAMES, key_from_proto, read_date
from quota_server.tariff.judging import Options
from quotafleet.link import checks
from quotafleet.v1 import rules_service_pb2 as pb
from quotafleet.v1 import tariff_records_pb2 as records_pb
from rules.catalogue import Profile
from rules.forms import ORDER_NUMBER
from rules.records import Mechanism, RecordRef

DEFAULT_VIOLATIONS: Final = 1_000
MAX_VIOLATIONS: Final = 10_000
_MAX_OVERRIDES: Final = 10_000

_PROFILES: Final[dict[int, Profile]] = {
    pb.RULE_PROFILE_UK: Profile.UK,
    pb.RULE_PROFILE_EU: Profile.EU,
}
_MECHANISMS: Final[dict[int, Mechanism]] = {
    records_pb.MECHANISM_FIRST_COME_FIRST_SERVED: Mechanism.FIRST_COME_FIRST_SERVED,
    records_pb.MECHANISM_LICENSED: Mechanism.LICENSED,
}


@dataclass(frozen=True, slots=True)
class CommitWish:
    """How a commit is asked for."""

    request_id: str
    options: Options
    expected: int | None
    allow_preexisting: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Listed:
    """Which records are asked for; `number` and `day` say as of when, `after` is the last row of the page before."""

    kind: str | None
    number: int | None
    day: date | None
    valid_on: date | None
    include_deleted: bool
    size: int
    after: tuple[str, str] | None
    #: All of that but the page: a token is for the same.
    asked: str


def validate_transaction(message: pb.ValidateTransactionRequest, now_ms: int) -> tuple[Options, int]:
    """How to judge, and how many violations to answer."""
    with checking(message) as fields:
        _input(fields, message)
        options = _options(fields, "options", message.options, now_ms)
        most = fields.integer("max_violations", message.max_violations, 0, MAX_VIOLATIONS)
    return options, most or DEFAULT_VIOLATIONS


def judge_options(message: pb.JudgeOptions, now_ms: int) -> Options:
    """How to judge an envelope that comes in chunks."""
    with checking(message) as fields:
        return _options(fields, "options", message, now_ms)


def commit_transaction(message: pb.CommitTransactionRequest, now_ms: int) -> CommitWish:
    """How to commit."""
    with checking(message) as fields:
        _input(fields, message)
        return _commit(fields, "", message, now_ms)


def commit_envelope(message: pb.CommitEnvelopeOptions, now_ms: int) -> CommitWish:
    """How to commit an envelope that comes in chunks."""
    fields = Fields()
    fields.text("options.request_id", message.request_id, MAX_REQUEST_ID_CHARS)
    wish = _commit(fields, "options.", message, now_ms)
    fields.refuse()
    return wish


def get_record(message: pb.GetRecordRequest) -> tuple[RecordRef, int | None]:
    """The record, and as of which transaction."""
    with checking(message) as fields:
        number = _number(fields, message, "as_of_version")
    return key_from_proto(message.key, "key"), number


def list_records(message: pb.ListRecordsRequest) -> Listed:
    """Which records."""
    with checking(message) as fields:
        kind = None
        if message.kind:
            kind = fields.one_of("kind", message.kind, KIND_NAMES)
        number = _number(fields, message, "as_of_version")
        day = _date(fields, message, "as_of_date")
        valid_on = _date(fields, message, "valid_on")
        size = fields.page_size(message.page_size)
        after = fields.page_token(message.page_token, RECORDS)
        asked = f"{kind or ''} {number} {day} {valid_on} {message.include_deleted}"
        if after is not None and after[0] != asked:
            fields.bad("page_token", "must be the next_page_token of an earlier answer to the same call")
    if after is not None:
        number, day = after[1], None
    return Listed(
        kind,
        number,
        day,
        valid_on,
        message.include_deleted,
        size,
        after[2:] if after else None,
        asked,
    )


def list_rules(message: pb.ListRulesRequest) -> tuple[Profile, int, str]:
    """The profile, the size of a page, and the last code of the page before."""
    with checking(message) as fields:
        profile = fields.one_of("profile", message.profile, _PROFILES, Profile.UK)
        size = fields.page_size(message.page_size)
        after = fields.page_token(message.page_token, RULES)
    return profile, size, after[0] if after else ""


def end_of_day_ms(day: date) -> int:
    """The moment at which a day is over in UTC."""
    if day == date.max:
        return checks.MAX_SECONDS * 1_000
    midnight = datetime.combine(day + timedelta(days=1), time(), UTC)
    return int(midnight.timestamp()) * 1_000


def _input(fields: Fields, message: Any) -> None:
    if message.WhichOneof("input") is None:
        fields.bad("input", "must be a transaction or an envelope")


def _options(fields: Fields, path: str, message: pb.JudgeOptions, now_ms: int) -> Options:
    today = _date(fields, message, "today", f"{path}.today")
    for name, given in (("mechanisms", message.mechanisms), ("categories", message.categories)):
        if len(given) > _MAX_OVERRIDES:
            fields.bad(f"{path}.{name}", f"must have at most {_MAX_OVERRIDES} entries")
            fields.refuse()  # looking at all of them would keep everybody waiting
        for number in given:
            if not ORDER_NUMBER.holds(number):
                fields.bad(f"{path}.{name}", f"must be by order number, {ORDER_NUMBER.expected}")
    mechanisms: Mapping[str, int] = {
        number: fields.one_of(f"{path}.mechanisms[{number[:12]}]", given, _MECHANISMS)
        for number, given in message.mechanisms.items()
    }
    categories = {
        number: fields.integer(f"{path}.categories[{number[:12]}]", given, 0, 3)
        for number, given in message.categories.items()
    }
    profile = fields.one_of(f"{path}.profile", message.profile, _PROFILES, Profile.UK)
    now = datetime.fromtimestamp(now_ms / 1000, UTC).date()
    return Options(today or now, profile, mechanisms, categories)


def _commit(fields: Fields, prefix: str, message: Any, now_ms: int) -> CommitWish:
    if message.options.HasField("data"):
        fields.bad(f"{prefix}options.data", "must not be set: what is stored is judged on what is stored")
    options = _options(fields, f"{prefix}options", message.options, now_ms)
    expected = _number(
        fields, message.commit, "expected_data_version", f"{prefix}commit.expected_data_version"
    )
    reason = fields.text(f"{prefix}commit.reason", message.commit.reason, checks.MAX_REASON_CHARS)
    return CommitWish(message.request_id, options, expected, message.commit.allow_preexisting, reason)


def _number(fields: Fields, holder: Any, name: str, path: str = "") -> int | None:
    if not holder.HasField(name):
        return None
    return fields.integer(path or name, getattr(holder, name), 0, 2**63 - 1)


def _date(fields: Fields, holder: Message, name: str, path: str = "") -> date | None:
    if not holder.HasField(name):
        return None
    given: Date = getattr(holder, name)
    day = read_date(given)
    if type(day) is date:
        return day
    fields.bad(path or name, f"must be a date in the calendar, not {day}")
    return None
