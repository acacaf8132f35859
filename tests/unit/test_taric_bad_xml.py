"""What is no envelope is refused: at the right line, in plain words, in bounded memory, and without a traceback."""

import tracemalloc
from collections.abc import Iterable, Iterator
from itertools import chain, repeat
from typing import Final

import pytest

from rules.taric import EnvelopeReader, TaricError, read_envelope
from rules.taric.body import ENVELOPE_NAMESPACE, MESSAGE_NAMESPACE
from tests.unit.test_taric_reader import HEAD, TAIL, envelope, outcome, record, single_bytes, transaction

NO_DTD: Final = "document types and entities are not allowed"
GOOD: Final = envelope([record("360 00")])
ROOT: Final = (
    f'<env:envelope xmlns:env="{ENVELOPE_NAMESPACE}" xmlns:oub="{MESSAGE_NAMESPACE}" id="1">\n'.encode()
)
LAUGHS: Final = b"".join(
    b'<!ENTITY lol%d "%s">\n' % (level, b"&lol%d;" % (level - 1) * 10) for level in range(1, 10)
)
#: Opens what a record stands in, and the record.
OPEN: Final = (
    HEAD.encode() + b'<env:transaction id="1"><env:app.message id="1"><oub:transmission><oub:record>'
)


def with_dtd(inner: bytes, reference: bytes = b"&a;") -> bytes:
    return (
        b"<!DOCTYPE x [\n"
        + inner
        + b"]>\n"
        + ROOT
        + GOOD.partition(b"\n")[2].replace(b"050001", reference, 1)
    )


BAD: Final[dict[str, tuple[bytes, int, str, str]]] = {
    # what, input, line, element, words of the message
    "nothing": (b"", 1, "envelope", "the input holds no element"),
    "only white space": (b" \r\n\n", 3, "envelope", "the input holds no element"),
    "only a remark": (b"<!-- nothing -->", 1, "envelope", "the input holds no element"),
    "three bytes": (b"PK\n", 1, "XML", "the input is something else"),
    "no XML": (b"quota;volume\n1;2\n", 1, "XML", "the input is something else"),
    "JSON": (b'{"transaction": []}', 1, "XML", "the input is something else"),
    "gzip": (b"\x1f\x8b\x08\x00\x00\x00\x00\x00", 1, "XML", "this looks gzipped: unpack it first"),
    "zeros": (bytes(100), 1, "XML", "the input is something else"),
    "another root": (b"<?xml version='1.0'?>\n<html/>", 2, "html", "the root must be envelope of namespace"),
    "the root without namespace": (b"<envelope/>", 1, "envelope", f"of namespace {ENVELOPE_NAMESPACE}"),
    "a root that may stand below": (
        b'<header xmlns="%s"/>' % ENVELOPE_NAMESPACE.encode(),
        1,
        "header",
        "the root must be envelope",
    ),
    "messages of another namespace": (
        GOOD.replace(MESSAGE_NAMESPACE.encode(), b"urn:x"),
        4,
        "{urn:x}transmission",
        f"app.message must hold transmission of namespace {MESSAGE_NAMESPACE}",
    ),
    "a message without transaction": (
        ROOT + record("360 00").encode(),
        2,
        "app.message",
        "envelope must hold",
    ),
    "text between elements": (
        GOOD.replace(b"<oub:transaction.id>", b"junk<oub:transaction.id>"),
        6,
        "record",
        "must hold elements only, not 'junk'",
    ),
    "text in a body": (
        GOOD.replace(b"<oub:quota.order.number.id>", b"7<oub:quota.order.number.id>"),
        13,
        "quota.order.number",
        "must hold elements only, not '7'",
    ),
    "cut off": (GOOD[:-30], 18, "envelope", "the input ends before it does"),
    "cut off in a text": (GOOD[: GOOD.index(b"050001") + 3], 13, "envelope", "the input ends before it does"),
    "cut off in its last tag": (GOOD[:-3], 19, "envelope", "the input ends before it does"),
    "another envelope behind": (GOOD + ROOT, 19, "XML", "something stands behind it"),
    "half a tag behind": (GOOD + b"<", 19, "XML", "something stands behind it"),
    "an attribute behind": (GOOD + b'\n\na:b="c"', 19, "XML", "something stands behind it"),
    "a quotation behind, and what cannot follow it": (
        GOOD + b'"\n\n"=',
        19,
        "XML",
        "something stands behind it",
    ),
    "a byte that UTF-8 has not behind": (GOOD + b"a\xff", 19, "XML", "something stands behind it"),
    "half a comment behind, after lines of Windows": (
        GOOD.replace(b"\n", b"\r\n") + b"\r\n<!-- ",
        19,
        "XML",
        "something stands behind it",
    ),
    "tags that do not match": (
        GOOD.replace(b"</oub:record>", b"</oub:rec>"),
        16,
        "record",
        "must end with a tag of its own name",
    ),
    "UTF-8 that is Latin-1": (
        GOOD.replace(b"050001", b"05\xe9"),
        13,
        "quota.order.number.id",
        "a byte that the encoding has not",
    ),
    "UTF-16 that is UTF-8": (GOOD.replace(b"UTF-8", b"UTF-16"), 1, "XML", "encoding"),
    "an encoding that nobody knows": (
        GOOD.replace(b"UTF-8", b"KLINGON"),
        1,
        "XML",
        "US-ASCII, not 'KLINGON'",
    ),
    "a zero in a text": (
        GOOD.replace(b"050001", b"05\x0001"),
        13,
        "quota.order.number.id",
        "a control character",
    ),
    "a control character by number": (
        GOOD.replace(b"050001", b"05&#1;01"),
        13,
        "quota.order.number.id",
        "invalid character number",
    ),
    "an entity that nobody declared": (
        GOOD.replace(b"050001", b"&number;"),
        13,
        "quota.order.number.id",
        "must hold no entities",
    ),
    "a document type": (b"<!DOCTYPE envelope>\n" + ROOT, 1, "DOCTYPE", NO_DTD),
    "a document type elsewhere": (b'<!DOCTYPE x SYSTEM "file:///etc/passwd">' + ROOT, 1, "DOCTYPE", NO_DTD),
    "an entity": (with_dtd(b'<!ENTITY a "050001">\n'), 1, "DOCTYPE", NO_DTD),
    "an external entity": (with_dtd(b'<!ENTITY a SYSTEM "file:///etc/passwd">\n'), 1, "DOCTYPE", NO_DTD),
    "an entity of the net": (with_dtd(b'<!ENTITY a SYSTEM "http://127.0.0.1:9/">\n'), 1, "DOCTYPE", NO_DTD),
    "a parameter entity": (
        with_dtd(b'<!ENTITY % p SYSTEM "http://127.0.0.1:9/"> %p;\n'),
        1,
        "DOCTYPE",
        NO_DTD,
    ),
    "a billion laughs": (with_dtd(b'<!ENTITY lol0 "lol">\n' + LAUGHS, b"&lol9;"), 1, "DOCTYPE", NO_DTD),
    "a billion laughs on one line": (
        with_dtd(b'<!ENTITY lol0 "lol">\n' + LAUGHS, b"&lol9;").replace(b"\n", b" "),
        1,
        "DOCTYPE",
        NO_DTD,
    ),
    "a default attribute": (with_dtd(b'<!ATTLIST x id CDATA "1">\n', b"050001"), 1, "DOCTYPE", NO_DTD),
    "an inclusion": (
        ROOT + b'<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="file:///etc/passwd"/>',
        2,
        "{http://www.w3.org/2001/XInclude}include",
        "envelope must hold transaction",
    ),
    "a record in depth": (OPEN + b"<oub:a><oub:b>" + b"<oub:c>" * 100_000, 3, "c", "is nested too deeply"),
    "a status in depth": (ROOT + b"<env:status>" + b"<a>" * 100_000, 2, "a", "is nested too deeply"),
    "a root in depth": (b"<a>" * 100_000, 1, "a", "the root must be envelope"),
    "many attributes": (
        ROOT + b"<env:transaction " + b" ".join(b'a%d="1"' % number for number in range(5_000)) + b">",
        2,
        "transaction",
        "at most 16 attributes",
    ),
    "a long attribute": (
        ROOT + b'<env:transaction id="%s">' % (b"1" * 1_001),
        2,
        "transaction",
        "at most 1,000 characters",
    ),
    "an attribute twice": (ROOT + b'<env:transaction id="1" id="2">', 2, "envelope", "duplicate attribute"),
    "many elements": (OPEN + b"<oub:a>" + b"<oub:b/>" * 65, 3, "a", "at most 64 elements"),
    "many bodies": (OPEN + b"<oub:a/>" * 65, 3, "record", "one body"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_envelope_is_refused(case: str) -> None:
    """Line, element and expectation, whatever the chunks."""
    data, line, element, words = BAD[case]
    with pytest.raises(TaricError) as refused:
        list(read_envelope([data]))
    error = refused.value
    assert (error.line, error.element) == (line, element)
    assert words in error.expected
    assert str(error) == f"line {line}: {element}: {error.expected}"
    assert outcome(single_bytes(data[:20_000])) == outcome([data[:20_000]])


MEBIBYTES_100: Final = 100 * 1024 * 1024


def endless(start: bytes, piece: bytes) -> Iterator[bytes]:
    """A start, then the same over and over, 100 MiB in all."""
    return chain([start], repeat(piece, MEBIBYTES_100 // len(piece)))


X: Final = b"x" * 65_536
HUGE: Final[dict[str, tuple[bytes, bytes]]] = {
    "a text": (OPEN + b"<oub:a><oub:b>", X),
    "a text of short lines": (OPEN + b"<oub:a><oub:b>", b"xxxxxxx\n" * 8192),
    "a text of references": (OPEN + b"<oub:a><oub:b>", b"&#120;&lt;" * 6000),
    "a record code": (OPEN + b"<oub:record.code>", X),
    "a CDATA section": (OPEN + b"<oub:a><oub:b><![CDATA[", X),
    "a text that is not read": (ROOT + b"<env:header>", X),
    "a remark": (ROOT + b"<!--", X),
    "a note": (ROOT + b"<?note ", X),
    "an attribute": (ROOT + b'<env:transaction id="', X),
    "a name": (ROOT + b"<env:", X),
    "namespaces": (ROOT + b"<env:transaction ", b" ".join(b'xmlns:n%d="u"' % each for each in range(4000))),
    "white space": (ROOT, b" " * 65_536),
    "white space before the root": (b"", b" " * 65_536),
    "a document type": (b"<!DOCTYPE x [", b'<!ENTITY a "b">' * 4096),
}


@pytest.mark.parametrize("case", HUGE)
def test_what_is_huge_is_refused_while_it_comes_in(case: str) -> None:
    """After the first of 100 MiB, in no more memory than that."""
    fed = 0

    def counted(chunks: Iterable[bytes]) -> Iterator[bytes]:
        nonlocal fed
        for chunk in chunks:
            fed += len(chunk)
            yield chunk

    tracemalloc.start()
    try:
        with pytest.raises(TaricError):
            list(read_envelope(counted(endless(*HUGE[case]))))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Memory of expat itself is not traced; it cannot hold more than it was fed.
    assert fed <= 1024 * 1024 + 4 * 65_536
    assert peak < 4 * 1024 * 1024


def test_a_huge_chunk_is_refused_likewise() -> None:
    """It is looked at in pieces: nothing of it is copied whole."""
    chunk = OPEN + b"<oub:a><oub:b>" + b"x" * (16 * 1024 * 1024)
    tracemalloc.start()
    try:
        with pytest.raises(TaricError, match="65,536 characters"):
            EnvelopeReader().feed(chunk)
        assert tracemalloc.get_traced_memory()[1] < 1024 * 1024
    finally:
        tracemalloc.stop()


def test_what_is_wrong_with_a_record_cannot_grow_without_end() -> None:
    """What is there again and again is told of a few times."""
    again = "<oub:update.type>3</oub:update.type>"
    (found,) = read_envelope([envelope([record("360 00").replace(again, again * 10_000)])])
    assert 1 < len(found.problems) <= 64


def test_an_id_as_long_as_it_may_be_is_read() -> None:
    """The limit itself is good."""
    data = HEAD + transaction(1, []).replace('"1"', f'"{"1" * 1_000}"') + TAIL
    (found,) = read_envelope([data.encode()])
    assert found.id == "1" * 1_000
