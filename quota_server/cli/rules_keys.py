"""Kinds and keys of tariff records as people write them: `quota_definition 20153`, `quota_association 12/13`."""

from __future__ import annotations

import difflib
import re
from typing import Final, NoReturn

import typer
from google.type.datetime_pb2 import DateTime

from quota_server.cli import times
from quota_server.cli.output import enum_name
from quotafleet.v1 import tariff_records_pb2 as pb

#: Kinds by name, as JSON has them.
KINDS: Final = {
    name.removeprefix("RECORD_KIND_").lower(): number for name, number in pb.RecordKind.items() if number
}
_CODES: Final = (
    pb.RECORD_KIND_MEASUREMENT_UNIT,
    pb.RECORD_KIND_MEASUREMENT_UNIT_QUALIFIER,
    pb.RECORD_KIND_MONETARY_UNIT,
)
_PAIRS: Final = {
    pb.RECORD_KIND_GEOGRAPHICAL_MEMBERSHIP: "GROUP/MEMBER",
    pb.RECORD_KIND_QUOTA_ORDER_NUMBER_ORIGIN_EXCLUSION: "ORIGIN/EXCLUDED_AREA",
    pb.RECORD_KIND_QUOTA_ASSOCIATION: "MAIN/SUB",
}
_MAX_SID: Final = 2**63 - 1

_sid: Final = re.compile(r"[0-9]{1,19}").fullmatch
_moment: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[T ]([0-9]{2}):([0-9]{2}):([0-9]{2})Z?", re.IGNORECASE
).fullmatch


def kind(text: str, name: str) -> pb.RecordKind.ValueType:
    """A kind by its name, with `_` or `-`."""
    found = text.lower().replace("-", "_")
    if found in KINDS:
        return KINDS[found]
    close = difflib.get_close_matches(found, KINDS, n=3)
    meant = f"did you mean {' or '.join(close)}?" if close else f"one of {', '.join(KINDS)}"
    raise typer.BadParameter(f"{text!r} is no kind of record: {meant}", param_hint=name)


def kind_name(number: int) -> str:
    """A kind as JSON has it."""
    return enum_name(pb.RecordKind.DESCRIPTOR, number).replace("-", "_")


def key(number: pb.RecordKind.ValueType, text: str) -> pb.RecordKey:
    """A key as its kind has it."""
    if number in _CODES:
        return pb.RecordKey(kind=number, code=text)
    if number == pb.RECORD_KIND_QUOTA_EVENT:
        return pb.RecordKey(kind=number, event=_event(text))
    if number in _PAIRS:
        parts = text.split("/")
        if len(parts) != 2:
            _refuse(text, number, _PAIRS[number])
        first, second = (_number(part, text, number, _PAIRS[number]) for part in parts)
        return pb.RecordKey(kind=number, pair=pb.SidPair(first_sid=first, second_sid=second))
    return pb.RecordKey(kind=number, sid=_number(text, text, number, "a sid"))


def _number(part: str, text: str, kind_: int, form: str) -> int:
    if not _sid(part) or int(part) > _MAX_SID:
        _refuse(text, kind_, form)
    return int(part)


def _event(text: str) -> pb.EventKey:
    form = "CODE/DEFINITION/TIME, as in 00/20153/2026-01-31T10:00:00"
    code, _, rest = text.partition("/")
    definition, _, moment = rest.partition("/")
    parts = _moment(moment)
    if parts is None:
        _refuse(text, pb.RECORD_KIND_QUOTA_EVENT, form)
    day = times.day(parts[1], "KEY")
    return pb.EventKey(
        subrecord_code=code,
        quota_definition_sid=_number(definition, text, pb.RECORD_KIND_QUOTA_EVENT, form),
        occurrence_timestamp=DateTime(
            year=day.year,
            month=day.month,
            day=day.day,
            hours=int(parts[2]),
            minutes=int(parts[3]),
            seconds=int(parts[4]),
        ),
    )


def _refuse(text: str, kind_: int, form: str) -> NoReturn:
    raise typer.BadParameter(f"{text!r} is no key of {kind_name(kind_)}: write {form}", param_hint="KEY")


def shown(given: pb.RecordKey) -> str:
    """Kind and key in words that `quotactl rules show` takes."""
    return f"{kind_name(given.kind)} {shown_key(given)}"


def shown_key(given: pb.RecordKey) -> str:
    """The key alone."""
    match given.WhichOneof("key"):
        case "sid":
            return str(given.sid)
        case "code":
            return given.code
        case "pair":
            return f"{given.pair.first_sid}/{given.pair.second_sid}"
        case "event":
            event = given.event
            moment = shown_moment(event.occurrence_timestamp)
            return f"{event.subrecord_code}/{event.quota_definition_sid}/{moment}"
        case _:
            return "-"


def shown_moment(moment: DateTime) -> str:
    """A time without zone."""
    day = f"{moment.year:04}-{moment.month:02}-{moment.day:02}"
    return f"{day}T{moment.hours:02}:{moment.minutes:02}:{moment.seconds:02}"
