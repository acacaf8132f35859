"""Amounts, times and credential files of `quotactl`: what people write is read exactly, or refused."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
import typer
from google.protobuf.timestamp_pb2 import Timestamp
from typer.testing import CliRunner

from quota_server.cli import amounts, credentials, output, times, views
from quota_server.cli.quotactl import app
from quotafleet.v1 import agent_admin_service_pb2 as pb
from quotafleet.v1 import quota_service_pb2 as quota_pb


@pytest.mark.parametrize(
    ("text", "decimals", "units"),
    [
        ("0", 0, 0),
        ("0", 3, 0),
        ("12345", 0, 12345),
        ("12.345", 3, 12345),
        ("12.3", 3, 12300),
        ("0.001", 3, 1),
        ("1000000000000.000", 3, 10**15),
        ("1000000000000000", 0, 10**15),
    ],
)
def test_amounts_are_read_exactly(text: str, decimals: int, units: int) -> None:
    """As they are shown."""
    assert amounts.parse(text, decimals, "AMOUNT") == units


@pytest.mark.parametrize("text", ["", "-1", "1.", ".5", "1,5", "1e3", "1.2345", " 1", "²", "1" * 17])
def test_other_amounts_are_refused(text: str) -> None:
    """Nothing is rounded and nothing guessed."""
    with pytest.raises(typer.BadParameter):
        amounts.parse(text, 3, "AMOUNT")


def test_decimals_need_a_point() -> None:
    """Without one it could be meant either way; both are said."""
    with pytest.raises(typer.BadParameter, match=r"write 13000\.000 or 13\.000$"):
        amounts.parse("13000", 3, "AMOUNT")
    with pytest.raises(typer.BadParameter, match=r"write 5\.0 or 0\.5$"):
        amounts.parse("5", 1, "AMOUNT")


@pytest.mark.parametrize(("text", "decimals"), [("9223372036854775807", 0), ("1000000000000.001", 3)])
def test_the_largest_amount_is_said(text: str, decimals: int) -> None:
    """Before the controller is asked."""
    with pytest.raises(typer.BadParameter, match=r"at most 10\^15"):
        amounts.parse(text, decimals, "AMOUNT")


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
    (("quota", "create", "q", "--target", "13000", "--decimals", "3"), "13000.000 or 13.000"),
    (("quota", "create", "q", "--target", "9223372036854775807"), "at most 10^15"),
    (("quota", "create", "q", "--target", "1", "--time-zone", "Europe/London"), "--start or --end"),
    (("quota", "update", "q", "--end", "none", "--time-zone", "Europe/London"), "--start or --end"),
    (("--server", "127.0.0.1", "quota", "list"), "no port"),
    (("--server", "::1", "quota", "list"), "no port"),
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


# --- what is shown --------------------------------------------------------------------------------------------------

LONG_ID = "0123456789abcdef0123456789abcdef"


def shown_at(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: int) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(columns))
    rows = [["site-of-some-length", LONG_ID, "123456", "up", "because the funder has said so, twice"]]
    output.print_table(("agent", "id", "count>", "link", "why~"), rows, "nothing")
    return capsys.readouterr().out.splitlines()


def test_a_table_that_fits_is_one_line_a_row(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names above the columns."""
    head, row = shown_at(monkeypatch, capsys, 160)
    assert head.split() == ["agent", "id", "count", "link", "why"]
    assert row.split()[:4] == ["site-of-some-length", LONG_ID, "123456", "up"]
    assert row.endswith("because the funder has said so, twice")


@pytest.mark.parametrize("columns", [80, 60, 40, 10])
def test_a_narrow_screen_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: int
) -> None:
    """What has no room comes below its row, under its name."""
    lines = shown_at(monkeypatch, capsys, columns)
    assert lines[1].startswith("site-of-some-length")
    together = "".join("".join(lines).split())
    for part in (LONG_ID, "123456", "up", "because"):
        assert part in together
    if columns > 60:
        assert max(len(line) for line in lines) <= columns
        assert LONG_ID in lines[1]


@pytest.mark.parametrize(
    ("quota", "state"),
    [
        (quota_pb.Quota(end_time=Timestamp(seconds=1)), "open ended"),
        (quota_pb.Quota(start_time=Timestamp(seconds=2**33)), "open not begun"),
        (quota_pb.Quota(start_time=Timestamp(seconds=1), end_time=Timestamp(seconds=2**33)), "open"),
        (quota_pb.Quota(), "open"),
    ],
)
def test_a_period_that_is_not_now_is_shown(quota: quota_pb.Quota, state: str) -> None:
    """Beside the state: agents refuse then, although the quota is open."""
    quota.state = quota_pb.QUOTA_STATE_OPEN
    assert str(views.flags(quota)) == state
    count = quota_pb.Count(state=quota_pb.QUOTA_STATE_OPEN)
    assert str(dict(views.count_facts(count, quota))["state"]) == state


def test_charges_are_shown_if_there_are_any() -> None:
    """They are part of the count."""
    count = quota_pb.Count(decimals=1)
    assert dict(views.count_facts(count, agents=[quota_pb.AgentCount(charge=25)]))["charged"] == (
        "2.5, part of the count"
    )
    assert "charged" not in dict(views.count_facts(count, agents=[quota_pb.AgentCount()]))


def test_help_begins_with_what_is_used_first() -> None:
    """And a flag shows no value."""
    shown = CliRunner().invoke(app, ["quota", "--help"]).output
    names = ("create", "list", "get", "count", "set-target", "set-agent-target", "history")
    places = [shown.index(f"│ {name} ") for name in names]
    assert places == sorted(places)
    lines = CliRunner().invoke(app, ["quota", "create", "--help"]).output.splitlines()
    assert [line for line in lines if "<bool>" in line and "--help" not in line] == []


def test_every_command_has_json_and_help() -> None:
    """JSON works after the subcommand too; a docstring is the help."""
    for group in app.registered_groups:
        assert group.typer_instance is not None
        for command in group.typer_instance.registered_commands:
            assert command.callback is not None
            assert "as_json" in command.callback.__annotations__, command.callback
            assert command.callback.__doc__
