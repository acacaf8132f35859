"""Reads TARIC3 envelopes as they stream in: transaction by transaction, in memory that does not grow with the file.

Namespaces are matched by their URIs, children in any order. A byte order mark, other encodings that XML declares, and
repeated ids are accepted. Document types, entities, deep nesting and huge elements are not.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Final

from lxml import etree

from rules.records import UpdateType
from rules.taric.elements import BODIES, Body
from rules.taric.errors import Problem, TaricError
from rules.taric.taric_record import Element, TaricRecord, TaricTransaction

ENVELOPE: Final = "{urn:publicid:-:DGTAXUD:GENERAL:ENVELOPE:1.0}"
MESSAGE: Final = "{urn:publicid:-:DGTAXUD:TARIC:MESSAGE:1.0}"
UPDATE_TYPES: Final = {"1": UpdateType.UPDATE, "2": UpdateType.DELETE, "3": UpdateType.CREATE}

#: So much input without a record that ends is no TARIC3: a record takes about 1 KiB, its texts at most 80 KiB.
MAX_RECORD_BYTES: Final = 1024 * 1024
#: Of one transaction; the largest that is known has 1,220.
MAX_RECORDS: Final = 1_000_000
_PIECE_BYTES: Final = 64 * 1024
_MAX_SHOWN: Final = 60

_code: Final = re.compile(r"[0-9]{3}").fullmatch
_subcode: Final = re.compile(r"[0-9]{2}").fullmatch
_ancestors: Final = (f"{MESSAGE}transmission", f"{ENVELOPE}app.message", f"{ENVELOPE}transaction")
_HEAD: Final = frozenset(
    f"{MESSAGE}{name}"
    for name in ("transaction.id", "record.code", "subrecord.code", "record.sequence.number", "update.type")
)


class EnvelopeReader:
    """Takes an envelope in pieces and gives transactions back, each as soon as it has ended.

    `feed` and `close` raise TaricError if this is no envelope; then the reader is of no more use.
    """

    def __init__(self, max_records: int = MAX_RECORDS) -> None:
        self.envelope_id = ""
        #: Records by code: of kinds that `rules.taric.elements` knows, and others.
        self.read: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self._max_records = max_records
        self._sniffed = b""
        self._parser: etree.XMLPullParser | None = None
        self._unrecorded_bytes = 0
        self._records: list[TaricRecord] = []
        self._problems: list[Problem] = []
        self._ended = False
        #: Of the last record.
        self._line = 1

    def feed(self, chunk: bytes) -> list[TaricTransaction]:
        """The transactions that end in this chunk, which may be of any size."""
        found: list[TaricTransaction] = []
        view = memoryview(chunk)
        for begin in range(0, len(view), _PIECE_BYTES):
            self._feed_piece(bytes(view[begin : begin + _PIECE_BYTES]), found)
        return found

    def close(self) -> None:
        """Says that there is no more. Raises TaricError if the envelope is not complete."""
        if self._parser is None:
            if not self._sniffed.strip():
                raise TaricError(1, "envelope", "the input is empty")
            self._begin(at_the_end=True)
        try:
            assert self._parser is not None
            self._parser.close()
        except etree.XMLSyntaxError as error:
            raise _syntax_error(error, "the input ends before the envelope does") from None
        if not self._ended:
            raise TaricError(1, "envelope", "the input ends before the envelope does")

    def _feed_piece(self, piece: bytes, found: list[TaricTransaction]) -> None:
        if self._parser is None:
            self._sniffed += piece
            if not self._begin():
                return
            piece, self._sniffed = self._sniffed, b""
        assert self._parser is not None
        self._unrecorded_bytes += len(piece)
        try:
            self._parser.feed(piece)
            for _, element in self._parser.read_events():
                self._take(element, found)
        except etree.XMLSyntaxError as error:
            raise _syntax_error(error) from None
        if self._unrecorded_bytes > MAX_RECORD_BYTES:
            raise TaricError(
                self._line,
                "record",
                f"no record ends within the next {MAX_RECORD_BYTES:,} bytes: an element is too large",
            )

    def _begin(self, *, at_the_end: bool = False) -> bool:
        """Looks at the root before anything is kept; whether it is there yet."""
        sniffer = etree.XMLPullParser(events=("start",), **_OPTIONS)
        try:
            sniffer.feed(self._sniffed)
            root: Any = next((element for _, element in sniffer.read_events()), None)
        except etree.XMLSyntaxError as error:
            raise _syntax_error(error) from None
        if root is None:
            if at_the_end or len(self._sniffed) > _PIECE_BYTES:
                raise TaricError(1, "envelope", "the input is no TARIC3 envelope: no element begins")
            return False
        if root.getroottree().docinfo.internalDTD is not None:
            raise TaricError(1, "DOCTYPE", "document types and entities are not allowed")
        if root.tag != f"{ENVELOPE}envelope":
            raise TaricError(
                _line(root), _shown(root.tag), f"the root must be envelope of namespace {ENVELOPE[1:-1]}"
            )
        self.envelope_id = root.get("id", "")
        names = (f"{MESSAGE}record", *_ancestors[1:], f"{ENVELOPE}envelope")
        self._parser = etree.XMLPullParser(events=("end",), tag=names, **_OPTIONS)
        return True

    def _take(self, element: Any, found: list[TaricTransaction]) -> None:
        """An element that has ended: its content is taken and let go."""
        if element.tag == f"{MESSAGE}record":
            self._unrecorded_bytes = 0
            self._take_record(element)
        elif element.tag == f"{ENVELOPE}transaction":
            identifier = element.get("id", "")
            records, problems = tuple(self._records), tuple(self._problems)
            found.append(TaricTransaction(identifier, records, problems, _line(element)))
            self._records, self._problems = [], []
        elif element.tag == f"{ENVELOPE}envelope":
            self._ended = True
            return
        element.clear()
        parent = element.getparent()
        while element.getprevious() is not None:
            del parent[0]

    def _take_record(self, element: Any) -> None:
        self._line = line = _line(element)
        parent = element
        for expected in _ancestors:
            parent = parent.getparent()
            if parent is None or parent.tag != expected:
                raise TaricError(line, "record", f"must stand in {' in '.join(map(_shown, _ancestors))}")
        head = {child.tag[len(MESSAGE) :]: _text(child) for child in element if child.tag in _HEAD}
        number, subnumber = head.get("record.code", ""), head.get("subrecord.code", "")
        if not _code(number) or not _subcode(subnumber):
            self._report(
                line, "record.code", f"must be three digits and two, not {_quoted(number, subnumber)}"
            )
            return
        code = f"{number} {subnumber}"
        body = BODIES.get(code)
        if body is None:
            self.skipped[code] += 1
            return
        self.read[code] += 1
        if len(self._records) + len(self._problems) >= self._max_records:
            raise TaricError(line, "transaction", f"must have at most {self._max_records:,} records")
        update_type = UPDATE_TYPES.get(head.get("update.type", ""))
        if update_type is None:
            self._report(
                line,
                "update.type",
                f"must be 1 (update), 2 (delete) or 3 (create), not {_quoted(head.get('update.type', ''))}",
            )
            return
        elements = self._elements_of(element, body, line)
        if elements is not None:
            ids = head.get("transaction.id", ""), head.get("record.sequence.number", "")
            self._records.append(TaricRecord(code, update_type, elements, *ids, line))

    def _elements_of(self, record: Any, body: Body, line: int) -> tuple[Element, ...] | None:
        """The elements of a record's body, or None if it has not the one body that its code asks for."""
        bodies = [child for child in record if child.tag not in _HEAD]
        if [each.tag for each in bodies] != [MESSAGE + body.element]:
            names = ", ".join(_shown(each.tag) for each in bodies[:3]) or "nothing"
            self._report(line, body.element, f"must be the one body of record {body.code}, not {names}")
            return None
        elements, seen = [], set()
        for child in bodies[0]:
            name = _shown(child.tag)
            if not child.tag.startswith(MESSAGE) or len(child) or name in seen:
                self._report(_line(child), name, f"must be one element of {body.element}, with text only")
                return None
            seen.add(name)
            elements.append(Element(name, _text(child), _line(child)))
        return tuple(elements)

    def _report(self, line: int, element: str, expected: str) -> None:
        index = len(self._records) + len(self._problems)
        self._problems.append(Problem(index, line, element, expected))


def read_envelope(chunks: Iterable[bytes]) -> Iterator[TaricTransaction]:
    """The transactions of an envelope that comes in chunks. Raises TaricError."""
    reader = EnvelopeReader()
    for chunk in chunks:
        yield from reader.feed(chunk)
    reader.close()


_OPTIONS: Final[dict[str, Any]] = {
    "resolve_entities": False,
    "load_dtd": False,
    "dtd_validation": False,
    "attribute_defaults": False,
    "no_network": True,
    "huge_tree": False,
    "remove_comments": True,
    "remove_pis": True,
}


def _text(element: Any) -> str:
    text: str = element.text or ""
    # White space around a value says nothing; that of a description belongs to it.
    return text if element.tag == f"{MESSAGE}description" else text.strip(" \t\r\n")


def _line(element: Any) -> int:
    return int(element.sourceline or 0)


def _shown(tag: str) -> str:
    name = tag.rpartition("}")[2]
    return name if len(name) <= _MAX_SHOWN else f"{name[:_MAX_SHOWN]}..."


def _quoted(*texts: str) -> str:
    return " ".join(repr(text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}...") for text in texts)


def _syntax_error(error: etree.XMLSyntaxError, otherwise: str = "") -> TaricError:
    message = re.sub(r", line \d+, column \d+.*", "", error.msg or otherwise or "the XML is broken")
    return TaricError(error.lineno or 1, "XML", message)
