"""Several controllers: who they are, and which of them an agent's stream is on."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
UNACKNOWLEDGED = "(revision_number != acknowledged_number OR revision_generation != acknowledged_generation)"


def upgrade() -> None:
    op.create_table(
        "controllers",
        sa.Column("uid", TEXT, nullable=False),
        sa.Column("address", TEXT, nullable=False),
        sa.Column("start_ms", sa.BigInteger(), nullable=False),
        sa.Column("lease_until_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("uid", name="pk_controllers"),
    )
    op.add_column("epochs", sa.Column("owner", TEXT, nullable=False, server_default=""))
    op.create_index(
        "ix_epochs_to_be_fenced",
        "epochs",
        ["agent_uid"],
        sqlite_where=sa.text("online = 1 AND ended = 1"),
        postgresql_where=sa.text("online AND ended"),
    )
    op.create_index(
        "ix_allocations_unacknowledged",
        "allocations",
        ["quota_uid", "agent_uid"],
        sqlite_where=sa.text(f"settled = 0 AND {UNACKNOWLEDGED}"),
        postgresql_where=sa.text(f"NOT settled AND {UNACKNOWLEDGED}"),
    )
    op.create_index(
        "ix_overrides_open",
        "overrides",
        ["agent_uid", "epoch"],
        sqlite_where=sa.text("state = 'APPROVED' AND settled = 0"),
        postgresql_where=sa.text("state = 'APPROVED' AND NOT settled"),
    )
    op.create_index("ix_answers_created", "answers", ["create_ms"])
