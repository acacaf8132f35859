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
    wrong: list[tuple[str, str]] = []
    record = _record(given, wrong, (_KIND, _DELETED))
    if record is None or wrong:
        raise FormError(*wrong[0])
    return record


def read_changes(given: Any) -> tuple[tuple[Change, ...], tuple[Malformed, ...]]:
    """A transaction's changes as far as they can be read, and everything that is malformed in any of them."""
    if not isinstance(given, Sequence) or isinstance(given, str):
        return (), (Malformed(0, "transaction", "must be a list of changes"),)
    changes, malformed = [], []
    for index, each in enumerate(given):
        wrong: list[tuple[str, str]] = []
        change = _change(each, wrong)
        if change is not None:
            changes.append(change)
        malformed += [Malformed(index, field, expected) for field, expected in wrong]
    return tuple(changes), tuple(malformed)


def read_change(given: Any) -> Change:
    """A change. Raises FormError if it, its kind or its fields are unknown."""
    wrong: list[tuple[str, str]] = []
    change = _change(given, wrong)
    if change is None:
        raise FormError(*wrong[0])
    return change


def _change(given: Any, wrong: list[tuple[str, str]]) -> Change | None:
    """A change, or None if it cannot be begun; all that is wrong with it."""
    if not isinstance(given, Mapping):
        wrong.append(("change", 'must be an object with "update_type" and "record"'))
        return None
    name = given.get("update_type")
    update_type = UpdateType.__members__.get(name) if isinstance(name, str) else None
    if update_type is None:
        wrong.append(("update_type", f"must be one of {', '.join(UpdateType.__members__)}"))
    record = _record(given.get("record"), wrong, (_KIND,))
    change = None if update_type is None or record is None or wrong else Change(update_type, record)
    if record is not None:
        wrong += problems(record)
    return change


def _record(given: Any, wrong: list[tuple[str, str]], beside: tuple[str, ...]) -> Record | None:
    """A record, or None if its kind is not known; what is wrong with it beside the values of its fields."""
    if not isinstance(given, Mapping):
        wrong.append(("record", "must be an object"))
        return None
    kind = given.get(_KIND)
    if not isinstance(kind, str) or kind not in KIND_OF:
        wrong.append((_KIND, f"must be one of {', '.join(KIND_OF)}"))
        return None
    forms = FORMS[KIND_OF[kind]]
    wrong += [
        (field, f"is no field of {kind}") for field in given if field not in forms and field not in beside
    ]
    values = {}
    for field, form in forms.items():
        value = given.get(field)
        values[field] = form.default if value is None and form.optional else form.read(value)
    return KIND_OF[kind](**values)


def is_deletion(given: Mapping[str, Any]) -> bool:
    """Whether an entry of base data says that its record was deleted. Raises FormError if it says neither."""
    deleted = given.get(_DELETED)
    if deleted is not None and type(deleted) is not bool:
        raise FormError(_DELETED, "must be true or false")
    return bool(deleted)


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
