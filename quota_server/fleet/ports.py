"""What the fleet needs of the ledger and of the overrides."""

from __future__ import annotations

from typing import Protocol

from quota_server.ledger.calls import Change
from quota_server.ledger.effects import Effects
from quota_server.ledger.events import LinkEvent
from quota_server.ledger.link_batch import BatchResult
from quota_server.ledger.model import AgentKey
from quotafleet.link.messages import OverrideAsk, OverrideUpdate


class Batches(Protocol):
    """Handles link events; see `ledger.link_batch`."""

    async def handle(self, batch: list[LinkEvent], now_ms: int) -> BatchResult: ...


class Demand(Protocol):
    """Shares out anew; see `ledger.administration`."""

    async def follow_demand(self, quota_uid: str, now_ms: int) -> Change | None: ...


class Asks(Protocol):
    """Answers what agents ask; see `overrides.decisions`."""

    async def answer_asks(
        self, asks: list[tuple[AgentKey, OverrideAsk]], now_ms: int
    ) -> tuple[dict[AgentKey, list[OverrideUpdate]], Effects]: ...
