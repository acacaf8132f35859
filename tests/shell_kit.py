"""The controller and its command lines as processes, as an operator has them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

READY = "quota-server ready address="
QUOTACTL = (sys.executable, "-m", "quota_server.cli.quotactl")
QUOTA_SERVER = (sys.executable, "-m", "quota_server.cli.server")


@dataclass(frozen=True)
class Ran:
    """What came of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def run(*command: str, folder: Path, **variables: str) -> Ran:
    dropped = ("COLUMNS", "FORCE_COLOR", "QUOTAFLEET_SERVER", "QUOTAFLEET_DATA_DIR")
    environment = {key: value for key, value in os.environ.items() if key not in dropped} | variables
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert "\x1b" not in done.stdout + done.stderr, "colours are for terminals"
    return Ran(done.returncode, done.stdout, done.stderr)


@contextmanager
def serving(folder: Path, **variables: str) -> Iterator[str]:
    """A controller on the data in `folder`, or as the variables say, from ready to its drain; its address."""
    command = [*QUOTA_SERVER, "serve", "--data-dir", "data", "--listen", "127.0.0.1:0", "--heartbeat", "0.2"]
    environment = {**os.environ, **variables}
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        try:
            address = (
                next(line for line in process.stderr if line.startswith(READY)).strip().removeprefix(READY)
            )
            yield address
            process.terminate()
            process.communicate(timeout=30)
            assert process.returncode == 0
        finally:
            process.kill()


@contextmanager
def running_agent(folder: Path, name: str, controller: str) -> Iterator[None]:
    """`quota-agent run` with a credential that quotactl wrote."""
    command = [*(sys.executable, "-m", "quota_agent.cli.main", "run"), "--controller", controller]
    command += ["--credential", f"{name}.credential.json", "--data-dir", f"agent-{name}"]
    command += ["--socket", f"{name}.sock"]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            assert any("quota-agent ready" in line for line in process.stderr)
            yield
        finally:
            process.terminate()
            process.communicate(timeout=30)


@dataclass(frozen=True)
class Shell:
    """A folder in which quotactl is used, and the controller that it speaks to."""

    folder: Path
    address: str

    def ctl(self, *arguments: str, ok: bool = True) -> Ran:
        ran = run(*QUOTACTL, *arguments, folder=self.folder, QUOTAFLEET_SERVER=self.address)
        assert not ok or ran.code == 0, ran.err
        return ran


def lines(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if line.strip()]
