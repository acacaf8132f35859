"""What every mutation has in common: who calls and why, the recorded answer, the change that comes out of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from quota_server.errors import AlreadyAnswered, LedgerRefusal, agent_unknown, quota_unknown
from quota_server.ledger.book import Book
from quota_server.ledger.effects import Effects, Participant, effects_of, participants_of
from quota_server.ledger.model import Agent, Note, Quota, QuotaState
from quota_server.ledger.store import RecordedAnswer, Transaction


@dataclass(frozen=True, slots=True)
class Call:
    """One mutation: who, why, when, and how its answer is recorded."""

    actor: str
    now_ms: int
    reason: str = ""
    #: Empty: the caller goes without.
    request_id: str = ""
    method: str = ""
    #: Digest of the request's content.
    fingerprint: bytes = b""
    #: Turns the result into the answer that a repeat gets.
    encode: Callable[[Any], bytes] = lambda _: b""
    #: Check everything, change nothing.
    validate_only: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """A committed decision about one quota, and what it means for the fleet."""

    quota: Quota
    effects: Effects
    participants: tuple[Participant, ...] = ()
    #: Names the history entry that its outcomes are added to; empty for none.
    round_id: str = ""
    #: What the call was about besides the quota, e.g. the assignment.
    subject: Any = field(default=None)


class Remembering(Protocol):
    """What knows the answers that were given."""

    async def recorded(self, request_id: str) -> RecordedAnswer | None: ...


class Recording(Protocol):
    """What keeps answers that are given."""

    async def record(self, answer: RecordedAnswer) -> None: ...


async def refuse_repeat(transaction: Remembering, call: Call) -> None:
    """Raises AlreadyAnswered for a repeat, REQUEST_ID_REUSED for other content under the same id."""
    if not call.request_id:
        return
    recorded = await transaction.recorded(call.request_id)
    if recorded is None:
        return
    if (recorded.method, recorded.fingerprint) != (call.method, call.fingerprint):
        raise LedgerRefusal(
            "REQUEST_ID_REUSED",
            f"request_id was used for another {recorded.method}; choose a new one",
            metadata={"request_id": call.request_id},
        )
    raise AlreadyAnswered(recorded.answer)


async def record(transaction: Recording, call: Call, result: Any) -> None:
    """Records the answer with the mutation itself."""
    if call.request_id:
        answer = call.encode(result)
        await transaction.record(
            RecordedAnswer(call.request_id, call.method, call.fingerprint, answer, call.now_ms)
        )


async def find_quota(transaction: Transaction, name: str) -> Quota:
    """The quota, whatever its state. Raises QUOTA_UNKNOWN."""
    quota = await transaction.find_quota(name)
    if quota is None:
        raise quota_unknown(name)
    return quota


async def find_open_quota(transaction: Transaction, name: str) -> Quota:
    """The quota, if it is not closed. Raises QUOTA_UNKNOWN, QUOTA_CLOSED."""
    quota = await find_quota(transaction, name)
    if quota.state is QuotaState.CLOSED:
        raise LedgerRefusal("QUOTA_CLOSED", f"quota {quota.name!r} is closed", metadata={"quota": quota.name})
    return quota


async def find_enrolled_agent(transaction: Transaction, name: str) -> Agent:
    """The agent, if it is not retired. Raises AGENT_UNKNOWN."""
    agent = await transaction.find_agent(name)
    if agent is None or agent.retired:
        raise agent_unknown(name)
    return agent


def limits_of(book: Book, quota_uid: str) -> dict[str, int]:
    """Wanted limits by agent name, of allocations that are not settled."""
    return {book.agents[a.agent_uid].name: a.wanted for a in book.allocations_of(quota_uid) if not a.settled}


def note_change(
    book: Book,
    call: Call,
    quota_uid: str,
    action: str,
    before: dict[str, Any],
    after: dict[str, Any],
    **more: Any,
) -> None:
    """Appends a call to a quota's history; of limits only those that changed."""
    old, new = before.get("limits", {}), after.get("limits", {})
    differ = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    before = {**before, "limits": {name: old[name] for name in differ if name in old}}
    after = {**after, "limits": {name: new[name] for name in differ if name in new}}
    book.note(Note(quota_uid, call.now_ms, call.actor, action, call.reason, before, after, **more))


def change_of(book: Book, quota_uid: str, round_id: str = "", subject: Any = None) -> Change:
    """The change that a book holds for one quota."""
    return Change(
        book.quotas[quota_uid], effects_of(book), participants_of(book, quota_uid), round_id, subject
    )
