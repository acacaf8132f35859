"""Files that `quotactl rules` reads, gzipped or not: what a file of changes says has to arrive at the controller."""

from __future__ import annotations

import gzip
import io
import json
import os
import zlib
from collections.abc import Iterator
from random import Random
from typing import BinaryIO, Final

from quota_server.cli.rules_files import Form, InputError, Source
from quota_server.cli.rules_json import read_data, read_transaction
from quota_server.services.tariff_convert import changes_from_proto, records_from_proto
from quotafleet.v1 import rules_service_pb2 as pb
from rules.json_form import read_changes
from rules.malformed import Malformed
from tests.fuzz.mutate import json_values
from tests.fuzz.target import Target
from tests.fuzz.targets import cases

_NAME: Final = "given"


def check(data: bytes) -> None:
    """Refused in words that begin with the file's name, or read: and then the controller reads the same."""
    with in_memory(data) as file:
        try:
            source = Source(_NAME, file)
            content = source.whole(_MOST, "too large")
        except InputError as error:
            _check_words(error)
            return
        assert b"".join(source.chunks()) == content, "it is not the same when read again"
        if source.form is Form.JSON:
            check_transaction(source, content)
        check_data(source)


_MOST: Final = 1024 * 1024


def check_transaction(source: Source, content: bytes) -> None:
    """What is malformed is said here, or by the controller, of the same fields; the rest is sent as it was."""
    try:
        typed = read_transaction(source, ("--against", "--today"))
    except InputError as error:
        _check_words(error)
        return
    given = json.loads(content.decode("utf-8-sig"))
    changes, wrong = read_changes(given.get("transaction") if isinstance(given, dict) else given)
    if typed.malformed:
        assert wrong or "UTF-8" in typed.malformed[0].expected, f"not malformed: {typed.malformed}"
        return
    sent = pb.TariffTransaction.FromString(typed.transaction.SerializeToString())
    received, still_wrong = changes_from_proto(sent.changes)
    assert _places(still_wrong) == _places(wrong), f"{wrong} arrives as {still_wrong}"
    assert wrong or received == changes


def _places(wrong: tuple[Malformed, ...]) -> list[tuple[int, str]]:
    return [(each.index, each.field) for each in wrong]


def check_data(source: Source) -> None:
    """Records that can be sent can be read."""
    try:
        sent = read_data(source)
    except InputError as error:
        _check_words(error)
        return
    if not sent.envelope:
        records, _ = records_from_proto(pb.SentData.FromString(sent.SerializeToString()).records)
        assert len(records) == len(sent.records)


def _check_words(error: InputError) -> None:
    assert str(error).startswith(_NAME), f"the refusal does not name the file: {error}"
    assert len(str(error)) > len(_NAME) + 2, "the refusal says nothing"


def in_memory(data: bytes) -> BinaryIO:
    """A file without a disk."""
    file = io.FileIO(os.memfd_create("fuzz"), "w+")
    file.write(data)
    file.seek(0)
    return file


def _unpacked(data: bytes) -> bytes | None:
    """What is in a gzip, or the text itself; None if the gzip is broken."""
    try:
        return gzip.decompress(data) if data[:1] == b"\x1f" else data
    except (OSError, EOFError, zlib.error):
        return None


def mutate(data: bytes, other: bytes, random: Random) -> bytes:
    """JSON within its gzip, or the gzip itself."""
    content = _unpacked(data)
    if content is None:
        return json_values.break_text(data, random)
    new = json_values.mutate(content, _unpacked(other) or other, random)
    if random.randrange(10) == 0:
        packed = gzip.compress(new, mtime=0)
        return packed if random.random() < 0.5 else json_values.break_text(packed, random)
    return new


def seeds() -> Iterator[bytes]:
    """Whole cases, their transactions alone, their data alone, and gzipped ones."""
    for number, line in enumerate(cases.seeds()):
        case = json.loads(line)
        yield line
        for part in ("transaction", "base"):
            content = json.dumps(case[part]).encode()
            yield gzip.compress(content, mtime=0) if number % 10 == 0 else content


TARGET: Final = Target("rules_files", check, mutate, seeds)
