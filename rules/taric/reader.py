"""Reads TARIC3 envelopes as they stream in: transaction by transaction, in memory that does not grow with the file.

Namespaces are matched by their URIs, children in any order. A byte order mark, UTF-16, ISO-8859-1 and
repeated ids are accepted; document types, entities, deep nesting and huge elements are not.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from rules.records import UpdateType
from rules.taric.checking import problems_of
from rules.taric.elements import BODIES
from rules.taric.errors import Problem, TaricError, but_found
from rules.taric.parsing import Feeder
from rules.taric.structure import RawRecord, Skeleton
from rules.taric.taric_record import TaricRecord, TaricTransaction

#: The largest transaction that is known has 1,220 records: about 2 MB.
MAX_TRANSACTION_BYTES: Final = 256 * 1024 * 1024
#: About what a record and one of its elements take beside their texts.
_RECORD_BYTES: Final = 400
_ELEMENT_BYTES: Final = 120

UPDATE_TYPES: Final = {"1": UpdateType.UPDATE, "2": UpdateType.DELETE, "3": UpdateType.CREATE}
_code: Final = re.compile(r"[0-9]{3}").fullmatch
_subcode: Final = re.compile(r"[0-9]{2}").fullmatch


class EnvelopeReader:
    """Takes an envelope in pieces of any size and gives its transactions back, each as soon as it has ended.

    `feed` and `close` raise TaricError if this is no envelope, after all transactions before that were given back; then
    the reader is of no more use. What is wrong with single records is in their transactions' `problems`.
    """

    def __init__(self, max_transaction_bytes: int = MAX_TRANSACTION_BYTES) -> None:
        self.envelope_id = ""
        #: Records by code ("370 00"): those of codes that `rules.taric.elements` knows, and all others.
        self.read: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self._room = self._max_room = max_transaction_bytes
        self._feeder: Feeder | None = Feeder(Skeleton(self))
        self._records: list[TaricRecord] = []
        self._problems: list[Problem] = []
        self._done: list[TaricTransaction] = []
        self._failure: tuple[int, str, str] | None = None

    def feed(self, chunk: bytes) -> list[TaricTransaction]:
        """The transactions that end in this chunk. Raises TaricError."""
        self._try(lambda feeder: feeder.feed(chunk))
        done, self._done = self._done, []
        if self._failure is not None and not done:
            raise TaricError(*self._failure)
        return done

    def close(self) -> None:
        """Says that there is no more. Raises TaricError if the envelope is not complete."""
        self._try(Feeder.finish)
        if self._failure is not None:
            raise TaricError(*self._failure)

    def _try(self, act: Callable[[Feeder], None]) -> None:
        """Does it, unless something went wrong before."""
        if self._feeder is None:
            return
        try:
            act(self._feeder)
        except TaricError as error:
            # Not the error, whose traceback would hold on to what was being read.
            self._failure = error.line, error.element, error.expected
            self._feeder.stop()
            self._feeder = None

    def begin_envelope(self, identifier: str) -> None:
        """For the skeleton: not part of the interface, like the two below."""
        self.envelope_id = identifier

    def take_record(self, raw: RawRecord) -> None:
        """Sorts a record that has ended."""
        head = raw.head
        number, subnumber = head.get("record.code"), head.get("subrecord.code")
        if number is None or not _code(number):
            self._refuse(raw, [(raw.line, "record.code", but_found("must be three digits", number))])
            return
        if subnumber is None or not _subcode(subnumber):
            self._refuse(raw, [(raw.line, "subrecord.code", but_found("must be two digits", subnumber))])
            return
        code = f"{number} {subnumber}"
        if code not in BODIES:
            self.skipped[code] += 1
            return
        self.read[code] += 1
        if wrong := [*raw.wrong, *_bad_bodies(raw, code)]:
            self._refuse(raw, wrong)
            return
        update_type = UPDATE_TYPES.get(head.get("update.type", ""))
        if update_type is None:
            expected = but_found("must be 1 (update), 2 (delete) or 3 (create)", head.get("update.type"))
            self._problems.append(Problem(len(self._records), raw.line, "update.type", expected))
            update_type = UpdateType.UPDATE  # so that whatever else is wrong with it is said, too
        elements, lines = tuple(raw.elements), tuple(raw.lines)
        ids = head.get("transaction.id", ""), head.get("record.sequence.number", "")
        record = TaricRecord(code, update_type, elements, *ids, raw.line, lines)
        self._make_room(raw)
        self._problems += problems_of(record, len(self._records))
        self._records.append(record)

    def end_transaction(self, identifier: str, line: int) -> None:
        """Gives a transaction out."""
        if not identifier:
            self._problems.insert(0, Problem(0, line, "transaction", "must have an id"))
        self._done.append(TaricTransaction(identifier, tuple(self._records), tuple(self._problems), line))
        self._records, self._problems, self._room = [], [], self._max_room

    def _refuse(self, raw: RawRecord, wrong: list[tuple[int, str, str]]) -> None:
        self._make_room(raw)
        self._problems += [Problem(len(self._records), *each) for each in wrong]

    def _make_room(self, raw: RawRecord) -> None:
        """Counts what a record takes until its transaction ends."""
        texts = sum([len(text) for _, text in raw.elements])
        self._room -= _RECORD_BYTES + _ELEMENT_BYTES * len(raw.elements) + texts
        if self._room < 0:
            expected = f"must not take more than {self._max_room:,} bytes of memory: it is too large"
            raise TaricError(raw.line, "transaction", expected)


def read_envelope(chunks: Iterable[bytes]) -> Iterator[TaricTransaction]:
    """The transactions of an envelope that comes in chunks, each as soon as it has ended. Raises TaricError."""
    reader = EnvelopeReader()
    for chunk in chunks:
        yield from reader.feed(chunk)
    reader.close()


def _bad_bodies(raw: RawRecord, code: str) -> Iterator[tuple[int, str, str]]:
    wanted = BODIES[code].element
    if not raw.bodies:
        yield raw.line, wanted, f"must be given: it is the body of {code}"
    elif len(raw.bodies) > 1:
        yield raw.bodies[1][1], raw.bodies[1][0], f"must not stand there: {wanted} is the one body of {code}"
    elif raw.bodies[0][0] != wanted:
        yield raw.bodies[0][1], raw.bodies[0][0], f"must be {wanted}, the body of {code}"
