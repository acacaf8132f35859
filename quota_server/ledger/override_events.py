"""What stores say of their overrides, and what it does to the ledger (S7; section 8)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from quota_server.ledger.book import Book
from quota_server.ledger.model import AgentKey, AllocationKey, Override
from quota_server.ledger.replacing import replace
from quotafleet.link.messages import OverrideStanding, OverrideState

_CLOSED: Final = frozenset({OverrideState.USED, OverrideState.DEAD})
#: What a store holds: once the ledger has one in such a state, it was approved here too, and a late word is no news.
_HELD: Final = frozenset({OverrideState.APPROVED, OverrideState.USED, OverrideState.DEAD})
_FORGOTTEN: Final = "approved in what this database has forgotten"


class OverrideEvents:
    """Takes what stores say of overrides into a book, which holds those that are named."""

    def __init__(self, book: Book, now_ms: int) -> None:
        self._book = book
        self._now_ms = now_ms

    def went_back(self, agent: AgentKey, standings: Iterable[OverrideStanding]) -> bool:
        """Whether a store whose hello this is holds open what its agent has closed: it is an older one (S5).

        Of a report that would be no proof: it may be late.
        """
        for standing in standings:
            known = self._book.overrides.get(standing.override_id)
            mine = known is not None and known.agent == agent and known.state in _CLOSED
            if mine and standing.state is OverrideState.APPROVED:
                return True
        return False

    def take(self, agent: AgentKey, standings: Iterable[OverrideStanding]) -> None:
        """What an agent durably holds. What was spent stays spent; what was closed stays closed."""
        for standing in standings:
            override = self._book.overrides.get(standing.override_id) or self._forgotten(agent, standing)
            if override is None or override.agent != agent or override.state is OverrideState.USED:
                continue
            if standing.state is OverrideState.USED:
                spent = min(standing.spent, override.amount)
                self._put(replace(override, state=OverrideState.USED, spent=spent, at_risk=False))
            elif standing.state is OverrideState.DEAD and override.state is not OverrideState.DEAD:
                self._put(replace(override, state=OverrideState.DEAD, at_risk=False))
            elif standing.state is OverrideState.APPROVED and override.state not in _HELD:
                # Until the store is known to have closed it, it may be spent, whatever was decided here since.
                self._put(replace(override, state=OverrideState.APPROVED, decision_reason=_FORGOTTEN))

    def take_last(self, agent: AgentKey, standings: Iterable[OverrideStanding]) -> None:
        """The final word of a store: one that it does not name was never delivered, and never will be."""
        standings = tuple(standings)
        self.take(agent, standings)
        named = {standing.override_id for standing in standings}
        for override in list(self._book.overrides.values()):
            is_open = override.state in (OverrideState.APPROVED, OverrideState.PENDING)
            if override.agent == agent and override.override_id not in named and is_open:
                dead = replace(override, state=OverrideState.DEAD, settled=True, at_risk=False)
                self._book.note_fact(dead)

    def _forgotten(self, agent: AgentKey, standing: OverrideStanding) -> Override | None:
        """One that was asked for and approved after the backup was made; a dead one is of no interest."""
        if standing.state is OverrideState.DEAD or standing.quota_uid not in self._book.quotas:
            return None
        return Override(
            override_id=standing.override_id,
            ask_id="",
            quota_uid=standing.quota_uid,
            agent_uid=agent.agent_uid,
            epoch=agent.epoch,
            amount=standing.amount,
            reason="held by a store that is ahead of the restored database",
            state=OverrideState.PENDING,
            create_ms=self._now_ms,
        )

    def _put(self, override: Override) -> None:
        self._book.note_fact(override)
        what = {"override_id": override.override_id, "spent": override.spent}
        key = AllocationKey(override.quota_uid, *override.agent)
        action = f"override-{override.state.value.lower()}"
        self._book.note_of_agent(key, self._now_ms, action, override.decision_reason, what)
