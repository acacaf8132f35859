"""The machines: an agent's and the controller's, each with a clock, a disk and a program that can be killed."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Any

from quota_agent.errors import AgentError
from quota_agent.gate.gate import Gate
from quota_agent.gate.model import GateSettings
from quota_agent.uplink.stream import Uplink
from quota_server.errors import StoreUnavailable
from quota_server.fleet.again import again
from quota_server.fleet.fleet import Fleet
from quota_server.fleet.others import Neighbourhood
from quota_server.keys import MasterKey
from quota_server.ledger.administration import Administration
from quota_server.ledger.effects import Participant
from quota_server.ledger.enrolment import Enrolments
from quota_server.ledger.events import LinkEvent
from quota_server.ledger.link_batch import BatchResult, LinkBatches
from quota_server.ledger.marks import Marks
from quota_server.ledger.model import AgentKey
from quota_server.ledger.recovery import Recovery
from quota_server.overrides.decisions import Overrides
from quota_server.services.agent_link_service import AgentLinkService
from tests.memory_store import MemoryLedgerStore
from tests.simulation.clocks import MachineClock
from tests.simulation.database import Database, SimLedgerStore
from tests.simulation.disk import Disk, SimGateStore, Trouble
from tests.simulation.loop import Process, SimLoop
from tests.simulation.neighbours import Access, SimLeases, SimSessions
from tests.simulation.network import Network, ServerContext

_log = logging.getLogger(__name__)

KEYS = MasterKey(b"k" * 32)
#: As in `quota_server.app`.
KEEP_HEARTBEATS = 12
HEALTH_SECONDS = 1.0
GATHER_MS = 20
#: By how much clocks of controllers differ that nothing is wrong with.
SKEW_MS = 200


@dataclass(frozen=True, slots=True)
class Credential:
    """What an agent's credential file holds."""

    agent: str
    key: AgentKey

    @property
    def token(self) -> str:
        """The token of this enrolment."""
        return KEYS.token(self.key)


class Program(Process):
    """A machine's process, and how often somebody began something in it: its own start, a call."""

    begun = 0

    def begin(self, work: Coroutine[Any, Any, None], name: str = "") -> None:
        self.begun += 1
        super().begin(work, name)


class ControllerMachine:
    """Where quota-server runs: the only one on its database, or one of several that hear of each other."""

    def __init__(
        self,
        loop: SimLoop,
        seed: str,
        name: str,
        database: Database,
        heartbeat_ms: int,
        trouble: Trouble,
    ) -> None:
        chance = Random(f"{seed}/{name}")
        self.name = name
        self.database = database
        self.heartbeat_ms = heartbeat_ms
        self.lives = 0
        #: What it is called among the controllers in this life; empty if there is no other.
        self.uid = ""
        self.process: Process = Program(loop, name)
        self.process.alive = False
        self._loop = loop
        self._trouble = trouble
        self._chance = chance
        self._ids = itertools.count(1)
        self._several = database.channel is not None
        self.clock = MachineClock(loop, chance.randint(-SKEW_MS, SKEW_MS) if self._several else 0)
        self.store: SimLedgerStore
        self.fleet: Fleet
        self.administration: Administration
        self.enrolments: Enrolments
        self.overrides: Overrides
        self.recovery: Recovery
        self.links: AgentLinkService
        self.serving = False
        self._sessions: SimSessions
        self._leases: SimLeases

    @property
    def up(self) -> bool:
        """Whether it takes streams and calls."""
        return self.process.alive and self.serving

    def streams(self) -> dict[AgentKey, int]:
        """The agents whose streams it takes for up, and the dials that opened them."""
        if not self.up:
            return {}
        return {key: connection.session.dial for key, connection in self.fleet._connections.items()}

    async def participants(self, quota_uid: str) -> list[Participant]:
        """Everybody who has a part in a quota, as stored."""
        return await self._sessions.participants(quota_uid)

    def start(self) -> None:
        """Begin another life, as `quota_server.app` puts it together."""
        assert not self.process.alive
        self.lives += 1
        self.process = Program(self._loop, self.name)
        self.uid = f"{self.name}.{self.lives}" if self._several else ""
        self.store = store = SimLedgerStore(self.database, self._loop, self._chance, self._trouble, self.uid)
        self.administration = Administration(store, self._new_id)
        self.overrides = Overrides(store, self._new_id, keep_ms=KEEP_HEARTBEATS * self.heartbeat_ms)
        self.enrolments = Enrolments(store, self._new_id)
        self.recovery = Recovery(store)
        self.fleet = Fleet(
            _Noted(LinkBatches(store, Marks(KEYS.mark_key), self.heartbeat_ms, self.uid), store),
            self.administration,
            self.overrides,
            store,
            self.clock,
            self.heartbeat_ms,
            self._look_around(),
            GATHER_MS if self._several else 0,
        )
        self.links = AgentLinkService(self.fleet, KEYS, self.clock, self.heartbeat_ms)
        self.process.begin(self._run(), "controller")

    def kill(self, *, written: bool) -> None:
        """End it at once; `written`: what it was writing is there."""
        self.process.kill()
        self.serving = False
        self.database.power_loss(self.process, written=written)

    def recover(self) -> None:
        """`quota-server recover`, while it is down."""
        store = MemoryLedgerStore()
        store.tables = self.database.tables
        work = Recovery(store).begin(self.clock.wall_ms())
        try:
            work.send(None)
        except StopIteration:
            return
        raise AssertionError("nothing in it waits")

    def connect(self, requests: AsyncIterator[Any], context: ServerContext) -> Coroutine[Any, Any, None]:
        """Serve one stream."""
        return self.links.Connect(requests, context)  # type: ignore[arg-type]

    def _look_around(self) -> Neighbourhood | None:
        access = Access(self.database, self._chance, self._trouble)
        self._sessions, self._leases = SimSessions(access), SimLeases(access, self.uid)
        if self.database.channel is None:
            return None
        notices = self.database.channel.listen(self.uid, self.process, access.check)
        return Neighbourhood(self.uid, notices, self._sessions, self._leases, _no_tariff)

    async def _run(self) -> None:
        if self._several:
            await self._begin_lease()
        else:
            await self.store.put_back_online_flags()
        self.serving = True
        async with asyncio.TaskGroup() as group:
            group.create_task(self.fleet.run(), name="fleet")
            group.create_task(self._watch_health(), name="health")

    async def _begin_lease(self) -> None:
        """A controller that cannot write does not start; systemd starts it again."""
        while True:
            with suppress(StoreUnavailable):
                await again(self._leases.begin)
                return
            await asyncio.sleep(HEALTH_SECONDS)

    async def _watch_health(self) -> None:
        """As `quota_server.app` does."""
        while True:
            if not self.fleet.store_ok:
                with suppress(StoreUnavailable):
                    await self.store.probe()
                    self.fleet.store_recovered()
            await asyncio.sleep(HEALTH_SECONDS)

    def _new_id(self) -> str:
        return f"{self.name if self._several else 'id'}-{next(self._ids):05}"


async def _no_tariff() -> None:
    """There is no tariff data."""


class _Noted:
    """`LinkBatches`, and a note of what the transaction under way is about."""

    def __init__(self, batches: LinkBatches, store: SimLedgerStore) -> None:
        self._batches = batches
        self._store = store

    async def handle(self, batch: list[LinkEvent], now_ms: int) -> BatchResult:
        self._store.events = batch
        try:
            return await self._batches.handle(batch, now_ms)
        finally:
            self._store.events = ()


class AgentMachine:
    """Where quota-agent runs. The name is the machine's: a clone has another one, and the same credential."""

    def __init__(
        self,
        loop: SimLoop,
        seed: str,
        number: int,
        network: Network,
        controllers: Sequence[ControllerMachine],
        archive: Callable[[AgentMachine, Disk], Disk],
        trouble: Trouble,
    ) -> None:
        self.name = f"m{number}"
        self.clock = MachineClock(loop)
        self.process: Process = Program(loop, self.name)
        self.process.alive = False
        self.lives = 0
        self.settings = GateSettings()
        #: Open for callers; None while it does not run.
        self.gate: Gate | None = None
        self.uplink: Uplink | None = None
        self.credential: Credential
        self.disk: Disk
        self._loop = loop
        self._seed = seed
        self._number = number
        self._network = network
        self._controllers = controllers
        self._archive = archive
        self._trouble = trouble
        self._chance = Random(f"{seed}/{self.name}")

    @property
    def up(self) -> bool:
        """Whether callers can reach its gate."""
        return self.process.alive and self.gate is not None

    @property
    def linked(self) -> bool:
        """Whether a controller has welcomed it on a stream that it believes in."""
        return self.up and self.uplink is not None and self.uplink.connected

    def start(self) -> None:
        """Begin another life, as `quota_agent.app` puts it together."""
        assert not self.process.alive
        self.lives += 1
        self.process = Program(self._loop, self.name)
        store = SimGateStore(self.disk, self._loop, self._chance, self._trouble, self._put_aside)
        self.process.begin(self._run(store), self.name)

    def kill(self, *, written: bool) -> None:
        """End it at once; `written`: what it was writing is there."""
        self.process.kill()
        self.gate = None
        self.disk.power_loss(written=written)

    async def _run(self, store: SimGateStore) -> None:
        chance = Random(f"{self._seed}/{self.name}/{self.lives}")
        gate = Gate(store, self.clock, self.settings, lambda: f"{chance.getrandbits(64):016x}")
        who = self.credential
        process = self.process
        try:
            async with gate:
                await gate.bind(who.agent, *who.key)
                self.gate = gate
                dial = self._network.dial(self.name, who.token, self.disk, self._find)
                self.uplink = uplink = Uplink(
                    gate, self.clock, targets=self._targets(), dial=dial, random=chance.random
                )
                async with asyncio.TaskGroup() as group:
                    group.create_task(uplink.run(), name=f"uplink of {self.name}")
                    group.create_task(gate.watch_writer(), name=f"gate of {self.name}")
        except AgentError:
            _log.debug("an agent stopped", exc_info=True)  # systemd starts it again
        finally:
            if process.alive:
                self.gate = None
                process.alive = False

    def _targets(self) -> list[str]:
        """The controllers it is told of; not everybody has the same first."""
        names = [controller.name for controller in self._controllers]
        first = self._number % len(names)
        return names[first:] + names[:first]

    def _find(self, target: str) -> ControllerMachine | None:
        return next((each for each in self._controllers if each.up and each.name == target), None)

    def _put_aside(self, disk: Disk) -> Disk:
        self.disk = self._archive(self, disk)
        return self.disk
