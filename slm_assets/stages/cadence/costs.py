"""What a stage costs: read off its receipt, and expected of the next one from the receipts before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from slm_assets.domain.compute import StageRun, settings
from slm_assets.registry import watching
from slm_assets.registry.registry import Registry, Row

FIRST_S = 60.0
"""Expected of a stage that this domain has never run."""
LOOK_BACK = 5
"""Versions whose dearest run of a stage is what the next one is expected to cost."""
_MEASURED = ("tokens", "usd")
"""What only the stage itself can know; it says so among its measured numbers, and pays its teachers for each answer."""


def what_of(version: str, stage: str) -> str:
    """The name under which a stage of a version is paid for."""
    return f"{version}/{stage}"


def costs_of(
    seconds: float, outputs: Mapping[str, Any], measured: Mapping[str, float], run: StageRun
) -> dict[str, float]:
    """Resource → amount of one run of a stage, by what its receipt holds."""
    gpus = run.container.gpus if run.container else 0
    on = {"gpu_minutes": seconds / 60 * gpus} if gpus else {"cpu_minutes": seconds / 60}
    written = sum(output["bytes"] for output in outputs.values())
    told = {name: float(measured[name]) for name in _MEASURED if name in measured}
    return {**on, "storage_gb": written / 1e9, **told}


def of_machines(costs: Mapping[str, float]) -> dict[str, float]:
    """Without what a stage pays its teachers: that is in the ledger already, answer by answer."""
    return {name: amount for name, amount in costs.items() if name not in _MEASURED}


def costs_of_receipt(receipt: Mapping[str, Any], runs: Mapping[str, StageRun]) -> dict[str, float]:
    """The same of a receipt as the registry keeps it."""
    run = settings(runs, receipt["request"]["stage"])
    return costs_of(receipt["seconds"], receipt["outputs"], receipt["result"]["measured"], run)


def expected(registry: Registry, domain: str, stages: Iterable[str], runs: Mapping[str, StageRun]) -> dict[
    str, dict[str, float]
]:  # fmt: skip
    """Stage → resource → what it is expected to cost: the most that it cost lately."""
    seen = watching.measured(registry, domain, last=LOOK_BACK)
    return {stage: _dearest([row for row in seen if row["stage"] == stage], settings(runs, stage)) for stage in stages}


def _dearest(rows: list[Row], run: StageRun) -> dict[str, float]:
    if not rows:
        return costs_of(FIRST_S, {}, {}, run)
    dearest: dict[str, float] = {}
    for row in rows:
        for name, amount in costs_of(row["seconds"], row["outputs"] or {}, row["measured"] or {}, run).items():
            dearest[name] = max(amount, dearest.get(name, 0.0))
    return dearest
