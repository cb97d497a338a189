"""Run a stage as a pod: submit it once, let go of the run or stay and stream its log, and judge by the receipt.

One road for long steps and short ones. Every pod is a job of the registry and has a name that follows from its
request, so that whoever asks again, after a kill or a restart, finds the pod that runs. A run that does not wait
ends with the submission; the sensor launches the cell again when the pod has ended. One that waits follows the log
(Dagster Pipes) in between. How a pod ended says only why there is no receipt, and whether another try is worth it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from slm_assets.domain.cluster import Cluster, cluster_from_env, merged
from slm_assets.domain.compute import Container, StageRun
from slm_assets.engines.handed_over import Handed, hand_to_store, receipt_in_store
from slm_assets.engines.in_process import Launch
from slm_assets.engines.kubernetes_api import Api, KubeAwayError, KubeError, connect
from slm_assets.engines.kubernetes_logs import PodLog, streaming
from slm_assets.engines.kubernetes_pod import REQUEST_LABEL, manifest, pod_name
from slm_assets.engines.kubernetes_state import TAKEN_AWAY, State, judge
from slm_assets.registry import jobs
from slm_assets.registry.jobs import Row
from slm_assets.registry.registry import Registry
from slm_assets.stages.contract import Envelope, StageReceipt, StageRequest
from slm_assets.stages.runner import CODE_VERSION, proof_of
from slm_assets.stages.runtime import Progress
from slm_assets.stages.table import BY_NAME

ENGINE = "kubernetes"
RESUBMIT_AFTER_S = 60.0
WATCH_S = 5
"""How long one watch of a pod lasts; whatever it says, the pod is looked at again after it."""
AWAY_S = 300.0
"""How long a run that waits bears an API server that does not answer; then it lets go, and the sensor goes on."""
Now = Callable[[], datetime]


@dataclass(frozen=True)
class Where:
    """A cluster, and how a stage is to be run on it."""

    api: Api
    cluster: Cluster
    run: StageRun
    now: Now = lambda: datetime.now(UTC)

    @property
    def container(self) -> Container:
        """The domain's block over the deployment's."""
        return merged(self.run.container, self.cluster.container)


def launcher(run: StageRun, *, wait: bool) -> Launch:
    """`launch` on the cluster that the environment names. BadInputError where it names none."""
    return partial(launch, where=Where(connect(), cluster_from_env(), run), wait=wait)


def launch(
    request: StageRequest,
    envelope: Envelope,
    registry: Registry,
    run_dir: Path,
    progress: Progress,
    *,
    where: Where,
    wait: bool = False,
) -> StageReceipt:
    """The stage's receipt; while its pod works one of status `deferred` and kind `submitted`.

    A pod that the cluster took away is started again, as often as the container block says. `wait`: stay until the
    end; a run that is interrupted then deletes the pod.
    """
    job = jobs.of_cell(registry, request.domain, int(request.version[1:]), request.stage)
    mine = job if job is not None and job["engine"] == ENGINE else None
    there = proof_of(request, run_dir)
    if there is not None:
        if mine is not None and mine["request"] == request.digest and mine["state"] != jobs.ENDED:
            _end(registry, where.api, mine)
        return there
    if mine is not None and mine["request"] != request.digest:
        if mine["state"] != jobs.ENDED:
            where.api.delete(mine["detail"]["namespace"], mine["detail"]["pod"])  # nobody asks for it any more
        mine = None
    if mine is None or mine["state"] == jobs.ENDED:
        attempt = mine["detail"]["attempt"] + 1 if mine is not None else 1
        mine = _begin(registry, request, envelope, where, attempt, first=attempt)
    return _attempts(request, envelope, registry, run_dir, progress, where, mine, wait)


def cancel(registry: Registry, job: Row, api: Api, note: str) -> None:
    """Delete the pod of a job in flight and end the job. KubeError where the server does not let it go."""
    api.delete(job["detail"]["namespace"], job["detail"]["pod"])
    jobs.end(registry, job, note, detail={"reason": note})


def finished(api: Api, waiting: Iterable[Row], cluster: Cluster, now: Now | None = None) -> list[Row]:
    """Of the jobs in flight those whose cell is to be launched again: their pod has ended, is gone or cannot start, or
    it was never submitted. One list of pods per namespace tells."""
    moment = (now or Where.now)()
    pods: dict[str, dict[str, Any]] = {}
    found = []
    for job in waiting:
        if job["execution"] is None:
            if (moment - datetime.fromisoformat(job["submitted_at"])).total_seconds() > RESUBMIT_AFTER_S:
                found.append(job)
            continue
        namespace = job["detail"]["namespace"]
        if namespace not in pods:
            pods[namespace] = api.pods(namespace)
        pod = pods[namespace].get(job["execution"])
        if judge(pod, now=moment, timeout_s=job["detail"]["timeout_s"], pending_s=cluster.pending_s).phase == "ended":
            found.append(job)
    return found


def _attempts(
    request: StageRequest,
    envelope: Envelope,
    registry: Registry,
    run_dir: Path,
    progress: Progress,
    where: Where,
    job: Row,
    wait: bool,
) -> StageReceipt:
    """Try until there is a receipt, a failure that another try would not mend, or nothing to do but wait."""
    while True:
        handed = Handed(registry.tenant, registry.project, job["detail"]["pod"])
        told = f"pod {job['detail']['namespace']}/{handed.name}"
        try:
            progress(0.0, told)
            job, state = _follow(request, envelope, registry, progress, where, job, handed, wait)
        except KubeAwayError as error:
            return _receipt(request, f"the cluster is away, {request.stage} waits for it: {error.message}")
        except KubeError as error:
            jobs.end(registry, job, error.message)  # refused: the next try is another one
            raise
        except BaseException as error:
            if not isinstance(error, Exception):  # interrupted: who waited has given it up
                _end(registry, where.api, job, "cancelled")
            raise
        receipt = receipt_in_store(request, registry.store, handed, run_dir)
        if receipt is None and state.phase != "ended":
            return _receipt(request, f"{request.stage} was handed over: {told}, {state.told}")
        if receipt is not None:
            _end(registry, where.api, job, receipt.error, state)
            return receipt
        failure = _failure(request, where, job, state)
        _end(registry, where.api, job, failure, state)
        attempt, first = job["detail"]["attempt"], job["detail"]["first"]
        if state.kind not in TAKEN_AWAY or attempt - first >= where.container.retries:
            return _receipt(request, failure, failed=True)
        progress(0.0, f"{told} {state.told}; once more")
        job = _begin(registry, request, envelope, where, attempt + 1, first)


def _begin(
    registry: Registry, request: StageRequest, envelope: Envelope, where: Where, attempt: int, first: int
) -> Row:
    """Write the job of one pod; `first`: the attempt since which nobody had to ask again."""
    detail = {"namespace": where.container.namespace, "timeout_s": where.run.timeout_s}
    name = pod_name(registry.tenant, registry.project, request, attempt)
    return jobs.begin(
        registry, request.domain, int(request.version[1:]), request.stage,
        request=request.digest, run_id=envelope.run_id, playbook=BY_NAME[request.stage].playbook, engine=ENGINE,
        detail={**detail, "pod": name, "attempt": attempt, "first": first},
    )  # fmt: skip


def _follow(
    request: StageRequest,
    envelope: Envelope,
    registry: Registry,
    progress: Progress,
    where: Where,
    job: Row,
    handed: Handed,
    wait: bool,
) -> tuple[Row, State]:
    """See that the pod is there, and its state: with `wait` the last one. Its log is passed on meanwhile, or at its
    end. KubeAwayError where the server is away, with `wait` for long."""
    api, namespace = where.api, job["detail"]["namespace"]
    away_since: datetime | None = None
    with streaming(PodLog(api, namespace, handed.name, progress)) as pass_on:
        while True:
            try:
                job = _submit(request, envelope, registry, where, job, handed)
                pod = api.get(namespace, handed.name)
            except KubeAwayError:
                away_since = away_since or where.now()
                if not wait or (where.now() - away_since).total_seconds() > AWAY_S:
                    raise
                api.pause()
                continue
            away_since = None
            timeout_s = job["detail"]["timeout_s"]
            state = judge(pod, now=where.now(), timeout_s=timeout_s, pending_s=where.cluster.pending_s)
            if pod is not None and pod.status.start_time is not None and (wait or state.phase == "ended"):
                pass_on()
            if state.phase == "ended" or not wait:
                return job, state
            api.await_change(namespace, pod, WATCH_S)


def _submit(
    request: StageRequest, envelope: Envelope, registry: Registry, where: Where, job: Row, handed: Handed
) -> Row:
    """See that the pod was made. One that another process made for the same request is this one's too."""
    if job["state"] == jobs.SUBMITTED:
        return job
    namespace, cluster = job["detail"]["namespace"], where.cluster
    if cluster.artifacts is None:
        cluster = cluster.model_copy(update={"artifacts": registry.home.environment()["SLM_ARTIFACTS"]})
    hand_to_store(request, envelope, registry.store, handed)
    if not where.api.create(namespace, manifest(handed, request, where.container, cluster, where.run.timeout_s)):
        there = where.api.get(namespace, handed.name)
        label = (there.metadata.labels or {}).get(REQUEST_LABEL) if there is not None else None
        if there is not None and label != request.digest[:63]:
            raise KubeError(
                f"pod {namespace}/{handed.name} is there and is not of this request",
                cure=f"find out whose it is; then delete it: kubectl -n {namespace} delete pod {handed.name}",
            )
    jobs.accept(registry, job, handed.name)
    return {**job, "execution": handed.name, "state": jobs.SUBMITTED}


def _end(registry: Registry, api: Api, job: Row, note: str = "", state: State | None = None) -> None:
    """The job is over: say how in the registry, then take the pod away. A pod that is left ends by its deadline."""
    detail = {} if state is None else {"node": state.node, "reason": state.told, "kind": state.kind}
    jobs.end(registry, job, note, detail=detail)
    try:
        api.delete(job["detail"]["namespace"], job["detail"]["pod"])
    except KubeError as error:
        jobs.end(registry, job, f"{note}; its pod could not be deleted: {error.message}".lstrip("; "), detail=detail)


_CURES = {
    "oom": "raise stages.{stage}.container.memory, now {memory}",
    "image": "see that the image {image} exists and that the cluster may pull it",
    "config": "see that the Secrets that the file of SLM_CLUSTER names are in namespace {namespace}",
    "deadline": "raise stages.{stage}.timeout_s, now {timeout}",
    "unschedulable": "ask for less in stages.{stage}.container, or give the cluster such a node",
    "evicted": "run it again; raise stages.{stage}.container.retries or priority_class where it happens often",
    "lost": "run it again; raise stages.{stage}.container.retries where it happens often",
    "exited": "read what the pod said; it must reach the artifact store and the registry",
}


def _failure(request: StageRequest, where: Where, job: Row, state: State) -> str:
    """Why there is no receipt, with the last words of the pod and what to do."""
    namespace, name, container = job["detail"]["namespace"], job["detail"]["pod"], where.container
    cure = _CURES[state.kind or "exited"].format(
        stage=request.stage, memory=container.memory, image=container.image, namespace=namespace,
        timeout=where.run.timeout_s,
    )  # fmt: skip
    node = f" on node {state.node}" if state.node else ""
    tail = where.api.tail(namespace, name) if state.kind in ("exited", "oom", "deadline") else ""
    said = f"\n{tail}" if tail else ""
    return (
        f"pod {namespace}/{name}{node} left no receipt, attempt {job['detail']['attempt']}: "
        f"{state.kind or 'exited'}, {state.told}{said}\n  cure: {cure}"
    )


def _receipt(request: StageRequest, told: str, *, failed: bool = False) -> StageReceipt:
    values: dict[str, Any] = {"request": request, "request_digest": request.digest, "code_version": CODE_VERSION}
    outcome = {"status": "failed", "error_kind": "fault"} if failed else {}
    return StageReceipt(**{**values, "status": "deferred", "error_kind": "submitted", "error": told, **outcome})
