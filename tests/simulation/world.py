"""The simulated world: every machine, what happens to them, and the checks that follow everything that is written."""

from __future__ import annotations

import zlib
from collections import deque
from random import Random

from quota_agent.gate.draft import Changes
from quota_agent.gate.records import State
from quota_server.ledger.book import Book
from quota_server.ledger.model import AgentKey, Assume, QuotaState
from quotafleet.link.messages import FenceKind
from tests.memory_store import Tables
from tests.simulation import faults, people
from tests.simulation.clients import Clients
from tests.simulation.database import Database
from tests.simulation.disk import Disk, Moves, Trouble
from tests.simulation.ledger_checks import LedgerChecks
from tests.simulation.loop import SimLoop, owner
from tests.simulation.machines import AgentMachine, ControllerMachine, Credential
from tests.simulation.network import Network
from tests.simulation.operators import Operators
from tests.simulation.plan import Action, Plan
from tests.simulation.store_checks import check_overrides, check_store
from tests.simulation.truth import StoreTruth, Truth, Violation, require

#: No more machines than this at a time, clones included.
MAX_MACHINES = 9
#: Lines of the trace that are kept.
TRACE_LINES = 400


class World:
    """Everything, on one loop."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.loop = SimLoop()  # type: ignore[abstract]  # the rest of it nobody calls
        self.truth = Truth()
        self.network = Network(self.loop, plan.seed)
        self.network.draw_weather = plan.draw_weather
        self.database = Database(self)
        self.trouble = Trouble(plan.unclear_rate)
        self.controller = ControllerMachine(
            self.loop, plan.seed, self.database, plan.heartbeat_ms, self.trouble
        )
        self.ledger = LedgerChecks(self.truth, self._find_accepted)
        self.ledger.tables = self.database.tables
        self.clients = Clients()
        self.operators = Operators(self.controller)
        self.machines: list[AgentMachine] = []
        #: How often each kind of action happened: something broke or was mended, somebody was asked.
        self.done: dict[str, int] = {}
        self.digest = 0
        self.trace: deque[tuple[float, str, object]] = deque(maxlen=TRACE_LINES)
        #: Whether everything recovered before the transaction that is being written.
        self._recovers = False
        self._backups: dict[AgentMachine, Disk] = {}
        self._database_backup: Tables | None = None
        #: Credentials that were given out.
        self._installed: set[AgentKey] = set()
        self._disks = 0
        self._names = 0

    # --- what is written ---------------------------------------------------------------------------------------------

    def store_wrote(self, disk: Disk, before: State, changes: Changes, moves: Moves) -> None:
        """See `disk.Watcher`."""
        store = self.truth.follow(disk, moves)
        check_store(disk, store, before, changes, moves)
        check_overrides(disk, store, moves, self.ledger)
        if before.agent.fenced is None and disk.state.agent.fenced is FenceKind.COPY:
            self._check_fence(disk)
        for quota in changes.quotas:
            known = before.quotas.get(quota.uid)
            if known is None or quota.limit > known.limit:
                self.ledger.check_limit(store, quota.uid, quota.limit)
        for uid in {after.quota_uid for _, after in moves}:
            self.ledger.check_bound(uid)
            self.ledger.check_lineage(self.truth.lineage_of(disk), uid)
        if moves:
            self.trace.append((self.loop.time(), f"store {disk.number}", moves))

    def _check_fence(self, disk: Disk) -> None:
        """Only where there are copies is a store fenced as one."""
        lineage = self.truth.lineage_of(disk)
        honest = len(lineage.stores) == 1 and not self.ledger.was_restored
        require(not honest, "S6", f"store {disk.number} has no copies, and is fenced as one")

    def ledger_will_write(self, book: Book) -> None:
        """See `database.LedgerWatcher`."""
        self._recovers = self.database.tables.meta.recovering
        self.ledger.will_write(book)

    def ledger_wrote(self, book: Book) -> None:
        """See `database.LedgerWatcher`."""
        self.ledger.wrote(book)
        if self._recovers and not self.database.tables.meta.recovering:
            self._check_recovered()
        self.trace.append((self.loop.time(), "ledger", book.notes or book.touched))

    def _check_recovered(self) -> None:
        """Once a recovery is over nothing is excused by it any more, not even where nothing happens."""
        for lineage in self.truth.lineages.values():
            store = lineage.accepted
            for uid in self.database.tables.quotas:
                self.ledger.check_lineage(lineage, uid)
                if store is not None and (quota := store.disk.state.quotas.get(uid)):
                    self.ledger.check_limit(store, uid, quota.limit)

    def _find_accepted(self, key: AgentKey, dial: int) -> StoreTruth | None:
        hello = self.controller.deciding.get((key, dial))
        return self.truth.stores[self.network.hellos[hello].number] if hello is not None else None

    # --- time --------------------------------------------------------------------------------------------------------

    def step(self) -> bool:
        """One event and all that follows from it at once; whether there was one. Raises Violation."""
        handle = self.loop.step()
        if handle is None:
            return False
        what = f"{self.loop.time():.6f} {handle.label} {owner(handle)}"
        self.digest = zlib.crc32(what.encode(), self.digest)
        violation = self.clients.violation or self.operators.violation
        if violation is not None:
            raise violation
        if self.loop.failures:
            raise Violation("CRASH", f"a task failed: {self.loop.failures[0]}")
        return True

    def run_for(self, ms: int, most_events: int) -> None:
        """Let time pass, or so many events happen."""
        until = self.loop.time() + ms / 1000
        self.loop.at(until, "round", _nothing)
        while self.loop.time() < until and self.loop.events < most_events:
            self.step()

    def schedule(self, actions: list[Action]) -> None:
        """Have these happen from now on."""
        self.trouble.unclear_rate = self.plan.unclear_rate
        self.network.draw_weather = self.plan.draw_weather
        began = self.loop.time()
        for action in actions:
            self.loop.at(began + action.at_ms / 1000, action.kind, self._act, action)

    def finish(self) -> int:
        """Switch everything off; the digest of all that happened and all that is durable."""
        for machine in self.machines:
            if machine.process.alive:
                machine.kill(written=False)
        if self.controller.process.alive:
            self.controller.kill(written=False)
        for store in self.truth.stores.values():
            kept = repr(sorted(store.disk.state.quotas.items()))
            self.digest = zlib.crc32(kept.encode(), self.digest)
        return zlib.crc32(repr(sorted(self.database.tables.allocations.items())).encode(), self.digest)

    # --- actions -----------------------------------------------------------------------------------------------------

    def _act(self, action: Action) -> None:
        chance = Random(action.chance)
        self.trace.append((self.loop.time(), "action", action))
        if action.kind in faults.FAULTS:
            acted = bool(self.machines) and faults.FAULTS[action.kind](self, chance)
        else:
            acted = people.ACTS[action.kind](self, chance)
        if acted:
            self.done[action.kind] = self.done.get(action.kind, 0) + 1

    def begin(self) -> None:
        """The controller, the first quotas and agents, all of it assigned."""
        chance = Random(f"{self.plan.seed} begin")
        self.start_controller()
        self.loop.step()
        for name in self.quota_names():
            self.operators.create_quota(name, chance)
        for _ in range(self.plan.agents):
            self.create_agent()
        self.run_for(1_000, 10_000)
        for name in self.quota_names():
            for agent in self.agents():
                self.operators.assign(name, agent, chance)
        self.run_for(1_000, 20_000)
        self.install()

    def quota_names(self) -> list[str]:
        """The names in use, closed and created again or not."""
        return [f"q{number}" for number in range(self.plan.quotas)]

    def agents(self) -> list[str]:
        """Names of the agents that are enrolled."""
        return [agent.name for agent in self.database.tables.agents.values() if not agent.retired]

    def create_agent(self) -> None:
        """Enrol another one, unless there are enough."""
        if len(self.agents()) < MAX_MACHINES - 2:
            self._names += 1
            self.operators.create_agent(f"a{self._names}")

    def install(self, most: int = MAX_MACHINES) -> bool:
        """Give every enrolled agent that has no machine one, once for each epoch, with its credential."""
        self._make_room()
        installed = False
        for agent in list(self.database.tables.agents.values()):
            if agent.retired or agent.key in self._installed:
                continue
            mine = [machine for machine in self.machines if machine.credential.key.agent_uid == agent.uid]
            done = [machine for machine in mine if machine.disk.state.agent.fence_confirmed]
            if done:
                installed |= self.renew_credential(done[0])
            elif not mine and len(self.machines) < most:
                self._installed.add(agent.key)
                machine = self._new_machine()
                machine.credential, machine.disk = Credential(agent.name, agent.key), self._new_disk()
                installed |= self.start_agent(machine)
        return installed

    def refresh(self, chance: Random) -> None:
        """What operators do between storms, so that there is something to storm at: all is open, on, and enrolled."""
        tables = self.database.tables
        open_now = {
            quota.name: quota for quota in tables.quotas.values() if quota.state is not QuotaState.CLOSED
        }
        for agent in list(tables.agents.values()):
            if not agent.retired and not self.machines_of(agent.key) and agent.key in self._installed:
                self.operators.settle(agent.name, 0, Assume.SPENT_LIMIT)
            if not agent.retired and not agent.active and chance.random() < 0.8:
                self.operators.switch_agent(agent.name, active=True)
        for _ in range(len(self.agents()), self.plan.agents):
            self.create_agent()
        self.run_for(1_000, self.loop.events + 1_000)
        for name in self.quota_names():
            if name not in open_now:
                self.operators.create_quota(name, chance)
            elif open_now[name].state is QuotaState.SUSPENDED and chance.random() < 0.8:
                self.operators.resume(name)
            parts = {part.agent_uid for part in tables.assignments.values() if part.assigned}
            for agent in list(tables.agents.values()):
                if not agent.retired and (agent.uid not in parts or name not in open_now):
                    self.operators.assign(name, agent.name, chance)
        self.run_for(1_000, self.loop.events + 1_000)
        self.install()

    # --- what faults use ---------------------------------------------------------------------------------------------

    def machines_of(self, key: AgentKey) -> list[AgentMachine]:
        """Machines with the credential of this enrolment that can still say something."""
        mine = (machine for machine in self.machines if machine.credential.key == key)
        return [machine for machine in mine if machine.disk.state.agent.fenced is None]

    def start_controller(self) -> bool:
        """Begin its next life, unless it runs."""
        if self.controller.process.alive:
            return False
        self.controller.start()
        return True

    def kill_controller(self, *, written: bool, noticed: bool) -> bool:
        """End it, if it runs."""
        if not self.controller.process.alive:
            return False
        self.controller.kill(written=written)
        for stream in self.network.all_streams():
            stream.server_has_it = False
            stream.break_(agent_learns=noticed, server_learns=False)
        return True

    def start_agent(self, machine: AgentMachine) -> bool:
        """Begin its next life, unless it runs."""
        if machine.process.alive:
            return False
        machine.start()
        return True

    def kill_agent(self, machine: AgentMachine, *, written: bool, noticed: bool) -> bool:
        """End it, if it runs."""
        ran = machine.process.alive
        if ran:
            machine.kill(written=written)
        for stream in self.network.streams_of(machine.name):
            stream.agent_has_it = False
            stream.break_(agent_learns=False, server_learns=noticed)
        return ran

    def backup_store(self, machine: AgentMachine) -> None:
        """Keep a copy of its disk."""
        self._backups[machine] = machine.disk.fork(0)

    def restore_store(self, machine: AgentMachine, chance: Random) -> bool:
        """Put its disk back to the copy, if there is one."""
        backup = self._backups.get(machine)
        if backup is None or backup.state.agent.epoch != machine.disk.state.agent.epoch:
            return False
        self.kill_agent(machine, written=chance.random() < 0.5, noticed=True)
        self._gone(machine.disk)
        self._put_in(machine, backup)
        return True

    def clone(self, machine: AgentMachine, *, unheard: bool) -> bool:
        """Begin a second machine on a copy of its disk, if there is room for it."""
        self._make_room()
        if len(self.machines) >= MAX_MACHINES or not machine.disk.state.agent.agent_uid:
            return False
        twin = self._new_machine()
        twin.credential = machine.credential
        self._put_in(twin, machine.disk.fork(0))
        if unheard:
            self.network.cut_off.add(twin.name)
        return self.start_agent(twin)

    def lose_store(self, machine: AgentMachine) -> None:
        """Begin anew with an empty disk."""
        self.kill_agent(machine, written=False, noticed=True)
        self._gone(machine.disk)
        machine.disk = self._new_disk()

    def renew_credential(self, machine: AgentMachine) -> bool:
        """Give it its agent's newest credential, if it has another one, and start it again."""
        agent = self.database.tables.agents.get(machine.credential.key.agent_uid)
        if agent is None or agent.key <= machine.credential.key:
            return False
        self.kill_agent(machine, written=False, noticed=True)
        machine.credential = Credential(agent.name, agent.key)
        self._installed.add(agent.key)
        return self.start_agent(machine)

    def backup_database(self) -> None:
        """Keep a copy of the controller's database."""
        self._database_backup = self.database.backup()

    def restore_database(self, *, declared: bool) -> bool:
        """Put it back to the copy, if there is one; say so or not, and start the controller."""
        if self._database_backup is None:
            return False
        self.kill_controller(written=False, noticed=True)
        self.database.tables = self._database_backup
        self._database_backup = self.database.backup()
        self.ledger.restored(self.database.tables)
        self.ledger.put_back_unseen = True
        if declared:
            self.declare_restored()
        return self.start_controller()

    def declare_restored(self) -> None:
        """`quota-server recover`, while the controller is down."""
        self.controller.recover()
        self.ledger.restored(self.database.tables)
        self.ledger.put_back_unseen = False

    # --- inside ------------------------------------------------------------------------------------------------------

    def _new_machine(self) -> AgentMachine:
        self._names += 1
        machine = AgentMachine(
            self.loop,
            self.plan.seed,
            f"m{self._names}",
            self.network,
            lambda: [self.controller],
            self._archive,
            self.trouble,
        )
        self.machines.append(machine)
        return machine

    def _make_room(self) -> None:
        """Switch off machines whose stores have said their last word, if there are too many."""
        for machine in list(self.machines):
            if len(self.machines) < MAX_MACHINES:
                return
            if machine.disk.state.agent.fence_confirmed:
                self.kill_agent(machine, written=False, noticed=True)
                self._gone(machine.disk)
                self.machines.remove(machine)

    def _archive(self, machine: AgentMachine, disk: Disk) -> Disk:
        self._gone(disk)
        return self._new_disk()

    def _new_disk(self) -> Disk:
        self._disks += 1
        disk = Disk(self._disks, self)
        self.truth.begin(disk)
        return disk

    def _gone(self, disk: Disk) -> None:
        self.truth.stores[disk.number].alive = False

    def _put_in(self, machine: AgentMachine, copy: Disk) -> None:
        self._disks += 1
        copy.number = self._disks
        machine.disk = copy.fork(self._disks)
        machine.disk.parent = copy.parent
        self.truth.begin(machine.disk)


def _nothing() -> None:
    """Time has passed."""
