"""What streams tell the ledger, and what it tells them."""

from __future__ import annotations

from dataclasses import dataclass

from quota_server.errors import LedgerRefusal
from quota_server.ledger.model import AgentKey
from quotafleet.link.messages import FenceAck, FromController, Hello, Report


@dataclass(frozen=True, slots=True)
class HelloEvent:
    """An agent's first message on a stream."""

    agent: AgentKey
    hello: Hello


@dataclass(frozen=True, slots=True)
class ReportEvent:
    """A report on the stream that `dial` opened."""

    agent: AgentKey
    dial: int
    report: Report


@dataclass(frozen=True, slots=True)
class FenceAckEvent:
    """A fenced store's last word on the stream that `dial` opened."""

    agent: AgentKey
    dial: int
    ack: FenceAck


@dataclass(frozen=True, slots=True)
class GoneEvent:
    """The stream that `dial` opened is gone."""

    agent: AgentKey
    dial: int


LinkEvent = HelloEvent | ReportEvent | FenceAckEvent | GoneEvent


@dataclass(slots=True)
class Reply:
    """What a stream is told about its event."""

    messages: tuple[FromController, ...] = ()
    #: The hello was accepted: a Welcome is to be built when everything in the transaction is decided.
    welcome: bool = False
    #: A newer stream owns the agent, or it has to say hello again: end this one.
    superseded: bool = False
    #: End the stream with this.
    refusal: LedgerRefusal | None = None
