"""What is malformed wherever it stands, or in one field."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final

from hypothesis import strategies as st

from rules import records as r
from rules.periods import Period
from rules.records import Change

DAY: Final = date(2021, 6, 1)

#: Of no field.
ANYWHERE: Final[tuple[Any, ...]] = (
    -1,
    2**70,
    1.0,
    math.nan,
    b"KGM",
    [],
    {},
    {1},
    object(),
    Period,
    *map(Decimal, ("NaN", "sNaN", "Infinity", "-Infinity", "1E-999999", "0.0000001")),
    # More digits than a decimal context holds.
    Decimal("9" * 29 + ".1234567"),
    datetime(2021, 6, 1, tzinfo=UTC),
    *[Period(*junk) for junk in ((None, None), ("2021-06-01", None), (DAY, "2021-06-01"), (1, 2))],
    Period(DAY, date(2021, 5, 31)),
    Period(datetime(2021, 6, 1), None),
    Period(DAY, datetime(2021, 6, 1)),
    (0,),
    (1, 1),
    (1, None),
    ("1",),
    True,
)
#: Besides None, which has its own place.
TEXT: Final = (
    "1",
    "x",
    "ß",
    "kgm",
    "KGMS",
    "KGM\n",
    "ÀÀÀ",
    "\u0660\u0665\u0660\u0660\u0660\u0661",
    "05000",
    "050001\n",
    "EQ ",
    "2021-06-01",
)
SIDS: Final = (0, *TEXT)
UNITS: Final = (*TEXT, 1, "")
VOLUMES: Final = (100, *map(Decimal, ("-1", "-0.001", "100000000000", "0.0001", "1E+999999")), *TEXT)
#: By field; fields of one name are alike in all kinds.
BESIDES: Final[dict[str, tuple[Any, ...]]] = {
    "area_id": (1, ""),
    "area_code": (3, *TEXT),
    "certificate_type": (1, ""),
    "certificate_code": (1, ""),
    "code": UNITS,
    "regulation_effective_end_date": (datetime(2021, 6, 1), *TEXT),
    "order_number": (50001, "", *TEXT),
    "mechanism": (2, *TEXT),
    "category": (4, *TEXT),
    "required_certificate_sids": (1, None, *TEXT),
    "volume": VOLUMES,
    "initial_volume": VOLUMES,
    "monetary_unit": UNITS,
    "measurement_unit": UNITS,
    "measurement_unit_qualifier": ("KGM", "k", 1, ""),
    "maximum_precision": (4, *TEXT),
    "quota_critical": (0, 1, *TEXT),
    "quota_critical_threshold": (101, *TEXT),
    "description": (1,),
    "sub_quota_relation_type": (*TEXT, "", 1),
    "coefficient": (1, Decimal("1.000001"), *TEXT),
    "blocking_period_type": (0, 9, *TEXT),
    "subrecord_code": ("", "0", "01", 0),
    "occurrence_timestamp": (DAY, *TEXT),
    "valid_between": (DAY, None, *TEXT),
    "data": TEXT,
    "elements": TEXT,
}
MAY_BE_NONE: Final = {
    (r.Measure, "order_number_sid"),
    (r.Measure, "regulation_effective_end_date"),
    (r.Measure, "order_number"),
    (r.QuotaDefinition, "monetary_unit"),
    (r.QuotaDefinition, "measurement_unit"),
    (r.QuotaDefinition, "measurement_unit_qualifier"),
}


def junk_of(kind: type[r.Record], field: str) -> list[Any]:
    """All junk for a field."""
    junk = [*ANYWHERE, *BESIDES.get(field, SIDS)]
    if (kind, field) not in MAY_BE_NONE:
        junk.append(None)
    if field == "quota_critical":
        junk = [each for each in junk if each is not True]
    return junk


def damage(
    draw: Callable[[st.SearchStrategy[Any]], Any], changes: Sequence[Change]
) -> tuple[list[Change], set[tuple[int, str]]]:
    """The changes with junk in 1 to 3 fields, and which those are: position and field."""
    damaged, where = list(changes), set()
    for _ in range(draw(st.integers(1, 3))):
        index = draw(st.integers(0, len(changes) - 1))
        record = damaged[index].record
        field = draw(st.sampled_from([each.name for each in fields(record)]))
        junk = draw(st.sampled_from(junk_of(type(record), field)))
        record = replace(record, **{field: junk})
        damaged[index] = replace(damaged[index], record=record)
        where.add((index, field))
    return damaged, where
