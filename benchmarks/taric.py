"""TARIC3: how fast envelopes are read, beside lxml that only walks over the same bytes, and in how much memory.

Memory is the peak of a fresh process, which makes the envelope as it reads it.
"""

from __future__ import annotations

import gzip
import io
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeVar

from immutables import Map
from lxml import etree

from benchmarks.tariff_data import base
from rules.dataset import Dataset
from rules.records import Change, Measure, QuotaEvent, Record, UpdateType
from rules.taric import (
    EnvelopeReader,
    TaricTransaction,
    read_envelope,
    to_changes,
    to_taric_transaction,
    write_envelope,
)

T = TypeVar("T")

#: The largest of the real envelopes that may lie beside the repository.
REAL: Final = Path(__file__).resolve().parents[2] / "shared/taric-samples/2018-01-03_TGB18001.xml.gz"
#: Makes about 1 MB.
DEFINITIONS: Final = 250
TIMES: Final = 10
#: Records of a transaction; the larger real ones have so many.
_TOGETHER: Final = 25
_ROUNDS: Final = 5
_CHUNK_BYTES: Final = 64 * 1024
_MEASURE: Final = Map(
    {
        "measure.type": "143",
        "goods.nomenclature.item.id": "0204421000",
        "measure.generating.regulation.role": "1",
        "measure.generating.regulation.id": "R1200010",
        "stopped.flag": "0",
        "goods.nomenclature.sid": "30000",
    }
)
_BALANCE: Final = Map({"old.balance": "1200", "new.balance": "1000.5", "imported.amount": "199.5"})


def run() -> dict[str, float]:
    """Figures by name: MB a second, their ratio to lxml's, MiB at the peak."""
    figures: dict[str, float] = {}
    inputs = {f"{TIMES} MB": b"".join(envelope(TIMES))}
    if REAL.exists():
        inputs["real"] = gzip.decompress(REAL.read_bytes())
    for name, data in inputs.items():
        # They take turns, so that what else the machine does meets both alike.
        took = [(_seconds(_read, data), _seconds(_walk, data)) for _ in range(_ROUNDS)]
        reading, walking = (min(seconds) for seconds in zip(*took, strict=True))
        figures[f"taric {name} read MB_per_s"] = len(data) / reading / 1e6
        figures[f"taric {name} lxml MB_per_s"] = len(data) / walking / 1e6
        figures[f"taric {name} ratio"] = walking / reading
    once = b"".join(envelope(1))
    names = Dataset.of(base(DEFINITIONS))
    seconds = _seconds(lambda read: _map(read, names), list(read_envelope([once])))
    figures["taric map MB_per_s"] = len(once) / seconds / 1e6
    small, large = (_peak_mib(times) for times in (1, TIMES))
    figures |= {
        "taric peak MiB": small,
        f"taric peak {TIMES}x MiB": large,
        "taric peak growth": large / small,
    }
    return figures


def envelope(times: int) -> Iterator[bytes]:
    """An envelope of so many MB: the same records again and again, in chunks of a transaction."""
    records = [_whole(record) for record in base(DEFINITIONS)]
    data = Dataset.of(records)
    changes = [Change(UpdateType.CREATE, record) for record in records]
    transactions = [
        to_taric_transaction(changes[begin : begin + _TOGETHER], data)
        for begin in range(0, len(changes), _TOGETHER)
    ]
    return write_envelope("260001", (each for _ in range(times) for each in transactions))


def _whole(record: Record) -> Record:
    """With the elements that no rule asks about, but TARIC3 wants."""
    if isinstance(record, Measure):
        return replace(record, elements=_MEASURE)
    return replace(record, data=_BALANCE) if isinstance(record, QuotaEvent) else record


def _read(data: bytes) -> None:
    _drain(data[begin : begin + _CHUNK_BYTES] for begin in range(0, len(data), _CHUNK_BYTES))


def _drain(chunks: Iterable[bytes]) -> None:
    reader = EnvelopeReader()
    for chunk in chunks:
        if any(transaction.problems for transaction in reader.feed(chunk)):
            raise RuntimeError("the envelope has problems")
    reader.close()


def _walk(data: bytes) -> None:
    for _, element in etree.iterparse(io.BytesIO(data)):
        element.clear()


def _map(transactions: Iterable[TaricTransaction], names: Dataset) -> None:
    for transaction in transactions:
        if to_changes(transaction, names).problems:
            raise RuntimeError("the transaction has problems")


def _seconds(work: Callable[[T], object], given: T) -> float:
    begun = time.perf_counter()
    work(given)
    return time.perf_counter() - begun


def _peak_mib(times: int) -> float:
    command = [sys.executable, "-m", "benchmarks.taric", "--peak", str(times)]
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    return int(done.stdout) / 1024


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peak"]:
        _drain(envelope(int(sys.argv[2])))
        # Not getrusage: that begins with what the parent held.
        status = Path("/proc/self/status").read_text()
        print(status.partition("VmHWM:")[2].split()[0])
    else:
        for name, value in run().items():
            print(f"{name:32} {value:12,.3f}")
