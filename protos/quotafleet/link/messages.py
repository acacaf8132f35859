"""The messages of `AgentLinkService.Connect` as plain, immutable values.

Both state machines of the link speak these; `quotafleet.link.wire` turns them into protobuf and back. All amounts are
integers in the quota's smallest unit; all wall times are milliseconds since 1970-01-01 UTC.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple

PROTOCOL_VERSION = 1

#: The largest amount, limit or target that any message may carry.
MAX_UNITS = 10**15
#: How many open requests a standing may carry, the oldest.
MAX_OPEN_REQUESTS = 64

#: How many overrides a hello or a report states; later reports state the rest, as these are acknowledged.
MAX_OVERRIDES = 4096


class Revision(NamedTuple):
    """A place in the order of one allocation's updates; a restored controller database starts a new generation."""

    generation: int = 0
    number: int = 0

    def next(self, generation: int) -> Revision:
        """The revision after this one, in `generation` (at least this one's)."""
        assert generation >= self.generation, "a generation never goes back"
        return Revision(generation, self.number + 1)


@dataclass(frozen=True, slots=True)
class Totals:
    """Running totals of one (agent, epoch) in one quota; each only grows (S5)."""

    consumed: int = 0
    released: int = 0
    override_consumed: int = 0
    override_released: int = 0

    @property
    def count(self) -> int:
        """Units in use under the limit."""
        return self.consumed - self.released

    @property
    def overridden(self) -> int:
        """Units in use that overrides paid."""
        return self.override_consumed - self.override_released

    def covers(self, earlier: Totals) -> bool:
        """Whether no total here is below the one in `earlier`."""
        return (
            self.consumed >= earlier.consumed
            and self.released >= earlier.released
            and self.override_consumed >= earlier.override_consumed
            and self.override_released >= earlier.override_released
        )


class OpenRequest(NamedTuple):
    """A request that an agent could not grant yet; `age_ms` says for how long."""

    amount: int
    age_ms: int = 0


class OverrideState(enum.StrEnum):
    """Where an override stands. The first four are the controller's word, the last two the agent's."""

    PENDING = "PENDING"
    DENIED = "DENIED"
    FROM_RESERVE = "FROM_RESERVE"  # answered by a larger limit; there is nothing to spend
    APPROVED = "APPROVED"  # may be spent once
    USED = "USED"
    DEAD = "DEAD"  # closed unspent: it can never be spent any more


class FenceKind(enum.StrEnum):
    """Why a store may spend nothing any more."""

    COPY = "COPY"  # another store holds the session mark: this one is a copy, or was put back
    ENDED = "ENDED"  # its (agent, epoch) was retired, settled or followed by a higher epoch


# --- agent to controller ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Standing:
    """What an agent's store durably holds of one quota."""

    quota_uid: str
    revision: Revision
    limit: int
    totals: Totals
    held: int
    #: Grows with every durable change of this quota on this store.
    sequence: int
    #: Requests not granted yet, oldest first, at most MAX_OPEN_REQUESTS.
    open_requests: tuple[OpenRequest, ...] = ()
    #: Units asked for lately, granted or not.
    recent_demand: int = 0
    #: Units the agent would like on top of its limit, because its headroom is small.
    wanted_more: int = 0

    @property
    def used(self) -> int:
        """Units that the limit cannot go below: count + held."""
        return self.totals.count + self.held


@dataclass(frozen=True, slots=True)
class OverrideStanding:
    """What an agent's store durably holds of one override that the controller told it of."""

    override_id: str
    state: OverrideState
    #: Units spent; 0 unless USED.
    spent: int = 0
    quota_uid: str = ""
    #: Units that it allows.
    amount: int = 0


@dataclass(frozen=True, slots=True)
class OverrideAsk:
    """An agent's request to go beyond its limit, repeated until the controller answers it."""

    ask_id: str
    quota_uid: str
    amount: int
    reason: str


@dataclass(frozen=True, slots=True)
class Hello:
    """The first message of a stream. Everything in it is durable on the agent's store, with no write in flight."""

    agent_uid: str
    epoch: int
    store_id: str
    dial: int
    mark: bytes
    clock_ms: int
    standings: tuple[Standing, ...]
    overrides: tuple[OverrideStanding, ...] = ()
    asks: tuple[OverrideAsk, ...] = ()
    protocol_version: int = PROTOCOL_VERSION
    #: Set: the store is fenced. A controller that was put back may not know it any more.
    fenced: FenceKind | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What changed on the store since the last report that was acknowledged; also the heartbeat (then empty)."""

    number: int
    mark: bytes
    clock_ms: int
    standings: tuple[Standing, ...] = ()
    overrides: tuple[OverrideStanding, ...] = ()
    asks: tuple[OverrideAsk, ...] = ()
    #: ReportRequests that this report answers.
    answers: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class FinalStanding:
    """What a fenced store spent of one quota.

    `marked` are the totals of when least was in use since it stored the newest mark that is known to have been shown. A
    copy is charged what is above: too much, by what was spent between two marks, never too little.
    """

    quota_uid: str
    totals: Totals
    marked: Totals


@dataclass(frozen=True, slots=True)
class FenceAck:
    """The fence is durable on the store: it spends nothing any more, and these totals are final."""

    kind: FenceKind
    #: The new id that the store drew with the fence; copies share the old one.
    store_id: str
    mark: bytes
    standings: tuple[FinalStanding, ...]
    overrides: tuple[OverrideStanding, ...] = ()


FromAgent = Hello | Report | FenceAck


# --- controller to agent ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Terms:
    """What an agent has to know of a quota besides its limit."""

    name: str
    decimals: int = 0
    start_ms: int | None = None
    end_ms: int | None = None
    suspended: bool = False
    closed: bool = False
    #: False: this agent has no part in the quota (any more).
    assigned: bool = True
    #: False: this agent is switched off.
    active: bool = True
    max_offline_ms: int | None = None


@dataclass(frozen=True, slots=True)
class AllocationUpdate:
    """The newest state of one allocation. An agent applies it if the revision is newer than the one it stored."""

    quota_uid: str
    revision: Revision
    limit: int
    terms: Terms


@dataclass(frozen=True, slots=True)
class OverrideUpdate:
    """The controller's word on one override of this agent."""

    override_id: str
    ask_id: str
    quota_uid: str
    amount: int
    state: OverrideState
    #: The controller asks the agent to close it, unless it is spent already.
    revoked: bool = False


@dataclass(frozen=True, slots=True)
class Welcome:
    """The answer to an accepted hello: the whole wanted state of the agent."""

    mark: bytes
    generation: int
    clock_ms: int
    heartbeat_ms: int
    allocations: tuple[AllocationUpdate, ...]
    overrides: tuple[OverrideUpdate, ...] = ()


@dataclass(frozen=True, slots=True)
class StaleHello:
    """The hello's dial was not above `last_dial`; it changed nothing. Dial again with a higher number."""

    last_dial: int


@dataclass(frozen=True, slots=True)
class Fence:
    """This store may spend nothing any more; make that durable, then answer with a FenceAck."""

    kind: FenceKind


@dataclass(frozen=True, slots=True)
class FenceDone:
    """The controller has recorded the FenceAck; there is nothing left to say."""


@dataclass(frozen=True, slots=True)
class Update:
    """New state of some allocations and overrides."""

    allocations: tuple[AllocationUpdate, ...] = ()
    overrides: tuple[OverrideUpdate, ...] = ()


@dataclass(frozen=True, slots=True)
class ReportAck:
    """Everything in the reports up to `number` is recorded. `mark`, if set, is to be stored and then presented."""

    number: int
    clock_ms: int
    mark: bytes | None = None


@dataclass(frozen=True, slots=True)
class ReportRequest:
    """Report now, `quota_uid` in any case, and name this request among the answers."""

    request: int
    quota_uid: str


FromController = Welcome | StaleHello | Fence | FenceDone | Update | ReportAck | ReportRequest
