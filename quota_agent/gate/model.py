"""The plain values of the gate: what goes in, what comes out, and its settings.

Amounts are integers in the quota's smallest unit, wall times milliseconds since 1970-01-01 UTC. What is made once per
acquisition is a NamedTuple where it can be: that is several times cheaper to make than a frozen dataclass.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple

from quotafleet.link.messages import OverrideState

#: No running total may pass this: it has to fit the store and the wire.
MAX_TOTAL = 2**63 - 1


class EntryState(enum.StrEnum):
    """Where an entry stands. The last three are final."""

    HELD = "HELD"
    COUNTED = "COUNTED"
    RELEASED = "RELEASED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"


class AcquireMode(enum.StrEnum):
    """What to do when less than the amount is left."""

    ALL_OR_NOTHING = "ALL_OR_NOTHING"
    UP_TO = "UP_TO"


class Verb(enum.StrEnum):
    """What a caller may do with an entry."""

    COMMIT = "Commit"
    CANCEL = "Cancel"
    RELEASE = "Release"


class Entry(NamedTuple):
    """One durable acquisition."""

    quota_uid: str
    request_id: str
    requested: int
    granted: int
    mode: AcquireMode
    state: EntryState
    create_ms: int
    #: Stays when a hold has been committed: the length of the hold belongs to the request's content.
    expire_ms: int | None
    override_id: str | None
    labels: tuple[tuple[str, str], ...]
    #: Place in the order in which the quota's entries were granted, from 1.
    number: int


@dataclass(slots=True)
class Balance:
    """The numbers of one quota on this agent; remaining = limit - count - held."""

    count: int
    held: int
    remaining: int
    limit: int


class AcquireRequest(NamedTuple):
    """A request for units. All but `max_wait_ms` is its content, which a repeat must bring again."""

    quota: str
    request_id: str
    amount: int = 1
    mode: AcquireMode = AcquireMode.ALL_OR_NOTHING
    #: Set: a hold of that length.
    hold_ms: int | None = None
    #: Set: paid by this override, not by the limit.
    override_id: str | None = None
    max_wait_ms: int = 0
    labels: tuple[tuple[str, str], ...] = ()


class Granted(NamedTuple):
    """An entry, and the numbers of its quota right after the decision."""

    entry: Entry
    balance: Balance


class OverrideView(NamedTuple):
    """An override, or the ask for one, as this agent knows it."""

    #: Empty until the controller has answered.
    override_id: str
    #: Name of the quota.
    quota: str
    amount: int
    state: OverrideState
    #: The id given to `request_override`; empty if the agent did not ask.
    request_id: str


class QuotaView(NamedTuple):
    """One quota in the agent's status."""

    quota: str
    quota_uid: str
    balance: Balance
    overridden: int
    decimals: int
    #: Reason why an Acquire would be refused now, whatever its amount; empty if none.
    refusal: str
    #: Those that can be spent, and asks that wait.
    overrides: tuple[OverrideView, ...]


class GateStatus(NamedTuple):
    """The state of the gate."""

    agent: str
    agent_uid: str
    epoch: int
    last_contact_ms: int | None
    store_ok: bool
    fenced: bool
    #: By name; of quotas that share a name, the one that Acquire uses.
    quotas: tuple[QuotaView, ...]


@dataclass(frozen=True, slots=True)
class GateSettings:
    """Bounds and times of the gate."""

    #: How far the clock may be behind the latest time that the store has seen.
    clock_tolerance_ms: int = 120_000
    heartbeat_ms: int = 5_000
    #: How often the time is written down when nothing else is.
    touch_ms: int = 30_000
    max_hold_ms: int = 24 * 3_600_000
    max_wait_ms: int = 10_000
    max_batch_items: int = 1_000
    max_labels: int = 16
    max_label_key: int = 64
    max_label_value: int = 256
    max_request_id: int = 128
    max_override_reason: int = 1_024
    #: Acquisitions decided and written together; bounds the length of one transaction.
    max_group: int = 8_192
    #: Acquisitions that may wait for the store; more are refused with STORE_UNAVAILABLE.
    max_queue: int = 65_536
