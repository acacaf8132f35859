"""What tests of the gate need: a clock to turn, gates on real stores, and limits to spend."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from quota_agent.errors import Refusal
from quota_agent.gate.gate import Gate
from quota_agent.gate.model import AcquireRequest, GateSettings
from quota_agent.store.sqlite import SqliteStore
from quotafleet.link.messages import AllocationUpdate, Revision, Terms

#: 2026-07-01T00:00:00Z
START_MS = 1_782_864_000_000
HOUR_MS = 3_600_000


class FakeClock:
    """Both clocks, turned by hand."""

    def __init__(self, wall_ms: int = START_MS) -> None:
        self.wall = wall_ms
        self.monotonic = 1_000_000

    def wall_ms(self) -> int:
        return self.wall

    def monotonic_ms(self) -> int:
        return self.monotonic

    def pass_time(self, ms: int) -> None:
        """Let time pass on both."""
        self.wall += ms
        self.monotonic += ms


def ids(prefix: str = "id") -> Callable[[], str]:
    """Answers another id at each call."""
    numbers = itertools.count(1)
    return lambda: f"{prefix}-{next(numbers)}"


@asynccontextmanager
async def open_gate(
    folder: Path,
    clock: FakeClock | None = None,
    *,
    settings: GateSettings | None = None,
    store: SqliteStore | None = None,
    bind: tuple[str, str, int] | None = ("school-7", "agent-uid-7", 1),
) -> AsyncIterator[Gate]:
    """A gate on `folder`/agent.db, bound to epoch 1 of an agent."""
    async with (
        store or SqliteStore(folder / "agent.db") as opened,
        Gate.open(opened, clock or FakeClock(), settings or GateSettings(), ids("store")) as gate,
    ):
        if bind is not None:
            await gate.bind(*bind)
        yield gate


def uid_of(name: str) -> str:
    """The uid under which `grant` introduces a quota."""
    return f"uid:{name}"


async def grant(
    gate: Gate,
    name: str,
    limit: int,
    *,
    terms: Terms | None = None,
    uid: str | None = None,
    generation: int = 0,
    complete: bool = True,
) -> None:
    """Set this agent's limit in a quota, as the controller would: under the next revision."""
    uid = uid or uid_of(name)
    standing = gate.standing(uid)
    last = standing.revision if standing is not None else Revision()
    revision = last.next(max(generation, last.generation))
    update = AllocationUpdate(uid, revision, limit, terms or Terms(name))
    await gate.apply((update,), (), complete=complete)


def want(quota: str, request_id: str, amount: int = 1, **more: object) -> AcquireRequest:
    """A request for units."""
    return AcquireRequest(quota, request_id, amount)._replace(**more)  # type: ignore[arg-type]


@asynccontextmanager
async def refused(reason: str) -> AsyncIterator[list[Refusal]]:
    """What is within is refused for `reason`; the refusal is put into the list."""
    caught: list[Refusal] = []
    with pytest.raises(Refusal) as raised:
        yield caught
    caught.append(raised.value)
    assert raised.value.reason == reason, f"{raised.value!r} instead of {reason}"
