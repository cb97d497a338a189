"""Where a version stands, read from the registry: what `slm run`, `status` and `why` report."""

from __future__ import annotations

from typing import Any

from slm_assets.registry.registry import Plan, Registry, Row
from slm_assets.stages.standing import Record, held_before
from slm_assets.stages.table import BY_NAME, STAGES

Outcome = str
"""promoted, held, deferred, failed, running (elsewhere), or open (not all stages have run yet)."""


def outcome(record: Record[Plan]) -> Outcome:
    """How far a version came."""
    if record.made("deploy"):
        return "promoted"
    for stage in STAGES:
        cell = record.cells.get(stage.name)
        if cell is None:
            return "held" if held_before(record, stage.name) else "open"
        if cell["status"] == "deferred":
            return "running" if cell["error_kind"] == "submitted" else "deferred"
        if cell["status"] == "failed":
            return "held" if cell["error_kind"] == "held" else "failed"
    return "promoted"


def role_outcomes(record: Record[Plan]) -> dict[str, Outcome]:
    """Per role: promoted, held, deferred, failed or open."""
    whole = outcome(record)
    bundled = record.roles("package")
    shadowed = record.roles("shadow") if record.made("shadow") else {}
    instead = {row["role"] for row in record.overrides if row["gate"] == "shadow"}
    roles: dict[str, Outcome] = {}
    for role, verdict in record.roles("evaluate").items():
        may_go = bundled.get(role) == "promotable" or (not bundled and verdict == "pass")
        may_go = may_go and (shadowed.get(role) != "fail" or role in instead)
        roles[role] = whole if may_go or whole == "failed" else "held"
    return roles


def stage_lines(registry: Registry, plan: Plan, run_id: str | None = None) -> list[dict[str, Any]]:
    """One line per stage that has a cell: seconds, whether this run found it cached, and its outputs."""
    cells = {cell["stage"]: cell for cell in registry.cells(plan.domain, plan.number)}
    return [_line(registry, plan, cells[s.name], run_id) for s in STAGES if s.name in cells]


def _line(registry: Registry, plan: Plan, cell: Row, run_id: str | None) -> dict[str, Any]:
    receipt = cell["receipt"]
    cached = run_id is not None and cell["run_id"] != run_id and cell["status"] == "succeeded"
    return {
        "stage": cell["stage"],
        "status": cell["status"],
        "seconds": 0.0 if cached else receipt["seconds"],
        "cached": cached,
        "outputs": {
            kind: {"urn": registry.urn(kind, plan.domain, plan.number), "sha256": artifact["sha256"]}
            for kind, artifact in receipt["outputs"].items()
        },
        "error": receipt["error"],
    }


def gate_lines(registry: Registry, plan: Plan) -> list[dict[str, Any]]:
    """The verdicts of a version as flat rows, in the order of the stages."""
    keys = (
        "stage", "gate", "role", "verdict", "metric", "slice", "value", "low", "high", "threshold", "n",
        "n_needed", "blocking", "reason",
    )  # fmt: skip
    order = {stage.name: index for index, stage in enumerate(STAGES)}
    rows = [row for row in registry.verdicts(plan.domain, plan.number) if row["stage"] in order]
    rows.sort(key=lambda r: (order[r["stage"]], r["role"], BY_NAME[r["stage"]].gates.index(r["gate"])))
    return [{key: row[key] for key in keys} for row in rows]
