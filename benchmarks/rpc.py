"""GateService over gRPC against a no-op service of the same messages, on the same server, in the same run.

The server is a process of its own, and so are its clients; each measurement alternates with its no-op, several rounds,
and the median round counts. `python -m benchmarks.rpc` prints the figures alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiosqlite
import grpc

from quota_agent.clock import SystemClock
from quota_agent.gate.gate import Gate
from quota_agent.gate.model import GateSettings
from quota_agent.local.server import LocalServer
from quota_agent.local.service import GateServicer
from quota_agent.store.sqlite import SqliteStore
from quotafleet.agent.v1 import gate_service_pb2 as pb
from quotafleet.agent.v1 import gate_service_pb2_grpc as pb_grpc
from quotafleet.link.messages import MAX_UNITS, AllocationUpdate, Revision, Terms

QUOTA = "bench/visits"
CALLERS = (1, 32, 256)
BATCH = 100
BATCH_CALLERS = (1, 16)
ROUNDS = 5
SECONDS = 0.8  # of each measurement in each round

Call = Callable[[str], Awaitable[Any]]


# --- the server's process ---------------------------------------------------------------------------------------------


class Noop(GateServicer):
    """Answers what the gate would, without asking it."""

    def __init__(self, gate: Gate) -> None:
        super().__init__(gate, lambda: True)
        entry = pb.Entry(
            quota=QUOTA, request_id="f" * 16, granted=1, state=pb.ENTRY_STATE_COUNTED, quota_uid="bench"
        )
        entry.create_time.GetCurrentTime()
        balance = pb.Balance(count=10**6, remaining=MAX_UNITS - 10**6, limit=MAX_UNITS)
        self._one = pb.AcquireResponse(entry=entry, granted=1, balance=balance)
        self._many = pb.AcquireBatchResponse(results=[pb.AcquireBatchResult(granted=self._one)] * BATCH)

    async def Acquire(self, request: Any, context: Any) -> pb.AcquireResponse:
        return self._one

    async def AcquireBatch(self, request: Any, context: Any) -> pb.AcquireBatchResponse:
        return self._many


async def serve(folder: Path) -> None:
    """Serve the gate and the no-op beside it, until stdin ends."""
    async with (
        SqliteStore(folder / "agent.sqlite") as store,
        Gate(store, SystemClock(), GateSettings(), lambda: uuid.uuid4().hex) as gate,
    ):
        await gate.bind("bench", "bench", 1)
        update = AllocationUpdate("bench", Revision(0, 1), MAX_UNITS, Terms(QUOTA))
        await gate.apply((update,), (), mark=b"mark", complete=True)
        servicer = GateServicer(gate, lambda: True)
        async with LocalServer(servicer, folder / "gate.sock"), LocalServer(Noop(gate), folder / "noop.sock"):
            print("ready", flush=True)
            await asyncio.to_thread(sys.stdin.read)


# --- the clients' process ---------------------------------------------------------------------------------------------


def acquire(stub: Any) -> Call:
    """One unit."""
    return lambda request_id: stub.Acquire(pb.AcquireRequest(quota=QUOTA, request_id=request_id))


def acquire_batch(stub: Any) -> Call:
    """A hundred times one unit."""

    def call(request_id: str) -> Awaitable[Any]:
        request = pb.AcquireBatchRequest()
        for index in range(BATCH):
            request.items.add(quota=QUOTA, request_id=f"{request_id}-{index}")
        return stub.AcquireBatch(request)  # type: ignore[no-any-return]

    return call


async def rate(call: Call, callers: int, seconds: float) -> float:
    """Calls a second, from callers that each wait for their answer."""
    run, numbers, done = uuid.uuid4().hex[:8], itertools.count(), 0
    begin = time.perf_counter()
    end = begin + seconds

    async def caller() -> None:
        nonlocal done
        while time.perf_counter() < end:
            await call(f"{run}{next(numbers):08}")
            done += 1

    await asyncio.gather(*(caller() for _ in range(callers)))
    return done / (time.perf_counter() - begin)


async def compare(gate: Call, noop: Call, callers: int) -> dict[str, float]:
    """Rates of both and their ratio, the median of alternating rounds."""
    await rate(gate, callers, SECONDS / 4)
    await rate(noop, callers, SECONDS / 4)
    pairs = [(await rate(gate, callers, SECONDS), await rate(noop, callers, SECONDS)) for _ in range(ROUNDS)]
    median = statistics.median
    return {
        "gate": median(pair[0] for pair in pairs),
        "noop": median(pair[1] for pair in pairs),
        "ratio": median(pair[0] / pair[1] for pair in pairs),
    }


async def load(folder: Path) -> dict[str, float]:
    """Every measurement, against the server in `folder`."""
    figures: dict[str, float] = {}
    async with (
        grpc.aio.insecure_channel(f"unix:{folder / 'gate.sock'}") as gate_channel,
        grpc.aio.insecure_channel(f"unix:{folder / 'noop.sock'}") as noop_channel,
    ):
        gate, noop = pb_grpc.GateServiceStub(gate_channel), pb_grpc.GateServiceStub(noop_channel)
        for callers in CALLERS:
            compared = await compare(acquire(gate), acquire(noop), callers)
            figures |= {f"acquire, {callers} callers {name}": value for name, value in compared.items()}
        for callers in BATCH_CALLERS:
            compared = await compare(acquire_batch(gate), acquire_batch(noop), callers)
            figures |= {
                f"batch of {BATCH}, {callers} callers {name}": value for name, value in compared.items()
            }
        figures |= await latency(acquire(gate), acquire(noop), folder)
    return figures


async def latency(gate: Call, noop: Call, folder: Path) -> dict[str, float]:
    """Milliseconds of one caller, beside a no-op and a durable commit through aiosqlite; ratio to what is allowed."""
    times: dict[str, list[float]] = {"gate": [], "noop": [], "commit": []}
    async with aiosqlite.connect(folder / "commit.sqlite", isolation_level=None) as database:
        await database.execute("PRAGMA journal_mode = WAL")
        await database.execute("PRAGMA synchronous = FULL")
        await database.execute("CREATE TABLE entry (number INTEGER PRIMARY KEY, request_id TEXT)")

        async def commit(request_id: str) -> None:
            await database.execute("INSERT INTO entry (request_id) VALUES (?)", (request_id,))

        for _ in range(500):
            for name, call in (("gate", gate), ("noop", noop), ("commit", commit)):
                request_id = uuid.uuid4().hex
                begin = time.perf_counter()
                await call(request_id)
                times[name].append(1_000 * (time.perf_counter() - begin))
    middle = {name: statistics.median(values) for name, values in times.items()}
    allowed = middle["noop"] + 1.5 * middle["commit"]
    figures = {f"one caller {name} ms": value for name, value in middle.items()}
    return {**figures, "one caller / (noop + 1.5 commits)": middle["gate"] / allowed}


# --- both -------------------------------------------------------------------------------------------------------------


async def run() -> dict[str, float]:
    """Start the server and its clients, each in a process, and answer the figures."""
    with tempfile.TemporaryDirectory(prefix="quotafleet-bench-") as folder:
        server = await _start("serve", folder)
        try:
            assert server.stdout is not None
            if b"ready" not in await server.stdout.readline():
                raise RuntimeError("the server did not start")
            clients = await _start("load", folder)
            answer, _ = await clients.communicate()
        finally:
            with contextlib.suppress(ProcessLookupError):
                server.terminate()
            await server.wait()
    figures: dict[str, float] = json.loads(answer)
    return figures


async def _start(part: str, folder: str) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.rpc", part, folder, stdin=pipe, stdout=pipe
    )


def main() -> None:
    """Run one part in this process, or all."""
    match sys.argv[1:]:
        case ["serve", folder]:
            asyncio.run(serve(Path(folder)))
        case ["load", folder]:
            print(json.dumps(asyncio.run(load(Path(folder)))))
        case _:
            for name, value in asyncio.run(run()).items():
                print(f"{name:40} {value:12.3f}")


if __name__ == "__main__":
    main()
