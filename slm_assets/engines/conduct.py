"""Make a cell for a conductor, a playbook that nobody here started, and leave it an outcome to branch on.

The outcome is a file of one line beside the receipt: ids, digests and one word, `go`, `held` or `deferred`.
No text of a domain is in it, since a playbook may paste it into a shell.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slm_assets import canonical
from slm_assets.engines.in_process import make_cell, refuse_held
from slm_assets.errors import HeldError
from slm_assets.registry import retrains, windows
from slm_assets.registry.registry import Registry
from slm_assets.stages.contract import StageReceipt
from slm_assets.stages.requests import Subject
from slm_assets.stages.runner import disk_error
from slm_assets.stages.standing import checks_of, record_of, standing
from slm_assets.stages.table import BY_NAME

GO, HELD, DEFERRED = "go", "held", "deferred"
Outcome = dict[str, Any]


def conduct(
    registry: Registry, plan: Subject, stage: str, run_dir: Path, *, actor: str
) -> tuple[StageReceipt | None, Outcome]:
    """Make the stage's cell and say whether the version may go on. A version that is held ahead of the stage has
    no receipt: nothing ran."""
    try:
        refuse_held(registry, plan, stage)
    except HeldError:
        return None, _leave(run_dir, {"stage": stage, "domain": plan.domain, "version": plan.version, "gate": HELD})
    receipt = make_cell(registry, plan, stage, actor=actor, engine="noetl").receipt
    outcome = leave_outcome(run_dir, receipt, held=receipt.status == "succeeded" and not _passed(registry, plan, stage))
    return receipt, outcome


def leave_outcome(run_dir: Path, receipt: StageReceipt, *, held: bool = False) -> Outcome:
    """Write `run_dir`/<stage>.json for a receipt; for a stage that failed nothing is written."""
    request = receipt.request
    outcome = {
        "stage": request.stage,
        "domain": request.domain,
        "version": request.version,
        "status": receipt.status,
        "request": receipt.request_digest,
        "outputs": {kind: artifact.sha256 for kind, artifact in receipt.outputs.items()},
    }
    if receipt.status == "failed" and receipt.error_kind != "held":
        return outcome
    gate = DEFERRED if receipt.status == "deferred" else HELD if held or receipt.status == "failed" else GO
    return _leave(run_dir, outcome | {"gate": gate})


def _passed(registry: Registry, plan: Subject, stage: str) -> bool:
    """Whether what comes next may go on: behind `drift` only where a trigger fired or a retrain waits or is made."""
    if stage == "drift":
        fired = windows.triggers(registry, plan.domain, since=plan.number)
        if any(row["number"] == plan.number and row["verdict"] == "FIRED" for row in fired):
            return True
        return bool(retrains.in_states(registry, retrains.UNFINISHED, plan.domain))
    record = record_of(registry, plan)
    return all(standing(record, stage, check).passed for check in checks_of(BY_NAME[stage]))


def _leave(run_dir: Path, outcome: Outcome) -> Outcome:
    told = outcome | {"run_dir": str(run_dir)}
    try:
        canonical.write_json(run_dir / f"{outcome['stage']}.json", told)
    except OSError as error:
        raise disk_error(error, run_dir) from error
    return told
