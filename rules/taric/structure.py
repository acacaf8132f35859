"""The skeleton of an envelope: which element stands in which, and how much of everything is too much.

It takes what the parser reports: no tree is made, and of a record nothing stays but its names and texts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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

#: As the parser writes names: namespace, brace, name.
_MESSAGE: Final = f"{MESSAGE_NAMESPACE}}}"
_ENVELOPE: Final = f"{ENVELOPE_NAMESPACE}}}"
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
_KNOWN: Final = _HEAD | {
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
        #: How many elements began.
        self.begun = 0
        #: The line on which the envelope ended; 0 until then.
        self.ended_on = 0
        #: The text since the last tag, in parts; the parser adds to it.
        self.texts: list[str] = []
        self._line: Callable[[], int] = int
        self._taker = taker
        self._depth = 0
        self._unread = 0
        self._raw = RawRecord(0)
        self._transaction = ("", 0)
        #: The element whose text is being read.
        self._name = ""
        self._began = 0
        self._reading = False

    def locate(self, line: Callable[[], int]) -> None:
        """Says how to find out the line of the tag that is being reported."""
        self._line = line

    @property
    def where(self) -> str:
        """The innermost element that is open and read."""
        if self._reading:
            return _name(self._name)
        if self._depth == _HEAD_OR_BODY:
            return self._raw.bodies[-1][0]
        return _name(_LEVELS[self._depth]) or "XML"

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """An element begins."""
        self.begun += 1
        if attributes:
            self._check_attributes(tag, attributes)
        if self._unread or self._reading:
            self._go_deeper(tag)
            return
        texts = self.texts
        if texts and not (len(texts) == 1 and texts[0].isspace()):
            self._refuse_text()
        texts.clear()
        depth = self._depth + 1
        if depth == _ELEMENT or (depth == _HEAD_OR_BODY and tag in _HEAD):
            self._name, self._began, self._reading = tag, self._line(), True
        elif depth == _HEAD_OR_BODY:
            self._begin_body(tag)
        elif tag != _LEVELS[depth]:
            if depth == 1 or tag not in _UNREAD:
                raise TaricError(self._line(), _name(tag), self._expected(depth))
            self._unread = 1
            return
        elif depth == _RECORD:
            self._raw = RawRecord(self._line())
        elif depth == _TRANSACTION:
            self._transaction = (attributes.get("id", ""), self._line())
        elif depth == 1:
            self._taker.begin_envelope(attributes.get("id", ""))
        self._depth = depth

    def end(self, tag: str) -> None:
        """An element ends."""
        if self._unread:
            self._unread -= 1
            self.texts.clear()
            return
        depth = self._depth
        if self._reading:
            self._end_text(depth)
        elif self.texts:
            self._refuse_text()
        self.texts.clear()
        self._depth = depth - 1
        if depth == _RECORD:
            self._taker.take_record(self._raw)
        elif depth == _TRANSACTION:
            self._taker.end_transaction(*self._transaction)
        elif depth == 1:
            self.ended_on = self._line()

    def check_text(self) -> None:
        """Raises TaricError if a text that has not ended yet is too long; what nobody reads is let go."""
        if self._unread:
            self.texts.clear()
        elif self._reading and sum(map(len, self.texts)) > MAX_TEXT_CHARACTERS:
            raise self._too_long()

    def _check_attributes(self, tag: str, attributes: Mapping[str, str]) -> None:
        if len(attributes) > MAX_ATTRIBUTES:
            raise TaricError(self._line(), _name(tag), f"must have at most {MAX_ATTRIBUTES} attributes")
        if max(map(len, attributes.values())) > MAX_ATTRIBUTE_CHARACTERS:
            expected = f"must have attributes of at most {MAX_ATTRIBUTE_CHARACTERS:,} characters"
            raise TaricError(self._line(), _name(tag), expected)

    def _end_text(self, depth: int) -> None:
        """An element that holds a text ends."""
        texts, raw = self.texts, self._raw
        text = texts[0] if len(texts) == 1 else "".join(texts)
        if len(text) > MAX_TEXT_CHARACTERS:
            raise self._too_long()
        name = _KNOWN.get(self._name) or _name(self._name, _MESSAGE)
        # Space around a value says nothing; that of a description belongs to it.
        text = text if name == "description" else text.strip(_SPACE)
        if depth == _ELEMENT:
            if len(raw.elements) == MAX_ELEMENTS:
                raise TaricError(
                    self._line(), raw.bodies[-1][0], f"must hold at most {MAX_ELEMENTS} elements"
                )
            raw.elements.append((name, text))
            raw.lines.append(self._began)
        else:
            if name in raw.head:
                self._note(name, "must stand there only once")
            raw.head[name] = text
        self._reading = False

    def _refuse_text(self) -> None:
        """Between elements there can be nothing but space."""
        text = "".join(self.texts).lstrip()
        if text:
            expected = f"must hold elements only, not {shown(text.rstrip())!r}"
            raise TaricError(self._line() - text.count("\n"), self.where, expected)

    def _too_long(self) -> TaricError:
        return TaricError(self._line(), self.where, f"must hold at most {MAX_TEXT_CHARACTERS:,} characters")

    def _begin_body(self, tag: str) -> None:
        bodies = self._raw.bodies
        if len(bodies) == MAX_ELEMENTS:
            raise TaricError(self._line(), "record", "must have one body")
        bodies.append((_KNOWN.get(tag) or _name(tag, _MESSAGE), self._line()))

    def _go_deeper(self, tag: str) -> None:
        """Into what is not read, or into an element that should hold text."""
        if self._reading and not self._unread:
            self._note(_name(tag), "must not stand there: only text can")
        self._unread += 1
        if self._unread > MAX_DEPTH:
            raise TaricError(self._line(), _name(tag), "is nested too deeply")

    def _note(self, element: str, expected: str) -> None:
        """Something that makes the record useless; it need not be said without end."""
        if len(self._raw.wrong) < MAX_ELEMENTS:
            self._raw.wrong.append((self._line(), element, expected))

    def _expected(self, depth: int) -> str:
        wanted = _LEVELS[depth]
        namespace, _, name = wanted.partition("}")
        if depth == 1:
            return f"the root must be envelope of namespace {namespace}"
        return f"{_name(_LEVELS[depth - 1])} must hold {name} of namespace {namespace}"


def _name(tag: str, *namespaces: str) -> str:
    """An element's name: without its namespace if that is one of these; by default, without either of TARIC3's."""
    for namespace in namespaces or (_MESSAGE, _ENVELOPE):
        if tag.startswith(namespace):
            return shown(tag[len(namespace) :])
    return shown("{" + tag if "}" in tag else tag)
