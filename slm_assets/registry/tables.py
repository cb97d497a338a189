"""The registry's tables: SQL that SQLite and Postgres both take. Tenant and project lead every key.

A change here is a new revision in `migrations/versions` too; a test compares the two.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

METADATA = MetaData()
_ID = BigInteger().with_variant(Integer, "sqlite")


class _Words(TypeDecorator[str]):
    """Text of users, of any length, as every database takes it: no NUL, no half of a surrogate pair."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:
        """What is stored and what is asked for, alike."""
        return None if value is None else value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _scoped(name: str, *items: Column[Any] | UniqueConstraint | Index) -> Table:
    tenant = Column("tenant", String(64), primary_key=True)
    project = Column("project", String(64), primary_key=True)
    return Table(name, METADATA, tenant, project, *items)


def _log(name: str, *items: Column[Any] | UniqueConstraint | Index) -> Table:
    """Append-only rows with a number of their own."""
    return Table(
        name,
        METADATA,
        Column("id", _ID, primary_key=True, autoincrement=True),
        Column("tenant", String(64), nullable=False),
        Column("project", String(64), nullable=False),
        Column("at", String(32), nullable=False),
        _words("actor"),
        *items,
    )


def _key(name: str, length: int = 64) -> Column[Any]:
    return Column(name, String(length), primary_key=True)


def _text(name: str, length: int = 64, *, nullable: bool = False) -> Column[Any]:
    return Column(name, String(length), nullable=nullable)


def _words(name: str) -> Column[Any]:
    return Column(name, _Words, nullable=False)


plans = _scoped(
    "plans",
    _key("domain"),
    Column("number", Integer, primary_key=True, autoincrement=False),
    _text("config"),
    _text("seed"),
    Column("parent", JSON),
    Column("incumbents", JSON, nullable=False),
    Column("best", JSON, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("window", JSON),
    Column("params", JSON, nullable=False),
    _words("reason"),
    _words("opener"),
    _text("opened_at", 32),
)

cells = _scoped(
    "cells",
    _key("domain"),
    Column("number", Integer, primary_key=True, autoincrement=False),
    _key("stage", 32),
    _text("request"),
    _text("status", 16),
    Column("receipt", JSON, nullable=False),
    _words("run_id"),
    _text("engine", 32),
    _text("finished_at", 32),
)

entries = _scoped(
    "entries",
    _key("kind", 16),
    _key("name"),
    Column("version", Integer, primary_key=True, autoincrement=False),
    _text("sha256"),
    Column("bytes", BigInteger, nullable=False),
    Column("rows", BigInteger),
    _text("request"),
    _text("created_at", 32),
    Index("entries_by_digest", "tenant", "project", "sha256"),
)

edges = _scoped(
    "edges",
    _key("parent", 250),
    _key("child", 250),
    Index("edges_by_child", "tenant", "project", "child", "parent"),
)

metrics = _scoped(
    "metrics",
    _key("domain"),
    Column("number", Integer, primary_key=True, autoincrement=False),
    _key("role"),
    _key("subject", 32),
    _key("mode", 16),
    _key("slice"),
    Column("metric", _Words, primary_key=True),
    Column("value", Float),
    Column("low", Float),
    Column("high", Float),
    Column("n", Integer, nullable=False),
    Column("epoch", Integer, nullable=False),
    _text("source", 32),
    Index("metrics_by_metric", "tenant", "project", "domain", "metric", "number"),
)

verdicts = _scoped(
    "verdicts",
    _key("domain"),
    Column("number", Integer, primary_key=True, autoincrement=False),
    _key("stage", 32),
    _key("gate", 32),
    _key("role"),
    _text("verdict", 24),
    _words("metric"),
    _text("slice"),
    Column("value", Float),
    Column("low", Float),
    Column("high", Float),
    Column("threshold", Float),
    Column("n", Integer, nullable=False),
    Column("n_needed", Integer),
    Column("blocking", Boolean, nullable=False),
    _words("reason"),
    _text("evidence"),
)

looks = _scoped(
    "looks",
    _key("domain"),
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("look", Integer, nullable=False),
    UniqueConstraint("tenant", "project", "domain", "epoch", "look"),
)

flags = _scoped(
    "flags",
    _key("domain"),
    _key("role"),
    _text("engine", 16),
    Column("number", Integer),
    _text("release", nullable=True),
    Column("event", _ID, nullable=False),
    _text("since", 32),
)

flag_events = _log(
    "flag_events",
    _text("domain"),
    _text("role"),
    _text("action", 16),
    _text("engine", 16),
    Column("number", Integer),
    _text("release", nullable=True),
    Column("previous", JSON),
    _words("reason"),
    Index("flag_events_by_role", "tenant", "project", "domain", "role", "id"),
)

approvals = _log(
    "approvals",
    _text("domain"),
    Column("number", Integer, nullable=False),
    _text("role"),
    _text("evidence"),
    _text("release", nullable=True),
    _words("reason"),
    Index("approvals_by_version", "tenant", "project", "domain", "number"),
)

audit = _log(
    "audit",
    _text("action", 32),
    _text("domain"),
    Column("number", Integer),
    Column("detail", JSON, nullable=False),
    Index("audit_by_domain", "tenant", "project", "domain", "id"),
)

handoffs = _log(
    "handoffs",
    _text("handoff"),
    _text("event", 16),
    _text("domain"),
    Column("number", Integer),
    _text("asset"),
    _text("kind", 16),
    _text("playbook", 200),
    _text("code"),
    _text("urn", 250, nullable=True),
    Column("payload", JSON, nullable=False),
    _text("state", 16),
    Column("attempts", Integer, nullable=False),
    _text("due_at", 32),
    _text("tried_at", 32, nullable=True),
    _text("delivered_at", 32, nullable=True),
    _words("error"),
    Column("places", JSON, nullable=False),
    _text("ref", 500, nullable=True),
    UniqueConstraint("tenant", "project", "handoff"),
    Index("handoffs_by_state", "tenant", "project", "state", "domain", "id"),
    Index("handoffs_by_urn", "tenant", "project", "urn"),
)

jobs = _scoped(
    "jobs",
    _key("domain"),
    Column("number", Integer, primary_key=True, autoincrement=False),
    _key("stage", 32),
    _text("request"),
    _words("run_id"),
    _words("dedup"),
    _text("playbook", 200),
    _text("execution", 20, nullable=True),
    _text("state", 16),
    _text("submitted_at", 32),
    _text("ended_at", 32, nullable=True),
    _words("note"),
    Column("engine", String(16), nullable=False, server_default="noetl"),
    Column("detail", JSON, nullable=False, server_default="{}"),
    Index("jobs_by_state", "tenant", "project", "state", "domain", "number"),
)

captures = _scoped(
    "captures",
    _key("domain"),
    _key("source", 32),
    _text("watermark", 20),
    Column("turns", Integer, nullable=False),
    _text("artifact", nullable=True),
    _text("read_at", 32),
    Column("pending", JSON, nullable=False),
)

windows = _scoped(
    "windows",
    _key("domain"),
    Column("number", Integer, primary_key=True, autoincrement=False),
    _text("config"),
    _text("previous", nullable=True),
    _text("incoming", nullable=True),
    Column("taken", JSON, nullable=False),
    Column("serving", JSON, nullable=False),
    _text("as_of", 32),
    _words("reason"),
    _words("opener"),
    _text("opened_at", 32),
)

triggers = _scoped(
    "triggers",
    _key("domain"),
    Column("number", Integer, primary_key=True, autoincrement=False),
    _key("trigger", 32),
    _text("verdict", 24),
    Column("value", Float),
    Column("bound", Float),
    Column("threshold", Float),
    Column("n", Integer, nullable=False),
    _words("sentence"),
)

live_metrics = _scoped(
    "live_metrics",
    _key("domain"),
    Column("number", Integer, primary_key=True, autoincrement=False),
    _key("role"),
    Column("metric", _Words, primary_key=True),
    Column("value", Float),
    Column("low", Float),
    Column("high", Float),
    Column("n", Integer, nullable=False),
)

retrains = _log(
    "retrains",
    _text("domain"),
    _text("cause", 120),
    Column("window", Integer),
    Column("number", Integer),
    _text("state", 16),
    Column("triggers", JSON, nullable=False),
    _words("reason"),
    _text("changed_at", 32),
    _text("launched_at", 32, nullable=True),
    _words("note"),
    UniqueConstraint("tenant", "project", "domain", "cause"),
    Index("retrains_by_domain", "tenant", "project", "domain", "id"),
    Index("retrains_by_state", "tenant", "project", "state", "domain"),
)

budget = _log(
    "budget",
    _text("domain"),
    _text("resource", 32),
    _words("what"),
    Column("reserved", Float, nullable=False),
    Column("spent", Float),
    _text("state", 16),
    _text("settled_at", 32, nullable=True),
    Index("budget_by_state", "tenant", "project", "state", "domain"),
    Index("budget_by_time", "tenant", "project", "domain", "resource", "at"),
)

review_items = _scoped(
    "review_items",
    _key("domain"),
    _key("item"),
    _text("role"),
    _text("turn", 200),
    _text("state", 16),
    _text("why", 32),
    Column("input", JSON, nullable=False),
    Column("candidates", JSON, nullable=False),
    _text("user", 64),
    _text("conversation", 64),
    Column("label", JSON),
    _words("author"),
    Column("revision", Integer, nullable=False),
    Column("history", JSON, nullable=False),
    _text("opened_at", 32),
    _text("changed_at", 32),
    Index("review_items_by_state", "tenant", "project", "domain", "state", "opened_at"),
)

overrides = _log(
    "overrides",
    _text("domain"),
    Column("number", Integer, nullable=False),
    _text("role"),
    _text("gate", 32),
    _text("verdict", 24),
    _text("evidence"),
    _words("reason"),
    Index("overrides_by_version", "tenant", "project", "domain", "number"),
)

holds = _log(
    "holds",
    _text("domain"),
    Column("number", Integer, nullable=False),
    Column("held", Boolean, nullable=False),
    _words("reason"),
    Index("holds_by_version", "tenant", "project", "domain", "number", "id"),
)

live_shadows = _log(
    "live_shadows",
    _text("domain"),
    Column("number", Integer),
    _text("release", nullable=True),
    Column("sample", Float, nullable=False),
    _words("reason"),
    Index("live_shadows_by_domain", "tenant", "project", "domain", "id"),
)

erasures = _log(
    "erasures",
    _text("domain"),
    _text("kind", 16),
    _text("pseudonym"),
    Column("detail", JSON, nullable=False),
    Index("erasures_by_domain", "tenant", "project", "domain", "id"),
)

tombstones = _scoped("tombstones", _key("sha256"), _text("manifest"), _text("at", 32))

teacher_answers = _scoped(
    "teacher_answers",
    _key("domain"),
    _key("request"),
    _text("role"),
    _words("turn"),
    _words("model"),
    _words("answer"),
    _text("finish", 32),
    Column("tokens_in", Integer, nullable=False),
    Column("tokens_out", Integer, nullable=False),
    Column("usd", Float, nullable=False),
    _text("paid_by", 100),
    _text("at", 32),
    Index("teacher_answers_by_turn", "tenant", "project", "domain", "turn"),
)
