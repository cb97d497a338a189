"""The audit log read as news: what happened since a place in it, for whoever tells people of it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import func, select

from slm_assets.registry import tables as t
from slm_assets.registry.registry import Registry, Row


def note(registry: Registry, action: str, domain: str, number: int | None, detail: dict[str, Any], actor: str) -> None:
    """Write an audit event that belongs to no other change."""
    registry._write(lambda connection: registry._audit(connection, actor, action, domain, number, detail))


def news(registry: Registry, actions: Collection[str], *, after: int, limit: int) -> list[Row]:
    """The audit events of these actions behind a place, oldest first."""
    mine = (*registry._is(t.audit), t.audit.c.id > after, t.audit.c.action.in_(sorted(actions)))
    return registry._all(select(t.audit).where(*mine).order_by(t.audit.c.id).limit(limit))


def place_before(registry: Registry, at: str) -> int:
    """The place in the log after which everything since a time stands."""
    query = select(func.max(t.audit.c.id).label("place")).where(*registry._is(t.audit), t.audit.c.at < at)
    return int(registry._all(query)[0]["place"] or 0)
