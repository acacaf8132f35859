"""Protobuf: fields of a message, however deep, are set, cleared, repeated and copied."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from tests.fuzz.mutate import text

_INTEGERS: Final = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
#: How often an item is repeated, the last ones to pass the bounds on lists.
_TIMES: Final = (1, 1, 1, 1, 2, 70, 1_001)


def messages(root: Message) -> Iterator[Message]:
    """The message and all that are set within it."""
    yield root
    for field, value in root.ListFields():
        if field.type != FieldDescriptor.TYPE_MESSAGE or _is_map(field):
            continue
        for each in value if field.is_repeated else (value,):
            yield from messages(each)


def mutate(data: bytes, kind: type[Message], random: Random, words: Sequence[Any]) -> bytes:
    """An encoded message after a few changes; `words` are values that lead further in."""
    message = kind()
    try:
        message.ParseFromString(data)
    except DecodeError:
        message.Clear()
    for _ in range(random.choice((1, 1, 2, 4, 8))):
        change(message, random, words)
    return message.SerializeToString(deterministic=True)


def change(root: Message, random: Random, words: Sequence[Any]) -> None:
    """One change somewhere in it."""
    holder = random.choice(list(messages(root)))
    if not holder.DESCRIPTOR.fields:
        return
    field: Any = random.choice(holder.DESCRIPTOR.fields)
    if random.randrange(8) == 0:
        holder.ClearField(field.name)
    elif _is_map(field):
        _change_map(getattr(holder, field.name), field, random, words)
    elif field.is_repeated:
        _change_list(getattr(holder, field.name), field, random, words)
    elif field.type == FieldDescriptor.TYPE_MESSAGE:
        _set_message(holder, field, root, random, words)
    else:
        setattr(holder, field.name, _scalar(field, getattr(holder, field.name), random, words))


def _set_message(holder: Message, field: Any, root: Message, random: Random, words: Sequence[Any]) -> None:
    inner: Message = getattr(holder, field.name)
    like = [each for each in messages(root) if each.DESCRIPTOR is inner.DESCRIPTOR and each is not inner]
    if like and random.random() < 0.3:
        inner.CopyFrom(random.choice(like))
        return
    inner.SetInParent()
    for _ in range(random.randint(0, 3)):
        change(inner, random, words)


def _change_list(items: Any, field: Any, random: Random, words: Sequence[Any]) -> None:
    kind = random.randrange(5)
    is_message = field.type == FieldDescriptor.TYPE_MESSAGE
    if len(items) and kind == 0:
        del items[random.randrange(len(items))]
    elif len(items) and kind == 1:
        item = random.choice(items)
        times = random.choice(_TIMES)
        items.extend([item] * (times if len(items) < 2_000 else 1))
    elif len(items) and kind == 2 and not is_message:
        at = random.randrange(len(items))
        items[at] = _scalar(field, items[at], random, words)
    elif is_message:
        new = items.add()
        for _ in range(random.randint(0, 6)):
            change(new, random, words)
    else:
        items.append(_scalar(field, field.default_value or 0, random, words))


def _change_map(entries: Any, field: Any, random: Random, words: Sequence[Any]) -> None:
    """A map of scalars: the protos have no others."""
    key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
    for _ in range(random.choice((1, 1, 2, 17))):
        entries[_scalar(key, key.default_value, random, words)] = _scalar(
            value, value.default_value, random, words
        )


def _scalar(field: Any, value: Any, random: Random, words: Sequence[Any]) -> Any:
    kind = field.cpp_type
    if kind in _INTEGERS:
        least, most = _INTEGERS[kind]
        given = [each for each in words if type(each) is int]
        new = random.choice(given) if given and random.random() < 0.3 else text.number(random, value)
        return max(least, min(most, new))
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        known = [each.number for each in field.enum_type.values]
        return random.choice([*known, *known, *known, max(known) + 1, -1])
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return not value
    if kind in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
        return random.choice((0.0, -1.0, float("nan"), float("inf"), 1e300))
    if field.type == FieldDescriptor.TYPE_BYTES:
        marks = [each for each in words if isinstance(each, bytes)]
        return random.choice([*marks, b"", random.randbytes(8), value[:-1], value + b"\0", b"m" * 1_025])
    return _word(value or "", random, words)


def _word(value: str, random: Random, words: Sequence[Any]) -> str:
    given = [each for each in words if isinstance(each, str)]
    if given and random.random() < 0.6:
        return random.choice(given)
    return text.change(value, random).encode(errors="replace").decode()


def _is_map(field: Any) -> bool:
    return bool(field.message_type and field.message_type.GetOptions().map_entry)
