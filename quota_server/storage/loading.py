"""Fills a book from the database: functions on a connection, one statement per kind of record.

Agents are locked before epochs and these before quotas, each in the order of their keys. What belongs to one of them is
read under its lock, in a statement of its own: PostgreSQL shows a statement that waited for a row what the row holds
now, and of everything else what was there when the statement began. Who adds an allocation holds the epoch's lock, who
adds an override the epoch's and the quota's, who adds an assignment the agent's or the epoch's. SQLite needs no row
locks, for one transaction writes at a time, and ignores them.

Agents and epochs of a whole quota are read unlocked. Whoever changes an agent, or begins or ends an epoch, holds the
quotas of all its assignments; so only `online` and the like may be behind there, and such an epoch is never written.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import (
    BindParameter,
    Connection,
    Select,
    bindparam,
    literal_column,
    or_,
    select,
    text,
    tuple_,
    union_all,
)
from sqlalchemy.sql import ColumnElement

from quota_server.ledger.book import Book
from quota_server.ledger.model import AgentKey, AllocationKey, Mark, Meta, Override
from quota_server.ledger.store import RecordedAnswer
from quota_server.storage.keyed import among, rows_by_key
from quota_server.storage.mapping import (
    AGENTS,
    ALLOCATIONS,
    ANSWERS,
    ASSIGNMENTS,
    EPOCHS,
    META,
    OVERRIDES,
    QUOTAS,
    RecordMapping,
)
from quota_server.storage.tables import (
    agent_is_enrolled,
    agents,
    allocation_is_not_final,
    allocation_is_short,
    allocations,
    answers,
    assignments,
    charged_copies,
    epoch_is_online,
    epoch_is_unsettled,
    epochs,
    fenced_marks,
    override_was_asked_for,
    overrides,
    quota_is_open,
    quota_is_recovering,
    quotas,
)

_LIVE = ("PENDING", "APPROVED")


_epoch_key = (epochs.c.agent_uid, epochs.c.epoch)


def _all(mapping: RecordMapping[Any]) -> Select[Any]:
    return select(*mapping.columns)


def _epochs_with_agents(condition: ColumnElement[bool]) -> Select[Any]:
    both = select(*EPOCHS.columns, *AGENTS.columns).join(agents, agents.c.uid == epochs.c.agent_uid)
    return both.where(condition)


def _locked_epochs(condition: ColumnElement[bool]) -> Select[Any]:
    return _all(EPOCHS).where(condition).order_by(*_epoch_key).with_for_update(key_share=True)


def _locked_agents(condition: ColumnElement[bool]) -> Select[Any]:
    return _all(AGENTS).where(condition).order_by(agents.c.uid).with_for_update(key_share=True)


def _locked_quotas(condition: ColumnElement[bool]) -> Select[Any]:
    return _all(QUOTAS).where(condition).order_by(quotas.c.uid).with_for_update(key_share=True)


_agent_of_allocation = among(allocations.c.agent_uid, allocations.c.epoch)
_of_quota: BindParameter[str] = bindparam("quota_uid")
_of_agent: BindParameter[str] = bindparam("agent_uid")
_wanted_name: BindParameter[str] = bindparam("name")

_META = _all(META)
_ANSWERING = text("SELECT pg_advisory_xact_lock(1, hashtext(:request_id))")
#: An advisory lock, for every transaction holds it: a row would be written to by each of them. See `saving`.
META_LOCK = 0x71_6D_65_74_61
_SHARE_META = text(f"SELECT pg_advisory_xact_lock_shared({META_LOCK})")
_ANSWER = _all(ANSWERS).where(answers.c.request_id == bindparam("request_id"))

_AGENTS_OF_QUOTA = _all(AGENTS).where(
    agents.c.uid.in_(select(assignments.c.agent_uid).where(assignments.c.quota_uid == _of_quota))
)
_AGENTS = _all(AGENTS).where(among(agents.c.uid))
_AGENT_NAMED = _locked_agents(
    or_((agents.c.name == _wanted_name) & agent_is_enrolled, agents.c.uid == _wanted_name)
)

_EPOCHS = _locked_epochs(among(*_epoch_key))
_EPOCHS_OF_AGENT = _locked_epochs(epochs.c.agent_uid == _of_agent)
_EPOCHS_AS_THEY_ARE = _epochs_with_agents(among(*_epoch_key))
_EPOCHS_OF_QUOTA = _epochs_with_agents(
    tuple_(*_epoch_key).in_(
        select(allocations.c.agent_uid, allocations.c.epoch).where(
            allocations.c.quota_uid == _of_quota, allocation_is_not_final
        )
    )
)
_UNHEARD = select(*_epoch_key).where(epoch_is_unsettled, epochs.c.heard_generation < bindparam("generation"))
_FENCED_AND_CHARGED = union_all(
    select(fenced_marks, literal_column("NULL").label("store_id")).where(
        among(fenced_marks.c.agent_uid, fenced_marks.c.epoch)
    ),
    select(
        charged_copies.c.agent_uid,
        charged_copies.c.epoch,
        literal_column("0"),
        literal_column("0"),
        charged_copies.c.store_id,
    ).where(among(charged_copies.c.agent_uid, charged_copies.c.epoch)),
)

_QUOTAS = _locked_quotas(among(quotas.c.uid))
_QUOTAS_OF_AGENT_KEYS = _locked_quotas(
    quotas.c.uid.in_(select(allocations.c.quota_uid).where(_agent_of_allocation))
)
_QUOTAS_OF_AGENT = _locked_quotas(
    quotas.c.uid.in_(select(assignments.c.quota_uid).where(assignments.c.agent_uid == _of_agent))
)
_QUOTAS_RECOVERING = _locked_quotas(quota_is_recovering)
_QUOTA_NAMED = _locked_quotas(
    or_((quotas.c.name == _wanted_name) & quota_is_open, quotas.c.uid == _wanted_name)
)

_ASSIGNMENTS = _all(ASSIGNMENTS).where(among(assignments.c.quota_uid, assignments.c.agent_uid))
_ASSIGNMENTS_OF_QUOTA = _all(ASSIGNMENTS).where(assignments.c.quota_uid == _of_quota)
_ASSIGNMENTS_OF_AGENT = _all(ASSIGNMENTS).where(assignments.c.agent_uid == _of_agent)

_ALLOCATIONS = _all(ALLOCATIONS).where(
    among(allocations.c.quota_uid, allocations.c.agent_uid, allocations.c.epoch)
)
_ALLOCATIONS_OF_AGENTS = _all(ALLOCATIONS).where(_agent_of_allocation)
_ALLOCATIONS_OF_QUOTA = _all(ALLOCATIONS).where(allocations.c.quota_uid == _of_quota, allocation_is_not_final)
_ALLOCATIONS_SHORT = (
    _all(ALLOCATIONS)
    .join(epochs, (epochs.c.agent_uid == allocations.c.agent_uid) & (epochs.c.epoch == allocations.c.epoch))
    .where(among(allocations.c.quota_uid), allocation_is_short, epoch_is_online)
)

_OVERRIDES = _all(OVERRIDES).where(among(overrides.c.override_id))
_OVERRIDES_STAND_ON = select(
    overrides.c.override_id, overrides.c.quota_uid, overrides.c.agent_uid, overrides.c.epoch
).where(among(overrides.c.override_id))
_OVERRIDES_LIVE = _all(OVERRIDES).where(
    among(overrides.c.agent_uid, overrides.c.epoch), overrides.c.state.in_(_LIVE)
)
_OVERRIDE_OF_ASK = _all(OVERRIDES).where(
    overrides.c.agent_uid == _of_agent,
    overrides.c.epoch == bindparam("epoch"),
    overrides.c.quota_uid == _of_quota,
    overrides.c.ask_id == bindparam("ask_id"),
    override_was_asked_for,
)


# --- the verbs -------------------------------------------------------------------------------------------------------


def share_meta(connection: Connection) -> Meta:
    """The row about the whole database, which nobody changes until this transaction ends."""
    if connection.dialect.name == "postgresql":
        connection.execute(_SHARE_META)
    return read_meta(connection)


def read_meta(connection: Connection) -> Meta:
    """The row about the whole database; a new database has none yet."""
    row = connection.execute(_META).one_or_none()
    return Meta() if row is None else META.read(row)


def load_epochs(connection: Connection, book: Book, keys: Collection[AgentKey]) -> None:
    """Epochs with their agents, fenced marks and charged copies."""
    _lock_epochs(connection, book, keys)
    for agent_uid, epoch, generation, number, store_id in rows_by_key(connection, _FENCED_AND_CHARGED, keys):
        agent = AgentKey(agent_uid, epoch)
        if store_id is None:
            book.fenced_marks.setdefault(agent, set()).add(Mark(generation, number))
        else:
            book.charged_copies.add((agent, store_id))


def load_allocations(connection: Connection, book: Book, keys: Collection[AllocationKey]) -> None:
    """Allocations by key, and what they stand on; the latter also where there is no allocation yet."""
    _lock_epochs(connection, book, {key.agent for key in keys})
    load_quotas(connection, book, {key.quota_uid for key in keys})
    book.load(
        ALLOCATIONS.read_all(rows_by_key(connection, _ALLOCATIONS, set(keys) - book.allocations.keys()))
    )
    _load_assignments(connection, book, keys)


def load_allocations_of_agents(connection: Connection, book: Book, keys: Collection[AgentKey]) -> None:
    """All allocations of enrolments, and what they stand on."""
    _lock_epochs(connection, book, keys)
    book.load(QUOTAS.read_all(rows_by_key(connection, _QUOTAS_OF_AGENT_KEYS, keys)))
    found = ALLOCATIONS.read_all(rows_by_key(connection, _ALLOCATIONS_OF_AGENTS, keys))
    book.load(found)
    _load_assignments(connection, book, [allocation.key for allocation in found])


def load_short_allocations(connection: Connection, book: Book, quota_uids: Collection[str]) -> None:
    """Allocations that wait for their limit to grow and whose agent is online, and what they stand on."""
    load_quotas(connection, book, quota_uids)
    found = ALLOCATIONS.read_all(rows_by_key(connection, _ALLOCATIONS_SHORT, quota_uids))
    book.load(found)
    keys = [allocation.key for allocation in found]
    agent_keys = {key.agent for key in keys} - book.epochs.keys()
    _take_epochs(book, rows_by_key(connection, _EPOCHS_AS_THEY_ARE, agent_keys))
    _load_assignments(connection, book, keys)


def load_quotas(connection: Connection, book: Book, quota_uids: Collection[str]) -> None:
    """Quotas by uid."""
    book.load(QUOTAS.read_all(rows_by_key(connection, _QUOTAS, set(quota_uids) - book.quotas.keys())))


def load_whole_quota(connection: Connection, book: Book, quota_uid: str) -> None:
    """A quota with everything that a redistribution needs."""
    load_quotas(connection, book, [quota_uid])
    read_whole_quota(connection, book, quota_uid)


def read_whole_quota(connection: Connection, book: Book, quota_uid: str) -> None:
    """What belongs to a quota, which is locked, or only looked at."""
    values = {"quota_uid": quota_uid}
    _take_epochs(book, connection.execute(_EPOCHS_OF_QUOTA, values).all())
    book.load(AGENTS.read_all(connection.execute(_AGENTS_OF_QUOTA, values)))
    book.load(ASSIGNMENTS.read_all(connection.execute(_ASSIGNMENTS_OF_QUOTA, values)))
    book.load(ALLOCATIONS.read_all(connection.execute(_ALLOCATIONS_OF_QUOTA, values)))


def load_agent(connection: Connection, book: Book, agent_uid: str) -> None:
    """An agent with all its epochs and assignments, and the quotas of these."""
    values = {"agent_uid": agent_uid}
    book.load(EPOCHS.read_all(connection.execute(_EPOCHS_OF_AGENT, values)))
    book.load(AGENTS.read_all(rows_by_key(connection, _AGENTS, {agent_uid} - book.agents.keys())))
    book.load(QUOTAS.read_all(connection.execute(_QUOTAS_OF_AGENT, values)))
    book.load(ASSIGNMENTS.read_all(connection.execute(_ASSIGNMENTS_OF_AGENT, values)))


def load_live_overrides(connection: Connection, book: Book, keys: Collection[AgentKey]) -> None:
    """Overrides of enrolments that are pending or approved, with their quotas."""
    _lock_epochs(connection, book, keys)
    found = rows_by_key(connection, _OVERRIDES_LIVE, keys)
    _load_under_locks(connection, book, OVERRIDES.read_all(found))


def load_overrides(connection: Connection, book: Book, override_ids: Collection[str]) -> None:
    """Overrides by id, with their epochs and quotas."""
    found = rows_by_key(connection, _OVERRIDES_STAND_ON, set(override_ids) - book.overrides.keys())
    _lock_epochs(connection, book, {AgentKey(row.agent_uid, row.epoch) for row in found})
    load_quotas(connection, book, {row.quota_uid for row in found})
    book.load(OVERRIDES.read_all(rows_by_key(connection, _OVERRIDES, {row.override_id for row in found})))


def load_override_of_ask(
    connection: Connection, book: Book, agent: AgentKey, quota_uid: str, ask_id: str
) -> None:
    """The override that an ask led to, with its quota."""
    values = {"agent_uid": agent.agent_uid, "epoch": agent.epoch, "quota_uid": quota_uid, "ask_id": ask_id}
    _load_under_locks(connection, book, OVERRIDES.read_all(connection.execute(_OVERRIDE_OF_ASK, values)))


def load_recovering_quotas(connection: Connection, book: Book) -> None:
    """Every quota that recovers."""
    book.load(QUOTAS.read_all(connection.execute(_QUOTAS_RECOVERING)))


def load_quota_named(connection: Connection, book: Book, name_or_uid: str) -> None:
    """The open quota of a name, and the quota of that uid."""
    book.load(QUOTAS.read_all(connection.execute(_QUOTA_NAMED, {"name": name_or_uid})))


def load_agent_named(connection: Connection, book: Book, name_or_uid: str) -> None:
    """The enrolled agent of a name, and the agent of that uid; locked."""
    book.load(AGENTS.read_all(connection.execute(_AGENT_NAMED, {"name": name_or_uid})))


def unheard_epochs(connection: Connection, generation: int) -> set[AgentKey]:
    """Epochs that are not settled and have not been heard in a generation."""
    return {AgentKey(*row) for row in connection.execute(_UNHEARD, {"generation": generation})}


def read_answer_alone(connection: Connection, request_id: str) -> RecordedAnswer | None:
    """The same for who is about to answer it: nobody else does until this transaction ends.

    A repeat through another controller finds the answer, and not what its own first try has left behind.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(_ANSWERING, {"request_id": request_id})
    return read_answer(connection, request_id)


def read_answer(connection: Connection, request_id: str) -> RecordedAnswer | None:
    """What was answered to a request id."""
    row = connection.execute(_ANSWER, {"request_id": request_id}).one_or_none()
    return None if row is None else ANSWERS.read(row)


# --- shared ----------------------------------------------------------------------------------------------------------


def _lock_epochs(connection: Connection, book: Book, keys: Collection[AgentKey]) -> None:
    missing = set(keys) - book.epochs.keys()
    book.load(EPOCHS.read_all(rows_by_key(connection, _EPOCHS, missing)))
    uids = {key.agent_uid for key in missing} - book.agents.keys()
    book.load(AGENTS.read_all(rows_by_key(connection, _AGENTS, uids)))


def _take_epochs(book: Book, rows: Sequence[Any]) -> None:
    book.load(EPOCHS.read_all(rows))
    book.load(AGENTS.read_all(row[len(EPOCHS.columns) :] for row in rows))


def _load_assignments(connection: Connection, book: Book, keys: Collection[AllocationKey]) -> None:
    missing = {(key.quota_uid, key.agent_uid) for key in keys} - book.assignments.keys()
    book.load(ASSIGNMENTS.read_all(rows_by_key(connection, _ASSIGNMENTS, missing)))


def _load_under_locks(connection: Connection, book: Book, found: Sequence[Override]) -> None:
    """Overrides that were found, as they are when their quotas are locked."""
    load_quotas(connection, book, {override.quota_uid for override in found})
    ids = {override.override_id for override in found} - book.overrides.keys()
    book.load(OVERRIDES.read_all(rows_by_key(connection, _OVERRIDES, ids)))
