"""A disk of the fleet's own that can be filled to the last byte: a small file system in memory, seen by nobody else."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

_MEGABYTES: Final = 256
#: Says to the program that it runs where it may mount.
_INSIDE: Final = "QUOTAFLEET_CHAOS_MOUNTS"
_FILLER: Final = "filler"
_BLOCK: Final = bytes(4_096)


def enter() -> bool:
    """Run this program again, under the same pid, where it may mount a file system; False where that is not allowed.

    Whatever is mounted there goes away with the last process that sees it.
    """
    if os.environ.get(_INSIDE) == str(os.getpid()):
        return True
    unshare = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    with suppress(FileNotFoundError):
        if subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode == 0:
            os.environ[_INSIDE] = str(os.getpid())
            sys.stdout.flush()
            os.execvp(unshare[0], [*unshare, sys.executable, *sys.orig_argv[1:]])
    return False


class Disk:
    """Where stores and databases are."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._mounted = False
        folder.mkdir()

    def mount(self) -> None:
        """Make it a file system of its own; call it before anything is written there."""
        options = f"size={_MEGABYTES}m,mode=0700"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "quotafleet", str(self.folder)], check=True)
        self._mounted = True

    def close(self, *, keep: bool) -> None:
        """All processes have ended. What is on it is gone, or an ordinary folder in its place if it is to be kept."""
        if not self._mounted:
            return
        copy = self.folder.with_suffix(".copy")
        if keep:
            shutil.copytree(self.folder, copy, ignore=shutil.ignore_patterns(_FILLER))
        subprocess.run(["umount", str(self.folder)], check=True)
        if keep:
            self.folder.rmdir()
            copy.rename(self.folder)

    def fill(self) -> None:
        """Leave not a byte."""
        with (self.folder / _FILLER).open("wb", buffering=0) as filler:
            state = os.statvfs(self.folder)
            try:
                os.posix_fallocate(filler.fileno(), 0, max(1, state.f_bavail * state.f_frsize))
                filler.seek(0, os.SEEK_END)
                while True:
                    filler.write(_BLOCK)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise

    def empty(self) -> None:
        """Make room again."""
        (self.folder / _FILLER).unlink(missing_ok=True)
