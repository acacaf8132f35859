"""`python -m tests.simulation.doorman`: the comparison that Doorman published, on our programs.

Its scenario (youtube/doorman, simulation/scenario_five.py and scenario_seven.py): 45 clients share a capacity of 500.
Each wants 15 to begin with, and every 10 s up to 10 % more or less than before. With mishaps, once a minute one of
three things happens: a client wants 100 more, a server is elected anew (here: the controller restarts), or it is
lost for up to a minute. Every 5 s it is looked how much of the capacity is in the clients' hands.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from dataclasses import asdict, dataclass, field
from random import Random

from quota_agent.errors import Refusal
from quota_agent.gate.model import AcquireMode, AcquireRequest
from quota_server.ledger.model import Assignment, Quota
from tests.simulation.machines import AgentMachine
from tests.simulation.plan import Plan
from tests.simulation.run import undisturbed
from tests.simulation.truth import Violation
from tests.simulation.world import World

CLIENTS, CAPACITY, WANTS = 45, 500, 15.0
QUOTA = "resource0"
HEARTBEAT_MS = 5_000
#: Mishaps are drawn in these proportions.
SPIKE, RESTART, LOSS = 5, 10, 15
#: Nobody looks before everybody had the time to ask.
WARM_UP_S = 60


@dataclass(slots=True)
class Result:
    """What a run came to."""

    mishaps: bool
    seconds: int
    #: Units in the clients' hands, of what they could have had: the capacity, or what they want if that is less.
    utilisation_percent: float = 0.0
    #: The most that was ever in their hands, of the capacity.
    peak_percent: float = 0.0
    #: How often more than the capacity was in their hands.
    overshoots: int = 0
    events: int = 0
    happened: dict[str, int] = field(default_factory=dict)
    violation: str = ""


class Client:
    """One client: takes what it wants and can get, a unit an entry, and gives back what it does not want any more."""

    def __init__(self, machine: AgentMachine, chance: Random) -> None:
        self.machine = machine
        self.wants = WANTS
        self.has: list[str] = []
        self._chance = chance
        self._asked = 0

    async def run(self) -> None:
        """Follow what is wanted for ever."""
        await asyncio.sleep(self._chance.random())
        while True:
            await self._follow()
            await asyncio.sleep(1.0)

    def drift(self) -> None:
        """Want a little more, or less."""
        self.wants = max(0.0, self.wants * (1 + 0.1 * (1 - 2 * self._chance.random())))

    async def _follow(self) -> None:
        gate = self.machine.gate
        if gate is None:
            return
        while len(self.has) > round(self.wants):
            await gate.release(QUOTA, self.has.pop())
        lacking = round(self.wants) - len(self.has)
        if lacking > 0:
            self._asked += 1
            names = [f"{self.machine.name}-{self._asked}-{number}" for number in range(lacking)]
            items = [AcquireRequest(QUOTA, name, 1, mode=AcquireMode.UP_TO) for name in names]
            answers = await gate.acquire_batch(items, atomic=False)
            taken = zip(names, answers, strict=True)
            self.has += [name for name, answer in taken if not isinstance(answer, Refusal)]


def run(*, mishaps: bool, seconds: int, seed: int) -> Result:
    """One hour, or another time, of the scenario."""
    chance = Random(f"doorman {seed}")
    result = Result(mishaps, seconds)
    weather = dict.fromkeys(("loss", "repeat", "reorder"), 0.0)
    world = World(Plan(str(seed), 0, 0, HEARTBEAT_MS, 0.0, weather, []))
    with undisturbed() as logged, world.loop.running():
        try:
            _simulate(world, result, chance)
            result.violation = logged[0] if logged else ""
        except Violation as violation:
            result.violation = str(violation)
        result.events = world.loop.events
        world.finish()
    return result


def _simulate(world: World, result: Result, chance: Random) -> None:
    clients = _set_up(world, chance)
    used: list[float] = []
    for second in range(result.seconds):
        world.run_for(1_000, sys.maxsize)
        if second % 10 == 0:
            for client in clients:
                client.drift()
        if result.mishaps and second % 60 == 59:
            _mishap(world, clients, result, chance)
        if second % 5 == 0 and second >= WARM_UP_S:
            total = world.truth.total(_uid(world))
            could = min(CAPACITY, sum(round(client.wants) for client in clients))
            used.append(total / could)
            result.peak_percent = max(result.peak_percent, 100 * total / CAPACITY)
            result.overshoots += total > CAPACITY
    result.utilisation_percent = round(100 * sum(used) / len(used), 1)


def _set_up(world: World, chance: Random) -> list[Client]:
    world.start_controllers()
    world.run_for(100, sys.maxsize)
    world.operators.open_quota(Quota("", QUOTA, CAPACITY))
    names = [f"client-{number:02}" for number in range(CLIENTS)]
    for name in names:
        world.operators.create_agent(name)
    world.run_for(1_000, sys.maxsize)
    for name in names:
        world.operators.assign_part(QUOTA, name, Assignment("", ""))
    world.run_for(1_000, sys.maxsize)
    world.install(most=CLIENTS)
    world.run_for(5_000, sys.maxsize)
    clients = [Client(machine, chance) for machine in world.machines]
    for client in clients:
        client.machine.process.begin(client.run(), "client")
    return clients


def _uid(world: World) -> str:
    return next(iter(world.database.tables.quotas))


def _mishap(world: World, clients: list[Client], result: Result, chance: Random) -> None:
    kind = chance.choices(("spike", "restart", "loss"), (SPIKE, RESTART, LOSS))[0]
    result.happened[kind] = result.happened.get(kind, 0) + 1
    if kind == "spike":
        chance.choice(clients).wants += 100
        return
    world.kill_controllers(written=True, noticed=True)
    away_s = chance.uniform(0, 60) if kind == "loss" else 0
    world.loop.at(world.loop.time() + away_s, "controller returns", world.start_controllers)


def main() -> int:
    """Run both, and print what came of them as JSON; 1 if the cap did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.doorman", description=__doc__)
    parser.add_argument("--minutes", type=int, default=60, help="simulated minutes (default 60)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    failed = False
    for mishaps in (False, True):
        result = run(mishaps=mishaps, seconds=60 * options.minutes, seed=options.seed)
        print(json.dumps(asdict(result)), flush=True)
        failed |= bool(result.violation or result.overshoots)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
