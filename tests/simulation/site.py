"""The machines and their disks: everything that can be switched on and off, copied, put back and lost."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from random import Random

from quota_agent.gate.draft import Changes
from quota_agent.gate.records import State
from quota_server.ledger.book import Book
from quota_server.ledger.model import AgentKey
from tests.memory_store import Tables
from tests.simulation.database import Database, Turn
from tests.simulation.disk import Disk, Moves, Trouble
from tests.simulation.ledger_checks import LedgerChecks
from tests.simulation.loop import SimLoop
from tests.simulation.machines import AgentMachine, ControllerMachine, Credential
from tests.simulation.network import Network
from tests.simulation.notices import Channel
from tests.simulation.plan import Plan
from tests.simulation.truth import StoreTruth, Truth

#: No more machines than this at a time, clones included.
MAX_MACHINES = 9


class Site(ABC):
    """Controllers on one database, agents, the network between them, and what is true of their disks."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.loop = SimLoop()  # type: ignore[abstract]  # the rest of it nobody calls
        self.truth = Truth()
        self.network = Network(self.loop, plan.seed)
        self.network.draw_weather = plan.draw_weather
        self.trouble = Trouble(plan.unclear_rate, plan.conflict_rate)
        self.database = Database(self, self.loop, self._channel())
        self.controllers = self._new_controllers()
        self.ledger = LedgerChecks(self.truth, self._find_accepted)
        self.ledger.tables = self.database.tables
        self.machines: list[AgentMachine] = []
        #: The transaction whose commit is being followed.
        self.committing: Turn | None = None
        self._backups: dict[AgentMachine, Disk] = {}
        self._database_backup: Tables | None = None
        #: Credentials that were given out.
        self._installed: set[AgentKey] = set()
        self._disks = 0
        self._names = 0

    @abstractmethod
    def store_wrote(self, disk: Disk, before: State, changes: Changes, moves: Moves) -> None:
        """See `disk.Watcher`."""

    @abstractmethod
    def ledger_will_write(self, book: Book, turn: Turn) -> None:
        """See `database.LedgerWatcher`."""

    @abstractmethod
    def ledger_wrote(self, book: Book) -> None:
        """See `database.LedgerWatcher`."""

    # --- controllers -------------------------------------------------------------------------------------------------

    def start_controllers(self, chosen: Callable[[], bool] = lambda: True) -> bool:
        """Begin the next life of those that do not run and are chosen; whether there was one."""
        started = False
        for controller in self.controllers:
            if not controller.process.alive and chosen():
                controller.start()
                started = True
        return started

    def kill_controller(self, controller: ControllerMachine, *, written: bool, noticed: bool) -> bool:
        """End it, if it runs."""
        if not controller.process.alive:
            return False
        controller.kill(written=written)
        for stream in self.network.all_streams():
            if stream.host is controller:
                stream.server_has_it = False
                stream.break_(agent_learns=noticed, server_learns=False)
        return True

    def kill_controllers(self, *, written: bool, noticed: bool) -> bool:
        """End all that run; whether there was one."""
        ran = False
        for controller in self.controllers:
            ran |= self.kill_controller(controller, written=written, noticed=noticed)
        return ran

    def backup_database(self) -> None:
        """Keep a copy of the controllers' database."""
        self._database_backup = self.database.backup()

    def restore_database(self, *, declared: bool) -> bool:
        """Put it back to the copy, if there is one; say so or not, and start the controllers."""
        if self._database_backup is None:
            return False
        self.kill_controllers(written=False, noticed=True)
        self.database.tables = self._database_backup
        self._database_backup = self.database.backup()
        self.was_put_back()
        self.ledger.put_back_unseen = True
        if declared:
            self.declare_restored()
        return self.start_controllers()

    def fail_over(self) -> bool:
        """A replica that is behind takes the database's place, under controllers that go on; nobody says so."""
        if self._database_backup is None:
            return False
        self.database.put_back(self._database_backup)
        self._database_backup = self.database.backup()
        self.was_put_back()
        self.ledger.put_back_unseen = True
        return True

    def declare_restored(self) -> None:
        """`quota-server recover`, while no controller runs."""
        self.controllers[0].recover()
        self.was_put_back()
        self.ledger.put_back_unseen = False

    def was_put_back(self) -> None:
        """Others than those that a transaction wrote are in the tables."""
        self.ledger.restored(self.database.tables)

    # --- agents ------------------------------------------------------------------------------------------------------

    def machines_of(self, key: AgentKey) -> list[AgentMachine]:
        """Machines with the credential of this enrolment that can still say something."""
        mine = (machine for machine in self.machines if machine.credential.key == key)
        return [machine for machine in mine if machine.disk.state.agent.fenced is None]

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

    # --- inside ------------------------------------------------------------------------------------------------------

    def _channel(self) -> Channel | None:
        plan = self.plan
        if plan.controllers == 1:
            return None
        chance = Random(f"{plan.seed}/notices")
        return Channel(self.loop, chance, plan.notice_loss, plan.notice_slowest_ms)

    def _new_controllers(self) -> list[ControllerMachine]:
        plan = self.plan
        names = [f"c{number}" for number in range(1, plan.controllers + 1)]
        if plan.controllers == 1:
            names = ["controller"]
        return [
            ControllerMachine(self.loop, plan.seed, name, self.database, plan.heartbeat_ms, self.trouble)
            for name in names
        ]

    def _find_accepted(self, key: AgentKey, dial: int) -> StoreTruth | None:
        """The store whose hello, with this dial, the transaction is about."""
        assert self.committing is not None
        hello = self.committing.hello(key, dial)
        return self.truth.stores[self.network.hellos[hello].number] if hello is not None else None

    def _new_machine(self) -> AgentMachine:
        self._names += 1
        machine = AgentMachine(
            self.loop,
            self.plan.seed,
            self._names,
            self.network,
            self.controllers,
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
