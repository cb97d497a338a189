"""Reads over many versions at once: one query each, whatever the number of versions.

Tenant and project are part of every query, as in the registry itself. Of the receipts, which grow with
the metrics, only the few values that are asked for leave the database.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, case, func, or_, select

from slm_assets.registry import tables as t
from slm_assets.registry.registry import Registry, Row

_URN = re.compile(r"registry://([^/]+)/([^/]+)/([^/]+)/([^/]+)/([1-9][0-9]{0,8})")
_BATCH = 400
"""Values in one IN (…): far below the limit of any database."""


class Urn(NamedTuple):
    """The parts of `registry://<tenant>/<project>/<kind>/<name>/<version>`."""

    tenant: str
    project: str
    kind: str
    name: str
    version: int


def parse_urn(text: str) -> Urn | None:
    """The parts of a URN, or None where the text is none."""
    found = _URN.fullmatch(text)
    return Urn(found[1], found[2], found[3], found[4], int(found[5])) if found else None


def cells(registry: Registry, domain: str, number: int | None = None) -> list[Row]:
    """number, stage, status, error_kind and roles of every cell of a domain or of one version.

    The last two are None where they say nothing: for a success, for a stage that judges no roles.
    """
    keys: dict[str, Any] = {"domain": domain} | ({} if number is None else {"number": number})
    columns, receipt = t.cells.c, t.cells.c.receipt
    # CASE spares the database the parsing of receipts that nobody asks about.
    judged = case((columns.stage.in_(("evaluate", "package", "shadow")), receipt[("result", "roles")]))
    failed = case((columns.status.in_(("failed", "deferred")), receipt["error_kind"].as_string()))
    wanted = (columns.number, columns.stage, columns.status, failed.label("error_kind"), judged.label("roles"))
    query = select(*wanted).where(*registry._is(t.cells, **keys))
    return registry._all(query.order_by(columns.number))


def unfinished_verdicts(registry: Registry, domain: str) -> list[Row]:
    """number, stage, gate, role, verdict, blocking and reason of every version that was never deployed:
    only there do they say how far it came."""
    columns = [t.verdicts.c[name] for name in ("number", "stage", "gate", "role", "verdict", "blocking", "reason")]
    deployed = select(t.cells.c.number).where(*registry._is(t.cells, domain=domain, stage="deploy"))
    query = select(*columns).where(*registry._is(t.verdicts, domain=domain), t.verdicts.c.number.not_in(deployed))
    return registry._all(query.order_by(*(t.verdicts.c[name] for name in ("number", "stage", "role", "gate"))))


def approved_numbers(registry: Registry, domain: str) -> set[int]:
    """The versions that somebody approved anything of."""
    query = select(t.approvals.c.number).where(*registry._is(t.approvals, domain=domain)).distinct()
    return {row["number"] for row in registry._all(query)}


def rows_of(registry: Registry, kind: str, name: str) -> dict[int, int | None]:
    """Version → rows of the entries of one kind: for a model those it was trained on."""
    query = select(t.entries.c.version, t.entries.c.rows).where(*registry._is(t.entries, kind=kind, name=name))
    return {row["version"]: row["rows"] for row in registry._all(query)}


def metrics(registry: Registry, domain: str, *, since: int = 1, **keys: Collection[str]) -> list[Row]:
    """The numbers of the versions from `since` on, in order of version.

    `keys`: column (role, subject, mode, slice, metric) → the values that are wanted; without one, all.
    """
    query = select(t.metrics).where(*registry._is(t.metrics, domain=domain), t.metrics.c.number >= since)
    for name, values in keys.items():
        query = query.where(t.metrics.c[name].in_(sorted(values)))
    return registry._all(query.order_by(t.metrics.c.number))


def metric_names(registry: Registry, domain: str, number: int) -> list[Row]:
    """Which numbers a version has: role, subject, mode, slice, metric."""
    columns = (t.metrics.c[name] for name in ("role", "subject", "mode", "slice", "metric"))
    return registry._all(select(*columns).where(*registry._is(t.metrics, domain=domain, number=number)))


def entries(registry: Registry, wanted: Iterable[Urn]) -> dict[str, Row]:
    """URN → its entry, of those that are registered."""
    asked = {registry.urn(urn.kind, urn.name, urn.version) for urn in wanted}
    by_name: dict[str, set[int]] = {}
    for urn in filter(None, map(parse_urn, asked)):
        by_name.setdefault(urn.name, set()).add(urn.version)
    found: dict[str, Row] = {}
    for name, versions in sorted(by_name.items()):
        for some in _batches(sorted(versions)):
            query = select(t.entries).where(*registry._is(t.entries, name=name), t.entries.c.version.in_(some))
            for row in registry._all(query):
                found[registry.urn(row["kind"], row["name"], row["version"])] = row
    return {urn: row for urn, row in found.items() if urn in asked}


def plans(registry: Registry, domain: str, numbers: Iterable[int]) -> dict[int, Row]:
    """Version → the digests of its frozen config and seed rows, and when it was opened."""
    columns = (t.plans.c.number, t.plans.c.config, t.plans.c.seed, t.plans.c.opened_at)
    found: dict[int, Row] = {}
    for some in _batches(sorted(set(numbers))):
        query = select(*columns).where(*registry._is(t.plans, domain=domain), t.plans.c.number.in_(some))
        found |= {row["number"]: row for row in registry._all(query)}
    return found


def opened_with(registry: Registry, column: str, digest: str) -> list[Row]:
    """domain and number of every version opened with this `config` or `seed`; a digest may be cut short."""
    query = select(t.plans.c.domain, t.plans.c.number, t.plans.c[column].label("sha256"))
    query = query.where(*registry._is(t.plans), _starts(t.plans.c[column], digest))
    return registry._all(query.order_by(t.plans.c.domain, t.plans.c.number))


def with_digest(registry: Registry, digest: str) -> list[Row]:
    """The entries whose digest begins so."""
    query = select(t.entries).where(*registry._is(t.entries), _starts(t.entries.c.sha256, digest))
    return registry._all(query.order_by(t.entries.c.name, t.entries.c.version, t.entries.c.kind))


def names(registry: Registry) -> list[str]:
    """The names (domains) that have entries."""
    query = select(t.entries.c.name).where(*registry._is(t.entries)).distinct().order_by(t.entries.c.name)
    return [row["name"] for row in registry._all(query)]


def urns(registry: Registry, name: str) -> list[str]:
    """All entries of a name."""
    query = select(t.entries.c.kind, t.entries.c.version).where(*registry._is(t.entries, name=name))
    rows = registry._all(query.order_by(t.entries.c.version, t.entries.c.kind))
    return [registry.urn(row["kind"], name, row["version"]) for row in rows]


def lineage(registry: Registry, start: Iterable[str], *, up: bool) -> list[tuple[str, str]]:
    """(parent, child) of every edge on a way up to the origins, or down to what was made, from `start`.

    One query per name that lineage passes through, not one per step: a chain has as many steps as versions.
    """
    near = "child" if up else "parent"
    known: dict[str, list[tuple[str, str]]] = {}
    loaded: set[str] = set()
    waiting, reached = list(start), set(start)
    found: list[tuple[str, str]] = []
    while waiting:
        urn = waiting.pop()
        parts = parse_urn(urn)
        if parts is None:
            continue
        if parts.name not in loaded:
            loaded.add(parts.name)
            for row in _edges_of(registry, near, parts.name):
                known.setdefault(row[near], []).append((row["parent"], row["child"]))
        for edge in known.get(urn, ()):
            found.append(edge)
            other = edge[0] if up else edge[1]
            if other not in reached:
                reached.add(other)
                waiting.append(other)
    return sorted(found)


def _edges_of(registry: Registry, near: str, name: str) -> list[Row]:
    query = select(t.edges.c.parent, t.edges.c.child).where(*registry._is(t.edges))
    rows = registry._all(query.where(t.edges.c[near].contains(f"/{name}/", autoescape=True)))
    return [row for row in rows if (urn := parse_urn(row[near])) and urn.name == name]


def _starts(column: ColumnElement[Any], digest: str) -> ColumnElement[bool]:
    """A prefix as a range, which an index answers: hexadecimal digits sort before "g"."""
    return or_(column == digest, column.between(digest, f"{digest}g"))


def _batches(values: list[int]) -> Iterable[list[int]]:
    return (values[i : i + _BATCH] for i in range(0, len(values), _BATCH))


def last_flip(registry: Registry) -> int:
    """The number of the newest flip of any flag of this tenant and project, 0 before the first: one cheap
    question by which a service sees that something changed."""
    newest = select(func.max(t.flag_events.c.id).label("newest")).where(*registry._is(t.flag_events))
    return int(registry._all(newest)[0]["newest"] or 0)


def review_counts(registry: Registry, domain: str) -> dict[str, int]:
    """State → how many review items of a domain are in it."""
    items = t.review_items
    query = select(items.c.state, func.count().label("count")).where(*registry._is(items, domain=domain))
    return {row["state"]: int(row["count"]) for row in registry._all(query.group_by(items.c.state))}


def budget_used(registry: Registry, domain: str) -> list[Row]:
    """resource, reserved and spent of a domain, over all time."""
    rows = t.budget
    open_ = func.sum(case((rows.c.state == "reserved", rows.c.reserved), else_=0.0)).label("reserved")
    query = select(rows.c.resource, open_, func.sum(rows.c.spent).label("spent"))
    return registry._all(query.where(*registry._is(rows, domain=domain)).group_by(rows.c.resource))


def newest_audit(registry: Registry, domain: str, most: int) -> list[Row]:
    """The last things that were done to a domain, newest first."""
    query = select(t.audit).where(*registry._is(t.audit, domain=domain))
    return registry._all(query.order_by(t.audit.c.id.desc()).limit(most))
