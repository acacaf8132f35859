"""Changes and records in JSON files, as the protos have them.

What is malformed is for the controller to say. What a message cannot even carry (a text for a sid, a float for a
volume, an unknown field) is said here, in the same words.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from quota_server.cli.rules_files import Form, InputError, Source
from quota_server.services.tariff_convert import record_from_proto, record_to_proto
from quotafleet.v1 import rules_service_pb2 as pb
from quotafleet.v1 import tariff_records_pb2 as records_pb
from rules.json_form import FormError, is_deletion, read_changes, read_record
from rules.malformed import problems
from rules.records import Key, Record

#: A message brings 4 MiB, and JSON is longer.
_MAX_BYTES: Final = 32 * 1024 * 1024
_MAX_ENVELOPE: Final = 4 * 1024 * 1024
_TOO_LARGE: Final = "write large transactions as a TARIC3 envelope"
#: What cases hold beside the transaction, and what says the same here.
_CASE_FIELDS: Final = {"base": "--against", "today": "--today"}
_CASE_HINT: Final = (
    "the day goes to --today, data to --against (of `validate` only), which takes the same file"
)
_IGNORED: Final = frozenset({"id", "transaction", "violations", "malformed"})


@dataclass(frozen=True, slots=True)
class Typed:
    """A transaction out of a JSON file; not to be sent if anything is malformed."""

    name: str
    transaction: pb.TariffTransaction
    malformed: Sequence[pb.MalformedField] = ()


def read_transaction(source: Source, said: Sequence[str] = ()) -> Typed:
    """A transaction; `said` are the options that were given. Raises InputError."""
    given = _load(source)
    if isinstance(given, Mapping):
        _check_fields(source.name, given, said)
        given = given.get("transaction")
    changes, wrong = read_changes(given)
    found = [
        pb.MalformedField(change=each.index, field=_sendable(each.field), expected=each.expected)
        for each in wrong
    ]
    transaction = pb.TariffTransaction()
    if not isinstance(given, Sequence) or isinstance(given, str) or len(changes) < len(given):
        return Typed(source.name, transaction, found)
    unsendable = []
    for index, change in enumerate(changes):
        message = _as_message(change.record)
        if message is None:
            unsendable.append(index)
            continue
        update_type = pb.UpdateType.Value(f"UPDATE_TYPE_{change.update_type.name}")
        transaction.changes.add(update_type=update_type, record=message)
    if not unsendable:
        return Typed(source.name, transaction)
    known = {each.change for each in found}
    found += [
        pb.MalformedField(change=index, field="record", expected="must be text that UTF-8 can hold")
        for index in unsendable
        if index not in known
    ]
    return Typed(source.name, transaction, found)


def read_data(source: Source) -> pb.SentData:
    """Data to judge against: an envelope, a list of records, or the base of a case. Raises InputError."""
    if source.form is Form.XML:
        hint = "commit it to a controller with a data folder of its own, and judge on that"
        return pb.SentData(envelope=source.whole(_MAX_ENVELOPE, hint))
    given = _load(source)
    if isinstance(given, Mapping):
        given = given.get("base")
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise InputError(source.name, "must be a list of records", "or an object with such a list as `base`")
    live: dict[tuple[str, Key], records_pb.TariffRecord] = {}
    for name, message, deleted in _records(source.name, given):
        live.pop(name, None)
        if not deleted:
            live[name] = message
    return pb.SentData(records=live.values())


def _records(
    name: str, given: Sequence[Any]
) -> Iterator[tuple[tuple[str, Key], records_pb.TariffRecord, bool]]:
    for index, each in enumerate(given):
        try:
            record, deleted = read_record(each), is_deletion(each)
        except FormError as error:
            raise InputError(name, f"record {index}: {_sendable(str(error))}") from error
        message = _as_message(record)
        if message is None:
            wrong = "; ".join(f"{field}: {expected}" for field, expected in problems(record))
            raise InputError(name, f"record {index}: {wrong or 'must be text that UTF-8 can hold'}")
        yield (record.kind, record.key), message, deleted


def _as_message(record: Record) -> records_pb.TariffRecord | None:
    """The record, or None if the message would not say the same, or not the same would be wrong with it."""
    try:
        message = record_to_proto(record)
        carried = [field for field, _ in problems(record_from_proto(message))]
    except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError):
        return None
    return message if carried == [field for field, _ in problems(record)] else None


def _sendable(text: str) -> str:
    """A text of a file, escaped where it holds half a character: JSON can say that, UTF-8 cannot."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _load(source: Source) -> Any:
    text = source.whole(_MAX_BYTES, _TOO_LARGE)
    try:
        return json.loads(text.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise InputError(f"{source.name}:{error.lineno}", f"is not JSON: {error.msg}") from error
    except RecursionError as error:
        raise InputError(source.name, "is nested too deeply") from error
    except ValueError as error:  # bad UTF-8, or a number of thousands of digits
        raise InputError(source.name, f"is not JSON: {error}") from error


def _check_fields(name: str, given: Mapping[str, Any], said: Sequence[str]) -> None:
    """Nothing in a file is passed over that would change the verdict."""
    for field in given:
        option = _CASE_FIELDS.get(field)
        if option is None and field not in _IGNORED:
            raise InputError(name, f"{field!r} is not known", 'an object holds its changes in "transaction"')
        if option is not None and option not in said:
            raise InputError(name, f"{field!r} is not read from there", _CASE_HINT)
