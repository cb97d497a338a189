"""Hand a stage to a NoETL server: submit it once, let go of the run, and come back for the receipt.

The first launch submits and answers "submitted", which ends its run. When the execution has ended the same
cell is launched again and finds the receipt. What the server reports is not evidence: COMPLETED without a
receipt of this request is a failure, and a receipt that is there counts whatever is reported. The run folder
and the artifact store must be the server's workers' too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from slm_assets.canonical import Json
from slm_assets.engines.handed_over import hand_over
from slm_assets.engines.in_process import Launch
from slm_assets.noetl import protocol
from slm_assets.noetl.protocol import NoetlError, ProtocolError, Status
from slm_assets.noetl.server import Server, server_from_env
from slm_assets.registry import jobs
from slm_assets.registry.jobs import Row
from slm_assets.registry.registry import Registry
from slm_assets.stages.contract import Envelope, StageReceipt, StageRequest
from slm_assets.stages.runner import CODE_VERSION, proof_of, read_receipt
from slm_assets.stages.runtime import Progress
from slm_assets.stages.table import BY_NAME

FINAL_STEP = "end"
UNKNOWN_FOR_S = 600.0
"""An execution that the server does not know for so long is lost."""
RESUBMIT_AFTER_S = 60.0

Playbook = Callable[[str], str]
"""Stage → the text of its playbook."""


def payload(request: StageRequest, run_dir: Path) -> dict[str, Json]:
    """The workload of a stage's playbook: checked ids and a folder, nothing that a user wrote."""
    return {
        "runtime": "distributed",
        "driver": "engine",
        "domain": request.domain,
        "version": request.version,
        "run_dir": str(run_dir.absolute()),
    }


def launcher(playbook: Playbook, *, timeout_s: float, wait: bool) -> Launch | None:
    """`launch` on the server that the environment names; None where it names none."""
    server = server_from_env()
    if server is None:
        return None
    return partial(launch, server=server, playbook=playbook, timeout_s=timeout_s, wait=wait)


def launch(
    request: StageRequest,
    envelope: Envelope,
    registry: Registry,
    run_dir: Path,
    progress: Progress,
    *,
    server: Server,
    playbook: Playbook,
    timeout_s: float,
    wait: bool = False,
) -> StageReceipt:
    """The stage's receipt; while it is being made one of status `deferred` and kind `submitted`.

    `wait`: stay until the execution has ended; cancel it after `timeout_s`.
    """
    number = int(request.version[1:])
    job = jobs.of_cell(registry, request.domain, number, request.stage)
    there = proof_of(request, run_dir)
    if there is not None:
        if job is not None and job["request"] == request.digest and job["state"] != jobs.ENDED:
            jobs.end(registry, job)
        return there
    if job is None or job["request"] != request.digest or job["state"] == jobs.ENDED:
        if job is not None and job["state"] == jobs.SUBMITTED:
            server.cancel(job["execution"])  # of a request that is not asked for any more
        hand_over(request, envelope, run_dir)
        job = jobs.begin(
            registry, request.domain, number, request.stage,
            request=request.digest, run_id=envelope.run_id, playbook=BY_NAME[request.stage].playbook,
        )  # fmt: skip
    execution = job["execution"]
    try:
        execution = execution or _submit(server, registry, job, request, run_dir, playbook)
        progress(0.0, f"NoETL execution {execution}")
        if wait:
            ended = _wait(server, execution, timeout_s)
        else:
            ended = _state(server.status(execution), job) in protocol.TERMINAL
    except NoetlError as error:
        if wait or not _passes(error):
            if execution is None:
                jobs.end(registry, job, error.message)  # refused: the next try is another one
            raise
        return _receipt(request, f"the NoETL server is away, {request.stage} waits for it: {error.message}")
    if not ended:
        return _receipt(request, f"{request.stage} was handed over: {server.address.page(execution)}")
    receipt = _collect(server, execution, request, run_dir)
    jobs.end(registry, job, receipt.error)
    return receipt


def finished(server: Server, waiting: Iterable[Row]) -> list[Row]:
    """Of the jobs in flight those whose cell is to be launched again: ended, lost, or never submitted.

    One question tells what runs; only what is not among that is asked for by itself.
    """
    rows = list(waiting)
    running = set(server.running()) if rows else set()
    found = []
    for job in rows:
        if job["execution"] is None:
            if _age(job) > RESUBMIT_AFTER_S:
                found.append(job)
        elif job["execution"] not in running:
            # One job that cannot be told of must not hide the others; a server that is away was noticed above.
            with contextlib.suppress(NoetlError):
                if _state(server.status(job["execution"]), job) in protocol.TERMINAL:
                    found.append(job)
    return found


def _submit(
    server: Server, registry: Registry, job: Row, request: StageRequest, run_dir: Path, playbook: Playbook
) -> str:
    registered = server.register(job["playbook"], playbook(request.stage))
    execution = server.execute(registered, payload(request, run_dir), dedup=job["dedup"]).execution
    jobs.accept(registry, job, execution)
    return execution


def _wait(server: Server, execution: str, timeout_s: float) -> bool:
    try:
        server.wait(execution, deadline_s=timeout_s)
    except ProtocolError:
        raise
    except NoetlError as error:
        if error.status is not None or server.status(execution) in protocol.TERMINAL:
            raise
        server.cancel(execution)
    return True


def _collect(server: Server, execution: str, request: StageRequest, run_dir: Path) -> StageReceipt:
    """The receipt that an ended execution left, or one that says why there is none."""
    receipt = read_receipt(run_dir)
    if receipt is not None and receipt.request == request:
        return receipt
    found = "a receipt of another request" if receipt is not None else "no receipt"
    try:
        end = protocol.ending(server.execution(execution), FINAL_STEP)
        said = end.reason or f"execution {execution} is COMPLETED"
    except NoetlError as error:
        if error.status != 404:
            raise
        said = f"the server does not know execution {execution}"
    page = server.address.page(execution)
    return _receipt(request, f"{said}, and left {found} in {run_dir}; see {page}", failed=True)


def _receipt(request: StageRequest, told: str, *, failed: bool = False) -> StageReceipt:
    values: dict[str, Any] = {"request": request, "request_digest": request.digest, "code_version": CODE_VERSION}
    outcome = {"status": "failed", "error_kind": "fault"} if failed else {}
    return StageReceipt(**{**values, "status": "deferred", "error_kind": "submitted", "error": told, **outcome})


def _state(status: Status | None, job: Row) -> Status:
    """A server that takes its events in later does not know a new execution at once."""
    if status is None:
        return "failed" if _age(job) > UNKNOWN_FOR_S else "running"
    return status


def _passes(error: NoetlError) -> bool:
    """Whether the server is away, rather than of another opinion."""
    return not isinstance(error, ProtocolError) and (error.status is None or error.status in (429, 500, 502, 503, 504))


def _age(job: Row) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(job["submitted_at"])).total_seconds()
