"""What the loop keeps: windows of traffic, triggers and live numbers, retrains, budget, reviews, erasures."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def _key(name: str, length: int = 64) -> sa.Column[Any]:
    return sa.Column(name, sa.String(length), primary_key=True)


def _text(name: str, length: int = 64, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.String(length), nullable=nullable)


def _words(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Text, nullable=False)


def _json(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.JSON, nullable=nullable)


def _scoped(name: str, *items: Any) -> None:
    op.create_table(name, _key("tenant"), _key("project"), _key("domain"), *items)


def _numbered(name: str, *items: Any) -> None:
    _scoped(name, sa.Column("number", sa.Integer, primary_key=True, autoincrement=False), *items)


def _log(name: str, *items: Any) -> None:
    number = sa.Column("id", _ID, primary_key=True, autoincrement=True)
    op.create_table(name, number, _text("tenant"), _text("project"), _text("at", 32), _words("actor"), *items)


def _floats(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, sa.Float) for name in names]


def _count() -> sa.Column[Any]:
    return sa.Column("n", sa.Integer, nullable=False)


def upgrade() -> None:
    """Create the tables and their indices; nothing that was there changes."""
    _numbered(
        "windows", _text("config"), _text("previous", nullable=True), _text("incoming", nullable=True),
        _json("taken"), _json("serving"), _text("as_of", 32), _words("reason"), _words("opener"),
        _text("opened_at", 32),
    )  # fmt: skip
    _numbered(
        "triggers", _key("trigger", 32), _text("verdict", 24), *_floats("value", "bound", "threshold"),
        _count(), _words("sentence"),
    )  # fmt: skip
    _numbered(
        "live_metrics", _key("role"), sa.Column("metric", sa.Text, primary_key=True), *_floats("value", "low", "high"),
        _count(),
    )  # fmt: skip
    _log(
        "retrains", _text("domain"), sa.Column("window", sa.Integer), sa.Column("number", sa.Integer),
        _text("state", 16), _json("triggers"), _words("reason"), _text("changed_at", 32), _words("note"),
    )  # fmt: skip
    _log(
        "budget", _text("domain"), _text("resource", 32), _words("what"),
        sa.Column("reserved", sa.Float, nullable=False), sa.Column("spent", sa.Float), _text("state", 16),
        _text("settled_at", 32, nullable=True),
        sa.UniqueConstraint("tenant", "project", "domain", "resource", "what"),
    )  # fmt: skip
    _scoped(
        "review_items", _key("item"), _text("role"), _text("turn", 200), _text("state", 16), _text("why", 32),
        _json("input"), _json("candidates"), _text("user"), _text("conversation"), _json("label", nullable=True),
        _words("author"), _text("opened_at", 32), _text("changed_at", 32),
    )  # fmt: skip
    _log("erasures", _text("domain"), _text("kind", 16), _text("pseudonym"), _json("detail"))
    op.create_table("tombstones", _key("tenant"), _key("project"), _key("sha256"), _text("manifest"), _text("at", 32))
    scope = ["tenant", "project", "domain"]
    op.create_index("retrains_by_domain", "retrains", [*scope, "id"])
    op.create_index("budget_by_time", "budget", [*scope, "resource", "at"])
    op.create_index("review_items_by_state", "review_items", [*scope, "state", "opened_at"])
    op.create_index("erasures_by_domain", "erasures", [*scope, "id"])
