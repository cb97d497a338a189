"""The ladder of a version in one table: each rung that was tried, how good, how fast, how large, at what cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slm_assets.domain.budget import Prices
from slm_assets.domain.compute import StageRun, settings
from slm_assets.errors import SlmError
from slm_assets.registry.registry import Plan, Registry
from slm_assets.stages.cadence.settings import budget_of, runs_of
from slm_assets.stages.climbing.tried import tried_lines
from slm_assets.stages.plans import config_block


@dataclass(frozen=True)
class Rung:
    """A rung of one role. `on`: what its numbers were measured on, validation or eval; `kept`: it is, or became, the
    challenger. `metrics`: [{metric, value, low, high}]. `minutes_per_1000` of one core, or of the device that serves;
    the two costs are US dollars, None where the budget names no price."""

    role: str
    rung: str
    recipe: str
    on: str
    kept: bool
    n: int
    metrics: list[dict[str, Any]]
    p50_ms: float | None
    p95_ms: float | None
    bytes: int | None
    train_seconds: float | None
    train_usd: float | None
    minutes_per_1000: float | None
    usd_per_1000: float | None
    verdict: str
    why: str


def rungs(registry: Registry, plan: Plan) -> list[Rung]:
    """What was tried for each role of a version, cheapest first, and what was judged; empty before it is trained."""
    cells = {cell["stage"]: cell["receipt"]["result"] for cell in registry.cells(plan.domain, plan.number)}
    trained, judged = (cells.get(stage) or {} for stage in ("finetune", "evaluate"))
    reports: dict[str, Any] = trained.get("summary", {}).get("training") or {}
    lines = judged.get("summary", {}).get("rungs")
    if lines is None:
        lines = [line for role, report in reports.items() for line in tried_lines(role, report.get("climb"))]
    climbed = {role for role, report in reports.items() if report.get("climb")}
    timed = {**trained.get("measured", {}), **_judged_times(judged)}
    prices = _prices(registry, plan)
    return [_rung(line, timed, line["role"] in climbed, prices) for line in lines]


def _rung(line: Mapping[str, Any], timed: Mapping[str, float], climbed: bool, prices: tuple[float | None, ...]) -> Rung:
    role, rung = line["role"], line["rung"]
    tried = f"{role}.{rung}"
    if line["on"] == "eval":
        at = f"{role}.eval" if line["kept"] else ""
        seconds = timed.get(f"{tried}.train_seconds" if climbed else f"train_seconds_{role}") if at else None
    else:
        at, seconds = tried, timed.get(f"{tried}.train_seconds")
    mean = timed.get(f"{at}.latency_mean_ms")
    minutes = None if mean is None else mean * 1_000 / 60_000
    training, serving = prices
    return Rung(
        role=role, rung=rung, recipe=line["recipe"], on=line["on"], kept=line["kept"], n=line["n"],
        metrics=line["metrics"], p50_ms=timed.get(f"{at}.latency_p50_ms"), p95_ms=timed.get(f"{at}.latency_p95_ms"),
        bytes=line["bytes"], train_seconds=seconds,
        train_usd=None if seconds is None or training is None else seconds / 60 * training,
        minutes_per_1000=minutes,
        usd_per_1000=None if minutes is None or serving is None else minutes * serving,
        verdict=line["verdict"], why=line["why"],
    )  # fmt: skip


def _judged_times(judged: Mapping[str, Any]) -> dict[str, float]:
    """The challenger's latencies on the eval rows under `<role>.eval`."""
    found = {
        f"{m['role']}.eval.{m['metric']}": m["value"]
        for m in judged.get("metrics", ())
        if m["subject"] == "challenger" and m["role"] and m["metric"].startswith("latency_")
    }
    return found | {name: value for name, value in judged.get("measured", {}).items() if ".eval." in name}


def _prices(registry: Registry, plan: Plan) -> tuple[float | None, float | None]:
    """US dollars for a minute of training and for one of serving, as the budget and the config say now."""
    try:
        prices = budget_of(registry, plan).prices
        runs = runs_of(registry.home, plan.domain)
        serving = config_block(registry, plan).get("serving") or {}
    except SlmError:
        return None, None
    if prices is None:
        return None, None
    return _training(prices, runs), prices.gpu_minute if serving.get("target") == "gpu" else prices.cpu_minute


def _training(prices: Prices, runs: Mapping[str, StageRun]) -> float | None:
    container = settings(runs, "finetune").container
    if container is None or not container.gpus:
        return prices.cpu_minute
    return None if prices.gpu_minute is None else prices.gpu_minute * container.gpus
