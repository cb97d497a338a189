"""Every version of a domain on a line: how far it came, why it was opened, from what, how good it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from slm_assets.registry import queries
from slm_assets.registry.registry import Plan, Registry, Row
from slm_assets.stages.experiments.naming import primary_metrics
from slm_assets.stages.standing import Record, records_of
from slm_assets.stages.state import outcome


@dataclass(frozen=True)
class Score:
    """The primary metric of a role: the challenger's number on its own eval rows, end to end."""

    role: str
    metric: str
    value: float | None
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Version:
    """A version. `state` is its outcome (promoted, held, deferred, failed, open), or `serving` while it
    answers for a role; `serves` names those roles; `incumbents` who it was judged against; `parent` the
    version whose dataset it grew from."""

    domain: str
    version: str
    state: str
    serves: list[str]
    opened_at: str
    opener: str
    reason: str
    parent: str | None
    incumbents: dict[str, str]
    epoch: int
    params: dict[str, Any]
    train_rows: int | None
    primary: list[Score]


@dataclass(frozen=True)
class DomainVersions:
    """A domain's versions, oldest first, and role → the version that answers now (None: its oracle)."""

    domain: str
    serving: dict[str, str | None]
    versions: list[Version]


def versions(registry: Registry, domain: str) -> DomainVersions:
    """Every version of a domain; a handful of queries, however many there are."""
    records = records_of(registry, domain)
    flags = registry.flags(domain)
    serving = {role: f"v{flag.number}" if flag.engine == "release" else None for role, flag in sorted(flags.items())}
    train_rows = queries.rows_of(registry, "model", domain)
    scores = _scores(registry, domain, records[-1].plan) if records else {}
    return DomainVersions(
        domain,
        serving,
        [
            _version(record, serving, train_rows.get(record.plan.number), scores.get(record.plan.number, []))
            for record in records
        ],
    )


def _version(
    record: Record[Plan], serving: dict[str, str | None], train_rows: int | None, scores: list[Score]
) -> Version:
    plan = record.plan
    serves = [role for role, version in serving.items() if version == plan.version]
    return Version(
        domain=plan.domain,
        version=plan.version,
        state="serving" if serves else outcome(record),
        serves=serves,
        opened_at=plan.opened_at,
        opener=plan.opener,
        reason=plan.reason,
        parent=f"v{plan.parent['number']}" if plan.parent else None,
        incumbents={role: f"v{own['number']}" for role, own in sorted(plan.incumbents.items())},
        epoch=plan.epoch,
        params=plan.params,
        train_rows=train_rows,
        primary=scores,
    )


def _scores(registry: Registry, domain: str, newest: Plan) -> dict[int, list[Score]]:
    """By version; the newest version's config says which metric, so that one column compares."""
    primary = primary_metrics(registry, newest)
    rows: list[Row] = queries.metrics(
        registry,
        domain,
        role=primary.keys(),
        subject=("challenger",),
        mode=("end_to_end",),
        slice=("",),
        metric=set(primary.values()),
    )
    found: dict[int, list[Score]] = {}
    order = list(primary)
    for row in sorted(rows, key=lambda r: (r["number"], order.index(r["role"]))):
        if row["metric"] == primary[row["role"]]:
            score = Score(row["role"], row["metric"], row["value"], row["low"], row["high"], row["n"])
            found.setdefault(row["number"], []).append(score)
    return found
