"""The systemd units start what there is, with options that exist; systemd itself finds nothing wrong with them."""

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.main import get_command

from quota_agent.cli.main import app as agent_app
from quota_server.cli.server import app as server_app

DEPLOY = Path(__file__).parents[2] / "deploy"
UNITS = {
    "quota-server": DEPLOY / "quota-server.service",
    "quota-agent": DEPLOY / "quota-agent.service",
    "quota-server@": DEPLOY / "postgres" / "quota-server@.service",
}
PROGRAMS = {"quota-server": (server_app, "serve"), "quota-agent": (agent_app, "run")}
#: The highest exposure, in tenths, that `systemd-analyze security` may find.
EXPOSURE = 20

with_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")


def service(name: str) -> dict[str, str]:
    """The section that is looked at; of settings that are repeated, the last one."""
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(UNITS[name])
    return dict(unit["Service"])


def installed(name: str, folder: Path) -> Path:
    """The unit as an instance, its program one that is there."""
    unit = folder / f"{name}7400.service" if name.endswith("@") else folder / f"{name}.service"
    text = UNITS[name].read_text()
    unit.with_name(UNITS[name].name).write_text(
        re.sub(r"/opt/quotafleet/bin/\S+", str(shutil.which("true")), text)
    )
    return unit


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_calls_its_program_with_options_that_it_has(name: str) -> None:
    path, verb, *arguments = service(name)["ExecStart"].split()
    program = name.rstrip("@")
    app, command = PROGRAMS[program]
    assert (Path(path).name, verb) == (program, command)
    known = {name for option in get_command(app).commands[command].params for name in option.opts}  # type: ignore[attr-defined]
    assert {word for word in arguments if re.match(r"--", word)} <= known


def test_every_unit_is_looked_at() -> None:
    assert sorted(DEPLOY.rglob("*.service")) == sorted(UNITS.values())


def test_a_controller_on_postgresql_gets_its_secrets_in_the_only_command_that_sees_them_everywhere() -> None:
    text = UNITS["quota-server@"].read_text()
    assert text.count("\nExecStartPre=") == 1
    for secret in re.findall(r"^LoadCredential=([^:]+):", text, re.MULTILINE):
        assert f"${{CREDENTIALS_DIRECTORY}}/{secret}" in service("quota-server@")["ExecStartPre"]


@with_systemd
@pytest.mark.parametrize("name", UNITS)
def test_systemd_finds_nothing_wrong_with_a_unit(name: str, tmp_path: Path) -> None:
    unit = installed(name, tmp_path)
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (verified.returncode, verified.stderr) == (0, "")


@with_systemd
@pytest.mark.parametrize("name", UNITS)
def test_a_unit_exposes_little(name: str, tmp_path: Path) -> None:
    unit = installed(name, tmp_path)
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE}", "--no-pager", str(unit)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert judged.returncode == 0, judged.stdout.splitlines()[-1:]
