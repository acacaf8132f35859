"""A controller as a process of its own, on either database, and the process full of agents that load it."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc

from quota_server.app import migrate_database
from quota_server.config import ServerConfig
from quota_server.keys import MasterKey, load_or_create
from quota_server.ledger.escrow import offer
from quota_server.ledger.model import Agent, Allocation, Assignment, Epoch, Quota
from quota_server.storage.database import open_database
from quota_server.storage.ledger_store import SqlLedgerStore
from quotafleet.v1 import quota_service_pb2 as pb
from quotafleet.v1 import quota_service_pb2_grpc as pb_grpc
from tests.postgres_kit import PostgresServer

KINDS: Final = ("SQLite", "PostgreSQL")
QUOTA: Final = "bench"
DATABASE: Final = "quotafleet"
#: Streams in one process; each may have a connection of its own, at both ends.
_FILES: Final = 16_384
_SETTINGS: Final = {"fsync": "on", "shared_buffers": "128MB", "max_wal_size": "1GB"}
#: Where SQLite's index of the write-ahead log counts commits; https://www.sqlite.org/walformat.html, iChange.
_COMMITS_AT: Final = slice(8, 12)
#: utime and stime in what follows the name; proc(5).
_CPU_TICKS: Final = slice(11, 13)
_LOOPBACK: Final = "127.0.0.1:0"
_WAIT_SECONDS: Final = 30


class Process:
    """A Python program that says on a pipe what it has done."""

    def __init__(self, process: asyncio.subprocess.Process, said: asyncio.StreamReader) -> None:
        self.pid = process.pid
        self._process = process
        self._said = said

    async def tell(self, command: dict[str, Any]) -> None:
        """Writes a line of JSON."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        await self._process.stdin.drain()

    async def line(self) -> str:
        """The next line it says. Raises RuntimeError if it has ended."""
        line = await self._said.readline()
        if not line:
            raise RuntimeError(f"a process of the benchmark has ended: {await self._process.wait()}")
        return line.decode().strip()

    async def hear(self) -> Any:
        """The next line, which is JSON."""
        return json.loads(await self.line())

    def cpu_seconds(self) -> float:
        """What it has used so far, all threads together; other programs on this machine hardly change that."""
        stat = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, stat[_CPU_TICKS])) / os.sysconf("SC_CLK_TCK")

    def own_kib(self) -> int:
        """Memory that would be free without it, in KiB."""
        lines = Path(f"/proc/{self.pid}/smaps_rollup").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))

    async def end(self) -> None:
        """Ends it, in good order."""
        if self._process.returncode is None:
            self._process.terminate()
        await self._process.wait()


@dataclass
class Fleet:
    """A controller that serves one quota, and agents that are enrolled."""

    kind: str
    controller: Process
    quotas: pb_grpc.QuotaServiceAsyncStub
    server: PostgresServer | None
    folder: Path
    _load: Process
    #: How many agents are linked.
    linked: int = 0

    @asynccontextmanager
    async def connected(self, count: int, *, own_channels: bool = False) -> AsyncIterator[None]:
        """So many agents are linked, their streams on shared connections or each on its own."""
        await self._load.tell({"connect": count, "own_channels": own_channels})
        await self._load.hear()
        self.linked = count
        yield
        self.linked = 0
        await self._load.tell({"hang_up": True})
        await self._load.hear()

    async def set_target(self, target: int) -> None:
        """Raises RuntimeError unless every agent that is linked has applied it."""
        request = pb.SetTargetRequest(quota=QUOTA, target=target)
        request.wait.FromSeconds(_WAIT_SECONDS)
        response = await self.quotas.SetTarget(request)
        applied = sum(outcome.outcome == pb.OUTCOME_APPLIED for outcome in response.outcomes)
        if applied != self.linked:
            raise RuntimeError(f"{applied} of {self.linked} agents have applied the target")

    async def report(self, warm_up_seconds: float, seconds: float) -> dict[str, float]:
        """Agents report as fast as they are acknowledged: per second of it, and of the controller's time per report."""
        timing = {"warm_up_seconds": warm_up_seconds, "seconds": seconds}
        await self._load.tell({"report": timing})
        await self._load.hear()
        before, cpu_before = await self.written(), self.controller.cpu_seconds()
        await self._load.hear()
        after, cpu_after = await self.written(), self.controller.cpu_seconds()
        measured = await self._load.hear()
        reports, taken = measured["acknowledged"], measured["seconds"]
        return {
            "reports per_s": reports / taken,
            "cpu us": 1e6 * (cpu_after - cpu_before) / reports,
            **{f"{what} per_s": (after[what] - before[what]) / taken for what in before},
        }

    async def written(self) -> dict[str, int]:
        """Commits so far; and where the database counts them, rows updated."""
        if self.server is None:
            index = self.folder / "quotafleet.db-shm"
            return {"commits": int.from_bytes(index.read_bytes()[_COMMITS_AT], sys.byteorder)}
        (row,) = await self.server.fetch(
            DATABASE,
            "SELECT xact_commit, (SELECT sum(n_tup_upd) FROM pg_stat_user_tables)::bigint"
            " FROM pg_stat_database WHERE datname = current_database()",
        )
        return {"commits": row[0], "rows": row[1]}


@contextmanager
def database_server(kind: str) -> Iterator[PostgresServer | None]:
    """What databases of this kind need: nothing, or a server whose commits are on a disk, as SQLite's are."""
    if kind == "SQLite":
        yield None
        return
    with PostgresServer(_SETTINGS, place=Path(tempfile.gettempdir())) as server:
        yield server


@asynccontextmanager
async def open_fleet(
    kind: str, agents: int, *, heartbeat_seconds: float = 5.0, more: tuple[str, ...] = ()
) -> AsyncIterator[Fleet]:
    """A controller with so many enrolled agents, none of them linked. `more` are further options of it."""
    allow_many_files()
    with tempfile.TemporaryDirectory(prefix="quotafleet-bench-") as name, database_server(kind) as server:
        folder, where = Path(name), ""
        if server is not None:
            await server.create_database(DATABASE)
            where = server.url(DATABASE)
            await migrate_database(where)
        config = ServerConfig(folder, _LOOPBACK, database=where)
        credentials = await _enrol(config, agents)
        controller = await _start_controller(config, heartbeat_seconds, more)
        try:
            address = (await _until_ready(controller)).rpartition("address=")[2]
            given = {"address": address, "agents": credentials}
            (folder / "agents.json").write_text(json.dumps(given))
            load = await _start_load(folder)
            try:
                async with grpc.aio.insecure_channel(address) as channel:
                    yield Fleet(kind, controller, pb_grpc.QuotaServiceStub(channel), server, folder, load)
            finally:
                await load.end()
        finally:
            await controller.end()


def allow_many_files() -> None:
    """Raises the number of files that this process and its children may open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < enough:
        resource.setrlimit(resource.RLIMIT_NOFILE, (enough, hard))


async def _enrol(config: ServerConfig, count: int) -> list[tuple[str, int, str]]:
    """Enrols agents and gives each a part in the quota, in one transaction; (uid, epoch, token) of each.

    One by one, through the API, the whole quota would be shared out anew for every agent.
    """
    config.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    keys: MasterKey = load_or_create(config.key_file)
    agents = [Agent(str(uuid.uuid4()), f"agent-{number:05}", 1) for number in range(count)]
    async with open_database(config.where) as database, SqlLedgerStore(database).transaction() as transaction:
        book = transaction.book
        quota = Quota(str(uuid.uuid4()), QUOTA, target=count)
        book.decide(quota)
        for agent in agents:
            book.decide(agent)
            book.decide(Epoch(*agent.key))
            book.decide(Assignment(quota.uid, agent.uid))
            book.decide(offer(Allocation(quota.uid, *agent.key), 0, generation=0))
    return [(*agent.key, keys.token(agent.key)) for agent in agents]


async def _start_controller(config: ServerConfig, heartbeat_seconds: float, more: tuple[str, ...]) -> Process:
    command = [sys.executable, "-m", "quota_server.cli.server", "serve", "--data-dir", str(config.data_dir)]
    command += ["--listen", config.listen, "--heartbeat", str(heartbeat_seconds), "--log-level", "warning"]
    if config.database:
        command += ["--database", config.database]
    process = await asyncio.create_subprocess_exec(*command, *more, stderr=asyncio.subprocess.PIPE)
    assert process.stderr is not None
    return Process(process, process.stderr)


async def _until_ready(controller: Process) -> str:
    """The line that says that it serves; whatever it says afterwards is passed on."""
    while "quota-server ready" not in (line := await controller.line()):
        print(line, file=sys.stderr)
    return line


async def _start_load(folder: Path) -> Process:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.agents", str(folder), stdin=pipe, stdout=pipe
    )
    assert process.stdout is not None
    return Process(process, process.stdout)
