"""Questions about experiments from Python, with the answers that `slm … --json` prints.

    from slm_assets import api

    api.versions("travel")[0].versions[-1].state
    api.metrics("travel", metrics=["exact"], since="v3").series[0].points
    api.compare("travel", "v1", "v2").paired.metrics
    api.lineage("travel@v2").tree

Answers are frozen dataclasses. `home` defaults to what SLM_HOME and SLM_DOMAINS name. Nothing is
written, and neither Dagster nor a training library is imported.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from slm_assets.domain.loading import list_domains
from slm_assets.errors import BadInputError
from slm_assets.registry.home import Home
from slm_assets.registry.queries import parse_urn
from slm_assets.registry.registry import Registry
from slm_assets.stages.cadence.reports import budget_report, trigger_history
from slm_assets.stages.experiments import history as _history
from slm_assets.stages.experiments import ladder as _ladder
from slm_assets.stages.experiments import lineage as _lineage
from slm_assets.stages.experiments import versions as _versions
from slm_assets.stages.experiments.history import History, Point, Series
from slm_assets.stages.experiments.ladder import Rung
from slm_assets.stages.experiments.lineage import Artifact, Branch, Lineage
from slm_assets.stages.experiments.naming import plan_of
from slm_assets.stages.experiments.versions import DomainVersions, Score, Version
from slm_assets.stages.plans import registry_of

if TYPE_CHECKING:
    from slm_assets.stages.experiments.compare import Comparison

__all__ = [
    "Artifact",
    "Branch",
    "DomainVersions",
    "History",
    "Lineage",
    "Point",
    "Rung",
    "Score",
    "Series",
    "Version",
    "budget",
    "compare",
    "ladder",
    "lineage",
    "metrics",
    "triggers",
    "versions",
]


def versions(domain: str | None = None, *, home: Home | None = None) -> list[DomainVersions]:
    """Every version of one domain, or of all: state, opener, reason, parent, incumbents, primary metrics."""
    home = home or Home.from_env()
    names = [domain] if domain else list_domains(home.domains)
    return [_versions.versions(registry_of(home, name), name) for name in names]


def metrics(
    domain: str,
    *,
    metrics: Collection[str] = (),
    role: str | None = None,
    slice_id: str = "",
    subjects: Sequence[str] = ("challenger",),
    reference: bool = False,
    since: str | None = None,
    home: Home | None = None,
) -> History:
    """Numbers over versions, each with its interval and n; default the primary metric of each role.

    `subjects`: of challenger, incumbent, floor, majority. `since`: "v3", or a date in ISO 8601.
    """
    return _history.history(
        registry_of(home or Home.from_env(), domain),
        domain,
        metrics=metrics,
        role=role,
        slice_id=slice_id,
        subjects=subjects,
        reference=reference,
        since=since,
    )


def ladder(domain: str, version: str | None = None, *, home: Home | None = None) -> list[Rung]:
    """The rungs that a version tried and what it became, with their numbers and costs; default: the newest version."""
    registry = registry_of(home or Home.from_env(), domain)
    if version is None:
        plans = registry.plans(domain)
        if not plans:
            raise BadInputError(f"{domain} has no version", cure=f"open one: slm run {domain}")
        return _ladder.rungs(registry, plans[-1])
    return _ladder.rungs(registry, plan_of(registry, domain, version))


def compare(domain: str, before: str, after: str, *, home: Home | None = None) -> Comparison:
    """Two versions on their common eval rows, paired, and what differs in config, data and labels."""
    from slm_assets.stages.experiments import compare as _compare

    registry = registry_of(home or Home.from_env(), domain)
    return _compare.compare(registry, plan_of(registry, domain, before), plan_of(registry, domain, after))


def lineage(urn: str, *, up: bool = True, depth: int = _lineage.DEPTH, home: Home | None = None) -> Lineage:
    """What an artifact was made from (`up`), or what was made from it, as a tree of `depth` levels.

    `urn`: a whole one, "dataset/travel@v3", "travel@v3" (the last that the version made), or a digest.
    """
    registry = _registry(home or Home.from_env(), urn)
    return _lineage.lineage(registry, _lineage.resolve(registry, urn), up=up, depth=depth)


def triggers(domain: str, *, windows: int = 20, home: Home | None = None) -> dict[str, Any]:
    """What the triggers said in the newest windows, what became of it, and every retrain: as `slm triggers --json`."""
    return trigger_history(registry_of(home or Home.from_env(), domain), domain, newest=windows)


def budget(domain: str, *, home: Home | None = None) -> dict[str, Any]:
    """What a domain may spend in this window, has reserved and spent: as `slm budget --json`."""
    return budget_report(registry_of(home or Home.from_env(), domain), domain)


def _registry(home: Home, text: str) -> Registry:
    """The registry that a URN names, or that of its domain; for a digest the first that knows it."""
    whole = parse_urn(text)
    if whole is not None:
        return Registry(home, whole.tenant, whole.project)
    domain = _lineage.domain_of(text)
    if domain is not None:
        return registry_of(home, domain)
    registries = {(r.tenant, r.project): r for r in (registry_of(home, name) for name in list_domains(home.domains))}
    found = list(registries.values()) or [Registry(home)]
    for registry in found[:-1]:
        try:
            _lineage.resolve(registry, text)
        except BadInputError:
            continue
        return registry
    return found[-1]
