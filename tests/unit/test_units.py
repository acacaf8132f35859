"""The systemd units start what there is, with options that exist."""

import configparser
import re
from pathlib import Path

import pytest
from typer.main import get_command

from quota_agent.cli.main import app as agent_app
from quota_server.cli.server import app as server_app

DEPLOY = Path(__file__).parents[2] / "deploy"
PROGRAMS = {"quota-server": (server_app, "serve"), "quota-agent": (agent_app, "run")}


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_unit_calls_its_program_with_options_that_it_has(program: str) -> None:
    unit = configparser.RawConfigParser(strict=True)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(DEPLOY / f"{program}.service")
    path, verb, *arguments = unit["Service"]["ExecStart"].split()
    app, command = PROGRAMS[program]
    assert (Path(path).name, verb) == (program, command)
    known = {name for option in get_command(app).commands[command].params for name in option.opts}  # type: ignore[attr-defined]
    assert {word for word in arguments if re.match(r"--", word)} <= known
