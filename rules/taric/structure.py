"""The skeleton of an envelope: which element stands in which, and how much of everything is too much.

It is the target of lxml's parser: no tree is made, and of a record nothing stays but its names and texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from rules.taric.body import ENVELOPE_NAMESPACE, MESSAGE_NAMESPACE
from rules.taric.elements import BODIES
from rules.taric.errors import TaricError, shown

#: The longest description may have 20,000.
MAX_TEXT_CHARACTERS: Final = 64 * 1024
#: Of one record's body; no body has more than 20.
MAX_ELEMENTS: Final = 64
MAX_ATTRIBUTES: Final = 16
MAX_ATTRIBUTE_CHARACTERS: Final = 1000
#: Elements inside one that should hold none, or that nobody reads.
MAX_DEPTH: Final = 16

_MESSAGE: Final = f"{{{MESSAGE_NAMESPACE}}}"
_ENVELOPE: Final = f"{{{ENVELOPE_NAMESPACE}}}"
#: What stands at each depth, from the root on; then come a record's head and body, then the body's elements.
_LEVELS: Final = (
    "",
    f"{_ENVELOPE}envelope",
    f"{_ENVELOPE}transaction",
    f"{_ENVELOPE}app.message",
    f"{_MESSAGE}transmission",
    f"{_MESSAGE}record",
)
_TRANSACTION: Final = 2
_RECORD: Final = 5
_HEAD_OR_BODY: Final = 6
_ELEMENT: Final = 7
#: May stand anywhere between those, and is not read.
_UNREAD: Final = frozenset({f"{_ENVELOPE}header", f"{_ENVELOPE}status"})
_HEAD: Final = {
    f"{_MESSAGE}{name}": name
    for name in ("transaction.id", "record.code", "subrecord.code", "record.sequence.number", "update.type")
}
#: Names by tag, so that each is in memory only once.
_KNOWN: Final = {
    f"{_MESSAGE}{name}": name for body in BODIES.values() for name in (body.element, *body.by_name)
}
_SPACE: Final = " \t\r\n"


@dataclass(slots=True)
class RawRecord:
    """A record as it stood there: not yet known whether there is such a thing."""

    line: int
    head: dict[str, str] = field(default_factory=dict)
    #: Name and line; there should be exactly one.
    bodies: list[tuple[str, int]] = field(default_factory=list)
    elements: list[tuple[str, str]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    #: Line, element, and what was expected.
    wrong: list[tuple[int, str, str]] = field(default_factory=list)


class Taker(Protocol):
    """Takes what an envelope consists of, in its order."""

    def begin_envelope(self, identifier: str) -> None:
        """The root has begun."""

    def take_record(self, raw: RawRecord) -> None:
        """A record has ended."""

    def end_transaction(self, identifier: str, line: int) -> None:
        """A transaction that began on `line` has ended."""


class Skeleton:
    """Follows an envelope's elements; raises TaricError where one cannot stand."""

    def __init__(self, taker: Taker) -> None:
        self.ended = False
        #: The line that is being parsed, kept by the caller: lxml would count to 65,535 only.
        self.line = 1
        #: How many elements began.
        self.begun = 0
        self._taker = taker
        self._depth = 0
        self._unread = 0
        self._raw = RawRecord(0)
        self._transaction = ("", 0)
        #: The element whose text is being read.
        self._name = ""
        self._began = 0
        self._reading = False
        self._parts: list[str] = []
        self._characters = 0

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """An element begins."""
        self.begun += 1
        if attributes:
            self._check_attributes(tag, attributes)
        if self._unread or self._reading:
            self._go_deeper(tag)
            return
        depth = self._depth + 1
        if depth == _ELEMENT:
            self._name = _KNOWN.get(tag) or _name(tag, _MESSAGE)
            self._began = self.line
            self._reading = True
        elif depth == _HEAD_OR_BODY:
            self._begin_head_or_body(tag)
        elif tag != _LEVELS[depth]:
            if depth == 1 or tag not in _UNREAD:
                raise TaricError(self.line, _name(tag), self._expected(depth))
            self._unread = 1
            return
        elif depth == _RECORD:
            self._raw = RawRecord(self.line)
        elif depth == _TRANSACTION:
            self._transaction = (_id(attributes), self.line)
        elif depth == 1:
            self._taker.begin_envelope(_id(attributes))
        self._depth = depth

    def data(self, text: str) -> None:
        """Some of an element's text, or space between elements."""
        if self._unread:
            return
        if self._reading:
            self._characters += len(text)
            if self._characters > MAX_TEXT_CHARACTERS:
                raise TaricError(
                    self.line, self._name, f"must hold at most {MAX_TEXT_CHARACTERS:,} characters"
                )
            self._parts.append(text)
        elif text and not text.isspace():
            place = self._raw.bodies[-1][0] if self._depth == _HEAD_OR_BODY else _name(_LEVELS[self._depth])
            raise TaricError(self.line, place, f"must hold elements only, not {shown(text.strip())!r}")

    def end(self, tag: str) -> None:
        """An element ends."""
        if self._unread:
            self._unread -= 1
            return
        depth = self._depth
        self._depth = depth - 1
        if depth == _ELEMENT:
            self._end_element()
        elif depth == _HEAD_OR_BODY:
            if self._reading:
                self._raw.head[self._name] = self._text()
        elif depth == _RECORD:
            self._taker.take_record(self._raw)
        elif depth == _TRANSACTION:
            self._taker.end_transaction(*self._transaction)
        elif depth == 1:
            self.ended = True

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        """There is a document type: nothing in it is read."""
        raise TaricError(
            self.line, "DOCTYPE", "must not stand there: document types and entities are not allowed"
        )

    def close(self) -> None:
        """Called by lxml at the end, good or bad."""

    def _check_attributes(self, tag: str, attributes: Mapping[str, str]) -> None:
        if len(attributes) > MAX_ATTRIBUTES:
            raise TaricError(self.line, _name(tag), f"must have at most {MAX_ATTRIBUTES} attributes")
        if max(map(len, attributes.values())) > MAX_ATTRIBUTE_CHARACTERS:
            expected = f"must have attributes of at most {MAX_ATTRIBUTE_CHARACTERS:,} characters"
            raise TaricError(self.line, _name(tag), expected)

    def _end_element(self) -> None:
        raw = self._raw
        if len(raw.elements) == MAX_ELEMENTS:
            raise TaricError(self.line, raw.bodies[-1][0], f"must hold at most {MAX_ELEMENTS} elements")
        raw.elements.append((self._name, self._text()))
        raw.lines.append(self._began)

    def _begin_head_or_body(self, tag: str) -> None:
        raw = self._raw
        name = _HEAD.get(tag)
        if name is None:
            if len(raw.bodies) == MAX_ELEMENTS:
                raise TaricError(self.line, "record", "must have one body")
            raw.bodies.append((_name(tag, _MESSAGE), self.line))
            return
        self._name, self._reading = name, True
        if name in raw.head:
            self._note(name, "must stand there only once")

    def _go_deeper(self, tag: str) -> None:
        """Into what is not read, or into an element that should hold text."""
        if self._reading and not self._unread:
            self._note(_name(tag), "must not stand there: only text can")
        self._unread += 1
        if self._unread > MAX_DEPTH:
            raise TaricError(self.line, _name(tag), "is nested too deeply")

    def _note(self, element: str, expected: str) -> None:
        """Something that makes the record useless; it need not be said without end."""
        if len(self._raw.wrong) < MAX_ELEMENTS:
            self._raw.wrong.append((self.line, element, expected))

    def _text(self) -> str:
        """What the element that ends here holds."""
        text = "".join(self._parts)
        self._parts.clear()
        self._reading, self._characters = False, 0
        # Space around a value says nothing; that of a description belongs to it.
        return text if self._name == "description" else text.strip(_SPACE)

    def _expected(self, depth: int) -> str:
        wanted = _LEVELS[depth]
        namespace, _, name = wanted[1:].partition("}")
        if depth == 1:
            return f"the root must be envelope of namespace {namespace}"
        return f"{_name(_LEVELS[depth - 1])} must hold {name} of namespace {namespace}"


def _id(attributes: Mapping[str, str]) -> str:
    # Where it does not resolve entities, libxml2 gives every & of an attribute like this.
    return attributes.get("id", "").replace("&#38;", "&")


def _name(tag: str, *namespaces: str) -> str:
    """An element's name: without its namespace if that is one of these; by default, without either of TARIC3's."""
    for namespace in namespaces or (_MESSAGE, _ENVELOPE):
        if tag.startswith(namespace):
            return shown(tag[len(namespace) :])
    return shown(tag)
