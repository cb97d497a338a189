"""What people decide about a version beside approving it: overriding a gate's answer, and holding it back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import insert, select

from slm_assets.registry import tables as t
from slm_assets.registry.database import now
from slm_assets.registry.registry import Registry, Row


def override(registry: Registry, domain: str, number: int, verdicts: Iterable[Row], *, actor: str, reason: str) -> None:
    """Record that these answers of gates are overridden, each bound to its evidence; one audit event for all."""
    keys = ("role", "gate", "verdict", "evidence")
    rows = [{key: row[key] for key in keys} for row in verdicts]
    with registry._database.write(f"{registry.tenant}/{registry.project}") as connection:
        head = {**registry._scope, "at": now(), "actor": actor, "domain": domain, "number": number, "reason": reason}
        connection.execute(insert(t.overrides), [{**head, **row} for row in rows])
        registry._audit(connection, actor, "override", domain, number, {"gates": rows, "reason": reason})


def overrides(registry: Registry, domain: str, number: int) -> list[Row]:
    """The overrides of a version, oldest first."""
    query = select(t.overrides).where(*registry._is(t.overrides, domain=domain, number=number))
    return registry._all(query.order_by(t.overrides.c.id))


def all_overrides(registry: Registry, domain: str) -> dict[int, list[Row]]:
    """Version → its overrides, of those that have any."""
    found: dict[int, list[Row]] = {}
    for row in registry._all(select(t.overrides).where(*registry._is(t.overrides, domain=domain))):
        found.setdefault(row["number"], []).append(row)
    return found


def hold(registry: Registry, domain: str, number: int, *, held: bool, actor: str, reason: str) -> None:
    """Hold a version back, or let it go."""
    row: dict[str, Any] = {"domain": domain, "number": number, "held": held, "reason": reason}
    with registry._database.write(f"{registry.tenant}/{registry.project}") as connection:
        connection.execute(insert(t.holds).values(**registry._scope, at=now(), actor=actor, **row))
        registry._audit(connection, actor, "hold" if held else "release", domain, number, {"reason": reason})


def held_by(registry: Registry, domain: str, number: int) -> Row | None:
    """Who holds a version back, since when and why: at, actor, reason. None where nobody does."""
    query = select(t.holds).where(*registry._is(t.holds, domain=domain, number=number))
    last = registry._first(query.order_by(t.holds.c.id.desc()).limit(1))
    return last if last is not None and last["held"] else None


def all_held(registry: Registry, domain: str) -> dict[int, Row]:
    """Version → who holds it back, of those that somebody does."""
    query = select(t.holds).where(*registry._is(t.holds, domain=domain)).order_by(t.holds.c.id)
    newest = {row["number"]: row for row in registry._all(query)}
    return {number: row for number, row in newest.items() if row["held"]}


def shadow_flag(
    registry: Registry, domain: str, *, number: int | None, release: str | None, sample: float, actor: str, reason: str
) -> None:
    """Let a version answer beside what serves, a share of the turns, or with None nobody any more."""
    row: dict[str, Any] = {"domain": domain, "number": number, "release": release, "sample": sample, "reason": reason}
    with registry._database.write(f"{registry.tenant}/{registry.project}") as connection:
        connection.execute(insert(t.live_shadows).values(**registry._scope, at=now(), actor=actor, **row))
        detail = {"release": release, "sample": sample, "reason": reason}
        action = "shadow" if number else "shadow.off"
        registry._audit(connection, actor, action, domain, number, detail)


def shadow_of(registry: Registry, domain: str) -> Row | None:
    """The version that answers beside what serves: number, release, sample, at, actor. None where there is none."""
    query = select(t.live_shadows).where(*registry._is(t.live_shadows, domain=domain))
    last = registry._first(query.order_by(t.live_shadows.c.id.desc()).limit(1))
    return last if last is not None and last["number"] else None


def last_shadow(registry: Registry) -> int:
    """The number of the newest such flag of this tenant and project, 0 before the first."""
    query = select(t.live_shadows.c.id).where(*registry._is(t.live_shadows))
    last = registry._first(query.order_by(t.live_shadows.c.id.desc()).limit(1))
    return int(last["id"]) if last else 0
