"""The registry's first tables."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def _scoped(name: str, *items: Any) -> None:
    scope = (sa.Column(column, sa.String(64), primary_key=True) for column in ("tenant", "project"))
    op.create_table(name, *scope, *items)


def _log(name: str, *items: Any) -> None:
    op.create_table(
        name,
        sa.Column("id", _ID, primary_key=True, autoincrement=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("project", sa.String(64), nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("actor", sa.String(200), nullable=False),
        *items,
    )


def _key(name: str, length: int = 64) -> sa.Column[Any]:
    return sa.Column(name, sa.String(length), primary_key=True)


def _number(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Integer, primary_key=True, autoincrement=False)


def _text(name: str, length: int = 64, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.String(length), nullable=nullable)


def upgrade() -> None:
    """Create every table and index."""
    _scoped(
        "plans", _key("domain"), _number("number"), _text("config"), _text("seed"), sa.Column("parent", sa.JSON),
        sa.Column("incumbents", sa.JSON, nullable=False), sa.Column("best", sa.JSON, nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False), sa.Column("window", sa.JSON),
        sa.Column("params", sa.JSON, nullable=False), sa.Column("reason", sa.Text, nullable=False),
        _text("opener", 200), _text("opened_at", 32),
    )  # fmt: skip
    _scoped(
        "cells", _key("domain"), _number("number"), _key("stage", 32), _text("request"), _text("status", 16),
        sa.Column("receipt", sa.JSON, nullable=False), _text("run_id", 128), _text("engine", 32),
        _text("finished_at", 32),
    )  # fmt: skip
    _scoped(
        "entries", _key("kind", 16), _key("name"), _number("version"), _text("sha256"),
        sa.Column("bytes", sa.BigInteger, nullable=False), sa.Column("rows", sa.BigInteger), _text("request"),
        _text("created_at", 32),
    )  # fmt: skip
    _scoped("edges", _key("parent", 250), _key("child", 250))
    _scoped(
        "metrics", _key("domain"), _number("number"), _key("role"), _key("subject", 32), _key("mode", 16),
        _key("slice"), _key("metric", 128), sa.Column("value", sa.Float), sa.Column("low", sa.Float),
        sa.Column("high", sa.Float), sa.Column("n", sa.Integer, nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False), _text("source", 32),
    )  # fmt: skip
    _scoped(
        "verdicts", _key("domain"), _number("number"), _key("stage", 32), _key("gate", 32), _key("role"),
        _text("verdict", 24), _text("metric", 128), _text("slice"), sa.Column("value", sa.Float),
        sa.Column("low", sa.Float), sa.Column("high", sa.Float), sa.Column("threshold", sa.Float),
        sa.Column("n", sa.Integer, nullable=False), sa.Column("n_needed", sa.Integer),
        sa.Column("blocking", sa.Boolean, nullable=False), sa.Column("reason", sa.Text, nullable=False),
        _text("evidence"),
    )  # fmt: skip
    _scoped(
        "looks", _key("domain"), _number("epoch"), _number("number"), sa.Column("look", sa.Integer, nullable=False),
        sa.UniqueConstraint("tenant", "project", "domain", "epoch", "look"),
    )  # fmt: skip
    _scoped(
        "flags", _key("domain"), _key("role"), _text("engine", 16), sa.Column("number", sa.Integer),
        _text("release", nullable=True), sa.Column("event", _ID, nullable=False), _text("since", 32),
    )  # fmt: skip
    _log(
        "flag_events", _text("domain"), _text("role"), _text("action", 16), _text("engine", 16),
        sa.Column("number", sa.Integer), _text("release", nullable=True), sa.Column("previous", sa.JSON),
        sa.Column("reason", sa.Text, nullable=False),
    )  # fmt: skip
    _log(
        "approvals", _text("domain"), sa.Column("number", sa.Integer, nullable=False), _text("role"),
        _text("evidence"), _text("release", nullable=True), sa.Column("reason", sa.Text, nullable=False),
    )  # fmt: skip
    _log(
        "audit", _text("action", 32), _text("domain"), sa.Column("number", sa.Integer),
        sa.Column("detail", sa.JSON, nullable=False),
    )  # fmt: skip
    op.create_index("entries_by_digest", "entries", ["tenant", "project", "sha256"])
    op.create_index("flag_events_by_role", "flag_events", ["tenant", "project", "domain", "role", "id"])
    op.create_index("approvals_by_version", "approvals", ["tenant", "project", "domain", "number"])
    op.create_index("audit_by_domain", "audit", ["tenant", "project", "domain", "id"])
