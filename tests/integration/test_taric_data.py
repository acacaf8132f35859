"""The two envelopes of ours that documentation and command lines use: what the rules say to them."""

from collections import Counter
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Final

from rules.catalogue import Profile
from rules.dataset import Dataset
from rules.engine import validate
from rules.records import Mechanism, QuotaOrderNumber
from rules.taric import EnvelopeReader, read_envelope, to_changes, to_taric_transaction, write_envelope

DATA: Final = Path(__file__).resolve().parents[1] / "data" / "taric"
TODAY: Final = date(2026, 11, 26)


def judged(
    data: Dataset, name: str, profile: Profile = Profile.UK
) -> Iterator[tuple[str, list[str], Dataset]]:
    """Each transaction: its id, rule, record and line of all violations, and the data with it."""
    for transaction in read_envelope([(DATA / name).read_bytes()]):
        mapped = to_changes(transaction, data)
        assert mapped.problems == ()
        verdict = validate(data, mapped.changes, TODAY, profile)
        assert verdict.malformed == ()
        data = data.apply(mapped.changes)
        said = [
            f"{each.rule}: {each.record}, line {mapped.records[each.triggered_by[0]].line}"
            for each in verdict.violations
        ]
        yield transaction.id, said, data


def with_base() -> Dataset:
    *_, (_, _, data) = judged(Dataset.empty(), "base.xml")
    return data


def test_the_base_breaks_no_rule() -> None:
    """On an empty data set, with either profile; it has every kind of record."""
    for profile in Profile:
        assert {tuple(said) for _, said, _ in judged(Dataset.empty(), "base.xml", profile)} == {()}
    reader = EnvelopeReader()
    reader.feed((DATA / "base.xml").read_bytes())
    reader.close()
    assert len({code for code in reader.read if not code.startswith("375")}) == 14
    assert reader.skipped == Counter()
    licensed = [each.order_number for each in with_base().records(QuotaOrderNumber) if each.mechanism]
    assert (licensed, Mechanism.LICENSED) == (["054003"], 1)


def test_the_changes_break_what_their_remarks_say() -> None:
    """Each on the data with those before it, whatever they break."""
    assert {number: said for number, said, _ in judged(with_base(), "changes.xml")} == {
        "2001": [],
        "2002": [
            "OverlappingQuotaDefinition: quota_definition 40006, line 34",
            "VolumeAndInitialVolumeMustMatch: quota_definition 40006, line 34",
        ],
        "2003": [
            "PreventDeletingLinkedQuotaDefinitions: quota_definition 40002, line 61",
            "QuotaSuspensionMustReferToANonDeletedQuotaDefinition: quota_definition 40002, line 61",
        ],
        "2004": [
            "BlockingOnlyOfFCFSQuotas: quota_blocking 60002, line 88",
            "QBP3: quota_blocking 60002, line 88",
        ],
        "2005": ["ReferenceMustExist: measure 70004, line 109"],
        "2006": [
            "ON7: quota_order_number_origin 30001, line 136",
            "ON8: quota_definition 40005, line 136",
            "ON8: quota_definition 40006, line 136",
            "ON9: quota_order_number 20001, line 136",
            "QD7: quota_definition 40005, line 136",
            "QD7: quota_definition 40006, line 136",
        ],
    }


def test_they_are_what_the_writer_writes() -> None:
    """Read, mapped and written again they are the same, but for remarks."""
    data = Dataset.empty()
    for name, number in (("base.xml", "260001"), ("changes.xml", "260002")):
        given = (DATA / name).read_bytes()
        transactions = []
        for transaction in read_envelope([given]):
            changes = to_changes(transaction, data).changes
            transactions.append(to_taric_transaction(changes, data, transaction.id))
            data = data.apply(changes)
        plain = b"\n".join(line for line in given.split(b"\n") if b"<!--" not in line)
        assert b"".join(write_envelope(number, transactions)) == plain
