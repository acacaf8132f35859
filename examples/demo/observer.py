"""An independent observer: looks at everything all the time, and holds what it sees against what must hold."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from examples.demo.checks import Broken, Reading, Sample, Watch
from examples.demo.common import LOOK_SECONDS, PATIENCE_SECONDS, DemoFailed, now
from examples.demo.operator import Operator
from examples.demo.sites import Site


class Observer:
    """Takes a sample every so often. It sees what clients were told, and asks agents and controller itself."""

    def __init__(
        self, sites: Mapping[str, Site], operator: Operator, broken: Callable[[list[Broken]], None]
    ) -> None:
        """`broken` hears of every sample that breaks something."""
        self._sites = sites
        self._operator = operator
        self._report = broken
        self._watch = Watch()
        self._looked = asyncio.Condition()
        self.samples: list[Sample] = []
        #: How often the story has begun or ended an interference; see `Sample.changes`.
        self.changes = 0

    @property
    def total(self) -> int:
        """Units seen spent so far."""
        return self._watch.total

    @property
    def latest(self) -> Sample | None:
        """The newest sample."""
        return self.samples[-1] if self.samples else None

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            began = now()
            await self.look()
            await asyncio.sleep(max(0.0, began + LOOK_SECONDS - now()))

    async def look(self) -> Sample:
        """Take one sample. The order is what makes it sound; see `checks`."""
        began, changes = now(), self.changes
        answered = {name: site.tally.units for name, site in self._sites.items()}
        answers = await asyncio.gather(*(site.read() for site in self._sites.values()))
        readings = {name: reading for name, reading in zip(self._sites, answers, strict=True) if reading}
        ended = now()
        bound = await self._upper_bound()
        sample = Sample(began, answered, readings, ended, bound, self._operator.allowed, changes)
        self.samples.append(sample)
        if broken := self._watch.take(sample):
            self._report(broken)
        async with self._looked:
            self._looked.notify_all()
        return sample

    async def see(self, what: str, seen: Callable[[Mapping[str, Reading]], bool]) -> Mapping[str, Reading]:
        """Return as soon as a sample that begins from now on shows what is waited for: the readings by site."""
        since = now()
        try:
            async with self._looked, asyncio.timeout(PATIENCE_SECONDS):
                while (latest := self.latest) is None or latest.began < since or not seen(latest.readings):
                    await self._looked.wait()
                return latest.readings
        except TimeoutError:
            raise DemoFailed(f"waited {PATIENCE_SECONDS:g} s in vain for {what}") from None

    async def _upper_bound(self) -> int | None:
        answer = await self._operator.count()
        if answer is None or not answer.count.HasField("upper_bound"):
            return None
        return answer.count.upper_bound
