"""What the pages say, read from the registry: plain values, nothing of HTML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from slm_assets.registry import queries, windows
from slm_assets.registry.registry import Plan, Registry, Row
from slm_assets.serving.pages.charts import Point
from slm_assets.stages.experiments.history import history
from slm_assets.stages.experiments.ladder import Rung, rungs
from slm_assets.stages.experiments.versions import Version, versions
from slm_assets.stages.standing import record_of

WINDOWS, VERSIONS, EVENTS = 40, 20, 30
MATCH, PROMOTED, OF_FIELDS = "match", "promoted", "psi:"
FIRST = ("match", "new", "outcome: any", "outcome", "valid", "turns", "instead")
TRIGGERS = ("quality", "outcome", "validity", "distribution", "volume", "contract", "staleness")


@dataclass(frozen=True)
class Chart:
    """A number over windows of traffic or over versions."""

    title: str
    points: list[Point]
    reference: float | None = None
    of_field: bool = False


@dataclass(frozen=True)
class Serving:
    """What answers for a role, since when and by whose hand."""

    role: str
    engine: str
    since: str = ""
    actor: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Facts:
    """All about one domain; lists are newest last, but for events."""

    name: str
    description: str
    owners: list[str]
    serving: list[Serving]
    window: str
    window_at: str
    triggers: list[Row]
    history: list[dict[str, Any]]
    live: list[Chart]
    scores: list[Chart]
    versions: list[Version]
    gates: dict[str, list[Row]]
    events: list[dict[str, Any]]
    reviews: dict[str, int]
    budget: list[Row]
    reports: list[dict[str, str]] = field(default_factory=list)
    ladder: list[Rung] = field(default_factory=list)
    ladder_of: str = ""

    @property
    def fired(self) -> list[str]:
        """Triggers that fired in the newest window."""
        return [row["trigger"] for row in self.triggers if row["verdict"] == "FIRED"]


def facts(registry: Registry, config: Any) -> Facts:
    """Everything that a domain's page says; some fifteen queries, whatever its age."""
    name = config.name
    newest = windows.latest(registry, name)
    since = max(1, (newest.number if newest else 1) - WINDOWS + 1)
    told = windows.triggers(registry, name, since=since)
    found = versions(registry, name)
    recent = found.versions[-VERSIONS:]
    plans = {plan.version: plan for plan in registry.plans(name)[-VERSIONS:]}
    return Facts(
        name=name,
        description=config.description,
        owners=config.owners,
        serving=_serving(registry, config),
        window=newest.version if newest else "",
        window_at=newest.opened_at if newest else "",
        triggers=[row for row in told if newest and row["number"] == max(r["number"] for r in told)],
        history=_trigger_history(told),
        live=_live(windows.live_metrics(registry, name, since=since)),
        scores=_scores(registry, name) if recent else [],
        versions=recent,
        gates={one.version: _gates(registry, plans[one.version]) for one in recent if one.version in plans},
        events=_events(registry, name),
        reviews=queries.review_counts(registry, name),
        budget=queries.budget_used(registry, name),
        reports=_reports(registry, name, newest.number if newest else 0, recent),
        **_ladder(registry, plans),
    )


def _ladder(registry: Registry, plans: Mapping[str, Plan]) -> dict[str, Any]:
    """The rungs of the newest version that was trained."""
    for version, plan in reversed(list(plans.items())):
        if found := rungs(registry, plan):
            return {"ladder": found, "ladder_of": version}
    return {}


def _serving(registry: Registry, config: Any) -> list[Serving]:
    flags = registry.flags(config.name)
    last = {event["role"]: event for event in registry.flag_events(config.name)}
    found = []
    for role in config.roles:
        flag, event = flags.get(role.id), last.get(role.id)
        engine = f"v{flag.number}" if flag and flag.engine == "release" else "oracle"
        told = (event["at"], event["actor"], event["reason"]) if event else ("", "", "")
        found.append(Serving(role.id, engine, *told))
    return found


def _trigger_history(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """A line per trigger: its verdict in each window."""
    by_window: dict[int, dict[str, Row]] = {}
    for row in rows:
        by_window.setdefault(row["number"], {})[row["trigger"]] = row
    return [
        {"trigger": name, "cells": [(f"w{number}", found.get(name)) for number, found in sorted(by_window.items())]}
        for name in TRIGGERS
    ]


def _live(rows: Iterable[Row]) -> list[Chart]:
    """A chart per number of the windows that was ever other than zero, those that decide first; the promoted score is
    the level that live answers are held against."""
    series: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        series.setdefault((row["metric"], row["role"]), []).append(row)
    charts = []
    for (metric, role), found in sorted(series.items()):
        if metric == PROMOTED or not any(row["value"] for row in found):
            continue
        promoted = series.get((PROMOTED, role)) if metric == MATCH else None
        points = [Point(f"w{r['number']}", r["value"], r["low"], r["high"], r["n"]) for r in found]
        title = _words(metric) + (f" · {role}" if role else "")
        charts.append(Chart(title, points, promoted[-1]["value"] if promoted else None, metric.startswith(OF_FIELDS)))
    return sorted(charts, key=_place)


def _place(chart: Chart) -> int:
    return next((place for place, name in enumerate(FIRST) if chart.title.startswith(name)), len(FIRST))


def _words(metric: str) -> str:
    """A metric's name for a title; places of the input stay as they are."""
    kind, colon, place = metric.partition(":")
    return f"{kind.replace('_', ' ')}{colon and ': '}{place if place.startswith('/') else place.replace('_', ' ')}"


def _scores(registry: Registry, name: str) -> list[Chart]:
    charts = []
    for one in history(registry, name).series:
        points = [Point(p.version, p.value, p.low, p.high, p.n) for p in one.points[-VERSIONS:]]
        charts.append(Chart(f"{one.metric} · {one.role}", points))
    return charts


def _gates(registry: Registry, plan: Any) -> list[Row]:
    """A gate's worst answer over the roles; a version without verdicts has none."""
    worst = {"FAIL": 4, "INSUFFICIENT": 3, "NOT_INDEPENDENT": 2, "NOT_APPLICABLE": 1, "PASS": 0}
    found: dict[str, Row] = {}
    for row in record_of(registry, plan).verdicts:
        shown = {**row, "said": f"{row['role'] or 'all'}: {row['verdict']}. {row['reason']}"}
        before = found.get(row["gate"])
        if before is None or worst[row["verdict"]] > worst[before["verdict"]]:
            found[row["gate"]] = shown
    return [found[gate] for gate in sorted(found, key=lambda gate: (found[gate]["stage"], gate))]


def _events(registry: Registry, name: str) -> list[dict[str, Any]]:
    def words(detail: Any) -> str:
        kept = ("reason", "role", "roles", "status", "kind", "turns", "window")
        return ", ".join(f"{key} {detail[key]}" for key in kept if detail.get(key))[:300]

    newest = queries.newest_audit(registry, name, EVENTS)
    return [
        {**row, "version": f"v{row['number']}" if row["number"] else "", "words": words(row["detail"])}
        for row in newest
    ]


def _reports(registry: Registry, name: str, window: int, recent: list[Version]) -> list[dict[str, str]]:
    """Reports that can be opened: file, its artifact and what it is about."""
    wanted = [("drift", window, f"drift of w{window}")] if window else []
    wanted += [("eval", int(one.version[1:]), f"evaluation of {one.version}") for one in reversed(recent[-5:])]
    found = []
    for kind, number, about in wanted:
        entry = registry.entry(kind, name, number)
        if entry is not None:
            files = sorted(registry.store.describe(entry["sha256"]).files)
            shown = [file for file in files if file.endswith((".html", ".md", "report.json"))]
            found += [{"sha256": entry["sha256"], "file": file, "about": about} for file in shown]
    return found


def age(at: str, now: datetime | None = None) -> str:
    """How long ago a time was, in words; "" for none."""
    if not at:
        return ""
    seconds = ((now or datetime.now(UTC)) - datetime.fromisoformat(at)).total_seconds()
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"
