"""What controllers say to each other, as it is sent: where to look, in payloads small enough for a notice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from quota_server.fleet.others import Notice, Question
from quota_server.ledger.book import Book
from quota_server.ledger.model import AgentKey, Allocation, Epoch, Override

#: A payload has at most 7,999 bytes; uids are 36 characters, names are not sent.
UIDS_IN_ONE: Final = 100
#: Of more quotas than this it is said that everything is to be looked at.
MOST_UIDS: Final = 2_000


def payloads_of(book: Book) -> Iterator[dict[str, Any]]:
    """What the others are told of a transaction that is committed."""
    for some in in_parts([(*agent, book.epochs[agent].last_dial) for agent in sorted(book.linked)]):
        yield {"linked": some}
    changed = book.changes()
    decided = sorted(record.override_id for record in changed if isinstance(record, Override))
    # Also where only an acknowledgement came in: somebody elsewhere may wait for it.
    quotas = book.touched | {record.quota_uid for record in changed if isinstance(record, Allocation)}
    if len(quotas) + len(decided) > MOST_UIDS or book.everything_recovers:
        yield {"everything": True}
        return
    for kind, uids in (("quotas", sorted(quotas)), ("overrides", decided)):
        for some in in_parts(uids):
            yield {kind: some}
    if any(isinstance(record, Epoch) and record.ended and record.online for record in changed):
        yield {"ended": True}


def read_payload(said: dict[str, Any], controller: str) -> Notice:
    """A payload as `controller` understands it. Raises ValueError, KeyError or TypeError for what it does not know.

    Whoever may use the database may say anything here.
    """
    notice = Notice(
        quotas=set(map(_text, said.get("quotas", ()))),
        overrides=set(map(_text, said.get("overrides", ()))),
        ended=bool(said.get("ended")),
        linked={_agent(uid, epoch): _number(dial) for uid, epoch, dial in said.get("linked", ())},
        tariff=bool(said.get("tariff")),
        everything=bool(said.get("everything")),
    )
    if "question" in said:
        asker, number, quota_uid = said["question"]
        notice.questions.add(Question(_text(asker), _number(number), _text(quota_uid)))
    if "answer" in said:
        asker, number, agents = said["answer"]
        if asker == controller:
            notice.answers[_number(number)] = {_agent(*agent) for agent in agents}
    return notice


def _agent(uid: object, epoch: object) -> AgentKey:
    return AgentKey(_text(uid), _number(epoch))


def _text(value: object) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise TypeError("this is not a uid")
    return value


def _number(value: object) -> int:
    if not isinstance(value, int) or not 0 <= value < 1 << 63:
        raise TypeError("this is not a number")
    return value


def in_parts(things: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """As many things at a time as go into one payload."""
    for start in range(0, len(things), UIDS_IN_ONE):
        yield things[start : start + UIDS_IN_ONE]
