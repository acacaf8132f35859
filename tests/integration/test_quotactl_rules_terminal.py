"""`quotactl rules` on a terminal and beside one: colours and a bar are for people who look."""

from __future__ import annotations

import os
import pty
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from quotafleet.v1 import rules_service_pb2 as pb
from tests.scripted_rules import ScriptedRules, open_rules, violation
from tests.shell_kit import QUOTACTL

ESCAPE = "\x1b["


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A service that finds something wrong with every envelope; one is long."""
    (tmp_path / "long.xml").write_bytes(b"<a>" + b" " * 2_000_000)
    (tmp_path / "short.xml").write_bytes(b"<a/>")
    service = ScriptedRules()
    service.verdicts = [pb.TransactionVerdict(violations=[violation("ON8", 5, 9)])]
    service.summary.violations = 1
    with open_rules(service) as shell:
        yield shell.address


def ran(folder: Path, address: str, *arguments: str, seen: str, **variables: str) -> tuple[str, str]:
    """What a command wrote to the terminal, which is one of its outputs, and to the other one, a pipe."""
    ours, theirs = pty.openpty()
    out, errors = (theirs if name == seen else subprocess.PIPE for name in ("stdout", "stderr"))
    dropped = ("COLUMNS", "NO_COLOR", "FORCE_COLOR", "TERM")
    environment = {name: value for name, value in os.environ.items() if name not in dropped}
    command = [*QUOTACTL, "--server", address, "rules", "validate", *arguments]
    environment |= {"TERM": "xterm", **variables}
    with subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdout=out, stderr=errors
    ) as process:
        os.close(theirs)
        piped = process.stdout or process.stderr
        assert piped is not None
        other = piped.read()
        process.wait(timeout=60)
    written = b""
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        try:
            while piece := terminal.read(4096):
                written += piece
        except OSError:  # how Linux says that nobody holds the other end
            pass
    return written.decode(), other


def test_a_long_file_has_a_bar(tmp_path: Path, address: str) -> None:
    """On stderr, so that it is not part of what is redirected; it goes when it is done."""
    bar, out = ran(tmp_path, address, "long.xml", seen="stderr")
    assert "long.xml" in bar
    assert "2.0 MB" in bar
    assert ESCAPE not in out
    assert "long.xml:9" in out


@pytest.mark.parametrize(("file", "term"), [("short.xml", "xterm"), ("long.xml", "dumb")])
def test_other_files_and_terminals_have_none(tmp_path: Path, address: str, file: str, term: str) -> None:
    """It could not be read, or not be drawn."""
    assert ran(tmp_path, address, file, seen="stderr", TERM=term)[0] == ""


def test_no_terminal_no_bar(tmp_path: Path, address: str) -> None:
    """What goes to a log stays readable."""
    out, bar = ran(tmp_path, address, "long.xml", seen="stdout")
    assert bar == ""
    assert "ON8" in out


def test_colours_are_for_terminals(tmp_path: Path, address: str) -> None:
    """And not for those who do not want them."""
    assert ESCAPE + "31mnew" in ran(tmp_path, address, "short.xml", seen="stdout")[0]
    assert ESCAPE + "3" not in ran(tmp_path, address, "short.xml", seen="stdout", NO_COLOR="1")[0]
    assert ESCAPE not in ran(tmp_path, address, "short.xml", "--json", seen="stdout")[0]
