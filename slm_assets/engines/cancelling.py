"""Cancel a stage that goes on by itself: end it where it runs, and let the cell say so."""

from __future__ import annotations

from pathlib import Path

from slm_assets.engines.choose import KUBERNETES
from slm_assets.engines.in_process import Outcome, make_cell
from slm_assets.errors import BadInputError
from slm_assets.registry import jobs
from slm_assets.registry.jobs import Row
from slm_assets.registry.registry import Registry
from slm_assets.stages.contract import Envelope, StageReceipt, StageRequest
from slm_assets.stages.requests import Subject
from slm_assets.stages.runner import CODE_VERSION
from slm_assets.stages.runtime import Progress


def cancel(registry: Registry, plan: Subject, stage: str, *, actor: str) -> Outcome:
    """Delete the pod of a cell's stage, or cancel its execution; the cell has failed then, and can be made again.

    BadInputError where nothing of it is in flight.
    """
    job = jobs.of_cell(registry, plan.domain, plan.number, stage)
    if job is None or job["state"] == jobs.ENDED:
        raise BadInputError(
            f"{stage} of {plan.domain} {plan.version} is not in flight: nothing to cancel",
            cure=f"see how far it came: slm status {plan.domain}",
        )
    note = f"cancelled by {actor}"

    def end(
        request: StageRequest, _envelope: Envelope, registry: Registry, _run_dir: Path, _progress: Progress
    ) -> StageReceipt:
        _end(registry, job, note)
        return StageReceipt(
            request=request, request_digest=request.digest, status="failed", error=note, error_kind="fault",
            code_version=CODE_VERSION,
        )  # fmt: skip

    return make_cell(registry, plan, stage, actor=actor, launch=end, engine=job["engine"])


def _end(registry: Registry, job: Row, note: str) -> None:
    if job["engine"] == KUBERNETES:
        from slm_assets.engines import kubernetes
        from slm_assets.engines.kubernetes_api import connect

        kubernetes.cancel(registry, job, connect(), note)
        return
    from slm_assets.noetl.server import server_from_env

    server = server_from_env()
    if server is None:
        raise BadInputError("there is no NoETL server to cancel it on", cure="set NOETL_SERVER_URL")
    with server:
        if job["execution"]:
            server.cancel(job["execution"])
    jobs.end(registry, job, note)
