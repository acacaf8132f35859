"""How the command line reads and writes amounts, times and labels, and who it believes to be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from quota_agent.cli.amounts import parse, parse_or_one
from quota_agent.cli.client import plain
from quota_agent.cli.options import decimal, duration, labels, one_request_id
from quota_agent.config import BadConfig, Credential, default_data_dir, default_socket, read_credential
from quotafleet.agent.v1 import gate_service_pb2 as pb


@pytest.mark.parametrize(
    ("units", "decimals", "text"),
    [
        (0, 0, "0"),
        (12_345, 0, "12345"),
        (12_345, 3, "12.345"),
        (5, 3, "0.005"),
        (-5, 2, "-0.05"),
        (10**15, 1, "100000000000000.0"),
    ],
)
def test_amounts_are_shown_with_their_decimals(units: int, decimals: int, text: str) -> None:
    """Without a float in between."""
    assert decimal(units, decimals) == text


@given(st.integers(-(10**15), 10**15), st.integers(0, 3))
def test_no_unit_is_lost_in_showing(units: int, decimals: int) -> None:
    """The digits are those of the integer."""
    assert int(decimal(units, decimals).replace(".", "")) == units


@given(st.integers(0, 10**15), st.integers(0, 3))
def test_what_is_shown_can_be_written(units: int, decimals: int) -> None:
    """An amount is read as it is shown."""
    assert parse(decimal(units, decimals), pb.QuotaStatus(decimals=decimals)) == units


@pytest.mark.parametrize(("text", "units"), [("1.5", 1_500), ("0.001", 1), ("7.250", 7_250)])
def test_amounts_are_read_by_the_decimals_of_their_quota(text: str, units: int) -> None:
    """Digits after the point are filled up."""
    assert parse(text, pb.QuotaStatus(decimals=3)) == units


@pytest.mark.parametrize(
    ("text", "decimals", "problem"),
    [
        ("1234", 3, r"1234\.000 for whole units, or 1\.234 for"),
        ("1.2345", 3, "at most 3 decimal places"),
        ("1.5", 0, "no decimal places"),
        ("-1", 0, "no amount"),
        ("1e3", 0, "no amount"),
        ("9" * 30, 0, "no amount"),
        ("9" * 16, 0, "at most 1000000000000000$"),
        ("9" * 16 + ".999", 3, r"at most 1000000000000\.000"),
    ],
)
def test_amounts_that_are_none_or_two_are_refused(text: str, decimals: int, problem: str) -> None:
    """The message shows how to write it."""
    with pytest.raises(typer.BadParameter, match=problem):
        parse(text, pb.QuotaStatus(quota="q", decimals=decimals))


def test_an_amount_may_be_left_out_where_one_is_one() -> None:
    """With decimals it could be a whole unit or the smallest."""
    assert parse_or_one(None, pb.QuotaStatus()) == 1
    with pytest.raises(typer.BadParameter, match=r"1\.00"):
        parse_or_one(None, pb.QuotaStatus(decimals=2))


def test_a_request_id_is_given_in_either_way() -> None:
    """In both, if they are the same."""
    assert [one_request_id(*ids) for ids in (("a", None), (None, "a"), ("a", "a"))] == ["a"] * 3
    for argument, option in ((None, None), ("a", "b")):
        with pytest.raises(typer.BadParameter):
            one_request_id(argument, option)


@pytest.mark.parametrize(
    ("text", "nanos"),
    [
        ("90", 90 * 10**9),
        ("90s", 90 * 10**9),
        ("1.5m", 90 * 10**9),
        ("2h", 7_200 * 10**9),
        ("250ms", 250 * 10**6),
        ("0.1", 10**8),
    ],
)
def test_lengths_of_time_are_read(text: str, nanos: int) -> None:
    """In hours, minutes, seconds or milliseconds."""
    read = duration(text)
    assert read.seconds * 10**9 + read.nanos == nanos


@pytest.mark.parametrize("text", ["", "soon", "-5s", "1d", "1e9", "s", "9" * 30])
def test_what_is_no_length_of_time_is_bad_usage(text: str) -> None:
    """The message shows how to write one."""
    with pytest.raises(typer.BadParameter):
        duration(text)


def test_labels_are_read() -> None:
    """A value may hold anything, an equals sign included; a key comes once."""
    assert labels(["a=1", "b=x=y", "c="]) == {"a": "1", "b": "x=y", "c": ""}
    for bad in (["a"], ["=1"], ["a=1", "a=2"]):
        with pytest.raises(typer.BadParameter):
            labels(bad)


def test_answers_are_plain_json() -> None:
    """Amounts are numbers, enums names, times RFC 3339; what is not set is left out."""
    entry = pb.Entry(quota="q", granted=10**15, state=pb.ENTRY_STATE_COUNTED, labels={"k": "v"})
    entry.create_time.FromMilliseconds(1_700_000_000_123)
    shown = json.loads(json.dumps(plain(pb.AcquireResponse(entry=entry, granted=10**15))))
    assert shown["granted"] == 10**15
    assert shown["entry"]["state"] == "COUNTED"
    assert shown["entry"]["create_time"] == "2023-11-14T22:13:20.123Z"
    assert shown["entry"]["labels"] == {"k": "v"}
    assert "expire_time" not in shown["entry"]
    assert "balance" not in shown


@pytest.mark.parametrize("epoch", [3, "3"])
def test_a_credential_is_read_as_protobuf_or_people_write_it(tmp_path: Path, epoch: object) -> None:
    """64 bits are a string in protobuf's JSON; and the token shows nowhere."""
    path = tmp_path / "credential.json"
    for names in (("agent_uid", "token"), ("agentUid", "token")):
        path.write_text(json.dumps({"agent": "a", names[0]: "u", "epoch": epoch, names[1]: "secret"}))
        path.chmod(0o600)
        assert read_credential(path) == Credential("a", "u", 3, "secret")
    assert "secret" not in repr(read_credential(path))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"epoch":' * 100_000], ids=["lists", "objects"])
def test_a_file_that_is_nested_deeply_is_no_credential(tmp_path: Path, text: str) -> None:
    """It is named, like every other file that is none."""
    path = tmp_path / "credential.json"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(BadConfig, match=r"credential\.json is not a credential: it is nested too deeply"):
        read_credential(path)


def test_the_socket_is_found_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or in the data folder."""
    monkeypatch.setenv("QUOTA_AGENT_SOCKET", "/run/a.sock")
    assert default_socket() == Path("/run/a.sock")
    monkeypatch.delenv("QUOTA_AGENT_SOCKET")
    assert default_socket().parent == default_data_dir()
