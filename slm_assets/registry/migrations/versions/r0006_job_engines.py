"""Jobs of more than one engine: which one has it, and what it says of the work."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the columns; every job that is there is NoETL's."""
    op.add_column("jobs", sa.Column("engine", sa.String(16), nullable=False, server_default="noetl"))
    op.add_column("jobs", sa.Column("detail", sa.JSON, nullable=False, server_default="{}"))
