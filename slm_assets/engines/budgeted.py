"""A stage's budget around its run: set aside before it, settled by its receipt after it, recovered after a kill.

Only stages of versions are paid for: a domain's traffic is watched whatever is left.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from filelock import FileLock, Timeout

from slm_assets.domain.budget import Budget
from slm_assets.domain.compute import StageRun
from slm_assets.errors import BadInputError, SlmError
from slm_assets.registry import budget, jobs, notices
from slm_assets.registry.registry import Plan, Registry, Row
from slm_assets.stages.cadence.costs import costs_of_receipt, expected, of_machines, what_of
from slm_assets.stages.cadence.settings import budget_of, runs_of
from slm_assets.stages.contract import Envelope, StageReceipt, StageRequest
from slm_assets.stages.live_teacher import SERVING
from slm_assets.stages.runner import CODE_VERSION, proof_of

GIVEN_UP = timedelta(hours=24)
"""What is reserved for so long, and nobody works on, is closed."""
_logger = logging.getLogger("slm_assets.budget")


def afford(
    registry: Registry, plan: Plan, request: StageRequest, envelope: Envelope, run_dir: Path
) -> StageReceipt | None:
    """Set aside what the stage is expected to cost; None where it may run, else the receipt that says why it waits.

    A stage that ran already and left its receipt costs nothing more.
    """
    limits = _limits(registry, plan)
    if not limits.limits() or proof_of(request, run_dir) is not None:
        return None
    stage = request.stage
    needs = _needs(registry, plan, [stage])
    over = budget.reserve(registry, plan.domain, needs, limits, actor=envelope.actor, begin=True)
    if not over:
        return None
    told = "; ".join(map(str, over))
    detail = {"stage": stage, "over": told}
    notices.note(registry, "budget.over", plan.domain, plan.number, detail, envelope.actor)
    return StageReceipt(
        request=request, request_digest=request.digest, status="deferred", error=f"over budget: {told}",
        error_kind="deferred", code_version=CODE_VERSION,
    )  # fmt: skip


def over_budget(registry: Registry, plan: Plan, stages: Iterable[str]) -> list[str]:
    """What the budget does not allow of these stages now, in words; empty where they may run. Nothing is set aside."""
    limits = _limits(registry, plan)
    if not limits.limits():
        return []
    return [str(one) for one in budget.over(registry, plan.domain, _needs(registry, plan, stages), limits)]


def _needs(registry: Registry, plan: Plan, stages: Iterable[str]) -> dict[str, dict[str, float]]:
    found = expected(registry, plan.domain, stages, _runs(registry, plan))
    return {what_of(plan.version, stage): of_machines(costs) for stage, costs in found.items()}


def _limits(registry: Registry, plan: Plan) -> Budget:
    return budget_of(registry, plan).model_copy(
        update={"tokens": None, "usd": None}
    )  # a stage pays its teachers itself


def settle(registry: Registry, plan: Plan, receipt: StageReceipt) -> None:
    """What the stage cost by its receipt, in place of what was set aside; a stage that still runs elsewhere is settled
    when it has ended."""
    if receipt.status == "deferred" and receipt.error_kind == "submitted":
        return
    spent = of_machines(costs_of_receipt(receipt.model_dump(mode="json"), _runs(registry, plan)))
    budget.settle(registry, plan.domain, what_of(plan.version, receipt.request.stage), spent)


def recover(registry: Registry, *, now: datetime | None = None, domain: str | None = None) -> int:
    """Close what a kill left open: by the receipt where the stage has ended since; after a day, where nobody works on
    the version, what ran counts as reserved and what never ran is given back. Returns how many were closed."""
    moment, closed = now or datetime.now(UTC), 0
    for row in budget.open_reservations(registry, domain):
        version, _, stage = row["what"].partition("/")
        stage, _, teacher = stage.partition("/")  # what a stage pays its teacher: settled by itself, unless killed
        cell = None if teacher else registry.cell(row["domain"], int(version[1:]), stage)
        if cell is not None and cell["finished_at"] >= row["at"] and cell["receipt"]["error_kind"] != "submitted":
            spent = of_machines(costs_of_receipt(cell["receipt"], _runs_by_name(registry, row["domain"])))
            closed += budget.settle(registry, row["domain"], row["what"], spent)
        elif datetime.fromisoformat(row["at"]) < moment - GIVEN_UP and not _worked_on(registry, row, version, stage):
            if row["state"] == budget.RUNNING:
                closed += budget.settle(registry, row["domain"], row["what"], None)
            else:
                closed += budget.release(registry, row["domain"], row["what"])
    return closed


def version_lock(registry: Registry, domain: str, version: str) -> Path:
    """The file whose lock whoever makes a cell of the version holds."""
    return registry.home.locks / registry.tenant / registry.project / domain / f"{version}.lock"


def _worked_on(registry: Registry, row: Row, version: str, stage: str) -> bool:
    if version == SERVING:
        return False
    job = jobs.of_cell(registry, row["domain"], int(version[1:]), stage)
    if job is not None and job["state"] != jobs.ENDED:
        return True
    path = version_lock(registry, row["domain"], version)
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True


def _runs(registry: Registry, plan: Plan) -> dict[str, StageRun]:
    return _runs_by_name(registry, plan.domain)


def _runs_by_name(registry: Registry, domain: str) -> dict[str, StageRun]:
    try:
        return runs_of(registry.home, domain)
    except (BadInputError, SlmError) as error:
        _logger.warning("%s: %s; its stages count as run on a CPU", domain, error.message)
        return {}
