"""The applications on an agent's machine: what they ask of the gate, what they were told, whether that is kept (S4).

A caller that gets no answer, because the agent died or its store failed, asks again with the same request_id.
"""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

from quota_agent.errors import Refusal
from quota_agent.gate.gate import Gate
from quota_agent.gate.model import AcquireMode, AcquireRequest, Entry, EntryState, Granted, Verb
from quota_agent.gate.records import Key
from tests.simulation.disk import Disk
from tests.simulation.machines import AgentMachine
from tests.simulation.truth import Violation, require

T = TypeVar("T")

_ENDED = {
    "ENTRY_ENDED": frozenset({EntryState.RELEASED, EntryState.CANCELLED, EntryState.EXPIRED}),
    "HOLD_EXPIRED": frozenset({EntryState.EXPIRED}),
}


@dataclass(slots=True)
class Told:
    """What callers on one disk were answered."""

    granted: dict[Key, Entry] = field(default_factory=dict)
    #: Requests in the order in which they were made, to repeat some.
    asked: list[AcquireRequest] = field(default_factory=list)


class Clients:
    """Callers of every agent."""

    def __init__(self) -> None:
        #: The first thing that a caller found wrong.
        self.violation: Violation | None = None
        self.told: dict[int, Told] = {}
        self.outcomes: dict[str, int] = {}
        self._numbers = 0
        self._repeated: set[str] = set()

    def on(self, disk: Disk) -> Told:
        """What was told of a disk. A copy knows nothing of what was told after it was made."""
        return self.told.setdefault(disk.number, Told())

    # --- what is asked -----------------------------------------------------------------------------------------------

    def acquire(self, machine: AgentMachine, names: list[str], chance: Random) -> None:
        """A new request, of any kind."""
        name = chance.choice(names)
        amount = chance.choice((1, 1, 1, 2, 3, chance.randint(1, 40)))
        request = AcquireRequest(name, self._new_id(), amount)
        roll = chance.random()
        if roll < 0.2:
            request = request._replace(mode=AcquireMode.UP_TO)
        elif roll < 0.4:
            request = request._replace(hold_ms=chance.choice((500, 3_000, 20_000, 600_000)))
        elif roll < 0.5:
            request = request._replace(max_wait_ms=chance.choice((300, 2_000, 10_000)))
        override = self._open_override(machine, name, chance)
        if override is not None and chance.random() < 0.5:
            override_id, most = override
            request = AcquireRequest(
                name,
                request.request_id,
                chance.choice((chance.randint(1, most), most, most + chance.randint(1, 5))),
                override_id=override_id,
            )
        self.on(machine.disk).asked.append(request)
        self._ask_for(machine, request)

    def batch(self, machine: AgentMachine, names: list[str], chance: Random) -> None:
        """Several at once, all or nothing or each on its own."""
        items = [
            AcquireRequest(chance.choice(names), self._new_id(), chance.randint(1, 4))
            for _ in range(chance.randint(2, 5))
        ]
        if chance.random() < 0.3:
            items.append(items[0])
        atomic = chance.random() < 0.5
        disk, gate = machine.disk, machine.gate
        self.on(disk).asked.extend(items)
        assert gate is not None

        async def ask() -> None:
            answers = await self._refused(gate.acquire_batch(items, atomic))
            if isinstance(answers, Refusal):
                self._count("batch", answers)
                if answers.reason != "STORE_UNAVAILABLE":
                    self._check_nothing_kept(disk, items)
                return
            for item, answer in zip(items, answers, strict=True):
                self._answered(disk, item, answer)

        self._begin(machine, ask())

    def _check_nothing_kept(self, disk: Disk, items: list[AcquireRequest]) -> None:
        """Of a batch that was refused as a whole nothing is left."""
        asked = {item.request_id for item in items} - self._repeated
        kept = [key for key in disk.entries if key[1] in asked]
        require(not kept, "S4", f"a batch was refused, and {kept} are on store {disk.number}")

    def repeat(self, machine: AgentMachine, chance: Random) -> None:
        """A request that was made before, whatever became of it."""
        asked = self.on(machine.disk).asked
        if asked:
            request = asked[-1 - int(len(asked) * chance.random() ** 3)]
            self._repeated.add(request.request_id)
            self._ask_for(machine, request)

    def end(self, machine: AgentMachine, chance: Random) -> None:
        """Commit, cancel or release something."""
        granted = list(self.on(machine.disk).granted.values())
        if not granted:
            return
        entry = granted[-1 - int(len(granted) * chance.random() ** 2)]
        quota = machine.disk.state.quotas.get(entry.quota_uid)
        if quota is None:
            return
        if entry.state is EntryState.HELD:
            verb = chance.choice((Verb.COMMIT, Verb.COMMIT, Verb.CANCEL))
        else:
            verb = chance.choice((Verb.RELEASE, Verb.RELEASE, Verb.COMMIT))
        self._end(machine, verb, quota.terms.name, entry)

    def ask_override(self, machine: AgentMachine, names: list[str], chance: Random) -> None:
        """Ask to go beyond the limit."""
        gate, name, amount = machine.gate, chance.choice(names), chance.randint(1, 30)
        assert gate is not None
        work = gate.request_override(name, amount, "more came than planned", self._new_id())
        self._begin(machine, self._quietly("override", work))

    def reset_clock(self, machine: AgentMachine) -> None:
        """An operator says that the clock is right."""
        assert machine.gate is not None
        self._begin(machine, self._quietly("reset clock", machine.gate.reset_clock("it is right")))

    # --- what is answered --------------------------------------------------------------------------------------------

    def _ask_for(self, machine: AgentMachine, request: AcquireRequest) -> None:
        gate, disk = machine.gate, machine.disk
        assert gate is not None

        async def ask() -> None:
            self._answered(disk, request, await self._refused(gate.acquire(request)))

        self._begin(machine, ask())

    def _answered(self, disk: Disk, request: AcquireRequest, answer: Granted | Refusal) -> None:
        self._count("acquire", answer)
        told = self.on(disk)
        if isinstance(answer, Granted):
            self._granted(disk, told, request, answer.entry)
            return
        name = f"{request.request_id} on store {disk.number}"
        known = [entry for entry in told.granted.values() if entry.request_id == request.request_id]
        if answer.reason == "QUOTA_REACHED":
            uids = disk.state.newest(request.quota)
            here = [entry for entry in known if uids is not None and entry.quota_uid == uids.uid]
            require(not here, "S4", f"{name} was granted before, and now is refused: {answer.message}")
        states = _ENDED.get(answer.reason)
        if states is not None:
            found = [each for each in disk.entries.values() if each.request_id == request.request_id]
            ended = any(each.state in states for each in found)
            require(ended, "S4", f"{name} was refused with {answer.reason}, its entry is {found}")

    def _granted(self, disk: Disk, told: Told, request: AcquireRequest, entry: Entry) -> None:
        key = (entry.quota_uid, entry.request_id)
        name = f"{request.request_id} on store {disk.number}"
        durable = disk.entries.get(key)
        require(durable is not None, "S4", f"{name} was answered, and is not on the disk")
        assert durable is not None
        same = durable._replace(state=entry.state) == entry
        require(same, "S4", f"{name} was answered as {entry}, the disk has {durable}")
        require(entry.granted <= request.amount, "S4", f"{name}: {entry.granted} of {request.amount} granted")
        before = told.granted.get(key)
        if before is not None:
            repeated = before.number == entry.number and before.granted == entry.granted
            require(repeated, "S4", f"{name} was answered {before}, and now {entry}")
        told.granted[key] = entry

    def _end(self, machine: AgentMachine, verb: Verb, name: str, entry: Entry) -> None:
        gate, disk = machine.gate, machine.disk
        assert gate is not None
        call = {Verb.COMMIT: gate.commit, Verb.CANCEL: gate.cancel, Verb.RELEASE: gate.release}[verb]

        async def ask() -> None:
            answer = await self._refused(call(name, entry.request_id))
            self._count(verb.value.lower(), answer)
            if isinstance(answer, Granted):
                found = answer.entry
                key = (found.quota_uid, found.request_id)
                durable = disk.entries.get(key)
                is_there = durable is not None and durable.granted == found.granted
                require(is_there, "S4", f"{verb} answered {found}, the disk has {durable}")
                self.on(disk).granted[key] = found

        self._begin(machine, ask())

    def _begin(self, machine: AgentMachine, work: Coroutine[Any, Any, None]) -> None:
        machine.process.begin(self._watch(work), "client")

    async def _watch(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Violation as violation:
            self.violation = self.violation or violation

    async def _quietly(self, what: str, work: Awaitable[object]) -> None:
        self._count(what, await self._refused(work))

    async def _refused(self, work: Awaitable[T]) -> T | Refusal:
        try:
            return await work
        except Refusal as refusal:
            return refusal

    def _count(self, what: str, answer: object) -> None:
        outcome = answer.reason if isinstance(answer, Refusal) else "ok"
        key = f"{what}: {outcome}"
        self.outcomes[key] = self.outcomes.get(key, 0) + 1

    def _open_override(self, machine: AgentMachine, name: str, chance: Random) -> tuple[str, int] | None:
        gate = machine.gate
        if not isinstance(gate, Gate) or not machine.disk.state.overrides:
            return None
        views = machine.disk.state.overrides.values()
        quotas = machine.disk.state.quotas
        mine = [o for o in views if o.quota_uid in quotas and quotas[o.quota_uid].terms.name == name]
        if not mine:
            return None
        chosen = mine[-1 - int(len(mine) * chance.random() ** 2)]
        return chosen.override_id, chosen.amount

    def _new_id(self) -> str:
        self._numbers += 1
        return f"r-{self._numbers:05}"
