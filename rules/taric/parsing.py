"""Feeds an envelope to expat, piece by piece: what is too large or no XML is refused before it takes memory.

Limits are looked at where the input crosses a multiple of a piece, so that chunks may be cut anywhere. Expat, not lxml:
its names are let go with the parser (libxml2's stay for ever), and it counts lines beyond 65,535.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any, Final
from xml.parsers import expat

from rules.taric.errors import TaricError, but_found
from rules.taric.structure import Skeleton

_PIECE_BYTES: Final = 64 * 1024
#: Expat guesses the encoding from as many as it is given at first, if only one.
_HEAD_BYTES: Final = 4
#: What may be half of a line's end, in any encoding: expat would count the other half as a line of its own.
_HALF_LINE_END: Final = re.compile(rb"\r(?:\0\n?)?\Z")
#: Of a tag, a comment, or anything else that is parsed as one.
_MAX_TOKEN_BYTES: Final = 64 * 1024
#: So much input in which no element begins is no TARIC3 (but one huge text, or white space without end).
_MAX_QUIET_BYTES: Final = 1024 * 1024
#: Different names of elements, attributes and prefixes: expat keeps them. TARIC3 has about 1,000.
_MAX_NAMES: Final = 10_000
_ENCODINGS: Final = ("UTF-8", "UTF-16", "ISO-8859-1", "US-ASCII")

_codes: Final = expat.errors.codes
_NO_XML: Final = {_codes[expat.errors.XML_ERROR_INVALID_TOKEN], _codes[expat.errors.XML_ERROR_SYNTAX]}
_CUT_OFF: Final = {
    _codes[each]
    for each in (
        expat.errors.XML_ERROR_NO_ELEMENTS,
        expat.errors.XML_ERROR_UNCLOSED_TOKEN,
        expat.errors.XML_ERROR_PARTIAL_CHAR,
        expat.errors.XML_ERROR_UNCLOSED_CDATA_SECTION,
    )
}
_MEANINGS: Final = {
    _codes[expat.errors.XML_ERROR_INVALID_TOKEN]: (
        "must be well-formed: there is a stray < or &, a control character, or a byte that the encoding has not"
    ),
    _codes[expat.errors.XML_ERROR_TAG_MISMATCH]: "must end with a tag of its own name",
    _codes[expat.errors.XML_ERROR_UNDEFINED_ENTITY]: "must hold no entities: they are not allowed",
}
_BEHIND: Final = "must end with the envelope, which ends on this line: something stands behind it"


class Feeder:
    """Takes bytes; raises TaricError, and then is of no more use."""

    def __init__(self, skeleton: Skeleton) -> None:
        self._skeleton = skeleton
        self._head = b""
        self._held = b""
        self._fed = 0
        self._quiet_bytes = 0
        self._begun = 0
        self._names: dict[str, str] = {}
        self._prefixes: dict[str | None, str] = {}
        self._parser = parser = expat.ParserCreate(namespace_separator="}", intern=self._names)
        parser.buffer_text = True
        parser.StartElementHandler = skeleton.start
        parser.EndElementHandler = skeleton.end
        parser.CharacterDataHandler = skeleton.texts.append
        parser.StartNamespaceDeclHandler = self._prefixes.setdefault
        parser.StartDoctypeDeclHandler = self._refuse_doctype
        parser.XmlDeclHandler = self._check_encoding
        if hasattr(parser, "SetReparseDeferralEnabled"):  # newer ones would hold back what has come in
            parser.SetReparseDeferralEnabled(False)
        self._line: Callable[[], int] = partial(getattr, parser, "CurrentLineNumber")
        skeleton.locate(self._line)

    def feed(self, chunk: bytes) -> None:
        """Parses what has come in."""
        if self._fed:
            self._feed(chunk)
            return
        self._head += chunk
        if len(self._head) >= _HEAD_BYTES:
            self._feed_head()

    def finish(self) -> None:
        """Says that there is no more."""
        if not self._fed:
            self._feed_head()
        self._parse(b"", is_last=True)

    def stop(self) -> None:
        """Lets the parser go, which can hold much and knows those that know it."""
        self._skeleton.locate(int)
        del self._parser, self._line

    def _feed_head(self) -> None:
        if self._head.startswith(b"\x1f"):
            raise TaricError(1, "XML", "must be XML: this looks gzipped: unpack it first")
        self._feed(self._head)
        self._head = b""

    def _feed(self, chunk: bytes) -> None:
        view = memoryview(chunk)
        while view:
            piece = view[: _PIECE_BYTES - self._fed % _PIECE_BYTES]
            view = view[len(piece) :]
            self._parse(piece)
            self._fed += len(piece)
            if self._fed % _PIECE_BYTES == 0:
                self._check_sizes()

    def _parse(self, piece: bytes | memoryview, *, is_last: bool = False) -> None:
        if self._held:
            piece = self._held + piece
            self._held = b""
        if not is_last and (half := _HALF_LINE_END.search(piece[-3:])):
            self._held = half.group()
            piece = piece[: -len(self._held)]
        try:
            self._parser.Parse(piece, is_last)
        except expat.ExpatError as error:
            raise self._syntax_error(error, is_last) from None

    def _syntax_error(self, error: expat.ExpatError, is_last: bool) -> TaricError:
        if self._skeleton.ended_on:  # what it is, and where it begins, expat sees otherwise in other chunks
            return TaricError(self._skeleton.ended_on, "XML", _BEHIND)
        if is_last and error.code in _CUT_OFF:
            if self._skeleton.begun:
                return TaricError(error.lineno, "envelope", "must end: the input ends before it does")
            return TaricError(error.lineno, "envelope", "must be there: the input holds no element")
        if not self._skeleton.begun and error.code in _NO_XML:
            return TaricError(error.lineno, "XML", "must be there: the input is something else")
        meaning = _MEANINGS.get(error.code) or f"must be well-formed: {expat.ErrorString(error.code)}"
        return TaricError(error.lineno, self._skeleton.where, meaning)

    def _check_sizes(self) -> None:
        if self._fed - self._parser.CurrentByteIndex > _MAX_TOKEN_BYTES:
            expected = f"must hold no tag or comment of more than {_MAX_TOKEN_BYTES:,} bytes: it is too large"
            raise TaricError(self._line(), self._skeleton.where, expected)
        if len(self._names) + len(self._prefixes) > _MAX_NAMES:
            expected = f"must not have more than {_MAX_NAMES:,} different names in it"
            raise TaricError(self._line(), "envelope", expected)
        self._skeleton.check_text()
        begun, self._begun = self._begun, self._skeleton.begun
        self._quiet_bytes = self._quiet_bytes + _PIECE_BYTES if begun == self._begun else 0
        if self._quiet_bytes > _MAX_QUIET_BYTES:
            expected = f"must hold an element within {_MAX_QUIET_BYTES:,} bytes: something is too large"
            raise TaricError(self._line(), self._skeleton.where, expected)

    def _refuse_doctype(self, *_: Any) -> None:
        expected = "must not stand there: document types and entities are not allowed"
        raise TaricError(self._line(), "DOCTYPE", expected)

    def _check_encoding(self, version: str, encoding: str | None, standalone: int) -> None:
        if encoding is not None and encoding.upper() not in _ENCODINGS:
            expected = f"must have an encoding of {', '.join(_ENCODINGS)}"
            raise TaricError(self._line(), "XML", but_found(expected, encoding))
