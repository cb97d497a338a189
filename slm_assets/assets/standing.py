"""Whether a gate lets a version go on, read from the registry's verdicts: the authority of every check."""

from __future__ import annotations

from dataclasses import dataclass, field

from slm_assets.registry.registry import Plan, Registry, Row
from slm_assets.stages.package import promotable
from slm_assets.stages.plans import approved_roles
from slm_assets.stages.table import BY_NAME, Stage

VERDICT = "verdict"
"""The check of eval_report above its gates: at least one role passes all of them."""


@dataclass(frozen=True)
class Standing:
    """A gate's answer for a version: `rows` are the verdicts that it was read off, `reason` one sentence."""

    passed: bool
    reason: str
    rows: list[Row] = field(default_factory=list)


def checks_of(stage: Stage) -> tuple[str, ...]:
    """The names of a stage's blocking checks."""
    return (*stage.gates, VERDICT) if stage.name == "evaluate" else stage.gates


def standing(registry: Registry, plan: Plan, stage: str, check: str) -> Standing:
    """Passed while at least one role may go on; a gate without any verdict is a no."""
    cell = registry.cell(plan.domain, plan.number, stage)
    if cell is None or cell["status"] != "succeeded":
        return Standing(False, f"{BY_NAME[stage].asset} of {plan.domain} {plan.version} has not been made yet")
    approved = approved_roles(registry, plan) if stage == "evaluate" else set()
    rows = [row for row in registry.verdicts(plan.domain, plan.number) if row["stage"] == stage]
    if check == VERDICT:
        return _verdict(cell["receipt"]["result"]["roles"], approved, rows)
    return _gate([row for row in rows if row["gate"] == check], approved)


def held_before(registry: Registry, plan: Plan, stage: str) -> str:
    """Why the version is held ahead of `stage`, or "": the first no of a stage that it builds on."""
    for before in _ancestors(stage):
        cell = registry.cell(plan.domain, plan.number, before)
        if cell is None or cell["status"] != "succeeded":
            continue
        for check in checks_of(BY_NAME[before]):
            found = standing(registry, plan, before, check)
            if not found.passed:
                return f"{BY_NAME[before].asset}, {check}: {found.reason}"
    return ""


def _gate(rows: list[Row], approved: set[str]) -> Standing:
    if not rows:
        return Standing(False, "missing: the stage gave no verdict for this gate")
    noes = [row for row in rows if not _may_go_on(row, approved)]
    passed = not any(row["role"] == "" for row in noes) and len(noes) < len(rows)
    if not noes:
        return Standing(passed, "; ".join(_said(row) for row in rows), rows)
    return Standing(passed, "; ".join(_said(row) for row in noes), rows)


def _may_go_on(row: Row, approved: set[str]) -> bool:
    """A FAIL stands; an INSUFFICIENT one can be outweighed by a named approval of this evidence."""
    if not row["blocking"] or row["verdict"] not in ("FAIL", "INSUFFICIENT"):
        return True
    return row["verdict"] == "INSUFFICIENT" and row["role"] in approved


def _said(row: Row) -> str:
    who = f"{row['role']}: " if row["role"] else ""
    return f"{who}{row['verdict']}" + (f", {row['reason']}" if row["reason"] else "")


def _verdict(roles: dict[str, str], approved: set[str], rows: list[Row]) -> Standing:
    told = "; ".join(f"{role}: {outcome}" for role, outcome in sorted(roles.items())) or "no role was judged"
    passed = promotable(roles, approved)
    named = sorted(set(passed) & approved)
    note = f" (approved: {', '.join(named)})" if named else ""
    return Standing(bool(passed), told + note, rows)


def _ancestors(stage: str) -> list[str]:
    """Every stage that this one builds on, first things first."""
    found: list[str] = []
    for need in BY_NAME[stage].needs:
        found += [name for name in (*_ancestors(need), need) if name not in found]
    return found
