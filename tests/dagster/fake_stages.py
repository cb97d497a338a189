"""Stages that take no time and answer as the version's train_fraction says.

What the graph does with a yes, a no, a "not enough", a wait and a fault is then tested by itself.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from slm_assets import canonical
from slm_assets.errors import DeferredError
from slm_assets.gates.types import MetricValue, Verdict
from slm_assets.registry.home import Home
from slm_assets.registry.registry import Plan
from slm_assets.stages.contract import StageResult
from slm_assets.stages.plans import open_domain, open_version
from slm_assets.stages.runtime import StageContext
from slm_assets.stages.table import BY_NAME, STAGES

GOOD, WAITS, UNDECIDED, MISSING, BREAKS, LEAKS, HELD = 1.0, 0.7, 0.5, 0.4, 0.3, 0.2, 0.01
"""Fractions: all gates pass; … and deploy waits; incumbent INSUFFICIENT; a gate unanswered; training
throws; leakage fails; the floor fails."""

CALLS: list[tuple[str, str, str]] = []
"""(stage, domain, version) of every stage that really ran."""


def install(put: Callable[[Any, str, Any], None] = setattr) -> None:
    """Replace every stage's `run`, and nothing else of it; `put` is monkeypatch.setattr, or setattr."""
    for stage in STAGES:
        put(importlib.import_module(f"slm_assets.stages.{stage.name}"), "run", run)


def opened(home: Home, domain: str, fraction: float = GOOD) -> Plan:
    """The next version of a domain, opened with that train_fraction."""
    loaded, registry = open_domain(home, domain)
    return open_version(loaded, registry, params={"train_fraction": fraction}, actor="tester")


def run(ctx: StageContext) -> StageResult:
    stage = ctx.request.stage
    CALLS.append((stage, ctx.request.domain, ctx.request.version))
    kind = BY_NAME[stage].kind
    fraction = float(ctx.request.params.get("train_fraction", 0) or _inherited(ctx))
    ctx.progress(0.5, "half")
    if stage == "finetune" and fraction == BREAKS:
        raise RuntimeError("the planted fault")
    if stage == "deploy" and fraction == WAITS:
        raise DeferredError("it waits for an approval", cure="slm approve")
    body = {"fraction": fraction, "version": ctx.request.version, "inputs": dict(ctx.request.inputs)}
    canonical.write_json(ctx.out[kind] / "result.json", body)
    if stage == "evaluate":
        return _evaluate(ctx, fraction)
    no = stage == "dataset" and fraction == LEAKS
    verdicts = [
        Verdict(gate=gate, role="", verdict="FAIL" if no and gate == "leakage" else "PASS", value=3.0 * no, n=9)
        for gate in BY_NAME[stage].gates
    ]
    return StageResult(rows={kind: 9}, verdicts=verdicts, summary={"epoch": 1, "sources": {"gold": 9}})


def _inherited(ctx: StageContext) -> float:
    for folder in ctx.inputs.values():
        if (folder / "result.json").is_file():
            return float(canonical.read_json(folder / "result.json")["fraction"])
    return GOOD


def _evaluate(ctx: StageContext, fraction: float) -> StageResult:
    outcome = {HELD: "fail", UNDECIDED: "insufficient"}.get(fraction, "pass")
    special = {"floor": "FAIL"} if fraction == HELD else {"incumbent": "INSUFFICIENT"} if outcome != "pass" else {}
    left_out = {"validity"} if fraction == MISSING else set()
    verdicts = [
        Verdict.model_validate(
            {
                "gate": gate,
                "role": "triage",
                "verdict": special.get(gate, "PASS"),
                "metric": "intent",
                "value": 0.5 + fraction / 4,
                "low": 0.4,
                "high": 0.9,
                "threshold": 0.6,
                "n": 90,
                "reason": "so it was | planted",
            }
        )
        for gate in BY_NAME["evaluate"].gates
        if gate not in left_out
    ]
    metrics = [
        MetricValue(
            role="triage", subject=subject, metric="intent", mode="end_to_end", value=value, low=0.4, high=0.9, n=90
        )
        for subject, value in (("challenger", 0.5 + fraction / 4), ("floor", 0.6), ("majority", 0.25))
    ]
    report = {
        "gates": [verdict.model_dump() for verdict in verdicts],
        "roles": {"triage": outcome},
        "confusion": {
            "triage": {
                "/intent": {"classes": ["refund", "track", "a <b> & c"], "counts": [[30, 2, 0], [1, 28, 1], [0, 5, 23]]}
            }
        },
        "calibration": {
            "triage": {
                "bins": [
                    {"low": 0.5, "high": 0.9, "n": 30, "confidence": 0.8, "accuracy": 0.7},
                    {"low": 0.9, "high": 1.0, "n": 60, "confidence": 0.97, "accuracy": 0.95},
                ],
                "ece": 0.04,
            }
        },
    }
    canonical.write_json(ctx.out["eval"] / "report.json", report)
    return StageResult(rows={"eval": 90}, metrics=metrics, verdicts=verdicts, roles={"triage": outcome})
