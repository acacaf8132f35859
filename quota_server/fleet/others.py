"""The other controllers of a fleet: what they decide goes out on the streams that are here, and the other way round.

A notice says where to look, and what is found there is what is: one that is lost is made up for by the next sweep,
and one that comes twice changes nothing. Nothing that has to be right depends on a notice, or on a lease.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol

from quota_server.clock import Clock
from quota_server.errors import StoreUnavailable
from quota_server.fleet.again import again
from quota_server.fleet.connection import Connection
from quota_server.fleet.rounds import Rounds
from quota_server.ledger.effects import Effects, Participant
from quota_server.ledger.model import AgentKey
from quotafleet.link.messages import AllocationUpdate, OverrideUpdate

_log = logging.getLogger(__name__)

#: Sweeps, and renewals of the lease, per heartbeat.
SWEEPS_PER_HEARTBEAT: Final = 2
#: A controller that was not heard of for so many heartbeats, and this long at least, is gone with its streams.
LEASE_HEARTBEATS: Final = 2
LEAST_LEASE_MS: Final = 3_000
#: A database that takes longer for the lease of this controller is said not to work.
_PATIENCE_SECONDS: Final = 3.0
#: Notices that come within this time are looked into together.
_GATHER_SECONDS: Final = 0.005


@dataclass(frozen=True, slots=True)
class Question:
    """A question to all agents of a quota, by the controller that asks and its own number for it."""

    controller: str
    number: int
    quota_uid: str


@dataclass(slots=True)
class Notice:
    """What other controllers have done since the last one, merged."""

    #: Quotas whose numbers, limits or settings changed.
    quotas: set[str] = field(default_factory=set)
    #: Overrides that were decided.
    overrides: set[str] = field(default_factory=set)
    #: Enrolments have ended.
    ended: bool = False
    #: Agents that others have welcomed, by the dial of the stream.
    linked: dict[AgentKey, int] = field(default_factory=dict)
    #: Tariff data was stored.
    tariff: bool = False
    questions: set[Question] = field(default_factory=set)
    #: What was asked here and answered elsewhere, by number.
    answers: dict[int, set[AgentKey]] = field(default_factory=dict)
    #: Some may have been lost: look everywhere.
    everything: bool = False

    def add(self, newer: Notice) -> None:
        """Takes in what came after it."""
        self.quotas |= newer.quotas
        self.overrides |= newer.overrides
        self.questions |= newer.questions
        self.ended |= newer.ended
        self.tariff |= newer.tariff
        self.everything |= newer.everything
        for agent, dial in newer.linked.items():
            self.linked[agent] = max(dial, self.linked.get(agent, 0))
        for number, agents in newer.answers.items():
            self.answers.setdefault(number, set()).update(agents)


class Notices(Protocol):
    """What controllers tell each other; nothing of it is kept. Methods raise StoreUnavailable."""

    async def next(self) -> Notice:
        """Waits until there is something new. Never raises, for what was lost is a notice too."""

    async def ask(self, question: Question) -> None:
        """Asks the agents on all other controllers."""

    async def answer(self, question: Question, agents: Collection[AgentKey]) -> None:
        """Says that these agents' answers are recorded."""


class Sessions(Protocol):
    """What is stored about streams, by the controller that they are on: `owner`. One moment each."""

    async def unacknowledged(
        self, owner: str, quota_uids: Collection[str] | None
    ) -> dict[AgentKey, list[AllocationUpdate]]:
        """The newest revisions that agents on `owner` are not known to have applied; None: of every quota."""

    async def overrides(
        self, owner: str, override_ids: Collection[str] | None
    ) -> dict[AgentKey, list[OverrideUpdate]]:
        """These overrides, of agents on `owner`; None: all that are approved and not settled."""

    async def to_be_fenced(self, owner: str) -> set[AgentKey]:
        """Enrolments on `owner` that have ended."""

    async def participants(self, quota_uid: str) -> list[Participant]:
        """Everybody whom a change of this quota is to reach."""


class Leases(Protocol):
    """Which controllers there are. Methods raise StoreUnavailable."""

    async def begin(self) -> None:
        """This controller serves from now on."""

    async def renew(self, lease_ms: int) -> bool:
        """It serves for so long from now on, and ends the streams of those whose time is over.

        False if the others have ended it: it has to begin again.
        """

    async def end(self) -> None:
        """It serves no more."""


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """Who this controller is, and how it hears of the others."""

    controller: str
    notices: Notices
    sessions: Sessions
    leases: Leases
    #: Has the tariff data looked at anew.
    look_at_tariff: Callable[[], Awaitable[None]]


class Host(Protocol):
    """What the fleet does for its neighbours."""

    async def look(self, read: Callable[[], Awaitable[Effects]]) -> None:
        """Sends what is read; nothing is committed here between the two."""

    def moved(self, agent: AgentKey, dial: int) -> None:
        """Ends the agent's stream if it is older than this one, which is on another controller."""

    def hello_again(self) -> None:
        """Ends every stream: the agents dial again."""

    def store_failed(self, refusal: StoreUnavailable) -> None:
        """The database did not do what it should."""


class Others:
    """Follows the other controllers, and tells them what they wait for. `run` does the work until it is cancelled."""

    def __init__(
        self,
        around: Neighbourhood,
        host: Host,
        rounds: Rounds,
        connections: Mapping[AgentKey, Connection],
        clock: Clock,
        heartbeat_ms: int,
    ) -> None:
        self._around = around
        self._host = host
        self._rounds = rounds
        self._connections = connections
        self._clock = clock
        self._heartbeat_ms = heartbeat_ms
        self._next_sweep_ms = 0
        #: When the limits of all streams were looked at last.
        self._limits_ms = -heartbeat_ms
        self._relays: dict[Question, _Relay] = {}
        self._to_tell = asyncio.Event()
        self._tariff = asyncio.Event()

    async def run(self) -> None:
        """Looks where notices point to, and everywhere in every sweep; and passes on what was answered here."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._look(), name="fleet: other controllers")
            tasks.create_task(self._keep_lease(), name="fleet: lease")
            tasks.create_task(self._tell(), name="fleet: answers for others")
            tasks.create_task(self._take_in_tariff(), name="fleet: tariff data of others")

    async def _look(self) -> None:
        notice: Notice | None = None
        while True:
            notice = notice or await self._next()
            try:
                await self._follow(notice)
            except StoreUnavailable as refusal:
                self._store_failed(refusal)
            except Exception:  # what somebody else has said must not end this controller
                _log.exception("what other controllers have done could not be looked at")
            else:
                notice = None
                continue
            notice = Notice(everything=True)
            await asyncio.sleep(self._heartbeat_ms / 1000 / SWEEPS_PER_HEARTBEAT)

    async def _next(self) -> Notice:
        pause_ms = max(0, self._next_sweep_ms - self._clock.monotonic_ms())
        try:
            async with asyncio.timeout(pause_ms / 1000):
                notice = await self._around.notices.next()
        except TimeoutError:
            return Notice(everything=True)
        await asyncio.sleep(_GATHER_SECONDS)
        return notice

    async def _follow(self, notice: Notice) -> None:
        if notice.everything:
            self._next_sweep_ms = self._clock.monotonic_ms() + self._heartbeat_ms // SWEEPS_PER_HEARTBEAT
        for agent, dial in notice.linked.items():
            self._host.moved(agent, dial)
        for number, agents in notice.answers.items():
            self._rounds.answered_elsewhere(number, agents)
        await self._host.look(lambda: self._read(notice))
        for question in notice.questions:
            await self._relay(question)
        if notice.everything:
            self._forget_relays()
            for number, quota_uid in self._rounds.asked_elsewhere():
                await self.ask(number, quota_uid)
        if notice.tariff or notice.everything:
            self._tariff.set()

    def _store_failed(self, refusal: StoreUnavailable) -> None:
        """Nothing that an agent has to know was decided here: that its outcome is unclear does not matter."""
        self._host.store_failed(StoreUnavailable(refusal.message))

    async def _keep_lease(self) -> None:
        """By itself: what takes long elsewhere must not look like an end."""
        while True:
            renewing = asyncio.ensure_future(self._renew())
            try:
                if renewing not in (await asyncio.wait((renewing,), timeout=_PATIENCE_SECONDS))[0]:
                    self._store_failed(StoreUnavailable("the database does not answer"))
                await renewing
            except StoreUnavailable as refusal:
                self._store_failed(refusal)
            finally:
                renewing.cancel()
                await asyncio.gather(renewing, return_exceptions=True)
            await asyncio.sleep(self._heartbeat_ms / 1000 / SWEEPS_PER_HEARTBEAT)

    async def _renew(self) -> None:
        leases = self._around.leases
        if not await again(lambda: leases.renew(max(LEASE_HEARTBEATS * self._heartbeat_ms, LEAST_LEASE_MS))):
            _log.error("the other controllers took this one for gone: every agent says hello again")
            await again(leases.begin)
            self._host.hello_again()

    async def _read(self, notice: Notice) -> Effects:
        """What is stored that the streams here, and the fan-outs from here, have to know."""
        owner, sessions = self._around.controller, self._around.sessions
        effects = Effects(touched=set(notice.quotas))
        every = self._limits_are_due(notice)
        if self._connections and (notice.quotas or every):
            effects.updates = await sessions.unacknowledged(owner, None if every else notice.quotas)
            if every:
                self._limits_ms = self._clock.monotonic_ms()
        if self._connections and (notice.everything or notice.overrides):
            effects.overrides = await sessions.overrides(
                owner, None if notice.everything else notice.overrides
            )
        if self._connections and (notice.everything or notice.ended):
            effects.ended = await sessions.to_be_fenced(owner)
        for quota_uid in self._rounds.changing_elsewhere():
            if notice.everything or quota_uid in notice.quotas:
                self._rounds.observed(quota_uid, await sessions.participants(quota_uid))
        return effects

    def _limits_are_due(self, notice: Notice) -> bool:
        """In every sweep; while a fan-out is under way once a heartbeat: most of it is about to be acknowledged."""
        swept_ms = self._clock.monotonic_ms() - self._limits_ms
        return notice.everything and (not self._rounds.changing() or swept_ms >= self._heartbeat_ms)

    async def _take_in_tariff(self) -> None:
        """It may take long, and nothing else waits for it."""
        while True:
            await self._tariff.wait()
            self._tariff.clear()
            try:
                await self._around.look_at_tariff()
            except StoreUnavailable as refusal:
                self._store_failed(refusal)  # the next sweep looks again

    # --- questions ---------------------------------------------------------------------------------------------------

    async def ask(self, number: int, quota_uid: str) -> None:
        """Asks the agents on other controllers; said again in every sweep until they have answered."""
        try:
            await self._around.notices.ask(Question(self._around.controller, number, quota_uid))
        except StoreUnavailable as refusal:
            self._store_failed(refusal)

    async def _relay(self, question: Question) -> None:
        """Asks the agents that are here, or come here. One that comes again is one whose answers may have been lost."""
        relay = self._relays.get(question)
        if relay is None:
            parts = await self._around.sessions.participants(question.quota_uid)
            relay = self._relays[question] = _Relay()
            answered = partial(self._answered, relay)
            relay.number = self._rounds.relay(question.quota_uid, [p.agent for p in parts], answered)
        relay.asked_ms = self._clock.monotonic_ms()
        relay.untold |= relay.answered
        self._to_tell.set()

    def _answered(self, relay: _Relay, agent: AgentKey) -> None:
        relay.answered.add(agent)
        relay.untold.add(agent)
        self._to_tell.set()

    async def _tell(self) -> None:
        """Passes on what was answered; what cannot be passed on is asked for again."""
        while True:
            await self._to_tell.wait()
            await asyncio.sleep(_GATHER_SECONDS)
            self._to_tell.clear()
            for question, relay in list(self._relays.items()):
                untold, relay.untold = relay.untold, set()
                if untold:
                    try:
                        await self._around.notices.answer(question, untold)
                    except StoreUnavailable as refusal:
                        self._store_failed(refusal)

    def _forget_relays(self) -> None:
        """Nobody has asked for a while: nobody waits any more."""
        silent_ms = self._clock.monotonic_ms() - LEASE_HEARTBEATS * self._heartbeat_ms
        for question, relay in list(self._relays.items()):
            if relay.asked_ms < silent_ms:
                self._rounds.end_relay(relay.number)
                del self._relays[question]


@dataclass(slots=True)
class _Relay:
    """A question of another controller, as it is asked here."""

    number: int = 0
    asked_ms: int = 0
    answered: set[AgentKey] = field(default_factory=set)
    untold: set[AgentKey] = field(default_factory=set)
