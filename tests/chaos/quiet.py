"""Quiet points: all faults are healed, nobody spends, every disk is read, and everything has to agree."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping

import grpc
from google.protobuf.duration_pb2 import Duration

from quotafleet.agent.v1 import gate_service_pb2 as gate
from quotafleet.errors import QuotafleetError
from quotafleet.v1 import quota_service_pb2 as quotas
from tests.chaos import agreement, bounds, faults
from tests.chaos.agreement import Ended, Enrolment, Problem
from tests.chaos.clients import Worker
from tests.chaos.images import Image, Numbers
from tests.chaos.operators import Operator
from tests.chaos.verdict import Violation
from tests.chaos.world import CALL_SECONDS, MAIN, PATIENCE_SECONDS, Slot, World, until

_POLL_SECONDS = 0.1
_NOTHING = Numbers(0, 0, 0, 0)


def is_remembered(known: quotas.Count, now: quotas.Count) -> bool:
    """Whether a controller that was restarted knows what it knew; holds may have expired meanwhile.

    What was held brings the bound down with it, where the limit was above what the agent should have.
    """
    back = known.held - now.held
    return (
        (now.count, now.overridden, now.recovering) == (known.count, known.overridden, False)
        and back >= 0
        and known.upper_bound - back <= now.upper_bound <= known.upper_bound
    )


class Quiet:
    """Makes quiet points."""

    def __init__(self, world: World, operator: Operator, say: Callable[[str], None]) -> None:
        """`say` hears how far it has come."""
        self._world = world
        self._operator = operator
        self._say = say
        self._chance = world.chance("quiet")
        #: Of stores that nobody opens any more.
        self._images: dict[str, Image] = {}

    async def point(self) -> None:
        """Heal, stop all calls, compare, and begin again. Raises Violation of whatever does not hold."""
        world = self._world
        self._say("quiet point: all faults are healed")
        await faults.heal(world)
        async with world.operators.held("the operator"):
            await self._operator.make_plain()
            async with world.clients.held("every client"):
                self._say("nobody spends: reading every disk")
                live = await self._read_disks()
                before = await self._agreed(live)
                self._check_totals(live, before)
                self._say("everything agrees")
                await self._restart_controller(before)
                self._say("the controller was killed and knows everything")
                await self._agreed(live)
                await self._demand()
                self._say("who keeps asking was served")
        world.tally.checks["quiet points"] += 1

    async def _read_disks(self) -> dict[str, Image]:
        """Kill every agent, read what is on its disk, and start it again."""
        world = self._world
        stores = [slot.store for slot in world.slots]
        found = await asyncio.gather(*(world.kill(store) for store in stores))
        await asyncio.gather(*(store.process.start() for store in stores))
        for store in (*world.ended, *world.losers):
            if store.key not in self._images:
                self._images[store.key] = await world.inspect(store)
        return {store.key: image for store, image in zip(stores, found, strict=True)}

    # --- agreement ---------------------------------------------------------------------------------------------------

    async def _agreed(self, live: Mapping[str, Image]) -> dict[str, quotas.Count]:
        """Wait until controller and agents say the same of every quota, and every limit is reached (L1)."""
        counts: dict[str, quotas.Count] = {}
        world = self._world
        for uid in (*world.closed, *world.uids.values()):
            problems: list[Problem] = []
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    while uid not in counts:
                        problems, count = await self._compare(uid, live)
                        if count is not None and not problems:
                            counts[uid] = count
                        else:
                            await asyncio.sleep(_POLL_SECONDS)
            except TimeoutError:
                guarantee = problems[0][0] if problems else "RUN"
                seen = "; ".join(sentence for _, sentence in problems) or "no answer"
                expected = f"everything to agree on {world.bounds.quotas[uid].name} ({uid})"
                raise Violation(guarantee, expected, f"after {PATIENCE_SECONDS:g} s: {seen}") from None
        return counts

    async def _compare(
        self, uid: str, images_of: Mapping[str, Image]
    ) -> tuple[list[Problem], quotas.Count | None]:
        world = self._world
        request = quotas.GetCountRequest(quota=uid, refresh=True, wait=Duration(seconds=2), page_size=1_000)
        answer = await self._operator.call("get count", self._operator.quotas.GetCount, request)
        if isinstance(answer, QuotafleetError):
            return [("API", str(answer))], None
        rows = [_row(row) for row in answer.agents]
        is_open = uid in world.uids.values()
        live: dict[Enrolment, Numbers] = {}
        for slot in world.slots:
            own = await self._live(slot, uid) if is_open else _closed(images_of, slot, uid, rows)
            if own is None:
                return [("RUN", f"{slot.store.key} does not answer")], None
            live[slot.store.enrolment] = own
        problems = agreement.compare(_totals(answer.count), rows, live, self._ended(uid), self._copies(uid))
        if not is_open:  # limits mean nothing any more
            problems = [each for each in problems if each[0] not in ("L1", "S2")]
        return problems, answer.count

    async def _live(self, slot: Slot, uid: str) -> Numbers | None:
        try:
            status = await slot.store.stub.GetStatus(
                gate.GetStatusRequest(page_size=100), timeout=CALL_SECONDS
            )
        except grpc.aio.AioRpcError:
            return None
        for each in status.quotas:
            if each.quota_uid == uid:
                own = each.balance
                return Numbers(own.limit, own.count, own.held, each.overridden)
        return _NOTHING

    def _ended(self, uid: str) -> dict[Enrolment, Ended]:
        ended: dict[Enrolment, Ended] = {}
        history = self._world.history
        for store in self._world.ended:
            numbers = self._images[store.key].quotas.get(uid, _NOTHING)
            if store.tainted and history.lives[store.key]:
                # It was put back: what it forgot was spent, and what it found again had been released.
                count, overridden = history.certain_of(store.key, uid)
                numbers = Numbers(numbers.limit, count, 0, overridden)
            ended[store.enrolment] = Ended(numbers, store.tainted)
        return ended

    def _copies(self, uid: str) -> dict[Enrolment, int]:
        """What copies spent after they had parted with the store that went on."""
        copies: Counter[Enrolment] = Counter()
        for store in self._world.losers:
            assert store.parted is not None
            then = store.parted.quotas.get(uid, _NOTHING).used
            now = self._images[store.key].quotas.get(uid, _NOTHING).used
            copies[store.enrolment] += max(0, now - then)
        return dict(copies)

    # --- totals ------------------------------------------------------------------------------------------------------

    def _check_totals(self, live: Mapping[str, Image], counts: Mapping[str, quotas.Count]) -> None:
        """Hold what is on all disks to the cap (S2) and to the controller's bound (S7)."""
        totals = {}
        for uid in counts:
            total = sum(image.quotas.get(uid, _NOTHING).used for image in live.values())
            total += sum(ended.numbers.used for ended in self._ended(uid).values())
            totals[uid] = total + sum(self._copies(uid).values())
            allowance = self._world.bounds.quotas[uid]
            allowance.overage = max(allowance.overage, counts[uid].overage)
            self._world.bounds.check_total(uid, totals[uid])
            self._world.bounds.check_cap(uid)
        bounds.check_unseen(
            totals,
            {uid: each.upper_bound if each.HasField("upper_bound") else None for uid, each in counts.items()},
        )

    async def _restart_controller(self, before: Mapping[str, quotas.Count]) -> None:
        """A controller that is killed and started again knows everything at once (L3)."""
        world = self._world
        await world.controller.process.kill()
        await world.controller.process.start()
        for uid, known in before.items():
            request = quotas.GetCountRequest(quota=uid)
            answer = await self._operator.must("get count", self._operator.quotas.GetCount, request)
            if not is_remembered(known, answer.count):
                raise Violation("L3", f"{uid}, at once after a restart: {known}", str(answer.count))

    async def _demand(self) -> None:
        """Whoever keeps asking gets what nobody else uses (L2)."""
        world = self._world
        slot = self._chance.choice(world.slots)
        worker = Worker(world, slot, 1_000 + world.tally.checks["quiet points"])
        await self._operator.set_target(MAIN, 40, above=True)

        async def served() -> bool | None:
            return True if await worker.ask_for(slot.store, MAIN, 30) else None

        await until(served, "L2", f"30 of 40 spare units of {MAIN} for {slot.store.key}, which keeps asking")


def _row(row: quotas.AgentCount) -> agreement.Row:
    return agreement.Row(
        row.agent,
        row.epoch,
        row.count,
        row.held,
        row.overridden,
        row.wanted_limit,
        row.exposure,
        row.charge,
        row.at_risk,
        row.connected,
    )


def _totals(count: quotas.Count) -> agreement.Totals:
    bound = count.upper_bound if count.HasField("upper_bound") else None
    return agreement.Totals(
        count.target, count.count, count.held, count.overridden, bound, count.escrowed, count.recovering
    )


def _closed(found: Mapping[str, Image], slot: Slot, uid: str, rows: list[agreement.Row]) -> Numbers:
    """Of a closed quota an agent lists nothing: what its disk says, but for holds, which may have ended since."""
    own = found[slot.store.key].quotas.get(uid, _NOTHING)
    held = sum(row.held for row in rows if row.enrolment == slot.store.enrolment)
    return Numbers(own.limit, own.count, held, own.overridden)
