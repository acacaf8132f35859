"""`quotactl` as a process: what it prints for people and for programs, and how it ends."""

from __future__ import annotations

import json
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shell_kit import QUOTACTL, Shell, lines, run, running_agent, serving


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    folder = tmp_path_factory.mktemp("quotactl")
    with serving(folder) as address:
        yield Shell(folder, address)


@pytest.fixture
def shell(shared: Shell, tmp_path: Path) -> Shell:
    """One controller for all tests, a folder for each: names of quotas and agents differ from test to test."""
    return Shell(tmp_path, shared.address)


# --- quotas ----------------------------------------------------------------------------------------------------------


def test_a_quota_from_the_shell(shell: Shell) -> None:
    """Amounts with the quota's decimals, dates with a time zone; JSON wherever it is asked for."""
    created = shell.ctl(
        *("quota", "create", "tariff/054001/2026", "--target", "12.345", "--decimals", "3"),
        *("--start", "2026-07-01", "--end", "2026-07-31", "--time-zone", "Europe/London"),
        *("--policy", "weighted", "--reserve", "10", "--critical", "80", "--max-offline", "36h"),
    )
    assert "quota 'tariff/054001/2026' is open" in created.out
    assert "12.345" in created.out
    before, after = (
        shell.ctl("--json", "quota", "get", "tariff/054001/2026"),
        shell.ctl("quota", "get", "tariff/054001/2026", "--json"),
    )
    assert before.out == after.out
    assert len(before.out.splitlines()) == 1
    quota = before.json["quota"]
    assert (quota["target"], quota["decimals"], quota["policy"]) == ("12345", 3, "POLICY_WEIGHTED")
    assert (quota["start_time"], quota["end_time"]) == ("2026-06-30T23:00:00Z", "2026-07-31T23:00:00Z")
    assert (quota["reserve_percent"], quota["critical_percent"], quota["max_offline"]) == (10, 80, "129600s")
    listed = [row for row in lines(shell.ctl("quota", "list").out) if row[0] == "tariff/054001/2026"]
    assert listed[0][1:3] == ["12.345", "open"]
    assert "weighted" in listed[0]
    shell.ctl("quota", "update", "tariff/054001/2026", "--end", "none", "--policy", "equal")
    changed = shell.ctl("quota", "get", "tariff/054001/2026", "--json").json["quota"]
    assert "end_time" not in changed
    assert (changed["policy"], changed["reserve_percent"]) == ("POLICY_EQUAL", 10)
    target = shell.ctl("quota", "set-target", "tariff/054001/2026", "20.5", "--reason", "more came")
    assert "12.345 → 20.500" in target.out
    assert "target" in shell.ctl("quota", "count", "tariff/054001/2026").out
    history = shell.ctl("quota", "history", "tariff/054001/2026").out
    assert "target 12.345 → 20.500" in history
    assert "more came" in history
    user = shell.ctl("quota", "history", "tariff/054001/2026", "--limit", "1", "--json").json["entries"][0][
        "actor"
    ]
    assert user not in ("", "unknown")
    assert "suspended" in shell.ctl("quota", "suspend", "tariff/054001/2026").out
    assert "open" in shell.ctl("quota", "resume", "tariff/054001/2026").out
    closed = shell.ctl("quota", "close", "tariff/054001/2026", "--json").json["quota"]
    assert closed["state"] == "QUOTA_STATE_CLOSED"
    names = [each["name"] for each in shell.ctl("quota", "list", "--json").json["quotas"]]
    assert "tariff/054001/2026" not in names
    uids = [each["uid"] for each in shell.ctl("quota", "list", "--all", "--json").json["quotas"]]
    assert closed["uid"] in uids


def test_a_dry_run_changes_nothing(shell: Shell) -> None:
    """It says what would be."""
    assert "could be opened" in shell.ctl("quota", "create", "dry", "--target", "5", "--dry-run").out
    assert shell.ctl("quota", "get", "dry", ok=False).code == 1
    shell.ctl("quota", "create", "dry", "--target", "5")
    assert "5 → 7" in shell.ctl("quota", "set-target", "dry", "7", "--dry-run").out
    assert shell.ctl("quota", "get", "dry", "--json").json["quota"]["target"] == "5"


# --- agents ----------------------------------------------------------------------------------------------------------


def test_an_agent_from_the_shell(shell: Shell) -> None:
    """Its credential starts a real agent, which then is reached by every change."""
    shell.ctl("quota", "create", "shop", "--target", "10.0", "--decimals", "1")
    added = shell.ctl("agent", "add", "site-a")
    path = shell.folder / "site-a.credential.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    credential = json.loads(path.read_text())
    assert credential["agent"] == "site-a"
    assert credential["token"] not in added.out + added.err
    assert f"quota-agent run --controller {shell.address} --credential site-a.credential.json" in added.out
    first = shell.ctl("agent", "assign", "site-a", "shop", "--min", "1.5", "--weight", "2").out
    assert "its part: weight 2, min 1.5, max none" in first
    second = shell.ctl("agent", "assign", "site-a", "shop", "--max", "9.0").out
    assert "its part: weight 2, min 1.5, max 9.0" in second, "what is not given stays"
    assert "max none" in shell.ctl("agent", "assign", "site-a", "shop", "--max", "none").out
    ambiguous = shell.ctl("quota", "set-target", "shop", "80", ok=False)
    assert (ambiguous.code, "80.0 or 8.0" in " ".join(ambiguous.err.split())) == (2, True)
    with running_agent(shell.folder, "site-a", shell.address):
        wait_until_connected(shell, "site-a")
        changed = shell.ctl("quota", "set-target", "shop", "8.0").out
        assert ["site-a", "applied"] in [row[:2] for row in lines(changed)]
        outcomes = shell.ctl("quota", "rebalance", "shop", "--json", "--wait", "2s").json["outcomes"]
        assert [(each["agent"], each["outcome"]) for each in outcomes] == [("site-a", "OUTCOME_APPLIED")]
        fixed = shell.ctl("quota", "set-agent-target", "shop", "site-a", "3.0").out
        assert "fixed at 3.0" in fixed
        count = shell.ctl("quota", "count", "shop", "--agents", "--refresh", "--json").json
        assert (count["count"]["connected_agents"], count["count"]["upper_bound"]) == (1, "30")
        assert [(each["agent"], each["outcome"]) for each in count["agents"]] == [
            ("site-a", "OUTCOME_APPLIED")
        ]
        assert "connected" in shell.ctl("agent", "list").out
        narrow = run(
            *(*QUOTACTL, "quota", "count", "shop", "--agents", "--refresh"),
            folder=shell.folder,
            QUOTAFLEET_SERVER=shell.address,
            COLUMNS="80",
        ).out
        assert ["site-a", "1", "up"] in [row[:3] for row in lines(narrow)]
        assert "asked applied" in narrow
    assert ["shop", "2", "3.0", "3.0"] in [row[:4] for row in lines(shell.ctl("agent", "get", "site-a").out)]
    shell.ctl("agent", "deactivate", "site-a")
    assert "switched-off" in shell.ctl("agent", "list").out
    shell.ctl("agent", "activate", "site-a")
    shell.ctl("agent", "unassign", "site-a", "shop")


def wait_until_connected(shell: Shell, name: str) -> None:
    """Each look takes as long as starting quotactl does."""
    for _ in range(50):
        if shell.ctl("agent", "get", name, "--json").json["agent"]["connected"]:
            return
    raise AssertionError("the agent has not connected")


def test_a_credential_is_not_overwritten(shell: Shell) -> None:
    """And nobody is enrolled, or settled, whose credential could not be kept."""
    path = shell.folder / "site-b.credential.json"
    path.write_text("precious")
    refused = shell.ctl("agent", "add", "site-b", ok=False)
    assert refused.code == 2
    assert "--force" in refused.err
    assert shell.ctl("agent", "get", "site-b", ok=False).code == 1
    other = shell.ctl("agent", "add", "site-b", "--credential-file", "other.json", "--json")
    assert other.json["credential"]["token"] == "", "output ends in logs"
    first = json.loads((shell.folder / "other.json").read_text())
    next_path = shell.folder / "site-b.epoch-2.credential.json"
    next_path.write_text("precious too")
    refused = shell.ctl("agent", "settle", "site-b", ok=False)
    assert (refused.code, "--force" in refused.err) == (2, False)
    next_path.unlink()
    settled = shell.ctl("agent", "settle", "site-b")
    assert "epoch 2 begins" in settled.out
    assert "--credential site-b.epoch-2.credential.json" in settled.out
    assert "agent assign" not in settled.out, "its parts carry over"
    assert path.read_text() == "precious", "the old store needs its own to report"
    second = json.loads(next_path.read_text())
    assert (first["epoch"], second["epoch"]) == ("1", "2")
    again = shell.ctl("agent", "settle", "site-b", "--epoch", "1", ok=False)
    assert (again.code, "settled already" in again.err) == (2, True)
    assert json.loads(next_path.read_text()) == second, "no new epoch began"
    assert first["token"] != second["token"]
    assert [each.name for each in shell.folder.iterdir() if each.name.startswith(".")] == []


def test_an_agent_ends(shell: Shell) -> None:
    """What it was charged is shown; a risk needs --confirm."""
    shell.ctl("quota", "create", "ends", "--target", "10")
    shell.ctl("agent", "add", "site-c")
    shell.ctl("agent", "assign", "site-c", "ends")
    refused = shell.ctl("agent", "retire", "site-c", "--assume", "last-reported", ok=False)
    assert refused.code == 1
    assert "CONFIRMATION_NEEDED" in refused.err
    assert "--confirm" in refused.err
    retired = shell.ctl("agent", "retire", "site-c", "--assume", "last-reported", "--confirm", "--json").json
    assert retired["agent"]["retired"] is True
    assert [each["charge"] for each in retired["settlements"]] == ["0"]
    listed = shell.ctl("agent", "list", "--all").out
    assert "retired" in listed


# --- overrides -------------------------------------------------------------------------------------------------------


def test_overrides_from_the_shell(shell: Shell) -> None:
    """Asked for, listed, decided, revoked."""
    shell.ctl("quota", "create", "over", "--target", "10.00", "--decimals", "2")
    shell.ctl("agent", "add", "site-d")
    shell.ctl("agent", "assign", "site-d", "over")
    asked = shell.ctl("override", "request", "over", "site-d", "1.25", "--reason", "a customer waits")
    assert "1.25" in asked.out
    assert "quotactl override approve" in asked.out
    (override,) = shell.ctl("override", "list", "--quota", "over", "--state", "pending", "--json").json[
        "overrides"
    ]
    shell.ctl("override", "request", "over", "site-d", "0.50")
    candidates = [each["override_id"] for each in shell.ctl("override", "list", "--json").json["overrides"]]
    prefix = override["override_id"][:9]
    assert [each for each in candidates if each.startswith(prefix)] == [override["override_id"]]
    approved = shell.ctl("override", "approve", prefix, "--json").json["override"]
    assert (approved["state"], approved["amount"]) == ("OVERRIDE_STATE_APPROVED", "125")
    again = shell.ctl("override", "deny", override["override_id"], ok=False)
    assert again.code == 1
    assert "OVERRIDE_DECIDED" in again.err
    assert "revoked" in shell.ctl("override", "revoke", override["override_id"]).out
    assert "no overrides" in shell.ctl("override", "list", "--agent", "site-d", "--state", "used").out


# --- watch -----------------------------------------------------------------------------------------------------------


def test_a_watch_prints_every_change(shell: Shell) -> None:
    """One JSON object a line, until it is interrupted."""
    shell.ctl("quota", "create", "watched", "--target", "10")
    command = [*QUOTACTL, "--server", shell.address, "quota", "watch", "watched"]
    with (
        subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, text=True) as machine,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as person,
    ):
        assert machine.stdout is not None
        assert person.stdout is not None
        try:
            assert json.loads(machine.stdout.readline())["target"] == "10"
            assert "target 10 " in person.stdout.readline()
            shell.ctl("quota", "set-target", "watched", "7")
            assert json.loads(machine.stdout.readline())["target"] == "7"
            assert "target 7 " in person.stdout.readline()
            for process in (machine, person):
                process.send_signal(signal.SIGINT)
                assert process.wait(timeout=30) == 0
        finally:
            machine.kill()
            person.kill()


# --- how commands end ------------------------------------------------------------------------------------------------


def test_refusals_end_with_1(shell: Shell) -> None:
    """One line says why, another what to do."""
    shell.ctl("quota", "create", "taken", "--target", "5")
    refused = shell.ctl("quota", "create", "taken", "--target", "5", ok=False)
    assert (refused.code, refused.out) == (1, "")
    first, second = refused.err.splitlines()
    assert first == "error: QUOTA_EXISTS: an open quota is named 'taken'"
    assert "choose another name" in second
    machine = shell.ctl("--json", "quota", "create", "taken", "--target", "5", ok=False)
    assert (machine.code, machine.err) == (1, "")
    assert machine.json["error"]["reason"] == "QUOTA_EXISTS"
    assert machine.json["error"]["metadata"] == {"quota": "taken"}


def test_a_bad_field_ends_with_2(shell: Shell) -> None:
    """Only the controller knows that it is bad; it is named."""
    refused = shell.ctl("quota", "create", "Bad Name", "--target", "1", ok=False)
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.startswith("error: FIELD_INVALID: quota.name: must match")
    machine = shell.ctl("--json", "quota", "create", "Bad Name", "--target", "1", ok=False)
    assert [each["field"] for each in machine.json["error"]["fields"]] == ["quota.name"]


def test_no_controller_ends_with_3(tmp_path: Path) -> None:
    """And says where it looked."""
    refused = run(*QUOTACTL, "--server", "127.0.0.1:1", "quota", "list", folder=tmp_path)
    assert refused.code == 3
    assert "no controller answers at 127.0.0.1:1" in refused.err
    machine = run(*QUOTACTL, "--server", "127.0.0.1:1", "--json", "agent", "add", "a", folder=tmp_path)
    assert machine.code == 3
    assert machine.json["error"]["reason"] == "UNAVAILABLE"
    assert list(tmp_path.iterdir()) == [], "no credential file is left"


def test_the_codes_are_documented(tmp_path: Path) -> None:
    """Where one looks first."""
    shown = " ".join(run(*QUOTACTL, "--help", folder=tmp_path).out.split())
    assert "0 done, 1 refused by the controller" in shown
    assert "2 bad usage" in shown
    assert "3 the controller cannot be reached" in shown
