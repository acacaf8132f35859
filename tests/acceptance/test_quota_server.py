"""`quota-server` as a process: what it refuses, what it says, and the recovery after a restore."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.shell_kit import QUOTA_SERVER, Shell, lines, run, serving


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--listen", "0.0.0.0:7400"), "nothing on the wire is encrypted"),
        (("--listen", "[::]:7400"), "nothing on the wire is encrypted"),
        (("--listen", "example.org:7400"), "loopback"),
        (("--listen", "7400"), "HOST:PORT"),
        (("--listen", f"127.0.0.1:{'1' * 5_000}"), "HOST:PORT"),
        (("--heartbeat", "0"), "--heartbeat"),
        (("--heartbeat", "nan"), ""),
        (("--log-level", "loud"), "--log-level"),
    ],
)
def test_the_server_refuses_what_is_not_safe(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    """Before it makes anything."""
    refused = run(*QUOTA_SERVER, "serve", *arguments, folder=tmp_path)
    assert refused.code == 2
    assert said in " ".join(refused.err.replace("│", " ").split())
    assert list(tmp_path.iterdir()) == []


def test_a_data_folder_has_one_server(tmp_path: Path) -> None:
    """The second one says so and leaves."""
    with serving(tmp_path):
        second = run(*QUOTA_SERVER, "serve", "--data-dir", "data", "--listen", "127.0.0.1:0", folder=tmp_path)
        assert second.code == 1
        assert second.err.splitlines()[-1].startswith("error: ")
        recover = run(*QUOTA_SERVER, "recover", "--data-dir", "data", "--yes", folder=tmp_path)
        assert recover.code == 1


def test_a_port_in_use_is_said(tmp_path: Path) -> None:
    """In one line, and nothing is left behind."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        refused = run(*QUOTA_SERVER, "serve", "--listen", address, folder=tmp_path)
    assert (refused.code, list(tmp_path.iterdir())) == (2, [])
    assert refused.err == f"error: --listen {address}: the port cannot be had; is it in use?\n"


def test_the_version_is_printed(tmp_path: Path) -> None:
    """That of the package."""
    assert run(*QUOTA_SERVER, "version", folder=tmp_path).out.strip() == "0.1.0"


def test_a_restored_database_recovers(tmp_path: Path) -> None:
    """Declared while the server is stopped, finished by an operator when everybody is heard or settled."""
    with serving(tmp_path) as address:
        shell = Shell(tmp_path, address)
        shell.ctl("quota", "create", "q", "--target", "10")
        shell.ctl("agent", "add", "a")
        assert "not recovering" in shell.ctl("recovery", "status").out
    nowhere = run(*QUOTA_SERVER, "recover", "--data-dir", "elsewhere", "--yes", folder=tmp_path)
    assert (nowhere.code, (tmp_path / "elsewhere").exists()) == (2, False)
    unsure = run(*QUOTA_SERVER, "recover", folder=tmp_path, QUOTAFLEET_DATA_DIR="data")
    assert unsure.code == 2
    assert "--yes" in unsure.err
    declared = run(*QUOTA_SERVER, "recover", "--yes", folder=tmp_path, QUOTAFLEET_DATA_DIR="data")
    assert declared.code == 0
    assert "generation 1" in declared.out
    assert "quotactl recovery finish --confirm" in declared.out
    with serving(tmp_path) as address:
        shell = Shell(tmp_path, address)
        assert "recovering" in shell.ctl("quota", "list").out
        assert "unknown while recovering" in shell.ctl("quota", "count", "q").out
        assert ["a", "1", "0"] in lines(shell.ctl("recovery", "status").out)
        assert "RECOVERY_STATE" in shell.ctl("recovery", "finish", "--confirm", ok=False).err
        shell.ctl("agent", "settle", "a")
        assert "every enrolment is heard or settled" in shell.ctl("recovery", "status").out
        assert "1 quota " in shell.ctl("recovery", "finish", "--confirm").out
        assert shell.ctl("recovery", "status", "--json").json == {
            "recovering": False,
            "generation": "1",
            "unheard": [],
            "next_page_token": "",
        }
