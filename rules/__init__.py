"""Tariff quota rules: says whether a change to tariff quota data is legal, without any I/O.

    data = Dataset.of(records)
    verdict = validate(data, [Change(UpdateType.UPDATE, record)], today)
    if not verdict.malformed and not verdict.violations:
        data = data.apply([...])

Records are in `rules.records`, rules in the module that is named after what they are about, TARIC3 in `rules.taric`.
"""

from rules.catalogue import RULES, Profile, Rule, When
from rules.dataset import Dataset, Version
from rules.engine import validate
from rules.malformed import Malformed, malformed
from rules.periods import Period
from rules.proposals import check_qa2, check_qa3, check_qa5, check_qa6
from rules.records import Change, Record, RecordRef, UpdateType
from rules.violation import Verdict, Violation

__all__ = [
    "RULES",
    "Change",
    "Dataset",
    "Malformed",
    "Period",
    "Profile",
    "Record",
    "RecordRef",
    "Rule",
    "UpdateType",
    "Verdict",
    "Version",
    "Violation",
    "When",
    "check_qa2",
    "check_qa3",
    "check_qa5",
    "check_qa6",
    "malformed",
    "validate",
]
