"""The ledger: quotas, agents, allocations, overrides, history, answers."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

#: Sorts by code point everywhere, as the program does.
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "agents",
        sa.Column("uid", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("retired", sa.Boolean(), nullable=False),
        sa.Column("create_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("uid", name="pk_agents"),
    )
    op.create_index("ix_agents_name", "agents", ["name", "uid"])
    op.create_index(
        "ux_agents_enrolled_name",
        "agents",
        ["name"],
        unique=True,
        sqlite_where=sa.text("retired = 0"),
        postgresql_where=sa.text("NOT retired"),
    )
    op.create_table(
        "answers",
        sa.Column("request_id", TEXT, nullable=False),
        sa.Column("method", TEXT, nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=False),
        sa.Column("create_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("request_id", name="pk_answers"),
    )
    op.create_table(
        "meta",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("recovering", sa.Boolean(), nullable=False),
        sa.Column("key_fingerprint", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_meta"),
    )
    op.create_table(
        "quotas",
        sa.Column("uid", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("target", sa.BigInteger(), nullable=False),
        sa.Column("decimals", sa.BigInteger(), nullable=False),
        sa.Column("start_ms", sa.BigInteger(), nullable=True),
        sa.Column("end_ms", sa.BigInteger(), nullable=True),
        sa.Column("policy", TEXT, nullable=False),
        sa.Column("reserve_percent", sa.BigInteger(), nullable=False),
        sa.Column("critical_percent", sa.BigInteger(), nullable=False),
        sa.Column("override_policy", TEXT, nullable=False),
        sa.Column("max_offline_ms", sa.BigInteger(), nullable=True),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("recovering", sa.Boolean(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("create_ms", sa.BigInteger(), nullable=False),
        sa.Column("sum_exposure", sa.BigInteger(), nullable=False),
        sa.Column("sum_charge", sa.BigInteger(), nullable=False),
        sa.Column("sum_count", sa.BigInteger(), nullable=False),
        sa.Column("sum_held", sa.BigInteger(), nullable=False),
        sa.Column("sum_overridden", sa.BigInteger(), nullable=False),
        sa.Column("sum_at_risk", sa.BigInteger(), nullable=False),
        sa.Column("sum_overage", sa.BigInteger(), nullable=False),
        sa.Column("sum_aside", sa.BigInteger(), nullable=False),
        sa.Column("sum_overrides", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("uid", name="pk_quotas"),
    )
    op.create_index("ix_quotas_name", "quotas", ["name", "uid"])
    op.create_index(
        "ix_quotas_recovering",
        "quotas",
        ["uid"],
        sqlite_where=sa.text("recovering = 1"),
        postgresql_where=sa.text("recovering"),
    )
    op.create_index(
        "ux_quotas_open_name",
        "quotas",
        ["name"],
        unique=True,
        sqlite_where=sa.text("state != 'CLOSED'"),
        postgresql_where=sa.text("state != 'CLOSED'"),
    )
    op.create_table(
        "assignments",
        sa.Column("quota_uid", TEXT, nullable=False),
        sa.Column("agent_uid", TEXT, nullable=False),
        sa.Column("assigned", sa.Boolean(), nullable=False),
        sa.Column("weight", sa.BigInteger(), nullable=False),
        sa.Column("min", sa.BigInteger(), nullable=False),
        sa.Column("max", sa.BigInteger(), nullable=True),
        sa.Column("static_limit", sa.BigInteger(), nullable=False),
        sa.Column("initial_count", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["agent_uid"], ["agents.uid"], name="fk_assignments_agent_uid"),
        sa.ForeignKeyConstraint(["quota_uid"], ["quotas.uid"], name="fk_assignments_quota_uid"),
        sa.PrimaryKeyConstraint("quota_uid", "agent_uid", name="pk_assignments"),
    )
    op.create_index("ix_assignments_agent", "assignments", ["agent_uid", "quota_uid"])
    op.create_table(
        "epochs",
        sa.Column("agent_uid", TEXT, nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("online", sa.Boolean(), nullable=False),
        sa.Column("last_dial", sa.BigInteger(), nullable=False),
        sa.Column("shown_generation", sa.BigInteger(), nullable=False),
        sa.Column("shown_number", sa.BigInteger(), nullable=False),
        sa.Column("offered_generation", sa.BigInteger(), nullable=False),
        sa.Column("offered_number", sa.BigInteger(), nullable=False),
        sa.Column("store_id", TEXT, nullable=False),
        sa.Column("fenced", sa.Boolean(), nullable=False),
        sa.Column("ended", sa.Boolean(), nullable=False),
        sa.Column("settled", sa.Boolean(), nullable=False),
        sa.Column("final", sa.Boolean(), nullable=False),
        sa.Column("adopted_generation", sa.BigInteger(), nullable=False),
        sa.Column("heard_generation", sa.BigInteger(), nullable=False),
        sa.Column("contact_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["agent_uid"], ["agents.uid"], name="fk_epochs_agent_uid"),
        sa.PrimaryKeyConstraint("agent_uid", "epoch", name="pk_epochs"),
    )
    op.create_index(
        "ix_epochs_online",
        "epochs",
        ["agent_uid"],
        sqlite_where=sa.text("online = 1"),
        postgresql_where=sa.text("online"),
    )
    op.create_index(
        "ix_epochs_unsettled",
        "epochs",
        ["heard_generation"],
        sqlite_where=sa.text("settled = 0"),
        postgresql_where=sa.text("NOT settled"),
    )
    op.create_table(
        "history",
        sa.Column(
            "number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("quota_uid", TEXT, nullable=False),
        sa.Column("time_ms", sa.BigInteger(), nullable=False),
        sa.Column("actor", TEXT, nullable=False),
        sa.Column("action", TEXT, nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("before", TEXT, nullable=False),
        sa.Column("after", TEXT, nullable=False),
        sa.Column("round_id", TEXT, nullable=False),
        sa.Column("reached", TEXT, nullable=False),
        sa.ForeignKeyConstraint(["quota_uid"], ["quotas.uid"], name="fk_history_quota_uid"),
        sa.PrimaryKeyConstraint("number", name="pk_history"),
    )
    op.create_index("ix_history_quota", "history", ["quota_uid", "number"])
    op.create_index(
        "ix_history_round",
        "history",
        ["round_id"],
        sqlite_where=sa.text("round_id != ''"),
        postgresql_where=sa.text("round_id != ''"),
    )
    op.create_table(
        "allocations",
        sa.Column("quota_uid", TEXT, nullable=False),
        sa.Column("agent_uid", TEXT, nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("wanted", sa.BigInteger(), nullable=False),
        sa.Column("offered", sa.BigInteger(), nullable=False),
        sa.Column("exposure", sa.BigInteger(), nullable=False),
        sa.Column("revision_generation", sa.BigInteger(), nullable=False),
        sa.Column("revision_number", sa.BigInteger(), nullable=False),
        sa.Column("acknowledged_generation", sa.BigInteger(), nullable=False),
        sa.Column("acknowledged_number", sa.BigInteger(), nullable=False),
        sa.Column("totals_consumed", sa.BigInteger(), nullable=False),
        sa.Column("totals_released", sa.BigInteger(), nullable=False),
        sa.Column("totals_override_consumed", sa.BigInteger(), nullable=False),
        sa.Column("totals_override_released", sa.BigInteger(), nullable=False),
        sa.Column("held", sa.BigInteger(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("dial", sa.BigInteger(), nullable=False),
        sa.Column("report_ms", sa.BigInteger(), nullable=True),
        sa.Column("open_requests", TEXT, nullable=False),
        sa.Column("recent_demand", sa.BigInteger(), nullable=False),
        sa.Column("wanted_more", sa.BigInteger(), nullable=False),
        sa.Column("protected_until_ms", sa.BigInteger(), nullable=False),
        sa.Column("kept_until_ms", sa.BigInteger(), nullable=False),
        sa.Column("charge", sa.BigInteger(), nullable=False),
        sa.Column("at_risk", sa.BigInteger(), nullable=False),
        sa.Column("settled", sa.Boolean(), nullable=False),
        sa.Column("final", sa.Boolean(), nullable=False),
        sa.Column("copies", sa.BigInteger(), nullable=False),
        sa.Column("overage", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["agent_uid", "epoch"],
            ["epochs.agent_uid", "epochs.epoch"],
            name="fk_allocations_agent_uid_epoch",
        ),
        sa.ForeignKeyConstraint(
            ["quota_uid", "agent_uid"],
            ["assignments.quota_uid", "assignments.agent_uid"],
            name="fk_allocations_quota_uid_agent_uid",
        ),
        sa.PrimaryKeyConstraint("quota_uid", "agent_uid", "epoch", name="pk_allocations"),
    )
    op.create_index("ix_allocations_agent", "allocations", ["agent_uid", "epoch"])
    op.create_index(
        "ix_allocations_not_final",
        "allocations",
        ["quota_uid"],
        sqlite_where=sa.text("final = 0"),
        postgresql_where=sa.text("NOT final"),
    )
    op.create_index(
        "ix_allocations_short",
        "allocations",
        ["quota_uid"],
        sqlite_where=sa.text("wanted > offered"),
        postgresql_where=sa.text("wanted > offered"),
    )
    op.create_table(
        "charged_copies",
        sa.Column("agent_uid", TEXT, nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("store_id", TEXT, nullable=False),
        sa.ForeignKeyConstraint(
            ["agent_uid", "epoch"],
            ["epochs.agent_uid", "epochs.epoch"],
            name="fk_charged_copies_agent_uid_epoch",
        ),
        sa.PrimaryKeyConstraint("agent_uid", "epoch", "store_id", name="pk_charged_copies"),
    )
    op.create_table(
        "fenced_marks",
        sa.Column("agent_uid", TEXT, nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("mark_generation", sa.BigInteger(), nullable=False),
        sa.Column("mark_number", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["agent_uid", "epoch"],
            ["epochs.agent_uid", "epochs.epoch"],
            name="fk_fenced_marks_agent_uid_epoch",
        ),
        sa.PrimaryKeyConstraint(
            "agent_uid", "epoch", "mark_generation", "mark_number", name="pk_fenced_marks"
        ),
    )
    op.create_table(
        "overrides",
        sa.Column("override_id", TEXT, nullable=False),
        sa.Column("ask_id", TEXT, nullable=False),
        sa.Column("quota_uid", TEXT, nullable=False),
        sa.Column("agent_uid", TEXT, nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("spent", sa.BigInteger(), nullable=False),
        sa.Column("revoked", sa.Boolean(), nullable=False),
        sa.Column("settled", sa.Boolean(), nullable=False),
        sa.Column("at_risk", sa.Boolean(), nullable=False),
        sa.Column("decision_reason", TEXT, nullable=False),
        sa.Column("decided_by", TEXT, nullable=False),
        sa.Column("create_ms", sa.BigInteger(), nullable=False),
        sa.Column("decide_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["agent_uid", "epoch"], ["epochs.agent_uid", "epochs.epoch"], name="fk_overrides_agent_uid_epoch"
        ),
        sa.ForeignKeyConstraint(["quota_uid"], ["quotas.uid"], name="fk_overrides_quota_uid"),
        sa.PrimaryKeyConstraint("override_id", name="pk_overrides"),
    )
    op.create_index("ix_overrides_agent", "overrides", ["agent_uid", "epoch"])
    op.create_index("ix_overrides_created", "overrides", ["create_ms", "override_id"])
    op.create_index("ix_overrides_quota", "overrides", ["quota_uid", "create_ms", "override_id"])
    op.create_index(
        "ux_overrides_ask",
        "overrides",
        ["agent_uid", "epoch", "quota_uid", "ask_id"],
        unique=True,
        sqlite_where=sa.text("ask_id != ''"),
        postgresql_where=sa.text("ask_id != ''"),
    )
