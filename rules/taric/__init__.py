"""TARIC3: the XML in which tariff data travels. Reads it leniently, writes it strictly, and does no I/O."""

from rules.taric.errors import Problem, TaricError
from rules.taric.mapping import MapOptions, Mapped, to_changes
from rules.taric.reader import EnvelopeReader, read_envelope
from rules.taric.taric_record import TaricRecord, TaricTransaction
from rules.taric.writer import to_taric, write_envelope

__all__ = [
    "EnvelopeReader",
    "MapOptions",
    "Mapped",
    "Problem",
    "TaricError",
    "TaricRecord",
    "TaricTransaction",
    "read_envelope",
    "to_changes",
    "to_taric",
    "write_envelope",
]
