"""A short run of `make chaos`: every fault happens, and every guarantee holds; a planted lie is caught."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.schedule import Kind

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "tests.chaos", "--json", "--minutes", "0.01"]


def run(*options: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run(
        [*COMMAND, *options], cwd=ROOT, check=False, capture_output=True, text=True, timeout=280
    )


def left_over(folder: Path) -> list[str]:
    """Command lines of processes that still work in the folder."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            try:
                line = (process / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
            except OSError:  # it has ended
                continue
            if str(folder) in line:
                found.append(line)
    return found


def folder_of(done: subprocess.CompletedProcess[str]) -> Path:
    """Where the run kept its files."""
    (line,) = (line for line in done.stderr.splitlines() if "agents run in" in line)
    return Path(line.rpartition(" ")[2])


@pytest.mark.timeout(300)
def test_every_guarantee_holds_under_every_fault() -> None:
    """One wave of faults of every kind, under load; nothing is left behind."""
    done = run()
    assert done.returncode == 0, done.stderr + done.stdout
    result: dict[str, Any] = json.loads(done.stdout)
    assert result["ok"] is True
    # Only what needs a file system of its own may be missing, and then the run has said so.
    assert set(result["left_out"]) <= {Kind.NO_SPACE.value}
    assert result["faults"] == {kind.value: 1 for kind in Kind if kind.value not in result["left_out"]}
    assert result["checks"]["quiet points"] == 1
    assert result["checks"]["upper bounds checked"] > 50
    assert result["checks"]["stores on disk audited"] > 10
    for deed in ("acquire", "acquire with hold", "commit", "cancel", "release", "repeat", "set target"):
        assert result["calls"][deed]["done"] > 0, deed
    folder = folder_of(done)
    assert not folder.exists()
    assert left_over(folder) == []


@pytest.mark.timeout(300)
def test_an_answered_entry_that_is_lost_ends_the_run() -> None:
    """The check can fail: the guarantee is named, and the files are kept."""
    done = run("--faults", "agent_killed", "--plant-lie")
    folder = folder_of(done)
    try:
        assert done.returncode == 1, done.stderr + done.stdout
        assert "S4 is broken" in json.loads(done.stdout)["broken"]
        assert "VIOLATION at seed" in done.stderr
        assert (folder / "controller.log").exists()
        assert left_over(folder) == []
    finally:
        shutil.rmtree(folder, ignore_errors=True)
