"""A stream's session, and the event that wakes whoever writes to it."""

from __future__ import annotations

import asyncio

from quota_server.fleet.protocol import AgentSession
from quotafleet.link.messages import ReportRequest


class Connection:
    """What the fleet and the link service share of one stream."""

    def __init__(self, session: AgentSession) -> None:
        self.session = session
        self.wake = asyncio.Event()
        #: The ledger has accepted its hello, so that it has to learn of its end.
        self.welcomed = False

    def ask(self, request: ReportRequest) -> None:
        """Asks the agent to report now."""
        self.session.ask(request)
        self.wake.set()
