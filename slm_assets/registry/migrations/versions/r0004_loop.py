"""What the loop keeps: windows of traffic, triggers and live numbers, retrains, budget, reviews, what people decided
about a version, erasures."""

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


def _version() -> sa.Column[Any]:
    return sa.Column("number", sa.Integer, nullable=False)


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
        "retrains", _text("domain"), _text("cause", 120), sa.Column("window", sa.Integer),
        sa.Column("number", sa.Integer), _text("state", 16), _json("triggers"), _words("reason"),
        _text("changed_at", 32), _text("launched_at", 32, nullable=True), _words("note"),
        sa.UniqueConstraint("tenant", "project", "domain", "cause"),
    )  # fmt: skip
    _log(
        "budget", _text("domain"), _text("resource", 32), _words("what"),
        sa.Column("reserved", sa.Float, nullable=False), sa.Column("spent", sa.Float), _text("state", 16),
        _text("settled_at", 32, nullable=True),
    )  # fmt: skip
    _scoped(
        "review_items", _key("item"), _text("role"), _text("turn", 200), _text("state", 16), _text("why", 32),
        _json("input"), _json("candidates"), _text("user"), _text("conversation"), _json("label", nullable=True),
        _words("author"), sa.Column("revision", sa.Integer, nullable=False), _json("history"),
        _text("opened_at", 32), _text("changed_at", 32),
    )  # fmt: skip
    _log("erasures", _text("domain"), _text("kind", 16), _text("pseudonym"), _json("detail"))
    op.create_table("tombstones", _key("tenant"), _key("project"), _key("sha256"), _text("manifest"), _text("at", 32))
    _log(
        "overrides", _text("domain"), _version(), _text("role"), _text("gate", 32), _text("verdict", 24),
        _text("evidence"), _words("reason"),
    )  # fmt: skip
    _log(
        "holds",
        _text("domain"),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("held", sa.Boolean, nullable=False),
        _words("reason"),
    )
    _log(
        "live_shadows", _text("domain"), sa.Column("number", sa.Integer), _text("release", nullable=True),
        sa.Column("sample", sa.Float, nullable=False), _words("reason"),
    )  # fmt: skip
    scope = ["tenant", "project", "domain"]
    op.create_index("overrides_by_version", "overrides", [*scope, "number"])
    op.create_index("holds_by_version", "holds", [*scope, "number", "id"])
    op.create_index("live_shadows_by_domain", "live_shadows", [*scope, "id"])
    op.create_index("retrains_by_domain", "retrains", [*scope, "id"])
    op.create_index("retrains_by_state", "retrains", ["tenant", "project", "state", "domain"])
    op.create_index("budget_by_state", "budget", ["tenant", "project", "state", "domain"])
    op.create_index("budget_by_time", "budget", [*scope, "resource", "at"])
    op.create_index("review_items_by_state", "review_items", [*scope, "state", "opened_at"])
    op.create_index("erasures_by_domain", "erasures", [*scope, "id"])
