"""Hand a stage to a NoETL server: submit it once, let go of the run, and come back for the receipt.

The first launch submits and answers "submitted", which ends its run. When the execution has ended the same
cell is launched again and finds the receipt. What the server reports is not evidence: COMPLETED without a
receipt of this request is a failure, and a receipt that is there counts whatever is reported. The run folder
and the artifact store must be the server's workers' too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from slm_assets import tracing
from slm_assets.canonical import Json
from slm_assets.domain.compute import StageRun
from slm_assets.engines.handed_over import hand_over
from slm_assets.engines.in_process import Launch
from slm_assets.noetl import protocol
from slm_assets.noetl.protocol import NoetlError, ProtocolError, Status
from slm_assets.noetl.server import Server, server_from_env
from slm_assets.noetl.wire import Clock
from slm_assets.registry import jobs
from slm_assets.registry.jobs import Row
from slm_assets.registry.registry import Registry
from slm_assets.stages.contract import Envelope, StageReceipt, StageRequest
from slm_assets.stages.runner import CODE_VERSION, proof_of, read_receipt
from slm_assets.stages.runtime import Progress

FINAL_STEP = "end"
UNKNOWN_FOR_S = 600.0
"""An execution that the server does not know for so long is lost."""
RESUBMIT_AFTER_S = 60.0
OVERDUE_BY_S = 300.0
"""How long after a stage's own timeout the server may still end it by itself; then it is given up here."""

Playbook = Callable[[str, StageRun], tuple[str, str]]
"""Stage, and how the domain wants it run → catalog path and text of its playbook."""


def payload(request: StageRequest, run_dir: Path, run: StageRun) -> dict[str, Json]:
    """The workload of a stage's playbook: checked ids, a folder, and which of its branches runs. What a container
    is made of stands in the playbook itself."""
    branch: dict[str, Json] = {"mode": "container"} if run.container is not None else {}
    return (
        branch
        | {
            "runtime": "distributed",
            "driver": "engine",
            "domain": request.domain,
            "version": request.version,
            "run_dir": str(run_dir.absolute()),
        }
        | ({"traceparent": tracing.current()} if tracing.current() else {})
    )


def launcher(playbook: Playbook, *, run: StageRun, wait: bool) -> Launch | None:
    """`launch` on the server that the environment names; None where it names none."""
    server = server_from_env()
    if server is None:
        return None
    return partial(launch, server=server, playbook=playbook, run=run, wait=wait)


def launch(
    request: StageRequest,
    envelope: Envelope,
    registry: Registry,
    run_dir: Path,
    progress: Progress,
    *,
    server: Server,
    playbook: Playbook,
    run: StageRun,
    wait: bool = False,
) -> StageReceipt:
    """The stage's receipt; while it is being made one of status `deferred` and kind `submitted`.

    An execution that has not ended within `run.timeout_s`, and some minutes for the server to see that itself, is
    cancelled, and the stage has failed. `wait`: stay until the end, and cancel at the timeout.
    """
    number = int(request.version[1:])
    job = jobs.of_cell(registry, request.domain, number, request.stage)
    if job is not None and job["engine"] != "noetl":
        job = None  # another engine's, which ends by itself
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
            request=request.digest, run_id=envelope.run_id, playbook=playbook(request.stage, run)[0],
        )  # fmt: skip
    execution = job["execution"]
    given_up = ""
    try:
        execution = execution or _submit(server, registry, job, request, run_dir, playbook, run)
        progress(0.0, f"NoETL execution {execution}")
        if wait:
            ended = _wait(server, execution, run.timeout_s)
        else:
            late = overdue(job, run.timeout_s, server.clock)
            ended = _has_ended(server, execution, job, late)
            if late and not ended:
                ended, given_up = True, _give_up(server, execution, run.timeout_s)
    except NoetlError as error:
        if wait or not _passes(error):
            if execution is None:
                jobs.end(registry, job, error.message)  # refused: the next try is another one
            raise
        return _receipt(request, f"the NoETL server is away, {request.stage} waits for it: {error.message}")
    if not ended:
        return _receipt(request, f"{request.stage} was handed over: {server.address.page(execution)}")
    receipt = _collect(server, execution, request, run_dir, given_up)
    jobs.end(registry, job, receipt.error)
    return receipt


def finished(server: Server, waiting: Iterable[Row], timeout_of: Callable[[Row], float]) -> list[Row]:
    """Of the jobs in flight those whose cell is to be launched again: ended, overdue, lost, or never submitted.

    One question tells what runs; only what is not among that is asked for by itself. `timeout_of`: seconds that
    a job's stage has, asked for only once it has run for some minutes.
    """
    rows = list(waiting)
    running = set(server.running()) if rows else set()
    found = []
    for job in rows:
        if job["execution"] is None:
            if _age(job, server.clock) > RESUBMIT_AFTER_S:
                found.append(job)
        elif _age(job, server.clock) > OVERDUE_BY_S and overdue(job, timeout_of(job), server.clock):
            found.append(job)
        elif job["execution"] not in running:
            # One job that cannot be told of must not hide the others; a server that is away was noticed above.
            with contextlib.suppress(NoetlError):
                if _state(server.status(job["execution"]), job, server.clock) in protocol.TERMINAL:
                    found.append(job)
    return found


def overdue(job: Row, timeout_s: float, clock: Clock) -> bool:
    """Whether a job that the server has accepted should have ended some minutes ago."""
    return job["execution"] is not None and _age(job, clock) > timeout_s + OVERDUE_BY_S


def _submit(
    server: Server,
    registry: Registry,
    job: Row,
    request: StageRequest,
    run_dir: Path,
    playbook: Playbook,
    run: StageRun,
) -> str:
    registered = server.register(*playbook(request.stage, run))
    execution = server.execute(registered, payload(request, run_dir, run), dedup=job["dedup"]).execution
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


def _has_ended(server: Server, execution: str, job: Row, late: bool) -> bool:
    try:
        return _state(server.status(execution), job, server.clock) in protocol.TERMINAL
    except NoetlError as error:
        if not late or error.status is None:
            raise
        return False  # the server is there, and cannot tell of this one


def _give_up(server: Server, execution: str, timeout_s: float) -> str:
    """Cancel what should have ended long ago, and say so; nothing to say where it had ended just then.

    A server that cannot cancel it does not keep the stage waiting: what still runs there is kept from running
    beside the next try by the lock of the run folder.
    """
    told = f"execution {execution} has not ended after {timeout_s:.0f} s"
    try:
        return f"{told} and was cancelled" if server.cancel(execution) else ""
    except NoetlError as error:
        return f"{told} and could not be cancelled ({error.message})"


def _collect(server: Server, execution: str, request: StageRequest, run_dir: Path, given_up: str) -> StageReceipt:
    """The receipt that an ended execution left, or one that says why there is none."""
    receipt = read_receipt(run_dir)
    if receipt is not None and receipt.request == request:
        return receipt
    found = "a receipt of another request" if receipt is not None else "no receipt"
    said = given_up or _ending(server, execution)
    page = server.address.page(execution)
    return _receipt(request, f"{said}, and left {found} in {run_dir}; see {page}", failed=True)


def _ending(server: Server, execution: str) -> str:
    """How the server says that an execution ended."""
    try:
        end = protocol.ending(server.execution(execution), FINAL_STEP)
    except NoetlError as error:
        if error.status != 404:
            raise
        return f"the server does not know execution {execution}"
    return end.reason or f"execution {execution} is COMPLETED"


def _receipt(request: StageRequest, told: str, *, failed: bool = False) -> StageReceipt:
    values: dict[str, Any] = {"request": request, "request_digest": request.digest, "code_version": CODE_VERSION}
    outcome = {"status": "failed", "error_kind": "fault"} if failed else {}
    return StageReceipt(**{**values, "status": "deferred", "error_kind": "submitted", "error": told, **outcome})


def _state(status: Status | None, job: Row, clock: Clock) -> Status:
    """A server that takes its events in later does not know a new execution at once."""
    if status is None:
        return "failed" if _age(job, clock) > UNKNOWN_FOR_S else "running"
    return status


def _passes(error: NoetlError) -> bool:
    """Whether the server is away, rather than of another opinion."""
    return not isinstance(error, ProtocolError) and (error.status is None or error.status in (429, 500, 502, 503, 504))


def _age(job: Row, clock: Clock) -> float:
    return (clock.utc() - datetime.fromisoformat(job["submitted_at"])).total_seconds()
