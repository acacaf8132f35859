"""Amounts, times and credential files of `quotactl`: what people write is read exactly, or refused."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from quota_server.cli import amounts, credentials, times
from quota_server.cli.quotactl import app
from quotafleet.v1 import agent_admin_service_pb2 as pb


@pytest.mark.parametrize(
    ("text", "decimals", "units"),
    [
        ("0", 0, 0),
        ("12345", 3, 12345),
        ("12.345", 3, 12345),
        ("12.3", 3, 12300),
        ("0.001", 3, 1),
        ("1000000000000.000", 3, 10**15),
        ("9999999999999999", 0, 9999999999999999),
    ],
)
def test_amounts_are_read_exactly(text: str, decimals: int, units: int) -> None:
    """Without a point smallest units, with one whole ones."""
    assert amounts.parse(text, decimals, "AMOUNT") == units


@pytest.mark.parametrize("text", ["", "-1", "1.", ".5", "1,5", "1e3", "1.2345", " 1", "²", "1" * 17])
def test_other_amounts_are_refused(text: str) -> None:
    """Nothing is rounded and nothing guessed."""
    with pytest.raises(typer.BadParameter):
        amounts.parse(text, 3, "AMOUNT")


def test_a_point_needs_decimals() -> None:
    """A quota of whole units has no fractions."""
    with pytest.raises(typer.BadParameter, match="integer"):
        amounts.parse("1.0", 0, "AMOUNT")


@pytest.mark.parametrize(
    ("units", "decimals", "text"),
    [
        (12345, 3, "12.345"),
        (5, 3, "0.005"),
        (0, 2, "0.00"),
        (7, 0, "7"),
        (-12, 1, "-1.2"),
        (10**15, 3, "1000000000000.000"),
    ],
)
def test_amounts_are_shown_with_the_quotas_decimals(units: int, decimals: int, text: str) -> None:
    """And can be read again."""
    assert amounts.shown(units, decimals) == text


@pytest.mark.parametrize(
    ("text", "zone", "start", "end"),
    [
        ("2026-12-31", "UTC", "2026-12-31T00:00:00Z", "2027-01-01T00:00:00Z"),
        ("2026-07-01", "Europe/London", "2026-06-30T23:00:00Z", "2026-07-01T23:00:00Z"),
        # The day on which clocks go forward has 23 hours.
        ("2026-03-29", "Europe/Berlin", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"),
        ("2026-12-31T18:00:00Z", "Europe/London", "2026-12-31T18:00:00Z", "2026-12-31T18:00:00Z"),
        ("2026-12-31t18:00:00.25+02:00", "UTC", "2026-12-31T16:00:00.250Z", "2026-12-31T16:00:00.250Z"),
    ],
)
def test_periods_are_moments_or_inclusive_dates(text: str, zone: str, start: str, end: str) -> None:
    """A last date is part of the period: it ends when the next day begins there."""
    time_zone = times.zone(zone)
    assert times.start(text, time_zone).ToJsonString() == start
    assert times.end(text, time_zone).ToJsonString() == end


@pytest.mark.parametrize(
    "text",
    [
        "",
        "today",
        "2026-02-30",
        "2026-1-1",
        "2026-12-31T18:00:00",
        "2026-12-31 25:00:00Z",
        "9999-12-31",
        "0000-01-01",
    ],
)
def test_other_times_are_refused(text: str) -> None:
    """A time without an offset is nobody's time."""
    with pytest.raises(typer.BadParameter):
        times.end(text, times.zone("UTC"))


@pytest.mark.parametrize("name", ["Europe/Nowhere", "../etc/passwd", "Europe", ""])
def test_unknown_time_zones_are_refused(name: str) -> None:
    """Whatever the name does to the search for it."""
    with pytest.raises(typer.BadParameter):
        times.zone(name)


@pytest.mark.parametrize(
    ("text", "milliseconds", "shown"),
    [
        ("0", 0, "0 ms"),
        ("250ms", 250, "250 ms"),
        ("1.5s", 1_500, "1.5 s"),
        ("90", 90_000, "1 min 30 s"),
        ("36h", 129_600_000, "1 d 12 h"),
        ("0.25d", 21_600_000, "6 h"),
    ],
)
def test_lengths_of_time(text: str, milliseconds: int, shown: str) -> None:
    """Read exactly, shown in two parts."""
    length = times.duration(text, "--wait")
    assert length.ToMilliseconds() == milliseconds
    assert times.shown_duration(length) == shown


@pytest.mark.parametrize("text", ["", "-1s", "1w", "1.s", "s", "1 s"])
def test_other_lengths_of_time_are_refused(text: str) -> None:
    """With a word about how to write them."""
    with pytest.raises(typer.BadParameter, match="length of time"):
        times.duration(text, "--wait")


# --- credential files ------------------------------------------------------------------------------------------------

CREDENTIAL = pb.AgentCredential(agent="a", agent_uid="u", epoch=2, token="secret")


def test_a_credential_file_is_for_its_owner_only(tmp_path: Path) -> None:
    """It holds what the agent reads, and no draft of it is left."""
    path = tmp_path / "c.json"
    with credentials.credential_file(path, "a", force=False, as_json=False) as file:
        file.write(CREDENTIAL)
    assert json.loads(path.read_text()) == {"agent": "a", "agent_uid": "u", "epoch": "2", "token": "secret"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_credential_file_is_not_overwritten(tmp_path: Path) -> None:
    """Unless that is asked for; it is refused before the controller is asked for anything."""
    path = tmp_path / "c.json"
    path.write_text("old")
    with pytest.raises(typer.Exit), credentials.credential_file(path, "a", force=False, as_json=False):
        pytest.fail("it went on")
    assert path.read_text() == "old"
    with credentials.credential_file(path, "a", force=True, as_json=False) as file:
        file.write(CREDENTIAL)
    assert "secret" in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_that_comes_into_being_meanwhile_stays(tmp_path: Path) -> None:
    """And the new credential is kept beside it: the controller will not give it out again."""
    path = tmp_path / "c.json"

    def overtaken() -> None:
        with credentials.credential_file(path, "a", force=False, as_json=False) as file:
            path.write_text("other")
            file.write(CREDENTIAL)

    with pytest.raises(typer.Exit):
        overtaken()
    assert path.read_text() == "other"
    (kept,) = set(tmp_path.iterdir()) - {path}
    assert "secret" in kept.read_text()


def test_nothing_is_left_when_the_call_fails(tmp_path: Path) -> None:
    """No file at all, not an empty one."""
    path = tmp_path / "c.json"
    with pytest.raises(typer.Exit), credentials.credential_file(path, "a", force=False, as_json=False):
        raise typer.Exit(1)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_told_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before an agent is enrolled whose credential would be lost."""
    path = tmp_path / "missing" / "c.json"
    with pytest.raises(typer.Exit), credentials.credential_file(path, "a", force=False, as_json=False):
        pytest.fail("it went on")
    assert "cannot write" in capsys.readouterr().err


# --- bad usage -------------------------------------------------------------------------------------------------------

BAD_USAGE: list[tuple[tuple[str, ...], str]] = [
    (("quota", "create", "q"), "--target"),
    (("quota", "create", "q", "--target", "1.5"), "no decimal places"),
    (("quota", "create", "q", "--target", "-1"), "no amount"),
    (("quota", "create", "q", "--target", "1", "--start", "soon"), "RFC 3339"),
    (("quota", "create", "q", "--target", "1", "--time-zone", "Mars/Base"), "time zone"),
    (("quota", "create", "q", "--target", "1", "--max-offline", "long"), "length of time"),
    (("quota", "create", "q", "--target", "1", "--policy", "random"), "--policy"),
    (("quota", "update", "q"), "nothing to change"),
    (("quota", "nonsense"), "nonsense"),
    (("agent", "add", "../evil"), "no name"),
    (("override", "list", "--state", "lost"), "--state"),
]


@pytest.mark.parametrize(("arguments", "said"), BAD_USAGE)
def test_bad_usage_ends_with_2(arguments: tuple[str, ...], said: str) -> None:
    """Before any controller is asked; it says what was wrong."""
    ended = CliRunner().invoke(app, ["--server", "127.0.0.1:1", *arguments])
    assert ended.exit_code == 2
    assert said in " ".join(ended.output.replace("│", " ").split())


def test_every_command_has_json_and_help() -> None:
    """JSON works after the subcommand too; a docstring is the help."""
    for group in app.registered_groups:
        assert group.typer_instance is not None
        for command in group.typer_instance.registered_commands:
            assert command.callback is not None
            assert "as_json" in command.callback.__annotations__, command.callback
            assert command.callback.__doc__
