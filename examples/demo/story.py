"""The story: what happens to the fleet while five sites enrol, and the account of it at the end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from examples.demo.checks import Account, Broken, Reading, SiteAccount, first_of_each, judge, settle
from examples.demo.common import (
    FLEET_BOUND_SECONDS,
    GAP_SECONDS,
    PATIENCE_SECONDS,
    REPLAY_SECONDS,
    DemoFailed,
    now,
)
from examples.demo.fleet import Fleet
from examples.demo.observer import Observer
from examples.demo.sites import Pace, Site
from examples.enrolments import Enrolment

#: Whose line is cut, and whose agent is killed: the two largest.
CUT_OFF: Final = "leeds"
KILLED: Final = "cardiff"
FAMILY: Final = "family-of-three"
FAMILY_SIZE: Final = 3
#: Targets of the first part and, for a while, of the second, in percent of the last one.
FIRST_PERCENT: Final = 80
RAISED_PERCENT: Final = 115


class Reporter(Protocol):
    """Tells people what happens."""

    def event(self, text: str) -> None:
        """Something happened."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How it ended: the account, what was broken on the way or at the end, and how much was looked at."""

    account: Account
    broken: list[Broken]
    faults: list[str]
    samples: int
    judged: int


class Story:
    """One run on a fleet that is up."""

    def __init__(
        self,
        fleet: Fleet,
        sites: dict[str, Site],
        rows: Sequence[Enrolment],
        target: int,
        reporter: Reporter,
        refused: asyncio.Event,
    ) -> None:
        """`target` is the last one; `refused` is set by the sites when a place was refused."""
        self._fleet = fleet
        self._operator = fleet.operator
        self._sites = sites
        self._rows = rows
        self._target = target
        self._reporter = reporter
        self._refused = refused
        self._broken: list[Broken] = []
        self._faults: list[str] = []
        self._moments = _first_rows(rows)
        self.observer = Observer(sites, fleet.operator, self._on_broken)
        self.pace: Pace | None = None

    async def run(self) -> Ending:
        """Play it to the end. Raises DemoFailed, in a group, if it cannot be played."""
        async with asyncio.TaskGroup() as tasks:
            background = [tasks.create_task(self._fleet.watch()), tasks.create_task(self.observer.run())]
            await self.observer.see("all agents to be linked", self._all_linked)
            count = len(self._sites)
            self._say(
                f"{count} agents are linked; target {self._operator.target}, {len(self._rows)} rows to replay"
            )
            await self._play()
            for task in background:
                task.cancel()
        return await self._end()

    async def _play(self) -> None:
        self._refused.clear()
        self.pace = pace = Pace()
        async with asyncio.TaskGroup() as tasks:
            for name, site in self._sites.items():
                own = [row for row in self._rows if row.site == name]
                tasks.create_task(site.replay(own, pace), name=f"replay of {name}")
            await self._interfere(pace)

    async def _interfere(self, pace: Pace) -> None:
        """Everything that is done to the fleet. Moments are parts of the target as the rows ask for it."""
        await pace.reach(self._moment(0.06))
        begun = await self._cut()
        raised = self._target * RAISED_PERCENT // 100
        await self._set_target(raised, "a grant pays for more places")
        await pace.reach(self._moment(0.22))
        await self._mend(*begun)
        await pace.reach(self._moment(0.27))
        await self._kill_agent()
        await pace.reach(self._moment(0.34))
        await self._kill_controller(pace, until=self._moment(0.4))
        await pace.reach(self._moment(0.65))
        await self._set_target(self._target, "and is cut")
        await self._operator.targets_given_up()
        self._say(f"every agent has given up what is above {self._operator.target}")
        await self._exceed()

    async def _cut(self) -> tuple[float, int]:
        """Cut a site off, and wait until both ends have noticed; answers when, and what the site had by then."""
        at, units = now(), self._sites[CUT_OFF].tally.units
        with self._interference(f"line of {CUT_OFF} cut"):
            self._fleet.lines[CUT_OFF].cut()
            self._say(f"the line of {CUT_OFF} is cut: from now on it is on its own")
            await self.observer.see(f"{CUT_OFF} to notice", lambda seen: not _linked(seen.get(CUT_OFF)))
            await self._operator.sees_connected(len(self._sites) - 1)
        return at, units

    async def _mend(self, at: float, units: int) -> None:
        site = self._sites[CUT_OFF]
        reading = await site.read()
        limit = "unknown" if reading is None else reading.limit
        gained, seconds = site.tally.units - units, now() - at
        self._say(
            f"cut off for {seconds:.1f} s, {CUT_OFF} enrolled {gained} more, within its limit of {limit}"
        )
        with self._interference():
            self._fleet.lines[CUT_OFF].mend()
            await self.observer.see(f"{CUT_OFF} to be linked again", lambda seen: _linked(seen.get(CUT_OFF)))
        self._say(f"the line of {CUT_OFF} is mended, and its agent linked again")

    async def _kill_agent(self) -> None:
        agent, site = self._fleet.agents[KILLED], self._sites[KILLED]
        with self._interference(f"agent of {KILLED} killed"):
            site.asking.clear()
            await site.asking.wait()
            await agent.kill()
            self._say(f"SIGKILL for the agent of {KILLED}, just when its site asks for a place")
            answered = site.tally.units
            await agent.start()
            seen = await self.observer.see(
                f"{KILLED} to be linked again", lambda seen: _linked(seen.get(KILLED))
            )
        self._say(
            f"{KILLED} is back: {answered} places were answered before, its agent counts {seen[KILLED].used};"
            f" calls sent again: {site.tally.retried}"
        )

    async def _kill_controller(self, pace: Pace, until: datetime) -> None:
        controller = self._fleet.controller
        with self._interference("controller killed"):
            self._say("SIGKILL for the controller: nobody has a link now")
            await controller.kill()
            before = self._units()
            await self.observer.see("all agents to notice", lambda seen: not any(map(_linked, seen.values())))
            await pace.reach(until)
            await controller.start()
            self._say(f"the controller is back; the sites enrolled {self._units() - before} without it")
            await self.observer.see("all agents to be linked again", self._all_linked)
        self._say("all agents are linked again")

    async def _set_target(self, target: int, why: str) -> None:
        verb = "raised" if target > self._operator.target else "lowered"
        with self._interference():
            outcomes = await self._operator.set_target(target, why)
        told = ", ".join(f"{name} {outcome}" for name, outcome in outcomes.items())
        self._say(f"the target is {verb} to {self._operator.target} ({why}): {told}")

    async def _exceed(self) -> None:
        """Somebody is refused, asks for an override, and gets it."""
        self._refused.clear()
        try:
            async with asyncio.timeout(REPLAY_SECONDS + PATIENCE_SECONDS):
                await self._refused.wait()
        except TimeoutError:
            raise DemoFailed(
                "nobody was refused, although more is asked for than the target allows"
            ) from None
        site = max(self._sites.values(), key=lambda each: len(each.tally.refusals))
        self._say(f"no place is left: {site.name} is refused, and asks for an override of {FAMILY_SIZE}")
        async with asyncio.TaskGroup() as tasks:
            asked = tasks.create_task(site.get_override(FAMILY, FAMILY_SIZE, "siblings must not be parted"))
            decided = await self._operator.approve_next("agreed by the steering committee")
        await site.spend(asked.result())
        self._say(f"the operator approved {decided.amount} for {site.name}, and they are spent")

    async def _end(self) -> Ending:
        """When all is quiet: the account, and everything that can be held against it."""
        final = await self._operator.final_count(self._sites)
        by_agent = {agent.agent: (agent.count, agent.held, agent.overridden) for agent in final.agents}
        sites = {}
        for name, site in self._sites.items():
            answered = {key: units for key, (units, _) in site.tally.answers.items()}
            reading = await site.read()
            if reading is None:
                raise DemoFailed(f"at the end the agent of {name} does not answer")
            sites[name] = SiteAccount(answered, await site.entries(), reading, by_agent[name])
        sample = await self.observer.look()  # the bound is read after the agents, as always
        count = final.count
        account = Account(
            sites,
            self._operator.target,
            self._operator.overrides,
            (count.count, count.held, count.overridden),
            sample.upper_bound,
        )
        refusals = [refusal for site in self._sites.values() for refusal in site.tally.refusals]
        stuck, judged = judge(refusals, self.observer.samples, bound=FLEET_BOUND_SECONDS, gap=GAP_SECONDS)
        told = [each for site in self._sites.values() for each in site.tally.broken]
        broken = first_of_each([*self._broken, *told, *settle(account), *stuck])
        samples = len(self.observer.samples)
        return Ending(account, broken, self._faults, samples, judged)

    @contextlib.contextmanager
    def _interference(self, fault: str = "") -> Iterator[None]:
        """Tell the observer that something is being done to the fleet, and that it is over."""
        if fault:
            self._faults.append(fault)
        self.observer.changes += 1
        yield
        self.observer.changes += 1

    def _on_broken(self, broken: list[Broken]) -> None:
        for each in broken:
            if all(each.guarantee is not known.guarantee for known in self._broken):
                self._broken.append(each)  # what is broken once goes on being broken
                self._say(f"BROKEN: {each.guarantee}: {each.sentence}")

    def _all_linked(self, seen: Mapping[str, Reading]) -> bool:
        return all(_linked(seen.get(name)) for name in self._sites)

    def _units(self) -> int:
        return sum(site.tally.units for site in self._sites.values())

    def _moment(self, part: float) -> datetime:
        return self._moments[int(part * self._target)]

    def _say(self, text: str) -> None:
        self._reporter.event(text)


def _linked(reading: Reading | None) -> bool:
    return reading is not None and reading.connected


def _first_rows(rows: Sequence[Enrolment]) -> list[datetime]:
    """When each place is asked for the first time, in the order of time."""
    times: dict[tuple[str, str], datetime] = {}
    for row in rows:
        times.setdefault((row.site, row.participant), row.time)
    return list(times.values())
