"""What `quotactl rules` reads: TARIC3 envelopes and JSON, gzipped or not, from files and pipes, piece by piece."""

from __future__ import annotations

import codecs
import contextlib
import enum
import gzip
import io
import os
import shutil
import stat
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final

STDIN: Final = "-"
#: What one message may bring, and what one read asks for.
CHUNK: Final = 256 * 1024
_GZIP: Final = b"\x1f\x8b"
#: How much is looked at to tell XML from JSON.
_HEAD: Final = 4096


class InputError(Exception):
    """What was given cannot be used: the file, what is wrong with it, what to do; bad usage, or malformed."""

    def __init__(self, name: str, problem: str, hint: str = "") -> None:
        super().__init__(f"{name}: {problem}")
        self.hint = hint


class Form(enum.Enum):
    """What a file holds, told by its content."""

    XML = "TARIC3"
    JSON = "JSON"


class _Reader(io.RawIOBase):
    """Reads a file from its beginning, whoever else reads it, and says how far it has come."""

    def __init__(self, file: BinaryIO, seen: Callable[[int], None]) -> None:
        super().__init__()
        self._file = file
        self._seen = seen
        self._position = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        piece = os.pread(self._file.fileno(), len(buffer), self._position)
        buffer[: len(piece)] = piece
        self._position += len(piece)
        self._seen(self._position)
        return len(piece)


def _ignore(position: int) -> None:
    pass


class Source:
    """A file that can be read from its beginning any number of times, never as a whole."""

    def __init__(self, name: str, file: BinaryIO) -> None:
        #: As it is shown.
        self.name = name
        self._file = file
        #: In bytes, as it is stored.
        self.size = os.fstat(file.fileno()).st_size
        self.form = self._tell_form()

    def chunks(self, seen: Callable[[int], None] = _ignore) -> Iterator[bytes]:
        """Its content, decompressed. `seen` gets how many of `size` bytes are read. Raises InputError.

        A chunk is given out when the next one is read: damage at the very end still holds back the end of the envelope.
        """
        try:
            stream = self._open(seen)
            chunk = stream.read(CHUNK)
            while chunk:
                following = stream.read(CHUNK)
                yield chunk
                chunk = following
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise InputError(self.name, f"its gzip data are damaged: {error}", "get it again") from error
        except OSError as error:
            raise InputError(self.name, f"cannot be read: {error.strerror or error}") from error

    def whole(self, most: int, hint: str) -> bytes:
        """All of it, if it is no more than that. Raises InputError."""
        content = bytearray()
        for chunk in self.chunks():
            content += chunk
            if len(content) > most:
                raise InputError(self.name, f"has more than {most // 1024 // 1024} MiB", hint)
        return bytes(content)

    def _open(self, seen: Callable[[int], None]) -> BinaryIO | io.BufferedReader:
        raw = io.BufferedReader(_Reader(self._file, seen), CHUNK)
        if raw.peek(len(_GZIP)).startswith(_GZIP):
            return gzip.GzipFile(fileobj=raw)  # type: ignore[return-value] # it reads, and no more is asked of it
        return raw

    def _tell_form(self) -> Form:
        first = next(self.chunks(), b"")
        begin = first[:_HEAD].removeprefix(codecs.BOM_UTF8).lstrip()
        if begin.startswith((b"<", codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return Form.XML
        if begin.startswith((b"[", b"{")):
            return Form.JSON
        problem = "is neither XML nor JSON" if begin else "is empty"
        raise InputError(
            self.name, problem, "give a TARIC3 envelope or a JSON list of changes, gzipped or not"
        )


@contextlib.contextmanager
def opened(path: str) -> Iterator[Source]:
    """A file; what can be read only once (a pipe, `-`) is kept on disk meanwhile. Raises InputError."""
    name = "stdin" if path == STDIN else path
    with contextlib.ExitStack() as stack:
        try:
            given = sys.stdin.buffer if path == STDIN else stack.enter_context(open(path, "rb"))
            file = given if path != STDIN and _is_regular(given) else stack.enter_context(_kept(given))
        except (OSError, ValueError) as error:  # ValueError: a name that no file can have
            reason = (isinstance(error, OSError) and error.strerror) or str(error)
            raise InputError(name, reason[0].lower() + reason[1:], "check its name") from error
        yield Source(name, file)


def _is_regular(file: BinaryIO) -> bool:
    return stat.S_ISREG(os.fstat(file.fileno()).st_mode)


def _kept(given: BinaryIO) -> BinaryIO:
    copy: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 - for the caller's stack
    shutil.copyfileobj(given, copy)
    copy.flush()
    return copy
