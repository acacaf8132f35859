"""What can be asked of the gate's writer. Each is a value; `quota_agent.gate.state.decide` says what it does."""

from __future__ import annotations

from typing import NamedTuple

from quota_agent.gate.model import AcquireRequest, Verb
from quotafleet.link.messages import AllocationUpdate, FenceKind, OverrideUpdate


class Retry(NamedTuple):
    """An acquisition that has waited and is tried again; it may go before those that wait behind it."""

    request: AcquireRequest


class Batch(NamedTuple):
    """Several acquisitions, each on its own or all or nothing."""

    items: tuple[AcquireRequest, ...]
    atomic: bool


class End(NamedTuple):
    """Commit, Cancel or Release of an entry."""

    verb: Verb
    quota: str
    request_id: str


class AskOverride(NamedTuple):
    """Asks the controller for permission to go beyond the limit."""

    quota: str
    amount: int
    reason: str
    request_id: str


class Touch(NamedTuple):
    """Makes durable what may lag behind: the clock's high-water mark, the last contact, holds whose time is over."""


class Contact(NamedTuple):
    """The agent has just heard from its controller, at these times of the two clocks."""

    wall_ms: int
    controller_ms: int


class Bind(NamedTuple):
    """Makes an empty store the store of one (agent, epoch), under a new random id."""

    agent: str
    agent_uid: str
    epoch: int
    store_id: str


class SayHello(NamedTuple):
    """Takes the next dial number and answers the Hello to send."""


class AdvanceDial(NamedTuple):
    """The controller has seen dials up to `last`."""

    last: int


class Apply(NamedTuple):
    """The controller's word on allocations and overrides; `complete` if it is the whole of it."""

    allocations: tuple[AllocationUpdate, ...]
    overrides: tuple[OverrideUpdate, ...]
    mark: bytes | None
    complete: bool


class FenceStore(NamedTuple):
    """Ends all spending, for good. `store_id` is the random id to take."""

    kind: FenceKind
    store_id: str


class FenceConfirmed(NamedTuple):
    """The controller has recorded the final totals."""


class ResetClock(NamedTuple):
    """An operator declares the present time to be right."""

    reason: str


#: May share a group; none of them changes what a name means or whether a quota is open.
Ordinary = AcquireRequest | Retry | Batch | End | AskOverride | Touch
#: Decided in a group of its own.
Exclusive = Bind | SayHello | AdvanceDial | Apply | FenceStore | FenceConfirmed | ResetClock
Operation = Ordinary | Exclusive
EXCLUSIVE = (Bind, SayHello, AdvanceDial, Apply, FenceStore, FenceConfirmed, ResetClock)
