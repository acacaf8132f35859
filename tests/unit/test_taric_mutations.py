"""Envelopes that somebody damaged: never anything but TaricError, whatever the chunks, and nothing stays behind."""

import gc
import subprocess
import sys
import weakref
from collections.abc import Callable
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rules.dataset import Dataset
from rules.malformed import malformed
from rules.taric import EnvelopeReader, TaricError, read_envelope, to_changes
from tests.unit.test_taric_reader import HEAD, ODDITIES, TAIL, envelope, outcome, record, single_bytes

ROOT: Final = Path(__file__).resolve().parents[2]
PLAIN: Final = envelope(
    [record("360 00"), record("370 00", {"description": "A < B"})],
    [record("375 30"), record("430 00"), record("205 00")],
)
BASES: Final = (
    PLAIN,
    ODDITIES,
    PLAIN.replace(b"\n", b"\r\n"),
    PLAIN.replace(b"\n", b"\r"),
    PLAIN.decode().replace("UTF-8", "UTF-16").encode("utf-16"),
)
TOKENS: Final = (
    *(b"<", b">", b"&", b'"', b"'", b"</", b"/>", b"<!--", b"-->", b"<![CDATA[", b"]]>", b"<?x ", b"?>"),
    *(b"<!DOCTYPE a>", b"<!ENTITY", b"&#1;", b"&#x41;", b"&a;", b"\x00", b"\xff", b"\xc3", b"\xef\xbb\xbf"),
    *(b"\r", b"<a/>", b"<oub:record/>", b"xmlns:oub='urn:x'", b"-", b"0", b"99999999999999999999"),
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A good envelope in which a few bytes were changed, lost, repeated or put in."""
    data = draw(st.sampled_from(BASES))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data)))
        until = min(len(data), at + draw(st.sampled_from((0, 1, 2, 7, 60, 600))))
        what = draw(
            st.sampled_from((b"", data[at:until] * 2)) | st.sampled_from(TOKENS) | st.binary(max_size=3)
        )
        data = data[:at] + what + data[until:]
    return data


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    places = [min(place, len(data)) for place in accumulate(sizes, initial=0)]
    pieces = [data[begin:end] for begin, end in pairwise(places)]
    return [*pieces, data[places[-1] :]]


@given(damaged(), st.lists(st.integers(1, 300), max_size=30))
def test_a_damaged_envelope_says_the_same_in_any_chunks(data: bytes, sizes: list[int]) -> None:
    """The same transactions, then the same error on the same line; only TaricError is ever raised."""
    whole = outcome([data])
    assert outcome(single_bytes(data)) == whole
    assert outcome(cut(data, sizes)) == whole


@given(st.binary(max_size=200))
@example(b"\xff\xfe<\x00")
@example(b"\xfe\xff\x00<")
@example(b"\x00\x00\x00<")
@example(b"+/v8-<")
@example(b"\x1f")
@example(b" \x00")
def test_any_bytes_are_refused_in_plain_words(data: bytes) -> None:
    """No envelope is that short."""
    found, error, _ = outcome([data])
    assert (found, error.startswith("line ")) == ([], True)
    assert outcome(single_bytes(data))[1] == error


@given(damaged())
def test_what_is_read_of_a_damaged_envelope_can_be_judged(data: bytes) -> None:
    """Changes without problems are never malformed, and problems always name an element and a line."""
    for transaction in outcome([data])[0]:
        mapped = to_changes(transaction, Dataset.empty())
        assert mapped.problems or not malformed(mapped.changes)
        assert all(each.line > 0 and each.element and each.expected for each in mapped.problems)


def named(pattern: str, times: int) -> bytes:
    return "".join(pattern.format(number) for number in range(times)).encode()


@pytest.mark.parametrize(
    "pattern", ["<x{0}/>", '<x y{0}="1"/>', '<x xmlns:z{0}="urn:z"/>', '<x xmlns="urn:{0}"/>']
)
def test_new_names_without_end_are_refused(pattern: str) -> None:
    """Of elements, attributes, prefixes and namespaces: parsers keep them all."""
    with pytest.raises(TaricError, match="10,000 different names"):
        list(read_envelope([HEAD.encode(), b"<env:header>", named(pattern, 30_000)]))


def test_what_was_refused_is_let_go_at_once() -> None:
    """Without waiting for the garbage collector: it may be somebody's attack, again and again."""
    reader = EnvelopeReader()
    with pytest.raises(TaricError):
        reader.feed(HEAD.encode() + b"<env:header>" + named("<x{0}/>", 30_000))
    # Whatever of it were still there would hold the reader too.
    alive = weakref.ref(reader)
    gc.disable()
    try:
        del reader
        assert alive() is None
    finally:
        gc.enable()


PEAK: Final = """
import sys
from pathlib import Path
from rules.taric import EnvelopeReader, TaricError
start, unit, mebibytes = sys.argv[1].encode(), sys.argv[2].encode(), int(sys.argv[3])
chunk = unit * (2**20 // len(unit))
reader = EnvelopeReader()
try:
    reader.feed(start)
    for _ in range(mebibytes):
        reader.feed(chunk)
    reader.close()
except TaricError:
    pass
print(int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) // 1024)
"""
SKIPPED: Final = record("430 05", body="<oub:measure.component/>")


@pytest.mark.parametrize(
    ("start", "unit"),
    [
        pytest.param(HEAD + TAIL, "junk", id="junk behind"),
        pytest.param(HEAD + TAIL, " \n", id="space behind"),
        pytest.param(HEAD + TAIL, "<!-- a remark -->", id="remarks behind"),
        pytest.param(HEAD, "<env:header/> \n", id="headers"),
        pytest.param(HEAD + '<env:transaction id="1">', SKIPPED + " \n", id="one transaction"),
        pytest.param(HEAD, '<env:transaction id="1"> <env:status/></env:transaction>\n', id="transactions"),
    ],
)
def test_memory_stays_the_same_however_long_it_goes_on(start: str, unit: str) -> None:
    """The peaks, in MiB, of two processes: one reads 1 MiB, the other ten times the same."""

    def peak(mebibytes: int) -> int:
        command = [sys.executable, "-c", PEAK, start, unit, str(mebibytes)]
        return int(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)

    assert peak(10) <= peak(1) + 5


def test_lines_are_right_whatever_ends_them() -> None:
    """LF, CR LF, CR: an empty element, a tag over several lines, a text over several lines."""
    body = (
        "<oub:quota.order.number\n >\n<oub:quota.order.number.sid/>\n"
        "<oub:validity.start.date>\n 7 \n</oub:validity.start.date></oub:quota.order.number>"
    )
    text = envelope([record("360 00", body=body)])
    changes: list[Callable[[bytes], bytes]] = [
        lambda data: data,
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: data.replace(b"\n", b"\r"),
        lambda data: data.decode().replace("UTF-8", "UTF-16").encode("utf-16"),
    ]
    for change in changes:
        ((found,), error, _) = outcome([change(text)])
        lines = text.split(b"\n")
        assert error == ""
        assert [
            (lines[each.line - 1].split(b">")[0], each.element)
            for each in found.problems
            if each.element != "quota.order.number.id"
        ] == [
            (b"<oub:quota.order.number.sid/", "quota.order.number.sid"),
            (b"<oub:validity.start.date", "validity.start.date"),
        ]
