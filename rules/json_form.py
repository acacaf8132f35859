"""Records and changes as JSON has them: the form of the cases, of the store, and of `--json`.

Dates are ISO, periods `{"start", "end"|null}`, decimals text. What cannot be read is kept and reported as malformed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from rules.forms import FORMS
from rules.malformed import Malformed, problems
from rules.records import KIND_OF, Change, Record, RecordRef, UpdateType

#: Beside a record's own fields.
_KIND: Final = "kind"
_DELETED: Final = "deleted"


class FormError(ValueError):
    """A record cannot even be begun: `field` is what is wrong with it, `expected` what should stand there."""

    def __init__(self, field: str, expected: str) -> None:
        super().__init__(f"{field}: {expected}")
        self.field = field
        self.expected = expected


def read_record(given: Any) -> Record:
    """A record, its fields as far as they can be read. Raises FormError if its kind or its fields are unknown."""
    if not isinstance(given, Mapping):
        raise FormError("record", "must be an object")
    kind = given.get(_KIND)
    if not isinstance(kind, str) or kind not in KIND_OF:
        raise FormError(_KIND, f"must be one of {', '.join(KIND_OF)}")
    forms = FORMS[KIND_OF[kind]]
    for field in given:
        if field not in forms and field not in (_KIND, _DELETED):
            raise FormError(field, f"is no field of {kind}")
    values = {}
    for field, form in forms.items():
        value = given.get(field)
        values[field] = form.default if value is None and form.optional else form.read(value)
    return KIND_OF[kind](**values)


def read_changes(given: Any) -> tuple[tuple[Change, ...], tuple[Malformed, ...]]:
    """A transaction's changes as far as they can be read, and everything that is malformed in any of them."""
    if not isinstance(given, Sequence) or isinstance(given, str):
        return (), (Malformed(0, "transaction", "must be a list of changes"),)
    changes, wrong = [], []
    for index, each in enumerate(given):
        try:
            change = read_change(each)
        except FormError as error:
            wrong.append(Malformed(index, error.field, error.expected))
        else:
            changes.append(change)
            wrong += [Malformed(index, field, expected) for field, expected in problems(change.record)]
    return tuple(changes), tuple(wrong)


def read_change(given: Any) -> Change:
    """A change. Raises FormError."""
    if not isinstance(given, Mapping):
        raise FormError("change", 'must be an object with "update_type" and "record"')
    name = given.get("update_type")
    if not isinstance(name, str) or name not in UpdateType.__members__:
        raise FormError("update_type", f"must be one of {', '.join(UpdateType.__members__)}")
    return Change(UpdateType[name], read_record(given.get("record")))


def is_deletion(given: Mapping[str, Any]) -> bool:
    """Whether an entry of base data says that its record was deleted."""
    return bool(given.get(_DELETED, False))


def write_record(record: Record) -> dict[str, Any]:
    """A well-formed record as JSON, its kind first."""
    written = {field: form.write(getattr(record, field)) for field, form in FORMS[type(record)].items()}
    return {_KIND: record.kind, **written}


def write_change(change: Change) -> dict[str, Any]:
    """A change as JSON."""
    return {"update_type": change.update_type.value, "record": write_record(change.record)}


def write_key(ref: RecordRef) -> dict[str, int | str]:
    """A record's key by field."""
    return {
        field: part.isoformat() if isinstance(part, datetime) else part
        for field, part in ref.fields().items()
    }
