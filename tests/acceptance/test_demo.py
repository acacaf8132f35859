"""The demo as people run it: processes are killed, a line is cut, and the cap is kept to the unit."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from examples.enrolments import PLANS

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "examples.demo"]


@pytest.fixture(scope="module")
def played() -> dict[str, Any]:
    """What one whole run says, which must have ended well."""
    done = subprocess.run(
        [*COMMAND, "--json"], cwd=ROOT, check=False, capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stderr + done.stdout
    result: dict[str, Any] = json.loads(done.stdout)
    result["events"] = done.stderr
    return result


def test_every_guarantee_holds(played: dict[str, Any]) -> None:
    """The target and the override are granted to the unit, and everything else is refused."""
    assert played["ok"] is True
    assert played["broken"] == []
    # On a slow machine more may be used already when the target is cut; then it is cut to that.
    assert 1_500 <= played["target"] < 1_725
    assert (played["overrides"], played["total"]) == (3, played["target"] + 3)
    assert played["overshoot"] == 0
    assert played["upper_bound"] >= played["total"]
    assert played["controller"] == {"count": played["target"], "held": 0, "overridden": 3}


def test_every_row_has_an_answer(played: dict[str, Any]) -> None:
    """Each row was granted, repeated what was granted, or was refused; the override is an entry without a row."""
    sites = played["sites"]
    assert {site["site"] for site in sites} == set(PLANS)
    assert sum(site["rows"] for site in sites) == 2_000
    overridden = [site for site in sites if site["overridden"]]
    assert len(overridden) == 1
    for site in sites:
        rows = site["entries"] - (site in overridden) + site["repeats"] + site["refused"]
        assert rows == site["rows"], site["site"]
        assert site["count"] <= site["limit"]


def test_the_story_was_played(played: dict[str, Any]) -> None:
    """Line, agent and controller failed, people were told, and the observer was looking."""
    assert played["faults"] == ["line of leeds cut", "agent of cardiff killed", "controller killed"]
    for said in (
        "leeds enrolled",
        "cardiff is back",
        "without it",
        "raised to 1725",
        "lowered to 1",
        "approved 3",
    ):
        assert said in played["events"]
    assert played["samples"] > 50
    assert played["refusals_judged"] > 50


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder with a short path, for sockets; it must be empty at the end."""
    folder = Path(tempfile.mkdtemp(prefix="qd-", dir="/tmp"))
    yield folder
    folder.rmdir()


@pytest.mark.parametrize(("number", "live"), [(signal.SIGINT, True), (signal.SIGTERM, False)])
def test_an_interrupted_demo_leaves_nothing_behind(
    number: signal.Signals, live: bool, temporary: Path
) -> None:
    """No process and no file, whoever stops it; the exit code says that it was stopped."""
    environment = {**os.environ, "TMPDIR": str(temporary)}
    if live:
        environment |= {"FORCE_COLOR": "1", "TERM": "xterm"}  # what is drawn on a terminal
    with subprocess.Popen(COMMAND, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "agents are linked" in line:
                break
        assert len(_processes(temporary)) == 1 + len(PLANS)
        demo.send_signal(number)
        rest = demo.stdout.read()
    assert demo.returncode == 130, rest
    assert ("used of its limit" in rest) is live
    assert _processes(temporary) == []
    assert list(temporary.iterdir()) == []


def _processes(folder: Path) -> list[int]:
    """Processes whose command line names something in `folder`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue  # it has ended meanwhile
            if str(folder).encode() + b"/" in line:
                found.append(int(entry.name))
    return found
