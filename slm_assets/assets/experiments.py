"""A version among the others, as a person reads it on a materialisation: history, comparison, lineage."""

from __future__ import annotations

from collections.abc import Callable

from slm_assets.assets import pictures, tables
from slm_assets.errors import SlmError
from slm_assets.registry.registry import Plan, Registry
from slm_assets.stages.experiments.history import Series, history
from slm_assets.stages.experiments.ladder import rungs
from slm_assets.stages.experiments.lineage import lineage
from slm_assets.stages.experiments.versions import versions
from slm_assets.stages.table import BY_NAME

NEWEST = 20
"""Versions in a table or picture; `slm versions --all` has every one."""

MOST_ROWS = 20_000
"""Eval rows that are compared while a materialisation is written: some seconds' worth."""

Markdown = dict[str, str]


def of_stage(registry: Registry, plan: Plan, stage: str) -> Markdown:
    """Title → Markdown of what a stage's materialisation says about experiments; empty for most stages.

    What cannot be answered (an artifact of an earlier version that is gone) is left out: the cell itself
    was made, and its metadata must not say otherwise.
    """
    found: Markdown = {}
    for question in QUESTIONS.get(stage, ()):
        try:
            found |= question(registry, plan)
        except SlmError:
            continue
    return found


def _history(registry: Registry, plan: Plan) -> Markdown:
    """The primary metric of each role, this version and those before it."""
    series = [_until(one, plan.number) for one in history(registry, plan.domain).series]
    found: Markdown = {"history": tables.history(series)} if series else {}
    for one in series:
        title = f"history {one.role} {one.metric}"
        dots = [pictures.Dot(p.version, p.value, p.low, p.high) for p in one.points if p.value is not None]
        found[title] = pictures.trend(title, dots)
    return found


def _until(series: Series, number: int) -> Series:
    points = [point for point in series.points if int(point.version[1:]) <= number][-NEWEST:]
    return Series(series.role, series.metric, series.subject, series.slice, series.mode, points)


def _incumbents(registry: Registry, plan: Plan) -> Markdown:
    """Paired with each version that served when this one was opened."""
    from slm_assets.stages.experiments.compare import compare_answers

    found: Markdown = {}
    judged = registry.entry(BY_NAME["evaluate"].kind, plan.domain, plan.number)
    for number in sorted({own["number"] for own in plan.incumbents.values()}):
        title = f"against v{number}, which served"
        if judged and (judged["rows"] or 0) > MOST_ROWS:
            found[title] = f"{judged['rows']:,} eval rows: `slm compare {plan.domain} v{number} {plan.version}`"
            continue
        incumbent = registry.plan(plan.domain, number)
        paired = compare_answers(registry, incumbent, plan) if incumbent else None
        if paired is not None:
            found[title] = tables.differences(paired, f"v{number}", plan.version)
    return found


def _lineage(kind: str) -> Callable[[Registry, Plan], Markdown]:
    def question(registry: Registry, plan: Plan) -> Markdown:
        return {"lineage": tables.tree(lineage(registry, registry.urn(kind, plan.domain, plan.number)))}

    return question


def _versions(registry: Registry, plan: Plan) -> Markdown:
    return {"versions": tables.versions(versions(registry, plan.domain).versions[-NEWEST:])}


def _climbed(registry: Registry, plan: Plan) -> Markdown:
    """Each rung that was tried, as training saw it: the same whenever this is written."""
    found = [rung for rung in rungs(registry, plan) if rung.on == "validation"]
    return {"ladder": tables.ladder(found)} if found else {}


def _ladder(registry: Registry, plan: Plan) -> Markdown:
    """Each rung that was tried, with its numbers and what it costs."""
    found = rungs(registry, plan)
    return {"ladder": tables.ladder(found)} if found else {}


QUESTIONS: dict[str, tuple[Callable[[Registry, Plan], Markdown], ...]] = {
    "finetune": (_climbed,),
    "evaluate": (_ladder, _history, _incumbents),
    "package": (_lineage(BY_NAME["package"].kind),),
    "deploy": (_lineage(BY_NAME["deploy"].kind), _versions),
}
