"""What the NoETL mirror keeps: the outbox, the jobs in flight, and how far its event log was read."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def _key(name: str, length: int = 64) -> sa.Column[Any]:
    return sa.Column(name, sa.String(length), primary_key=True)


def _text(name: str, length: int = 64, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.String(length), nullable=nullable)


def _words(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Text, nullable=False)


def upgrade() -> None:
    """Create the tables and their indices; nothing that was there changes."""
    op.create_table(
        "handoffs",
        sa.Column("id", _ID, primary_key=True, autoincrement=True),
        _text("tenant"), _text("project"), _text("at", 32), _words("actor"), _text("handoff"), _text("event", 16),
        _text("domain"), sa.Column("number", sa.Integer), _text("asset"), _text("kind", 16), _text("playbook", 200),
        _text("code"), _text("urn", 250, nullable=True), sa.Column("payload", sa.JSON, nullable=False),
        _text("state", 16), sa.Column("attempts", sa.Integer, nullable=False), _text("due_at", 32),
        _text("tried_at", 32, nullable=True), _text("delivered_at", 32, nullable=True), _words("error"),
        sa.Column("places", sa.JSON, nullable=False), _text("ref", 500, nullable=True),
        sa.UniqueConstraint("tenant", "project", "handoff"),
    )  # fmt: skip
    op.create_table(
        "jobs",
        _key("tenant"), _key("project"), _key("domain"),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False), _key("stage", 32), _text("request"),
        _words("run_id"), _words("dedup"), _text("playbook", 200), _text("execution", 20, nullable=True),
        _text("state", 16), _text("submitted_at", 32), _text("ended_at", 32, nullable=True), _words("note"),
    )  # fmt: skip
    op.create_table(
        "captures",
        _key("tenant"), _key("project"), _key("domain"), _key("source", 32), _text("watermark", 20),
        sa.Column("turns", sa.Integer, nullable=False), _text("artifact", nullable=True), _text("read_at", 32),
        sa.Column("pending", sa.JSON, nullable=False),
    )  # fmt: skip
    op.create_index("handoffs_by_state", "handoffs", ["tenant", "project", "state", "domain", "id"])
    op.create_index("handoffs_by_urn", "handoffs", ["tenant", "project", "urn"])
    op.create_index("jobs_by_state", "jobs", ["tenant", "project", "state", "domain", "number"])
