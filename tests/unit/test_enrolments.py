"""The data of the demo: what the docs say of it, and that the file is what the script makes."""

from collections import Counter
from pathlib import Path

import pytest

from examples import enrolments


def test_the_file_is_what_the_script_makes() -> None:
    """Whoever changes the script runs it."""
    assert enrolments.main(["--check"]) == 0


def test_the_check_can_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that was edited by hand is noticed, and so is one that is not there."""
    edited = tmp_path / "enrolments.csv"
    monkeypatch.setattr(enrolments, "CSV", edited)
    assert enrolments.main(["--check"]) == 1
    edited.write_text(enrolments.text(enrolments.make()[1:]), encoding="utf-8")
    assert enrolments.main(["--check"]) == 1
    assert "run `python -m examples.enrolments`" in capsys.readouterr().err


def test_what_is_written_is_what_is_read() -> None:
    """Times, sites and participants survive the file."""
    assert enrolments.read() == enrolments.make()


def test_the_seed_decides() -> None:
    """The same seed makes the same rows; another one makes others."""
    assert enrolments.make(1) == enrolments.make(1)
    assert enrolments.make(1) != enrolments.make(2)


def test_rows_are_as_promised() -> None:
    """2,000 rows in order, five sites of uneven size, repeats at one site, and participants at two sites."""
    rows = enrolments.make()
    assert len(rows) == 2_000
    assert rows == sorted(rows)
    places = Counter((row.site, row.participant) for row in rows)
    assert Counter(site for site, _ in places) == {
        "leeds": 700,
        "cardiff": 480,
        "belfast": 340,
        "dundee": 220,
        "exeter": 140,
    }
    assert sum(places.values()) - len(places) == enrolments.REPEATS
    sites = Counter(participant for _, participant in places)
    assert Counter(sites.values())[2] == enrolments.AT_TWO_SITES
    assert max(sites.values()) == 2
    assert all(enrolments.START <= row.time < enrolments.START + enrolments.LENGTH for row in rows)


def test_paces_differ() -> None:
    """A site that opens late has no row before, one with a good start has most rows in the first half."""
    rows = enrolments.make()
    half = enrolments.START + enrolments.LENGTH / 2
    early = Counter(row.site for row in rows if row.time < half)
    total = Counter(row.site for row in rows)
    assert min(row.time for row in rows if row.site == "belfast").day == enrolments.START.day + 4
    assert early["exeter"] > 0.6 * total["exeter"]
    assert early["dundee"] < 0.4 * total["dundee"]
