"""Tariff quota data: transactions, and every version of every record."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

#: Sorts by code point everywhere, as the program does.
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "tariff_transactions",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("create_ms", sa.BigInteger(), nullable=False),
        sa.Column("actor", TEXT, nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_tariff_transactions"),
    )
    op.create_index("ix_tariff_transactions_time", "tariff_transactions", ["create_ms", "number"])
    op.create_table(
        "tariff_versions",
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("place", TEXT, nullable=False),
        sa.Column("deleted", sa.Boolean(), nullable=False),
        sa.Column("valid_start", TEXT, nullable=True),
        sa.Column("valid_end", TEXT, nullable=True),
        sa.Column("content", TEXT, nullable=False),
        sa.ForeignKeyConstraint(["number"], ["tariff_transactions.number"], name="fk_tariff_versions_number"),
        sa.PrimaryKeyConstraint("number", "position", name="pk_tariff_versions"),
    )
    op.create_index("ux_tariff_versions_record", "tariff_versions", ["kind", "place", "number"], unique=True)
