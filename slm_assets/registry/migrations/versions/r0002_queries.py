"""Indices that questions about lineage and metrics need, and no limit on text that users choose.

SQLite never held text to a length and Postgres does: a metric is named after a field of a contract, an
actor and a run id are whatever a caller has.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_UNBOUNDED = {
    "plans": {"opener": 200},
    "cells": {"run_id": 128},
    "metrics": {"metric": 128},
    "verdicts": {"metric": 128},
    "flag_events": {"actor": 200},
    "approvals": {"actor": 200},
    "audit": {"actor": 200},
}


def upgrade() -> None:
    """Widen first, so that a table which SQLite must copy is copied without the new indices."""
    for table, columns in _UNBOUNDED.items():
        with op.batch_alter_table(table) as batch:
            for column, length in columns.items():
                batch.alter_column(column, existing_type=sa.String(length), type_=sa.Text, existing_nullable=False)
    op.create_index("edges_by_child", "edges", ["tenant", "project", "child", "parent"])
    op.create_index("metrics_by_metric", "metrics", ["tenant", "project", "domain", "metric", "number"])
