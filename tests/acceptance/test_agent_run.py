"""`quota-agent run` as it is told wrong things: what it refuses, and what it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.agent_kit import quota_agent, write_credential

#: Nobody listens there.
NOWHERE = "127.0.0.1:1"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        (json.dumps({"agent": "a", "agent_uid": "u", "epoch": 1}), "'token'"),
        (json.dumps({"agent": "a", "agent_uid": "u", "epoch": 0, "token": "t"}), "'epoch'"),
        (json.dumps({"agent": "a", "agent_uid": "u", "epoch": "x", "token": "secret"}), "'epoch'"),
    ],
)
def test_a_bad_credential_is_refused_by_name(tmp_path: Path, content: str, problem: str) -> None:
    """The message says which part is wrong and repeats none of it."""
    path = tmp_path / "credential.json"
    path.write_text(content)
    path.chmod(0o644)
    ran = quota_agent(
        tmp_path / "s", "run", "--data-dir", str(tmp_path), "--credential", str(path), "--controller", NOWHERE
    )
    assert ran.code == 1
    assert problem in ran.err
    assert "chmod 600" in ran.err
    assert "secret" not in ran.err


def test_the_agent_serves_and_dials_this_machine_only_unless_told(tmp_path: Path) -> None:
    """A listening address must be loopback, and a token does not leave the machine in the clear by itself."""
    credential = str(write_credential(tmp_path / "credential.json"))
    run = ("run", "--data-dir", str(tmp_path), "--credential", credential)
    far = quota_agent(tmp_path / "s", *run, "--controller", "192.0.2.1:7000")
    assert (far.code, "--insecure" in far.err) == (2, True)
    wide = quota_agent(tmp_path / "s", *run, "--controller", NOWHERE, "--listen", "0.0.0.0:7000")
    assert (wide.code, "loopback" in wide.err) == (1, True)
    assert "Traceback" not in far.err + wide.err
