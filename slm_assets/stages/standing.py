"""Whether a gate lets a version go on, read from the registry's verdicts: the authority of every check.

What the registry knows of a version is read once; everything after that is a pure function of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from slm_assets.registry import decisions, queries
from slm_assets.registry.registry import Plan, Registry, Row
from slm_assets.stages.overriding import NOES, is_overridden, overridden
from slm_assets.stages.plans import approved_roles
from slm_assets.stages.requests import Subject
from slm_assets.stages.table import BY_NAME, Stage

VERDICT = "verdict"
"""The check of eval_report above its gates: at least one role passes all of them."""


S = TypeVar("S", bound=Subject)


@dataclass(frozen=True)
class Record(Generic[S]):
    """What the registry knows of a version: its cells by stage (status, error_kind, roles), the gates'
    answers, the roles with an approval that is bound to these answers, and the overrides."""

    plan: S
    cells: Mapping[str, Row]
    verdicts: Sequence[Row]
    approved: frozenset[str] = frozenset()
    overrides: Sequence[Row] = ()

    def made(self, stage: str) -> bool:
        """Whether the stage succeeded."""
        return stage in self.cells and self.cells[stage]["status"] == "succeeded"

    def roles(self, stage: str) -> dict[str, str]:
        """What the stage said of each role; empty where it has not run."""
        return (self.cells[stage]["roles"] or {}) if stage in self.cells else {}


@dataclass(frozen=True)
class Standing:
    """A gate's answer for a version: `rows` are the verdicts that it was read off, `reason` one sentence."""

    passed: bool
    reason: str
    rows: list[Row] = field(default_factory=list)


def record_of(registry: Registry, plan: S) -> Record[S]:
    """What the registry knows of one version, or of one window of traffic."""
    cells = {cell["stage"]: cell for cell in queries.cells(registry, plan.domain, plan.number)}
    verdicts = registry.verdicts(plan.domain, plan.number)
    if not isinstance(plan, Plan):
        return Record(plan, cells, verdicts)
    overridden_ = decisions.overrides(registry, plan.domain, plan.number)
    return Record(plan, cells, verdicts, frozenset(approved_roles(registry, plan)), overridden_)


def records_of(registry: Registry, domain: str) -> list[Record[Plan]]:
    """The same for every version of a domain, oldest first, in a handful of queries. Of a version that was
    deployed the verdicts are left out: it came all the way."""
    cells: dict[int, dict[str, Row]] = {}
    verdicts: dict[int, list[Row]] = {}
    for cell in queries.cells(registry, domain):
        cells.setdefault(cell["number"], {})[cell["stage"]] = cell
    for verdict in queries.unfinished_verdicts(registry, domain):
        verdicts.setdefault(verdict["number"], []).append(verdict)
    approved, overridden_ = queries.approved_numbers(registry, domain), decisions.all_overrides(registry, domain)
    return [
        Record(
            plan,
            cells.get(plan.number, {}),
            verdicts.get(plan.number, []),
            frozenset(approved_roles(registry, plan) if plan.number in approved else ()),
            overridden_.get(plan.number, ()),
        )
        for plan in registry.plans(domain)
    ]


def checks_of(stage: Stage) -> tuple[str, ...]:
    """The names of a stage's blocking checks."""
    return (*stage.gates, VERDICT) if stage.name == "evaluate" else stage.gates


def standing(record: Record[Any], stage: str, check: str) -> Standing:
    """Passed while at least one role may go on; a gate without any verdict is a no."""
    if not record.made(stage):
        plan = record.plan
        return Standing(False, f"{BY_NAME[stage].asset} of {plan.domain} {plan.version} has not been made yet")
    rows = [row for row in record.verdicts if row["stage"] == stage]
    if check == VERDICT:
        return _verdict(record, rows)
    approved = record.approved if stage == "evaluate" else frozenset()
    if stage == "shadow":  # there an approval is part of the request
        approved = frozenset(role for role, said in record.roles(stage).items() if said == "approved")
    return _gate([row for row in rows if row["gate"] == check], approved, record.overrides)


def held_before(record: Record[Any], stage: str) -> str:
    """Why the version is held ahead of `stage`, or "": the first no of a stage that it builds on."""
    for before in _ancestors(stage):
        if not record.made(before):
            continue
        for check in checks_of(BY_NAME[before]):
            found = standing(record, before, check)
            if not found.passed:
                return f"{BY_NAME[before].asset}, {check}: {found.reason}"
    return ""


def _gate(rows: list[Row], approved: frozenset[str], overrides: Sequence[Row]) -> Standing:
    if not rows:
        return Standing(False, "missing: the stage gave no verdict for this gate")
    noes = [row for row in rows if not _may_go_on(row, approved, overrides)]
    passed = not any(row["role"] == "" for row in noes) and len(noes) < len(rows)
    if not noes:
        return Standing(passed, "; ".join(_said(row) for row in rows), rows)
    return Standing(passed, "; ".join(_said(row) for row in noes), rows)


def _may_go_on(row: Row, approved: frozenset[str], overrides: Sequence[Row]) -> bool:
    """A FAIL stands unless it is overridden; an INSUFFICIENT one can be outweighed by a named approval of this
    evidence."""
    if not row["blocking"] or row["verdict"] not in NOES:
        return True
    if row["verdict"] == "INSUFFICIENT" and row["role"] in approved:
        return True
    return is_overridden(row, overrides)


def _said(row: Row) -> str:
    who = f"{row['role']}: " if row["role"] else ""
    return f"{who}{row['verdict']}" + (f", {row['reason']}" if row["reason"] else "")


def _verdict(record: Record[Any], rows: list[Row]) -> Standing:
    from slm_assets.stages.package import promotable  # what packages also loads models

    roles, approved = record.roles("evaluate"), record.approved
    instead = overridden(rows, record.overrides, approved)
    told = "; ".join(f"{role}: {outcome}" for role, outcome in sorted(roles.items())) or "no role was judged"
    passed = promotable(roles, approved, instead)
    named = sorted(set(passed) & approved - instead)
    note = f" (approved: {', '.join(named)})" if named else ""
    note += f" (overridden: {', '.join(sorted(instead))})" if instead else ""
    return Standing(bool(passed), told + note, rows)


def _ancestors(stage: str) -> list[str]:
    """Every stage that this one builds on, first things first."""
    found: list[str] = []
    for need in BY_NAME[stage].needs:
        found += [name for name in (*_ancestors(need), need) if name not in found]
    return found
