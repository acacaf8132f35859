"""Keeps an envelope that came in chunks, so that it can be judged once more."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

from quota_server.tariff.judging import PIECE_BYTES
from quota_server.tariff.refusals import envelope_invalid
from rules.taric.errors import TaricError

#: Compressed; of TARIC3 that is more than a gigabyte.
MAX_BYTES: Final = 64 * 1024 * 1024
#: TARIC3 shrinks to about a twentieth even so.
_FASTEST: Final = 1


class Spool:
    """What was put in, compressed in memory."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._room = max_bytes
        self._packer = zlib.compressobj(_FASTEST)
        self._packed: list[bytes] = []

    def add(self, piece: bytes) -> None:
        """Puts in the next bytes. Raises ENVELOPE_INVALID if it is too much."""
        packed = self._packer.compress(piece)
        if packed:
            self._room -= len(packed)
            if self._room < 0:
                raise envelope_invalid(TaricError(0, "envelope", "must be smaller to be stored: split it"))
            self._packed.append(packed)

    def close(self) -> None:
        """Says that there is no more."""
        self._packed.append(self._packer.flush())

    def pieces(self) -> Iterator[bytes]:
        """All of it, in pieces that do not take long; once it is closed."""
        unpacker = zlib.decompressobj()
        for packed in self._packed:
            left = packed
            while left:
                yield unpacker.decompress(left, PIECE_BYTES)
                left = unpacker.unconsumed_tail
        yield unpacker.flush()
