"""TARIC3: the XML in which tariff data travels. Reads it leniently, writes it strictly, and does no I/O.

    for transaction in read_envelope(chunks):
        mapped = to_changes(transaction, data)
        if not mapped.problems:
            verdict = validate(data, mapped.changes, today)

And back: `write_envelope("260001", [to_taric_transaction(changes, data)])`.
"""

from rules.taric.errors import Problem, TaricError
from rules.taric.exporting import to_taric, to_taric_transaction
from rules.taric.mapping import MapOptions, Mapped, to_changes
from rules.taric.reader import EnvelopeReader, read_envelope
from rules.taric.resolving import Names
from rules.taric.taric_record import TaricRecord, TaricTransaction
from rules.taric.writer import write_envelope

__all__ = [
    "EnvelopeReader",
    "MapOptions",
    "Mapped",
    "Names",
    "Problem",
    "TaricError",
    "TaricRecord",
    "TaricTransaction",
    "read_envelope",
    "to_changes",
    "to_taric",
    "to_taric_transaction",
    "write_envelope",
]
