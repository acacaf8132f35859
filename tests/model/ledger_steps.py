"""What can be done to a ledger, each by chance: the same in both databases, and told to the page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from random import Random
from typing import Any, Final

from quota_server.ledger.calls import Change
from quota_server.ledger.effects import Effects
from quota_server.ledger.enrolment import Enrolment
from quota_server.ledger.events import FenceAckEvent, HelloEvent, LinkEvent, ReportEvent
from quota_server.ledger.model import AgentKey, Assignment, Assume, OverridePolicy, Quota, QuotaState
from quota_server.ledger.policies import Policy
from quota_server.overrides.decisions import Decided
from quotafleet.link.messages import (
    FenceDone,
    OpenRequest,
    OverrideAsk,
    OverrideStanding,
    OverrideState,
    ReportAck,
    Welcome,
)
from tests.link_kit import Part
from tests.model.ledger_pair import Answer, Pair, Refused, World
from tests.model.small_ledger import SmallLedger, SmallOverride

QUOTAS: Final = ("q", "q", "r")
AGENTS: Final = ("anne", "bill", "cleo")
SETTINGS: Final[tuple[dict[str, Any], ...]] = (
    {"policy": Policy.WEIGHTED},
    {"policy": Policy.STATIC},
    {"policy": Policy.PROPORTIONAL},
    {"policy": Policy.MAX_MIN, "reserve_percent": 0},
    {"reserve_percent": 30},
    {"state": QuotaState.SUSPENDED},
    {"state": QuotaState.OPEN, "end_ms": 5_000_000},
    {"override_policy": OverridePolicy.FROM_RESERVE},
    {"override_policy": OverridePolicy.ASK},
)


class Steps:
    """One story. Every method that takes chances is a step."""

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self.page = SmallLedger()
        self.uids: dict[str, str] = {}
        self.agents: dict[str, AgentKey] = {}
        self.has_copies = False
        #: Whether the last step stated facts: E may be above the target afterwards.
        self.was_fact = False
        #: Whether it did anything to the ledgers.
        self.was_asked = False

    async def begin(self) -> None:
        """A small fleet, at work."""
        for name, policy in (("q", Policy.MAX_MIN), ("r", Policy.EQUAL)):
            await self._create(Quota("", name, 60, policy=policy))
        for agent in AGENTS:
            await self._enrol(agent)
            for name in ("q", "r"):
                await self._assign(name, agent, Assignment("", ""))
        for label in sorted(self._pair.first.sites):
            await self._say((label, partial(World.hello, label=label)))

    # --- quotas ------------------------------------------------------------------------------------------------------

    async def create(self, chance: Random) -> None:
        quota = Quota(
            "",
            chance.choice(QUOTAS),
            target=chance.randint(0, 60),
            policy=chance.choice(list(Policy)),
            override_policy=chance.choice(list(OverridePolicy)),
            reserve_percent=chance.choice((0, 0, 20)),
        )
        await self._create(quota)

    async def _create(self, quota: Quota) -> None:
        if done := await self._do(lambda w: w.ledger.administration.create_quota(w.ledger.call(), quota)):
            self.uids[quota.name] = done.quota.uid
            self.page.targets[done.quota.uid] = quota.target

    async def set_target(self, chance: Random) -> None:
        name, target = chance.choice(QUOTAS), chance.randint(0, 80)
        if await self._do(lambda w: w.ledger.administration.set_target(w.ledger.call(), name, target, None)):
            sums = self.page.sums(self.uids[name])
            known = sums["count"] + sums["held"] + sums["charge"]
            assert target >= min(known, self.page.targets[self.uids[name]])
            self.page.targets[self.uids[name]] = target

    async def update(self, chance: Random) -> None:
        name, changed = chance.choice(QUOTAS), chance.choice(SETTINGS)
        await self._do(lambda w: w.ledger.administration.update_quota(w.ledger.call(), name, changed, None))

    async def set_agent_target(self, chance: Random) -> None:
        name, agent, limit = chance.choice(QUOTAS), chance.choice(AGENTS), chance.randint(0, 25)
        await self._do(
            lambda w: w.ledger.administration.set_agent_target(w.ledger.call(), name, agent, limit)
        )

    async def rebalance(self, chance: Random) -> None:
        """With a request id that may have been used, for this or for something else."""
        name, number, content = chance.choice(QUOTAS), chance.randint(1, 4), chance.choice((b"a", b"a", b"b"))
        await self._do(
            lambda w: w.ledger.administration.rebalance(
                w.ledger.call(
                    request_id=f"r-{number}" if number < 4 else "",
                    method="Rebalance",
                    fingerprint=content,
                    encode=lambda change: change.quota.uid.encode(),
                ),
                name,
            )
        )

    async def close(self, chance: Random) -> None:
        name = chance.choice(QUOTAS)
        await self._do(lambda w: w.ledger.administration.close_quota(w.ledger.call(), name))

    async def follow(self, _: Random) -> None:
        """What is to be shared out anew is."""
        stale = sorted(self._pair.first.ledger.stale)
        for world in self._pair.worlds:
            world.ledger.stale = set()
        for uid in stale:
            await self._do(partial(World.follow, uid=uid))

    # --- agents ------------------------------------------------------------------------------------------------------

    async def enrol(self, chance: Random) -> None:
        await self._enrol(chance.choice(AGENTS))

    async def _enrol(self, name: str) -> None:
        if done := await self._do(
            lambda w: w.ledger.enrolments.create_agent(w.ledger.call(), name, active=True)
        ):
            self._begins(name, done.agent.key)

    async def assign(self, chance: Random) -> None:
        part = Assignment(
            *("", ""),
            weight=chance.randint(1, 3),
            min=chance.choice((0, 0, 8)),
            initial_count=chance.choice((0, 0, 5)),
        )
        await self._assign(chance.choice(QUOTAS), chance.choice(AGENTS), part)

    async def _assign(self, name: str, agent: str, part: Assignment) -> None:
        if done := await self._do(
            lambda w: w.ledger.enrolments.assign_quota(
                w.ledger.call(), name, agent, part, with_initial_count=False
            )
        ):
            place = (done.quota.uid, self.agents[agent].agent_uid)
            self.page.initial.setdefault(place, part.initial_count)

    async def unassign(self, chance: Random) -> None:
        name, agent = chance.choice(QUOTAS), chance.choice(AGENTS)
        await self._do(lambda w: w.ledger.enrolments.unassign_quota(w.ledger.call(), name, agent))

    async def switch(self, chance: Random) -> None:
        agent, active = chance.choice(AGENTS), chance.random() < 0.7
        await self._do(lambda w: w.ledger.enrolments.update_agent(w.ledger.call(), agent, active))

    async def settle(self, chance: Random) -> None:
        agent, assume, confirm = chance.choice(AGENTS), chance.choice(list(Assume)), chance.random() < 0.8
        ending = self.agents.get(agent)
        done = await self._do(
            lambda w: w.ledger.enrolments.settle_agent(w.ledger.call(), agent, 0, assume, confirm)
        )
        if done and ending:
            self.page.settled(ending, assume)
            self._begins(agent, done.agent.key)

    async def retire(self, chance: Random) -> None:
        agent, assume = chance.choice(AGENTS), chance.choice(list(Assume))
        if await self._do(lambda w: w.ledger.enrolments.retire_agent(w.ledger.call(), agent, assume, True)):
            uid = self.agents.pop(agent).agent_uid
            for key in [key for key in self.page.adopted if key.agent_uid == uid]:
                self.page.settled(key, assume)

    def _begins(self, name: str, key: AgentKey) -> None:
        """A new enrolment, and a store for it."""
        self.agents[name] = key
        self.page.adopted[key] = self.page.generation
        for world in self._pair.worlds:
            world.enrolled(key, name)

    # --- stores ------------------------------------------------------------------------------------------------------

    async def dial(self, chance: Random) -> None:
        if label := self._store(chance):
            await self._say((label, lambda w: w.hello(label)))

    async def report(self, chance: Random) -> None:
        """One batch of several, hardly ever of one that has not said hello."""
        labels = sorted({label for _ in range(chance.randint(1, 4)) if (label := self._store(chance))})
        if chance.random() < 0.9:
            labels = [label for label in labels if self._pair.first.sites[label].online]
        if labels:
            await self._say(*((label, partial(World.report, label=label)) for label in labels))

    async def last_word(self, chance: Random) -> None:
        fenced = [label for label, s in self._pair.first.sites.items() if s.fenced_kind is not None]
        if fenced:
            label = chance.choice(fenced)
            await self._say((label, lambda w: w.last_word(label)))

    async def hang_up(self, chance: Random) -> None:
        if label := self._store(chance):
            await self._do(lambda w: w.sites[label].hang_up())

    async def deliver(self, _: Random) -> None:
        """What was sent arrives."""
        for world in self._pair.worlds:
            world.ledger.deliver()

    async def spend(self, chance: Random) -> None:
        """As much as the limit allows, held or for good; the rest is asked for."""
        amount, held = chance.randint(1, 12), chance.random() < 0.3
        for part in self._parts(chance):
            granted = max(0, min(amount, part.limit - part.totals.count - part.held))
            part.held += granted if held else 0
            part.consumed += 0 if held else granted
            part.sequence += 1
            part.open_requests = (OpenRequest(amount - granted, 100),) if granted < amount else ()

    async def give_back(self, chance: Random) -> None:
        """What is held, and half of what is counted."""
        for part in self._parts(chance):
            part.held, part.released = 0, part.released + part.totals.count // 2
            part.sequence += 1
            part.limit = min(part.limit, max(part.wanted, part.totals.count))

    async def copy(self, chance: Random) -> None:
        label = self._store(chance)
        if label and f"{label}'" not in self._pair.first.sites and not label.endswith("'"):
            self.has_copies = True
            for world in self._pair.worlds:
                world.sites[f"{label}'"] = world.sites[label].copy()

    async def wait(self, chance: Random) -> None:
        seconds = chance.choice((1, 20, 120))
        for world in self._pair.worlds:
            world.ledger.now_ms += 1_000 * seconds

    def _store(self, chance: Random) -> str:
        """One by chance, rather one of those that are in use; empty: there is none."""
        labels = sorted(self._pair.first.sites)
        now = [label for label in labels if self._pair.first.sites[label].key in self.agents.values()]
        return chance.choice(now if now and chance.random() < 0.8 else labels or [""])

    def _parts(self, chance: Random) -> list[Part]:
        """A part of a store, of both; none if there is none."""
        label = self._store(chance)
        uids = sorted(self._pair.first.sites[label].parts) if label else []
        if not uids:
            return []
        uid = chance.choice(uids)
        return [world.sites[label].parts[uid] for world in self._pair.worlds]

    # --- overrides ---------------------------------------------------------------------------------------------------

    async def request(self, chance: Random) -> None:
        name, agent, amount = chance.choice(QUOTAS), chance.choice(AGENTS), chance.randint(1, 9)
        if done := await self._do(lambda w: w.ledger.overrides.request(w.ledger.call(), name, agent, amount)):
            asked = done.override
            self._asked(asked.override_id, asked.quota_uid, asked.agent, asked.amount, asked.state)

    async def ask(self, chance: Random) -> None:
        """Over the link; the same again is answered the same."""
        label = self._store(chance)
        uids = sorted(self._pair.first.sites[label].parts) if label else []
        if not uids:
            return
        key = self._pair.first.sites[label].key
        asked = OverrideAsk(f"ask-{chance.randint(1, 3)}", chance.choice(uids), chance.randint(1, 9), "more")
        answers, effects = await self._do(
            lambda w: w.ledger.overrides.answer_asks([(key, asked)], w.ledger.now_ms)
        )
        for update in answers[key]:
            if update.override_id:
                self._asked(update.override_id, asked.quota_uid, key, update.amount, update.state)
        self._keep(effects)

    async def decide(self, chance: Random) -> None:
        pending = [key for key, each in self.page.overrides.items() if each.state is OverrideState.PENDING]
        known = sorted(pending if pending and chance.random() < 0.8 else self.page.overrides)
        if not known:
            return
        override_id, verb = chance.choice(known), chance.choice(("approve", "approve", "deny", "revoke"))
        if verb == "revoke":
            done = await self._do(lambda w: w.ledger.overrides.revoke(w.ledger.call(), override_id))
        else:
            approve = verb == "approve"
            done = await self._do(lambda w: w.ledger.overrides.decide(w.ledger.call(), override_id, approve))
        if done and self.page.overrides[override_id].state is OverrideState.PENDING:
            state = OverrideState.APPROVED if verb == "approve" else OverrideState.DENIED
            self.page.overrides[override_id].state = state

    async def use(self, chance: Random) -> None:
        """A store spends an approved one, or closes it; the ledger hears of it with the next report."""
        approved = [
            (override_id, each)
            for override_id, each in sorted(self.page.overrides.items())
            if each.state is OverrideState.APPROVED
        ]
        if not approved:
            return
        override_id, override = chance.choice(approved)
        state = chance.choice((OverrideState.USED, OverrideState.USED, OverrideState.DEAD))
        spent = override.amount if state is OverrideState.USED else 0
        for world in self._pair.worlds:
            site = next(site for _, site in sorted(world.sites.items()) if site.key == override.agent)
            known = {standing.override_id for standing in site.overrides}
            if override_id in known or override.quota_uid not in site.parts:
                return
            standing = OverrideStanding(override_id, state, spent, override.quota_uid, override.amount)
            site.overrides = (*site.overrides, standing)
            site.parts[override.quota_uid].override_consumed += spent
            site.parts[override.quota_uid].sequence += 1

    def _asked(self, override_id: str, quota_uid: str, key: AgentKey, amount: int, state: str) -> None:
        new = SmallOverride(quota_uid, key, amount, OverrideState(state))
        self.page.overrides.setdefault(override_id, new)

    # --- recovery ----------------------------------------------------------------------------------------------------

    async def recover(self, _: Random) -> None:
        self.page.generation = await self._do(lambda w: w.ledger.recovery.begin(w.ledger.now_ms))
        self.page.recovering, self.page.is_recovering = set(self.page.targets), True

    async def finish_recovery(self, _: Random) -> None:
        done = await self._do(lambda w: w.ledger.recovery.finish(w.ledger.call(), confirm=True))
        if done is not None:
            recovered, effects = done
            assert recovered == len(self.page.recovering)
            self.page.recovering, self.page.is_recovering = set(), False
            self._keep(effects)

    # --- both --------------------------------------------------------------------------------------------------------

    async def _do(self, work: Callable[[World], Awaitable[Any]]) -> Any:
        """The same in both; the page learns what was sent. What came of it, None if it was refused."""
        self.was_asked = True
        done = await self._pair.do(work)
        if isinstance(done, Refused):
            return None
        if isinstance(done, Change | Enrolment | Decided):
            self._keep(done.effects)
        return done

    def _keep(self, effects: Effects) -> None:
        for world in self._pair.worlds:
            world.ledger.keep(effects)
        self._learn(effects)

    def _learn(self, effects: Effects) -> None:
        for agent, updates in effects.updates.items():
            self.page.sent(agent, updates)

    async def _say(self, *said: tuple[str, Callable[[World], LinkEvent]]) -> None:
        """One batch of what stores say."""
        heard: list[LinkEvent] = []

        async def exchange(world: World) -> Any:
            events = [(label, event(world)) for label, event in said]
            if world is self._pair.first:
                heard.extend(event for _, event in events)
            return await world.exchange(events)

        answers, effects = await self._do(exchange)
        for event, answer in zip(heard, answers, strict=True):
            self._take(event, answer)
        self._learn(effects)

    def _take(self, event: LinkEvent, answer: Answer) -> None:
        """What the page makes of what was said, once the ledger has taken it."""
        match event:
            case HelloEvent(agent, hello) if answer.brings(Welcome):
                self.page.heard(agent, hello.standings, hello=True)
                self.page.heard_of_overrides(agent, hello.overrides)
                for message in answer.messages:
                    assert isinstance(message, Welcome)
                    self.page.sent(agent, message.allocations)
            case ReportEvent(agent, _, report) if answer.brings(ReportAck):
                self.page.heard(agent, report.standings, hello=False)
                self.page.heard_of_overrides(agent, report.overrides)
            case FenceAckEvent(agent, _, ack) if answer.brings(FenceDone):
                self.was_fact = True
                mark = self._pair.first.ledger.marks.decode(agent, ack.mark)
                self.page.last_word(agent, ack, mark.generation)
