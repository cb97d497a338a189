"""Run one stage from its request to its receipt, anywhere: in process, in a pod, under NoETL.

Nothing here knows who asked. Inputs are fetched by digest and verified, the outputs go into the
artifact store, and the receipt is written last: without it nothing happened.
"""

from __future__ import annotations

import importlib
import logging
import shutil
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from pydantic import ValidationError

from slm_assets import canonical, logs, tracing
from slm_assets.domain.loading import read_bundle
from slm_assets.errors import BadInputError, DeferredError, HeldError, SlmError
from slm_assets.registry.registry import Registry
from slm_assets.stages.contract import Artifact, Envelope, StageReceipt, StageRequest, StageResult
from slm_assets.stages.runtime import Progress, StageContext, silent
from slm_assets.stages.table import BY_NAME

RECEIPT = "receipt.json"
LOG = "stage.log"
CODE_VERSION = version("slm-assets")
_logger = logging.getLogger("slm_assets")


def execute(
    request: StageRequest, envelope: Envelope, registry: Registry, run_dir: Path, progress: Progress = silent
) -> StageReceipt:
    """Run the stage and write `run_dir`/receipt.json; a fault inside the stage is a receipt too.

    A receipt of the same request that succeeded is returned as it is (resume after a kill). Raises
    SlmError only where no receipt can be written.
    """
    there = proof_of(request, run_dir)
    if there is not None:
        return there
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        _clear(run_dir)
    except OSError as error:
        raise disk_error(error, run_dir) from error
    started = time.perf_counter()
    with _told(request, envelope), _log_to(run_dir / LOG):
        try:
            outputs, result = _run(request, envelope, registry, run_dir, progress)
            status, error_text, kind = "succeeded", "", ""
        except Exception as error:
            _logger.error("%s", traceback.format_exc())
            so_far = getattr(error, "result", None)
            outputs, result = {}, so_far if isinstance(so_far, StageResult) else StageResult()
            status, error_text, kind = _classify(error, run_dir)
        tracing.mark({"slm.status": status, "slm.error_kind": kind})
        _logger.info("stage ended", extra={"fields": {"status": status, "error_kind": kind}})
    receipt = StageReceipt.model_validate(
        {
            "request": request,
            "request_digest": request.digest,
            "status": status,
            "outputs": outputs,
            "result": result,
            "seconds": round(time.perf_counter() - started, 4),
            "code_version": CODE_VERSION,
            "log": LOG,
            "error": error_text,
            "error_kind": kind,
        }
    )
    for name in ("in", "out", "scratch"):
        shutil.rmtree(run_dir / name, ignore_errors=True)
    try:
        canonical.write_json(run_dir / RECEIPT, receipt.model_dump(mode="json"))
    except OSError as error:
        raise disk_error(error, run_dir) from error
    return receipt


def read_receipt(run_dir: Path) -> StageReceipt | None:
    """The receipt of a run folder, or None where there is none that can be read."""
    try:
        return StageReceipt.model_validate(canonical.read_json(run_dir / RECEIPT))
    except (OSError, ValueError, ValidationError):
        return None


def proof_of(request: StageRequest, run_dir: Path) -> StageReceipt | None:
    """The receipt by which a run folder shows that this very request succeeded there, if it does."""
    there = read_receipt(run_dir)
    return there if there is not None and there.request == request and there.status == "succeeded" else None


def disk_error(error: OSError, folder: Path) -> SlmError:
    """An operating system's complaint as one with its folder and cure."""
    return SlmError(
        f"{folder}: {error.strerror or error}",
        cure="free some space or make the folder writable, then run the same command again: "
        "it resumes from the last receipt",
    )


def _run(
    request: StageRequest, envelope: Envelope, registry: Registry, run_dir: Path, progress: Progress
) -> tuple[dict[str, Artifact], StageResult]:
    stage = BY_NAME.get(request.stage)
    kind = stage.kind if stage else request.stage
    registry.store.get(request.config, run_dir / "in" / "config")
    inputs: dict[str, Path] = {}
    for name, sha in sorted(request.inputs.items()):
        inputs[name] = run_dir / "in" / name
        registry.store.get(sha, inputs[name])
    out = run_dir / "out" / kind
    out.mkdir(parents=True)
    (run_dir / "scratch").mkdir()
    context = StageContext(
        request=request,
        domain=read_bundle(run_dir / "in" / "config"),
        inputs=inputs,
        out={kind: out},
        scratch=run_dir / "scratch",
        registry=registry,
        envelope=envelope,
        progress=progress,
    )
    module = importlib.import_module(f"slm_assets.stages.{request.stage}")
    result: StageResult = module.run(context)
    tree = registry.store.put(out)
    if not tree.files:
        raise SlmError(f"stage {request.stage} of {request.domain} wrote no output")
    return {kind: Artifact(sha256=tree.sha256, bytes=tree.bytes, rows=result.rows.get(kind))}, result


def _classify(error: Exception, run_dir: Path) -> tuple[str, str, str]:
    if isinstance(error, DeferredError):
        return "deferred", str(error), "deferred"
    if isinstance(error, HeldError):
        return "failed", str(error), "held"
    if isinstance(error, BadInputError):
        return "failed", str(error), "bad_input"
    if isinstance(error, OSError) and error.errno is not None:
        return "failed", str(disk_error(error, run_dir)), "fault"
    if isinstance(error, SlmError):
        return "failed", str(error), "fault"
    return "failed", f"{type(error).__name__}: {error}", "fault"


def _clear(run_dir: Path) -> None:
    (run_dir / RECEIPT).unlink(missing_ok=True)
    for name in ("in", "out", "scratch"):
        shutil.rmtree(run_dir / name, ignore_errors=True)


@contextmanager
def _told(request: StageRequest, envelope: Envelope) -> Iterator[None]:
    """The stage as a span and in structured logs, by its ids."""
    ids = {"run_id": envelope.run_id, "domain": request.domain, "version": request.version, "stage": request.stage}
    named = {f"slm.{name}": value for name, value in ids.items()}
    with (
        tracing.span(f"stage {request.stage}", named, parent=envelope.traceparent),
        logs.about(**ids, tenant=envelope.tenant, project=envelope.project),
        logs.also_json(_logger),
    ):
        yield


@contextmanager
def _log_to(path: Path) -> Iterator[None]:
    handler = logging.FileHandler(path, mode="a", encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    _logger.addHandler(handler)
    try:
        yield
    finally:
        _logger.removeHandler(handler)
        handler.close()
