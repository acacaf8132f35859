"""What the command refuses, what it leaves out, and what it says at its end."""

from __future__ import annotations

import argparse
import io
import json
import sys
from pathlib import Path

import pytest
from rich.console import Console

from tests.chaos import __main__ as command
from tests.chaos import report
from tests.chaos.schedule import Kind
from tests.chaos.verdict import CannotRun, Ending, Outcome
from tests.chaos.world import Tally


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("--minutes 0", "--minutes"),
        ("--minutes nan", "--minutes"),
        ("--minutes inf", "--minutes"),
        ("--faults agent_clock,controller_clock --without-clock", "--faults and --without-clock"),
        ("--faults rain", "'rain' is no fault; there are agent_killed,"),
    ],
)
def test_what_makes_no_sense_is_refused(
    arguments: str, named: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is begun."""
    monkeypatch.setattr(sys, "argv", ["chaos", *arguments.split()])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 2
    assert named in capsys.readouterr().err


def kinds(folder: Path, *faults: Kind, without_clock: bool) -> tuple[frozenset[Kind], list[str], str]:
    """What is made and what is left out where nothing can be mounted, and what was said of it."""
    said = io.StringIO()
    options = argparse.Namespace(faults=frozenset(faults), without_clock=without_clock)
    reporter = report.Reporter(Console(file=said))
    made, left_out = command.Run(folder, options, reporter, mounts=False)._kinds()
    return made, left_out, said.getvalue()


def test_each_fault_that_is_left_out_has_its_own_cause(tmp_path: Path) -> None:
    """Nobody has to guess which of two it was."""
    wanted = (Kind.AGENT_CLOCK, Kind.NO_SPACE, Kind.AGENT_KILLED)
    made, left_out, said = kinds(tmp_path, *wanted, without_clock=True)
    assert made == {Kind.AGENT_KILLED}
    assert left_out == [Kind.AGENT_CLOCK, Kind.NO_SPACE]
    assert "(--without-clock): agent's clock jumped\n" in said
    assert "(no file system may be mounted here): no space left for anybody\n" in said
    assert kinds(tmp_path, Kind.AGENT_CLOCK, without_clock=False)[1:] == ([], "")


def test_a_run_without_any_fault_cannot_be(tmp_path: Path) -> None:
    """It would hold, and prove nothing."""
    with pytest.raises(CannotRun):
        kinds(tmp_path, Kind.NO_SPACE, without_clock=False)


@pytest.mark.parametrize(
    ("outcome", "code"),
    [(Outcome.HELD, 0), (Outcome.BROKEN, 1), (Outcome.FAILED, 3), (Outcome.INTERRUPTED, 130)],
)
def test_only_what_held_is_ok(outcome: Outcome, code: int) -> None:
    """In the JSON, beside the outcome and the exit code."""
    ending = Ending()
    if outcome is not Outcome.HELD:
        ending.add(outcome, "because")
    fields = json.loads(report.as_json(7, 1.0, Tally(), ending))
    assert (fields["ok"], fields["outcome"], fields["exit_code"]) == (code == 0, outcome, code)
    assert fields["broken"] == ("because" if outcome is Outcome.BROKEN else None)


def test_what_is_broken_counts_more_than_what_came_with_it() -> None:
    """A violation stays one when the run is interrupted as well, and the files are kept."""
    ending = Ending()
    ending.add(Outcome.BROKEN, "S1")
    ending.add(Outcome.BROKEN, "S2")
    ending.add(Outcome.INTERRUPTED, "stopped", keeps=False)
    assert (ending.code, ending.reason, ending.keeps) == (1, "S1; S2", True)
