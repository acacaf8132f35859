"""The schedule of faults: a pure function of the seed."""

from __future__ import annotations

import enum
import random
from collections.abc import Iterator
from dataclasses import dataclass


class Kind(enum.StrEnum):
    """Every fault there is; the value is what people read."""

    AGENT_KILLED = "agent killed"
    CONTROLLER_KILLED = "controller killed"
    AGENT_STOPPED = "agent stopped and continued"
    CONTROLLER_STOPPED = "controller stopped and continued"
    CONNECTIONS_CUT = "connections cut"
    STALLED_UP = "line stalled, agent to controller"
    STALLED_DOWN = "line stalled, controller to agent"
    STALLED_BOTH = "line stalled both ways"
    LINE_SLOW = "line slow"
    AGENT_CLOCK = "agent's clock jumped"
    CONTROLLER_CLOCK = "controller's clock jumped"
    AGENT_DISK = "agent's disk full"
    CONTROLLER_DISK = "controller's disk full"
    NO_SPACE = "no space left for anybody"
    STORE_PUT_BACK = "agent's store put back to an older copy"
    STORE_CLONED = "agent's machine cloned"
    DATABASE_PUT_BACK = "controller's database put back"
    AGENT_RETIRED = "agent retired, another enrolled in its place"
    AGENT_SETTLED = "agent lost and settled, then its store turned up"


CLOCKS = frozenset({Kind.AGENT_CLOCK, Kind.CONTROLLER_CLOCK})
#: These change who is enrolled, what is remembered or what everybody stands on: one at a time.
STRUCTURAL = frozenset(
    {
        Kind.NO_SPACE,
        Kind.STORE_PUT_BACK,
        Kind.STORE_CLONED,
        Kind.DATABASE_PUT_BACK,
        Kind.AGENT_RETIRED,
        Kind.AGENT_SETTLED,
    }
)
_SHORTEST_SECONDS, _LONGEST_SECONDS = 0.3, 2.0
_LONGEST_GAP_SECONDS = 2.0
_JUMPS_SECONDS = (-200_000, -3_600, -100, 100, 3_600, 200_000)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong."""

    number: int
    kind: Kind
    #: Which agent, where it is one.
    victim: int
    #: Time after the fault before it in its lane was begun; structural ones have a lane of their own.
    gap_seconds: float
    #: How long it lasts, where it does.
    seconds: float
    #: How far a clock jumps.
    jump_seconds: int
    #: A coin for variants of a kind.
    coin: bool

    def __str__(self) -> str:
        return f"#{self.number} {self.kind} (agent {self.victim}, {self.seconds:.1f} s)"


def waves(seed: int, agents: int, kinds: frozenset[Kind] = frozenset(Kind)) -> Iterator[list[Fault]]:
    """Yield waves without end: each has every one of `kinds` once, in an order of its own, and some of them again."""
    chance = random.Random(f"{seed}/faults")
    number = 0
    first = True
    while True:
        again = [kind for kind in Kind if kind in kinds and kind not in STRUCTURAL]
        wave = [kind for kind in Kind if kind in kinds]
        if not first:
            wave += chance.choices(again, k=len(again))
        first = False
        chance.shuffle(wave)
        faults = []
        for kind in wave:
            number += 1
            faults.append(
                Fault(
                    number,
                    kind,
                    chance.randrange(agents),
                    chance.uniform(0.0, _LONGEST_GAP_SECONDS),
                    chance.uniform(_SHORTEST_SECONDS, _LONGEST_SECONDS),
                    chance.choice(_JUMPS_SECONDS),
                    chance.random() < 0.5,
                )
            )
        yield faults
