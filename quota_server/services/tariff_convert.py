"""Tariff records as the protos have them. Reading never fails: what is no value of its field is malformed later."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.type.date_pb2 import Date
from google.type.datetime_pb2 import DateTime
from google.type.decimal_pb2 import Decimal as DecimalMessage
from immutables import Map

from quota_server.errors import field_invalid
from quotafleet.v1 import rules_service_pb2 as pb
from quotafleet.v1 import tariff_records_pb2 as records_pb
from rules.forms import FORMS, read_decimal
from rules.json_form import FormError
from rules.malformed import Malformed, problems
from rules.periods import Period
from rules.records import (
    KIND_OF,
    KINDS,
    Change,
    Record,
    RecordRef,
    UpdateType,
)

Reader = Callable[[Any], Any]

#: `go_on` is called once for so many records.
_GO_ON_EVERY: Final = 256

_UPDATE_TYPES: Final = {pb.UpdateType.Value(f"UPDATE_TYPE_{each.name}"): each for each in UpdateType}
_UPDATE_NUMBERS: Final = {each: number for number, each in _UPDATE_TYPES.items()}
KIND_NUMBERS: Final[dict[str, Any]] = {
    kind.kind: records_pb.RecordKind.Value(f"RECORD_KIND_{kind.kind.upper()}") for kind in KINDS
}
KIND_NAMES: Final[dict[int, str]] = {number: name for name, number in KIND_NUMBERS.items()}
#: Enums whose numbers are those of our records plus one, for 0 says that nothing was given.
_SHIFTED: Final = ("quotafleet.v1.AreaCode", "quotafleet.v1.Mechanism")
_RELATIONS: Final = {records_pb.RELATION_TYPE_EQUIVALENT: "EQ", records_pb.RELATION_TYPE_NORMAL: "NM"}
_RELATION_NUMBERS: Final = {text: number for number, text in _RELATIONS.items()}


def _ignore() -> None:
    pass


def record_from_proto(message: records_pb.TariffRecord) -> Record:
    """A record of ours. Raises FormError, of the field `record`, if none is given."""
    kind = message.WhichOneof("record")
    if kind is None:
        raise FormError("record", f"must be one of {', '.join(KIND_OF)}")
    given = getattr(message, kind)
    return KIND_OF[kind](**{field: read(given) for field, read in _READERS[kind].items()})


def record_to_proto(record: Record) -> records_pb.TariffRecord:
    """The message of a well-formed record."""
    message = records_pb.TariffRecord()
    given = getattr(message, record.kind)
    given.SetInParent()
    for field, write in _WRITERS[record.kind].items():
        value = getattr(record, field)
        if value is not None:
            write(given, value)
    return message


def changes_from_proto(
    messages: Iterable[pb.TariffChange], go_on: Callable[[], None] = _ignore
) -> tuple[tuple[Change, ...], tuple[Malformed, ...]]:
    """The changes that can be read, and what is malformed in any; fields are named as `volume` or `record`."""
    changes: list[Change] = []
    wrong: list[Malformed] = []
    for index, message in enumerate(messages):
        if index % _GO_ON_EVERY == 0:
            go_on()
        update_type = _UPDATE_TYPES.get(message.update_type)
        if update_type is None:
            wrong.append(Malformed(index, "update_type", "must be CREATE, UPDATE or DELETE"))
        record = _read(message.record, index, wrong)
        if record is not None:
            changes.append(Change(update_type or UpdateType.UPDATE, record))
    return tuple(changes), tuple(wrong)


def records_from_proto(
    messages: Iterable[records_pb.TariffRecord], go_on: Callable[[], None] = _ignore
) -> tuple[list[Record], list[Malformed]]:
    """The records that can be read, and what is malformed in any."""
    records: list[Record] = []
    wrong: list[Malformed] = []
    for index, message in enumerate(messages):
        if index % _GO_ON_EVERY == 0:
            go_on()
        record = _read(message, index, wrong)
        if record is not None:
            records.append(record)
    return records, wrong


def _read(message: records_pb.TariffRecord, index: int, wrong: list[Malformed]) -> Record | None:
    try:
        record = record_from_proto(message)
    except FormError as error:
        wrong.append(Malformed(index, error.field, error.expected))
        return None
    wrong += [Malformed(index, field, expected) for field, expected in problems(record)]
    return record


def change_to_proto(change: Change) -> pb.TariffChange:
    """The message of a well-formed change."""
    return pb.TariffChange(
        update_type=_UPDATE_NUMBERS[change.update_type], record=record_to_proto(change.record)
    )


# --- keys ------------------------------------------------------------------------------------------------------------


def key_to_proto(ref: RecordRef) -> records_pb.RecordKey:
    """The message that names a record."""
    message = records_pb.RecordKey(kind=KIND_NUMBERS[ref.kind])
    match ref.key:
        case int():
            message.sid = ref.key
        case str():
            message.code = ref.key
        case (str(subrecord), int(definition), datetime() as moment):
            message.event.subrecord_code = subrecord
            message.event.quota_definition_sid = definition
            message.event.occurrence_timestamp.CopyFrom(_datetime_message(moment))
        case (first, second):
            message.pair.first_sid, message.pair.second_sid = first, second  # type: ignore[assignment]
    return message


def key_from_proto(message: records_pb.RecordKey, path: str) -> RecordRef:
    """The record that a message names. Raises FIELD_INVALID."""
    kind = KIND_NAMES.get(message.kind)
    if kind is None:
        raise field_invalid(f"{path}.kind", f"must be one of {', '.join(KIND_NUMBERS)}")
    record = KIND_OF[kind]
    wanted = {1: "code" if record.key_fields == ("code",) else "sid", 2: "pair", 3: "event"}
    field = wanted[len(record.key_fields)]
    if message.WhichOneof("key") != field:
        raise field_invalid(f"{path}.{field}", f"must be given: it is the key of {kind}")
    values: tuple[Any, ...]
    if field == "pair":
        values = message.pair.first_sid, message.pair.second_sid
    elif field == "event":
        event = message.event
        values = event.subrecord_code, event.quota_definition_sid, _read_datetime(event)
    else:
        values = (getattr(message, field),)
    forms = [FORMS[record][name] for name in record.key_fields]
    for form, value in zip(forms, values, strict=True):
        if not form.holds(value):
            raise field_invalid(f"{path}.{field}", f"must be {form.expected}")
    return RecordRef(kind, values[0] if len(values) == 1 else values)


# --- values ----------------------------------------------------------------------------------------------------------


def read_date(message: Date) -> Any:
    """A date, or text that shows what was given."""
    try:
        return date(message.year, message.month, message.day)
    except (ValueError, OverflowError):
        return f"{message.year}-{message.month}-{message.day}"


def date_message(day: date) -> Date:
    """The message of a date."""
    return Date(year=day.year, month=day.month, day=day.day)


def _read_datetime(holder: Any) -> Any:
    if not holder.HasField("occurrence_timestamp"):
        return None
    given: DateTime = holder.occurrence_timestamp
    if given.WhichOneof("time_offset") is not None or given.nanos:
        return "a time with a zone or with fractions"
    try:
        return datetime(given.year, given.month, given.day, given.hours, given.minutes, given.seconds)
    except (ValueError, OverflowError):
        return "no time in the calendar"


def _datetime_message(moment: datetime) -> DateTime:
    return DateTime(
        year=moment.year,
        month=moment.month,
        day=moment.day,
        hours=moment.hour,
        minutes=moment.minute,
        seconds=moment.second,
    )


def _read_period(holder: Any) -> Any:
    if not holder.HasField("valid_between"):
        return None
    given: records_pb.DatePeriod = holder.valid_between
    start = read_date(given.start_date) if given.HasField("start_date") else None
    end = read_date(given.end_date) if given.HasField("end_date") else None
    if type(start) is date and (end is None or type(end) is date):
        return Period(start, end)
    return start, end


def _write_period(holder: Any, period: Period) -> None:
    holder.valid_between.start_date.CopyFrom(date_message(period.start))
    if period.end is not None:
        holder.valid_between.end_date.CopyFrom(date_message(period.end))


def _reader(kind: type[Record], field: FieldDescriptor) -> Reader:
    """How a field of a kind's message is read."""
    name, form = field.name, FORMS[kind][field.name]
    target = field.message_type.full_name if field.message_type else ""
    if target == "quotafleet.v1.DatePeriod":
        return _read_period
    if target == "google.type.DateTime":
        return _read_datetime
    if target == "google.type.Date":
        return lambda holder: read_date(getattr(holder, name)) if holder.HasField(name) else None
    if target == "google.type.Decimal":
        return lambda holder: (
            read_decimal(getattr(holder, name).value) if holder.HasField(name) else form.default
        )
    if target:  # the only other message is the entry of a map
        return lambda holder: Map(dict(getattr(holder, name)))
    if field.enum_type is not None:
        if field.enum_type.full_name in _SHIFTED:
            return lambda holder: getattr(holder, name) - 1
        return lambda holder: _RELATIONS.get(getattr(holder, name), "")
    if field.is_repeated:
        return lambda holder: tuple(getattr(holder, name))
    if field.has_presence:
        return lambda holder: getattr(holder, name) if holder.HasField(name) else None
    return lambda holder: getattr(holder, name)


def _writer(field: FieldDescriptor) -> Callable[[Any, Any], None]:
    """How a field of a kind's message is written."""
    name = field.name
    target = field.message_type.full_name if field.message_type else ""
    if target == "quotafleet.v1.DatePeriod":
        return _write_period

    def copy(convert: Callable[[Any], Message]) -> Callable[[Any, Any], None]:
        return lambda holder, value: getattr(holder, name).CopyFrom(convert(value))

    if target == "google.type.DateTime":
        return copy(_datetime_message)
    if target == "google.type.Date":
        return copy(date_message)
    if target == "google.type.Decimal":
        return copy(lambda value: DecimalMessage(value=_decimal_text(value)))
    if target:
        return lambda holder, value: getattr(holder, name).update(value)
    if field.enum_type is not None:
        numbers: Callable[[Any], int] = (
            (lambda value: int(value) + 1)
            if field.enum_type.full_name in _SHIFTED
            else lambda value: _RELATION_NUMBERS[value]
        )
        return lambda holder, value: setattr(holder, name, numbers(value))
    if field.is_repeated:
        return lambda holder, value: getattr(holder, name).extend(value)
    return lambda holder, value: setattr(holder, name, value)


def _decimal_text(value: Decimal) -> str:
    return f"{value:f}"


def _fields(kind: type[Record]) -> list[FieldDescriptor]:
    record = records_pb.TariffRecord.DESCRIPTOR.fields_by_name[kind.kind].message_type
    assert record is not None
    assert {field.name for field in record.fields} == set(FORMS[kind]), kind.kind
    return list(record.fields)


_READERS: Final[Mapping[str, Mapping[str, Reader]]] = {
    kind.kind: {field.name: _reader(kind, field) for field in _fields(kind)} for kind in KINDS
}
_WRITERS: Final[Mapping[str, Mapping[str, Callable[[Any, Any], None]]]] = {
    kind.kind: {field.name: _writer(field) for field in _fields(kind)} for kind in KINDS
}
