"""Which versions of a namespace somebody still needs in Dagster's grid: a query each, however many there are."""

from __future__ import annotations

from sqlalchemy import and_, func, select

from slm_assets.registry import jobs, retrains
from slm_assets.registry import tables as t
from slm_assets.registry.registry import Registry

WATCHING = ("capture", "drift")
"""Stages whose cells have the number of a window of traffic."""


def opened(registry: Registry) -> dict[str, list[int]]:
    """Domain → the numbers of its versions, newest first."""
    query = select(t.plans.c.domain, t.plans.c.number).where(*registry._is(t.plans))
    found: dict[str, list[int]] = {}
    for row in registry._all(query.order_by(t.plans.c.domain, t.plans.c.number.desc())):
        found.setdefault(row["domain"], []).append(row["number"])
    return found


def in_use(registry: Registry) -> set[int]:
    """The numbers that serve, that a rollback goes back to, that wait or that something works on, in any domain."""
    flags, events, shadows = t.flags, t.flag_events, t.live_shadows
    promoted = and_(
        *(events.c[name] == flags.c[name] for name in ("tenant", "project", "domain", "role", "number")),
        events.c.action != "rollback",
    )
    served = select(flags.c.number, events.c.previous).join(events, promoted, isouter=True)
    found: set[int | None] = set()
    for row in registry._all(served.where(*registry._is(flags))):
        found |= {row["number"], (row["previous"] or {}).get("number")}
    newest = select(func.max(shadows.c.id)).where(*registry._is(shadows)).group_by(shadows.c.domain)
    at_work = (
        select(t.jobs.c.number).where(*registry._is(t.jobs), t.jobs.c.state != jobs.ENDED),
        select(t.retrains.c.number).where(*registry._is(t.retrains), t.retrains.c.state.in_(retrains.UNFINISHED)),
        select(t.cells.c.number).where(*registry._is(t.cells, status="deferred"), t.cells.c.stage.not_in(WATCHING)),
        select(shadows.c.number).where(*registry._is(shadows), shadows.c.id.in_(newest)),
    )
    for query in at_work:
        found |= {row["number"] for row in registry._all(query.distinct())}
    return {number for number in found if number}
