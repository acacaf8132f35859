"""The tables of the ledger and of the tariff data.

Amounts are BIGINT in the quota's smallest unit, wall times milliseconds since 1970 UTC. Text sorts by code point, as in
the program: rows are locked in the order of their keys.

The columns of a record are its fields, nested ones flattened by prefix: see `mapping`. A change here needs a migration.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    and_,
    literal_column,
    not_,
    or_,
    true,
)

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    }
)


_TEXT = Text().with_variant(Text(collation="C"), "postgresql")


def _text(*names: str) -> list[Column[str]]:
    return [Column(name, _TEXT, nullable=False) for name in names]


def _integer(*names: str) -> list[Column[int]]:
    return [Column(name, BigInteger, nullable=False) for name in names]


def _optional(*names: str) -> list[Column[int]]:
    return [Column(name, BigInteger, nullable=True) for name in names]


def _flag(*names: str) -> list[Column[bool]]:
    return [Column(name, Boolean, nullable=False) for name in names]


def _blob(*names: str) -> list[Column[bytes]]:
    return [Column(name, LargeBinary, nullable=False) for name in names]


def _references(columns: str, table: str, others: str) -> ForeignKeyConstraint:
    return ForeignKeyConstraint(columns.split(), [f"{table}.{other}" for other in others.split()])


#: One row, its id 1.
meta = Table(
    "meta",
    metadata,
    Column("id", BigInteger, nullable=False, autoincrement=False),
    *_integer("generation"),
    *_flag("recovering"),
    *_text("key_fingerprint"),
    PrimaryKeyConstraint("id"),
)

quotas = Table(
    "quotas",
    metadata,
    *_text("uid", "name"),
    *_integer("target", "decimals"),
    *_optional("start_ms", "end_ms"),
    *_text("policy"),
    *_integer("reserve_percent", "critical_percent"),
    *_text("override_policy"),
    *_optional("max_offline_ms"),
    *_text("state"),
    *_flag("recovering"),
    *_integer("version", "create_ms"),
    *_integer("sum_exposure", "sum_charge", "sum_count", "sum_held", "sum_overridden", "sum_at_risk"),
    *_integer("sum_overage", "sum_aside", "sum_overrides"),
    PrimaryKeyConstraint("uid"),
)
# The conditions of partial indexes hold no bound values, for SQLite matches them with those of a query as text.
quota_is_open = quotas.c.state != literal_column("'CLOSED'")
Index(
    "ux_quotas_open_name",
    quotas.c.name,
    unique=True,
    sqlite_where=quota_is_open,
    postgresql_where=quota_is_open,
)
Index("ix_quotas_name", quotas.c.name, quotas.c.uid)
quota_is_recovering = quotas.c.recovering == true()
Index(
    "ix_quotas_recovering",
    quotas.c.uid,
    sqlite_where=quota_is_recovering,
    postgresql_where=quota_is_recovering,
)

agents = Table(
    "agents",
    metadata,
    *_text("uid", "name"),
    *_integer("epoch"),
    *_flag("active", "retired"),
    *_integer("create_ms"),
    PrimaryKeyConstraint("uid"),
)
agent_is_enrolled = not_(agents.c.retired)
Index(
    "ux_agents_enrolled_name",
    agents.c.name,
    unique=True,
    sqlite_where=agent_is_enrolled,
    postgresql_where=agent_is_enrolled,
)
Index("ix_agents_name", agents.c.name, agents.c.uid)

epochs = Table(
    "epochs",
    metadata,
    *_text("agent_uid"),
    *_integer("epoch"),
    *_flag("online"),
    *_integer("last_dial", "shown_generation", "shown_number", "offered_generation", "offered_number"),
    *_text("store_id"),
    *_flag("fenced", "ended", "settled", "final"),
    *_integer("adopted_generation", "heard_generation"),
    *_optional("contact_ms"),
    Column("owner", _TEXT, nullable=False, server_default=""),
    PrimaryKeyConstraint("agent_uid", "epoch"),
    _references("agent_uid", "agents", "uid"),
)
epoch_is_online = epochs.c.online == true()
Index(
    "ix_epochs_online",
    epochs.c.agent_uid,
    sqlite_where=epoch_is_online,
    postgresql_where=epoch_is_online,
)
#: Its stream is up, and has to be told that it has ended.
epoch_is_to_be_fenced = and_(epochs.c.online, epochs.c.ended)
Index(
    "ix_epochs_to_be_fenced",
    epochs.c.agent_uid,
    sqlite_where=epoch_is_to_be_fenced,
    postgresql_where=epoch_is_to_be_fenced,
)
epoch_is_unsettled = not_(epochs.c.settled)
Index(
    "ix_epochs_unsettled",
    epochs.c.heard_generation,
    sqlite_where=epoch_is_unsettled,
    postgresql_where=epoch_is_unsettled,
)

assignments = Table(
    "assignments",
    metadata,
    *_text("quota_uid", "agent_uid"),
    *_flag("assigned"),
    *_integer("weight", "min"),
    *_optional("max"),
    *_integer("static_limit", "initial_count"),
    PrimaryKeyConstraint("quota_uid", "agent_uid"),
    _references("agent_uid", "agents", "uid"),
    _references("quota_uid", "quotas", "uid"),
)
Index("ix_assignments_agent", assignments.c.agent_uid, assignments.c.quota_uid)

allocations = Table(
    "allocations",
    metadata,
    *_text("quota_uid", "agent_uid"),
    *_integer("epoch", "wanted", "offered", "exposure", "revision_generation", "revision_number"),
    *_integer("acknowledged_generation", "acknowledged_number"),
    *_integer("totals_consumed", "totals_released", "totals_override_consumed", "totals_override_released"),
    *_integer("held", "sequence", "dial"),
    *_optional("report_ms"),
    *_text("open_requests"),
    *_integer("recent_demand", "wanted_more", "protected_until_ms", "kept_until_ms", "charge", "at_risk"),
    *_flag("settled", "final"),
    *_integer("copies", "overage"),
    PrimaryKeyConstraint("quota_uid", "agent_uid", "epoch"),
    _references("agent_uid epoch", "epochs", "agent_uid epoch"),
    _references("quota_uid agent_uid", "assignments", "quota_uid agent_uid"),
)
allocation_is_short = allocations.c.wanted > allocations.c.offered
allocation_is_not_final = not_(allocations.c.final)
allocation_is_unsettled = not_(allocations.c.settled)
#: Its store is not known to have applied the newest revision.
allocation_is_unacknowledged = and_(
    allocation_is_unsettled,
    or_(
        allocations.c.revision_number != allocations.c.acknowledged_number,
        allocations.c.revision_generation != allocations.c.acknowledged_generation,
    ),
)
Index(
    "ix_allocations_unacknowledged",
    allocations.c.quota_uid,
    allocations.c.agent_uid,
    sqlite_where=allocation_is_unacknowledged,
    postgresql_where=allocation_is_unacknowledged,
)
Index("ix_allocations_agent", allocations.c.agent_uid, allocations.c.epoch)
Index(
    "ix_allocations_not_final",
    allocations.c.quota_uid,
    sqlite_where=allocation_is_not_final,
    postgresql_where=allocation_is_not_final,
)
Index(
    "ix_allocations_short",
    allocations.c.quota_uid,
    sqlite_where=allocation_is_short,
    postgresql_where=allocation_is_short,
)

overrides = Table(
    "overrides",
    metadata,
    *_text("override_id", "ask_id", "quota_uid", "agent_uid"),
    *_integer("epoch", "amount"),
    *_text("reason", "state"),
    *_integer("spent"),
    *_flag("revoked", "settled", "at_risk"),
    *_text("decision_reason", "decided_by"),
    *_integer("create_ms"),
    *_optional("decide_ms"),
    PrimaryKeyConstraint("override_id"),
    _references("agent_uid epoch", "epochs", "agent_uid epoch"),
    _references("quota_uid", "quotas", "uid"),
)
override_was_asked_for = overrides.c.ask_id != literal_column("''")
#: Its agent may spend it, unless it has and did not say so yet.
override_is_open = and_(overrides.c.state == literal_column("'APPROVED'"), not_(overrides.c.settled))
Index(
    "ix_overrides_open",
    overrides.c.agent_uid,
    overrides.c.epoch,
    sqlite_where=override_is_open,
    postgresql_where=override_is_open,
)
Index("ix_overrides_created", overrides.c.create_ms, overrides.c.override_id)
Index("ix_overrides_agent", overrides.c.agent_uid, overrides.c.epoch)
Index("ix_overrides_quota", overrides.c.quota_uid, overrides.c.create_ms, overrides.c.override_id)
Index(
    "ux_overrides_ask",
    overrides.c.agent_uid,
    overrides.c.epoch,
    overrides.c.quota_uid,
    overrides.c.ask_id,
    unique=True,
    sqlite_where=override_was_asked_for,
    postgresql_where=override_was_asked_for,
)

history = Table(
    "history",
    metadata,
    # SQLite numbers rows by itself only in a column that is exactly INTEGER.
    Column("number", BigInteger().with_variant(Integer, "sqlite"), nullable=False, autoincrement=True),
    *_text("quota_uid"),
    *_integer("time_ms"),
    *_text("actor", "action", "reason", "before", "after", "round_id", "reached"),
    PrimaryKeyConstraint("number"),
    _references("quota_uid", "quotas", "uid"),
)
history_has_round = history.c.round_id != literal_column("''")
Index("ix_history_quota", history.c.quota_uid, history.c.number)
Index(
    "ix_history_round",
    history.c.round_id,
    sqlite_where=history_has_round,
    postgresql_where=history_has_round,
)

#: Marks that a fence is on, for ever.
fenced_marks = Table(
    "fenced_marks",
    metadata,
    *_text("agent_uid"),
    *_integer("epoch", "mark_generation", "mark_number"),
    PrimaryKeyConstraint("agent_uid", "epoch", "mark_generation", "mark_number"),
    _references("agent_uid epoch", "epochs", "agent_uid epoch"),
)

#: Ids that copied stores drew, whose overage is charged.
charged_copies = Table(
    "charged_copies",
    metadata,
    *_text("agent_uid"),
    *_integer("epoch"),
    *_text("store_id"),
    PrimaryKeyConstraint("agent_uid", "epoch", "store_id"),
    _references("agent_uid epoch", "epochs", "agent_uid epoch"),
)

#: What mutations answered to their request ids.
answers = Table(
    "answers",
    metadata,
    *_text("request_id", "method"),
    *_blob("fingerprint", "answer"),
    *_integer("create_ms"),
    PrimaryKeyConstraint("request_id"),
)
Index("ix_answers_created", answers.c.create_ms)

#: Controllers that serve, each until its lease ends, in the database's own time.
controllers = Table(
    "controllers",
    metadata,
    *_text("uid", "address"),
    *_integer("start_ms", "lease_until_ms"),
    PrimaryKeyConstraint("uid"),
)

#: Transactions of tariff data, numbered without a gap.
tariff_transactions = Table(
    "tariff_transactions",
    metadata,
    Column("number", BigInteger, nullable=False, autoincrement=False),
    *_integer("create_ms"),
    *_text("actor", "reason"),
    PrimaryKeyConstraint("number"),
)
Index("ix_tariff_transactions_time", tariff_transactions.c.create_ms, tariff_transactions.c.number)

#: Every version of every tariff record. Places sort like keys; the content is the record's JSON form.
tariff_versions = Table(
    "tariff_versions",
    metadata,
    *_integer("number", "position"),
    *_text("kind", "place"),
    *_flag("deleted"),
    Column("valid_start", _TEXT, nullable=True),
    Column("valid_end", _TEXT, nullable=True),
    *_text("content"),
    PrimaryKeyConstraint("number", "position"),
    _references("number", "tariff_transactions", "number"),
)
Index(
    "ux_tariff_versions_record",
    tariff_versions.c.kind,
    tariff_versions.c.place,
    tariff_versions.c.number,
    unique=True,
)
