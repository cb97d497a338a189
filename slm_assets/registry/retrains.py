"""Retrains that were asked for, and what became of each: the one place that says whether one was launched.

asked → launched → done, with deferred between them while something forbids it, or refused for good. A cause (a window
of traffic, a tick of a schedule, an erasure) asks once, however often it is reported.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from slm_assets.registry import tables as t
from slm_assets.registry.database import now
from slm_assets.registry.registry import Registry, Row

ASKED, DEFERRED, LAUNCHED, DONE, REFUSED = "asked", "deferred", "launched", "done", "refused"
PENDING = (ASKED, DEFERRED)
UNFINISHED = (*PENDING, LAUNCHED)
SCHEDULE, ERASURE = "schedule", "erasure"
"""What may stand among `triggers` beside the names of the triggers."""


def ask(
    registry: Registry, domain: str, cause: str, *, triggers: list[str], reason: str, actor: str,
    window: int | None = None,
) -> Row:  # fmt: skip
    """Write down that a retrain is asked for; a cause that asked before has its row already."""

    return registry._write(
        lambda connection: ask_within(
            registry, connection, domain, cause, triggers=triggers, reason=reason, actor=actor, window=window
        )
    )


def ask_within(
    registry: Registry, connection: Connection, domain: str, cause: str, *, triggers: list[str], reason: str,
    actor: str, window: int | None = None,
) -> Row:  # fmt: skip
    """The same in a transaction of the caller's: with what it is asked for, or not at all."""
    mine = select(t.retrains).where(*registry._is(t.retrains, domain=domain, cause=cause))
    there = connection.execute(mine).mappings().first()
    if there is not None:
        return dict(there)
    at = now()
    connection.execute(
        insert(t.retrains).values(
            **registry._scope, at=at, actor=actor, domain=domain, cause=cause, window=window, number=None,
            state=ASKED, triggers=triggers, reason=reason, changed_at=at, launched_at=None, note="",
        )
    )  # fmt: skip
    detail = {"cause": cause, "triggers": triggers, "reason": reason}
    registry._audit(connection, actor, "retrain.asked", domain, None, detail)
    return dict(connection.execute(mine).mappings().one())


def move(
    registry: Registry, row: Row, state: str, *, note: str = "", number: int | None = None, audit: bool = True
) -> bool:
    """Move a retrain to a state, with an audit event where its state or note changed; whether it was still as `row`
    says. Who comes second changes nothing."""

    def work(connection: Connection) -> bool:
        values: dict[str, Any] = {"state": state, "note": note, "changed_at": now()}
        if number is not None:
            values["number"] = number
        if state == LAUNCHED:
            values["launched_at"] = values["changed_at"]
        mine = (*registry._is(t.retrains), t.retrains.c.id == row["id"], t.retrains.c.state == row["state"])
        changed = connection.execute(update(t.retrains).where(*mine).values(**values)).rowcount == 1
        if changed and audit and (state != row["state"] or note != row["note"]):
            version = number if number is not None else row["number"]
            detail = {"cause": row["cause"], "triggers": row["triggers"], "reason": row["reason"], "note": note}
            registry._audit(connection, row["actor"], f"retrain.{state}", row["domain"], version, detail)
        return changed

    return registry._write(work)


def renew(registry: Registry, row: Row, window: int, triggers: list[str], reason: str) -> None:
    """A retrain that waits is asked for by a newer window from now on."""
    mine = (*registry._is(t.retrains), t.retrains.c.id == row["id"], t.retrains.c.state.in_(PENDING))
    query = update(t.retrains).where(*mine).values(window=window, triggers=triggers, reason=reason, changed_at=now())
    registry._write(lambda connection: connection.execute(query))


def by_trigger(registry: Registry) -> list[Row]:
    """The retrains that windows asked for: of each domain the newest, and those that wait; oldest first."""
    own = (*registry._is(t.retrains), t.retrains.c.window.is_not(None))
    newest = select(func.max(t.retrains.c.id)).where(*own).group_by(t.retrains.c.domain)
    wanted = t.retrains.c.id.in_(newest) | t.retrains.c.state.in_(PENDING)
    return _rows(registry, t.retrains.c.window.is_not(None) & wanted, None)


def in_states(registry: Registry, states: Collection[str], domain: str | None = None) -> list[Row]:
    """The retrains in these states, oldest first; of one domain, or of all of the namespace."""
    return _rows(registry, t.retrains.c.state.in_(sorted(states)), domain)


def of_domain(registry: Registry, domain: str) -> list[Row]:
    """Every retrain of a domain, oldest first."""
    return _rows(registry, None, domain)


def one(registry: Registry, domain: str, number: int) -> Row | None:
    """The retrain that opened a version."""
    found = _rows(registry, t.retrains.c.number == number, domain)
    return found[0] if found else None


def _rows(registry: Registry, condition: Any, domain: str | None) -> list[Row]:
    query = select(t.retrains).where(*registry._is(t.retrains))
    if domain is not None:
        query = query.where(t.retrains.c.domain == domain)
    if condition is not None:
        query = query.where(condition)
    return registry._all(query.order_by(t.retrains.c.id))
