"""What teachers answered: each request once, with what it cost."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Create the table and its index; nothing that was there changes."""
    op.create_table(
        "teacher_answers",
        *(sa.Column(name, sa.String(64), primary_key=True) for name in ("tenant", "project", "domain", "request")),
        sa.Column("role", sa.String(64), nullable=False),
        sa.Column("turn", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("answer", sa.Text, nullable=False),
        sa.Column("finish", sa.String(32), nullable=False),
        sa.Column("tokens_in", sa.Integer, nullable=False),
        sa.Column("tokens_out", sa.Integer, nullable=False),
        sa.Column("usd", sa.Float, nullable=False),
        sa.Column("paid_by", sa.String(100), nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
    )
    op.create_index("teacher_answers_by_turn", "teacher_answers", ["tenant", "project", "domain", "turn"])
