"""What sensors ask of every domain of a namespace at once: one query each, however many domains there are."""

from __future__ import annotations

from typing import Any

from sqlalchemy import and_, func, select

from slm_assets.registry import tables as t
from slm_assets.registry.registry import Registry, Row


def newest_windows(registry: Registry) -> dict[str, Row]:
    """Domain → number, opened_at, config, taken and serving of its newest window, and the status of its `capture` and
    `drift` cells, None where there is none."""
    last = _last(registry, t.windows)
    capture, drift = t.cells.alias("capture"), t.cells.alias("drift")
    columns = [t.windows.c[name] for name in ("domain", "number", "opened_at", "config", "taken", "serving")]
    query = select(*columns, capture.c.status.label("capture"), drift.c.status.label("drift"))
    query = query.join(last, _same(t.windows, last))
    for cell, stage in ((capture, "capture"), (drift, "drift")):
        scope = and_(cell.c.tenant == registry.tenant, cell.c.project == registry.project, cell.c.stage == stage)
        query = query.outerjoin(cell, and_(scope, _same(t.windows, cell)))
    return {row["domain"]: row for row in registry._all(query.where(*registry._is(t.windows)))}


def serving(registry: Registry, domain: str | None = None) -> dict[str, dict[str, dict[str, Any]]]:
    """Domain → role → {"number", "release"} of what answers, as a window keeps it; oracles are left out. Of one
    domain, where it is given."""
    only = {} if domain is None else {"domain": domain}
    query = select(t.flags).where(*registry._is(t.flags, **only), t.flags.c.engine == "release")
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for row in registry._all(query.order_by(t.flags.c.domain, t.flags.c.role)):
        found.setdefault(row["domain"], {})[row["role"]] = {"number": row["number"], "release": row["release"]}
    return found


def replayed(registry: Registry) -> dict[str, str]:
    """Domain → when the event log of a server was read last."""
    query = select(t.captures.c.domain, func.max(t.captures.c.read_at).label("read_at"))
    rows = registry._all(query.where(*registry._is(t.captures)).group_by(t.captures.c.domain))
    return {row["domain"]: row["read_at"] for row in rows}


def serving_configs(registry: Registry) -> dict[str, str]:
    """Domain → digest of the config that the newest version which serves was opened with."""
    own = (*registry._is(t.flags), t.flags.c.engine == "release")
    newest = select(t.flags.c.domain, func.max(t.flags.c.number).label("number")).where(*own)
    last = newest.group_by(t.flags.c.domain).subquery()
    query = select(t.plans.c.domain, t.plans.c.config).join(last, _same(t.plans, last))
    return {row["domain"]: row["config"] for row in registry._all(query.where(*registry._is(t.plans)))}


def judged(registry: Registry) -> dict[str, Row]:
    """Domain → number and serving of the newest window whose triggers spoke, and `fired`: trigger → sentence."""
    last = _last(registry, t.triggers)
    columns = [t.triggers.c[name] for name in ("domain", "number", "trigger", "verdict", "sentence")]
    query = select(*columns, t.windows.c.serving).join(last, _same(t.triggers, last))
    query = query.join(
        t.windows,
        and_(t.windows.c.tenant == t.triggers.c.tenant, t.windows.c.project == t.triggers.c.project,
             _same(t.triggers, t.windows)),
    )  # fmt: skip
    found: dict[str, dict[str, Any]] = {}
    for row in registry._all(query.where(*registry._is(t.triggers)).order_by(t.triggers.c.trigger)):
        first = {"number": row["number"], "serving": row["serving"], "fired": {}}
        mine = found.setdefault(row["domain"], first)
        if row["verdict"] == "FIRED":
            mine["fired"][row["trigger"]] = row["sentence"]
    return dict(found)


def measured(registry: Registry, domain: str, *, last: int) -> list[Row]:
    """stage, seconds, outputs and measured of the succeeded cells of a domain's `last` newest versions."""
    receipt = t.cells.c.receipt
    newest = select(func.max(t.plans.c.number)).where(*registry._is(t.plans, domain=domain)).scalar_subquery()
    query = select(
        t.cells.c.stage,
        receipt["seconds"].as_float().label("seconds"),
        receipt["outputs"].label("outputs"),
        receipt[("result", "measured")].label("measured"),
    ).where(*registry._is(t.cells, domain=domain), t.cells.c.status == "succeeded", t.cells.c.number > newest - last)
    return registry._all(query)


def _last(registry: Registry, table: Any) -> Any:
    columns = (table.c.domain, func.max(table.c.number).label("number"))
    return select(*columns).where(*registry._is(table)).group_by(table.c.domain).subquery()


def _same(one: Any, other: Any) -> Any:
    return and_(one.c.domain == other.c.domain, one.c.number == other.c.number)
