"""What happens from outside: who asks what and what breaks, drawn from the seed before anything runs.

Every action carries its own chance. So any of them can be left out and the others stay what they were, which is how a
failure is shrunk. Each seed draws its own mixture: some plans have no crash, others hardly anything else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import NamedTuple

from tests.simulation.network import Weather


class Action(NamedTuple):
    """Something that somebody does, or that happens, so long after its round began."""

    number: int
    at_ms: int
    kind: str
    #: Seeds whatever the action has to choose.
    chance: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Rounds of actions; after each round everything is healed and compared."""

    seed: str
    agents: int
    quotas: int
    heartbeat_ms: int
    #: How often a write fails so that nobody knows whether it happened.
    unclear_rate: float
    weather: Mapping[str, float]
    rounds: Sequence[Sequence[Action]] = field(repr=False)
    controllers: int = 1
    #: Of several controllers: how often a transaction meets another's, how many notices are lost, how late others come.
    conflict_rate: float = 0.0
    notice_loss: float = 0.0
    notice_slowest_ms: int = 5

    def keeping(self, numbers: frozenset[int]) -> Plan:
        """The same plan with only these actions."""
        rounds = [[each for each in actions if each.number in numbers] for actions in self.rounds]
        return replace(self, rounds=rounds)

    @property
    def numbers(self) -> list[int]:
        """Of all actions, in order."""
        return [action.number for actions in self.rounds for action in actions]

    def draw_weather(self, chance: Random) -> Weather:
        """The character of a new stream: half of them are as a network should be."""
        if chance.random() < 0.5:
            return Weather()
        return Weather(
            slowest_ms=chance.choice((5, 50, 400, 3_000)),
            loss=chance.random() * self.weather["loss"],
            repeat=chance.random() * self.weather["repeat"],
            reorder=chance.random() * self.weather["reorder"],
        )


#: What people ask, and how often relative to each other.
_CLIENTS = {"acquire": 40, "batch": 4, "repeat": 9, "end": 16, "ask_override": 4}
_OPERATORS = {
    "set_target": 4,
    "decide_override": 5,
    "ask_again": 3,
    "request_override": 2,
    "rebalance": 1,
    "update_quota": 2,
    "set_agent_target": 1,
    "assign": 2,
    "unassign": 1,
    "switch_agent": 1,
    "close_quota": 0.3,
    "create_quota": 1,
    "create_agent": 1,
    "retire": 0.4,
    "settle": 0.6,
    "install": 2,
    "finish_recovery": 2,
    "reset_clock": 1,
}
#: Faults in families that a plan has as a whole or not at all; what mends a fault comes with it.
_FAULTS: Sequence[Mapping[str, float]] = (
    {"kill_agent": 3, "start_agents": 6},
    {"kill_controller": 2, "start_controller": 6},
    {"break_stream": 5, "half_break_stream": 3},
    {"stall": 4, "flow": 5},
    {"cut_off": 3, "reach": 4},
    {"pause_agent": 2, "pause_controller": 1, "resume": 5},
    {"fill_disk": 2, "fill_database": 1, "empty_disks": 4},
    {"clock_jump": 3, "clock_drift": 2, "clock_right": 2},
    {"backup_store": 3, "restore_store": 2, "start_agents": 3},
    {"clone": 3, "break_stream": 2, "reach": 3},
    {"lose_store": 1, "start_agents": 2},
    {"backup_database": 2, "restore_database": 1, "restore_database_unseen": 0.7, "start_controller": 3},
    {"kill_agent": 1, "start_agents": 2, "kill_controller": 1, "start_controller": 2, "new_credential": 2},
)

#: And what several controllers can meet.
_FAULTS_OF_SEVERAL: Sequence[Mapping[str, float]] = (
    {"kill_controller": 3, "start_controller": 6},
    {"kill_controller": 1, "kill_controllers": 1, "start_controller": 5},
    {"kill_writing": 3, "start_controller": 6},
    {"pause_controller": 2, "resume": 3},
    {"part": 4, "reach": 4},
    {"backup_database": 3, "fail_over": 1},
)

#: At worst, by plan; each stream then draws its own share of it.
_WEATHER = {"loss": (0, 0.05, 0.4), "repeat": (0, 0.1, 1), "reorder": (0, 0.05, 0.4)}

ROUND_MS = 40_000
ROUNDS = 12


def draw_plan(seed: int, rounds: int = ROUNDS) -> Plan:
    """The plan of a seed."""
    chance = Random(f"plan {seed}")
    several = seed % 2 == 0
    weights: dict[str, float] = dict(_CLIENTS)
    busy = chance.choice((0.5, 1, 3))
    operators: dict[str, float] = _OPERATORS | ({"count": 3} if several else {})
    if chance.random() < 0.3:
        # As much is given back as is taken, of limits that are to be smaller than the use: they follow it down.
        weights |= {"end": 45}
        operators |= {"set_agent_target": 6, "unassign": 3, "assign": 4}
    if several and chance.random() < 0.3:
        # Much is asked for and approved, and what approved it is forgotten.
        weights |= {"ask_override": 16, "backup_database": 5, "restore_database": 3, "start_controller": 6}
        operators |= {"decide_override": 12, "finish_recovery": 6}
    weights |= {kind: weight * busy for kind, weight in operators.items()}
    violent = chance.choice((0.3, 1, 2, 4))
    families = [*_FAULTS, *(_FAULTS_OF_SEVERAL if several else ())]
    for family in chance.sample(families, chance.choice((2, 3, 4, 6, len(families)))):
        for kind, weight in family.items():
            weights[kind] = weights.get(kind, 0) + weight * violent
    kinds = list(weights)
    rates = list(weights.values())
    pace_ms = chance.choice((60, 150, 400))
    drawn: list[list[Action]] = []
    number = 0
    for _ in range(rounds):
        actions: list[Action] = []
        at_ms = 0.0
        while (at_ms := at_ms + chance.expovariate(1 / pace_ms)) < ROUND_MS:
            number += 1
            kind = chance.choices(kinds, rates)[0]
            actions.append(Action(number, int(at_ms), kind, chance.getrandbits(32)))
        drawn.append(actions)
    plan = Plan(
        seed=str(seed),
        agents=chance.choice((1, 2, 2, 3, 3, 5)),
        quotas=chance.choice((1, 1, 2, 3)),
        heartbeat_ms=chance.choice((500, 1_000, 5_000)),
        unclear_rate=chance.choice((0, 0, 0.01, 0.1)),
        weather={name: chance.choice(rates) for name, rates in _WEATHER.items()},
        rounds=drawn,
    )
    return _with_several(plan, chance) if several else plan


def _with_several(plan: Plan, chance: Random) -> Plan:
    """Two controllers on one database: every other seed."""
    return replace(
        plan,
        agents=max(2, plan.agents),
        controllers=2,
        conflict_rate=chance.choice((0, 0.02, 0.2)),
        notice_loss=chance.choice((0, 0.1, 0.5, 1)),
        notice_slowest_ms=chance.choice((5, 50, 2_000)),
    )
