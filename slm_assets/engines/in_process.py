"""Make a cell: plan, lock, request, cache or run, verify, commit. The one road to a stage's result.

Another engine replaces only how the request is run; everything around it stays, so receipts and
digests decide in all of them.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from slm_assets import canonical, tracing
from slm_assets.engines.budgeted import afford, settle, version_lock
from slm_assets.errors import ArtifactError, BadInputError, BusyError, HeldError, SlmError
from slm_assets.registry.registry import CellRecord, Plan, Registry
from slm_assets.registry.windows import Window
from slm_assets.stages.contract import Envelope, StageReceipt, StageRequest
from slm_assets.stages.requests import Subject, request_for
from slm_assets.stages.runner import RECEIPT, disk_error, execute
from slm_assets.stages.runtime import Progress, silent
from slm_assets.stages.standing import held_before, record_of
from slm_assets.stages.table import BY_NAME, Stage

Launch = Callable[[StageRequest, Envelope, Registry, Path, Progress], StageReceipt]


@dataclass(frozen=True)
class Outcome:
    """A cell that was made, or found made: its receipt, and whether anything had to run."""

    receipt: StageReceipt
    cached: bool
    run_dir: Path
    engine: str = "in_process"
    run_id: str = ""

    @property
    def held(self) -> bool:
        """Whether a gate said no, in the stage or as its reason to stop."""
        return self.receipt.error_kind == "held"


def make_cell(
    registry: Registry,
    plan: Subject,
    stage: str,
    *,
    actor: str,
    run_id: str | None = None,
    progress: Progress = silent,
    launch: Launch = execute,
    engine: str = "in_process",
) -> Outcome:
    """Make one stage of a version or window once: an unchanged request is a cache hit, a changed one refused.

    Raises BadInputError, BusyError or ArtifactError where it cannot even start; a stage that ran and
    failed, was held or deferred is in the receipt.
    """
    with _one_writer(registry, plan, stage):
        request = request_for(registry, plan, stage)
        run_dir = registry.home.runs / plan.domain / plan.version / f"{stage}-{request.digest[:12]}"
        cached = _cached(registry, plan, request)
        if cached is not None:
            progress(1.0, "cached")
            made = registry.cell(plan.domain, plan.number, stage)
            assert made is not None
            return Outcome(cached, True, run_dir, made["engine"], made["run_id"])
        envelope = Envelope(
            run_id=run_id or uuid.uuid4().hex,
            engine=engine,
            tenant=registry.tenant,
            project=registry.project,
            actor=actor,
            traceparent=tracing.current(),
        )
        wait = afford(registry, plan, request, envelope, run_dir) if isinstance(plan, Plan) else None
        receipt = wait or launch(request, envelope, registry, run_dir, progress)
        try:
            _verify(registry, request, receipt)
        except ArtifactError:
            # A receipt kept from an earlier run whose outputs are gone: what it proves is gone too.
            (run_dir / RECEIPT).unlink(missing_ok=True)
            receipt = launch(request, envelope, registry, run_dir, progress)
            _verify(registry, request, receipt)
        if isinstance(plan, Plan) and wait is None:
            settle(registry, plan, receipt)
        _refuse_other_outputs(registry, plan, receipt)
        registry.commit(_record(registry, plan, receipt, envelope))
        if isinstance(plan, Plan) and receipt.status == "succeeded":
            _ask_people(registry, plan, receipt, actor)
        return Outcome(receipt, False, run_dir, engine, envelope.run_id)


def _ask_people(registry: Registry, plan: Plan, receipt: StageReceipt, actor: str) -> None:
    """Open what the stage found worth a person's look."""
    from slm_assets.stages.reviews import refresh, refresh_divergences

    stage = receipt.request.stage
    if stage == "dataset" and plan.window:
        refresh(registry, plan, actor=actor)
    elif stage == "label" and receipt.result.summary.get("divergences"):
        refresh_divergences(registry, plan, actor=actor)


def refuse_held(registry: Registry, plan: Subject, stage: str) -> None:
    """HeldError where a gate ahead of the stage said no: there is no way around it."""
    held = held_before(record_of(registry, plan), stage)
    if held:
        raise HeldError(
            f"{plan.domain} {plan.version} is held, {BY_NAME[stage].asset} is not made: {held}",
            cure=f"open a new version with more or better data (`slm run {plan.domain} --new`), "
            "or approve what is only undecided",
        )


def plans_request(registry: Registry, plan: Subject, request: StageRequest) -> None:
    """BadInputError where the plan has another request for the stage."""
    expected = request_for(registry, plan, request.stage)
    if expected != request:
        raise BadInputError(
            f"the request is not the one {plan.domain} {plan.version} has for {request.stage}: "
            f"found {request.digest[:12]}, expected {expected.digest[:12]}",
            cure=f"print the right one with `slm stage request {request.stage} {plan.domain} "
            f"{plan.version}`, or open a new version for other inputs",
        )


def run_request(
    registry: Registry, plan: Subject, request: StageRequest, run_dir: Path, *, actor: str, run_id: str | None
) -> Outcome:
    """`slm stage run`: make the cell that `request` names, its receipt copied to `run_dir`."""
    if request.stage == "rollback":
        return run_rollback(registry, request, run_dir, actor=actor, run_id=run_id)
    plans_request(registry, plan, request)
    refuse_held(registry, plan, request.stage)
    outcome = make_cell(registry, plan, request.stage, actor=actor, run_id=run_id)
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        canonical.write_json(run_dir / RECEIPT, outcome.receipt.model_dump(mode="json"))
    except OSError as error:
        raise disk_error(error, run_dir) from error
    return outcome


def run_rollback(
    registry: Registry, request: StageRequest, run_dir: Path, *, actor: str, run_id: str | None = None
) -> Outcome:
    """Run a rollback's request; it makes no cell, its flips and audit events are its record."""
    envelope = Envelope(
        run_id=run_id or uuid.uuid4().hex, tenant=registry.tenant, project=registry.project, actor=actor,
        traceparent=tracing.current(),
    )  # fmt: skip
    receipt = execute(request, envelope, registry, run_dir)
    _verify(registry, request, receipt)
    return Outcome(receipt, False, run_dir)


def _cached(registry: Registry, plan: Subject, request: StageRequest) -> StageReceipt | None:
    cell = registry.cell(plan.domain, plan.number, request.stage)
    if cell is None or cell["status"] != "succeeded":
        return None
    receipt = StageReceipt.model_validate(cell["receipt"])
    if cell["request"] != request.digest:
        changed = sorted(
            name for name in ("config", "inputs", "params") if getattr(receipt.request, name) != getattr(request, name)
        )
        raise BadInputError(
            f"{plan.domain} {plan.version}: {request.stage} was made from other {', '.join(changed)}; "
            "a finished cell is immutable",
            cure=f"open a new version: `slm run {plan.domain} --new`",
        )
    try:
        _verify(registry, request, receipt)
    except ArtifactError:
        return None
    return receipt


def _verify(registry: Registry, request: StageRequest, receipt: StageReceipt) -> None:
    """Success is a receipt of this request whose outputs re-hash to their digests; nothing else is."""
    if receipt.request_digest != request.digest or receipt.request.digest != request.digest:
        raise SlmError(f"the receipt of {request.stage} belongs to another request; it is refused")
    if receipt.status == "succeeded":
        for artifact in receipt.outputs.values():
            registry.store.verify(artifact.sha256)


def _refuse_other_outputs(registry: Registry, plan: Subject, receipt: StageReceipt) -> None:
    """A stage run again for a lost artifact must give the digests that were registered."""
    for kind, artifact in receipt.outputs.items():
        entry = registry.entry(kind, plan.domain, plan.number)
        if entry is not None and entry["sha256"] != artifact.sha256:
            raise ArtifactError(
                f"{plan.domain} {plan.version}: {kind} was registered as {entry['sha256']} and came out "
                f"as {artifact.sha256} now (code {receipt.code_version})",
                cure=f"restore the artifact from a backup, or open a new version: `slm run {plan.domain} --new`",
            )


def _record(registry: Registry, plan: Subject, receipt: StageReceipt, envelope: Envelope) -> CellRecord:
    request = receipt.request
    stage = BY_NAME[request.stage]
    epoch = 0 if isinstance(plan, Window) else int(request.params.get("epoch", plan.epoch))
    return CellRecord(
        domain=plan.domain,
        number=plan.number,
        stage=request.stage,
        request=request.digest,
        status=receipt.status,
        receipt=receipt.model_dump(mode="json"),
        run_id=envelope.run_id,
        engine=envelope.engine,
        actor=envelope.actor,
        entries=[
            {
                "kind": kind,
                "name": plan.domain,
                "version": plan.number,
                "sha256": artifact.sha256,
                "bytes": artifact.bytes,
                "rows": artifact.rows,
                "request": request.digest,
            }
            for kind, artifact in receipt.outputs.items()
        ],
        parents=_parents(registry, plan, stage, request),
        metrics=[metric.model_dump() | {"epoch": epoch} for metric in receipt.result.metrics],
        verdicts=_verdict_rows(receipt),
        triggers=[trigger.model_dump() for trigger in receipt.result.triggers],
        live=[metric.model_dump() for metric in receipt.result.live],
        asset=stage.asset,
        playbook=stage.playbook,
    )


def _parents(registry: Registry, plan: Subject, stage: Stage, request: StageRequest) -> list[str]:
    """What a cell's output was made from, as URNs."""
    parents = [registry.urn(BY_NAME[need].kind, plan.domain, plan.number) for need in stage.needs]
    if isinstance(plan, Window):
        if stage.name == "capture" and plan.previous:
            parents.append(registry.urn(stage.kind, plan.domain, plan.number - 1))
        if stage.name == "drift":
            parents += [registry.urn("release", plan.domain, v["number"]) for v in plan.serving.values()]
        return parents
    if stage.name in ("evaluate", "shadow"):
        parents += [registry.urn("release", plan.domain, v["number"]) for v in plan.incumbents.values()]
    if stage.name == "dataset" and plan.parent:
        parents.append(registry.urn("dataset", plan.domain, plan.parent["number"]))
    window = request.params["window"] if stage.name == "shadow" else (plan.window or {}).get("number")
    if stage.reads and window:
        parents.append(registry.urn("traffic", plan.domain, window))
    return parents


def _verdict_rows(receipt: StageReceipt) -> list[dict[str, object]]:
    """One row per gate and role: the verdict that decides."""
    from slm_assets.gates.decisive import decisive  # statistics: a stage that only fetches must not wait for numpy

    evidence = next(iter(receipt.outputs.values())).sha256 if receipt.outputs else receipt.request_digest
    found = receipt.result.verdicts
    return [
        {**decisive(found, gate, role).model_dump(), "evidence": evidence}
        for gate, role in sorted({(verdict.gate, verdict.role) for verdict in found})
    ]


@contextmanager
def _one_writer(registry: Registry, plan: Subject, stage: str) -> Iterator[None]:
    path = version_lock(registry, plan.domain, plan.version)
    folder = path.parent
    owner = path.with_suffix(".owner")
    lock = FileLock(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        holder = owner.read_text() if owner.exists() else "another process"
        raise BusyError(
            f"{plan.domain} {plan.version} is being worked on by {holder}",
            cure="wait for it to end, or stop it; nothing of it is lost",
        ) from None
    except OSError as error:
        raise disk_error(error, folder) from error
    try:
        owner.write_text(f"process {os.getpid()} on {socket.gethostname()} (stage {stage})")
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()
