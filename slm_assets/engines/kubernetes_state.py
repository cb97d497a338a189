"""What a pod's status means for its stage: still on its way, or over, and why. Never whether the stage succeeded."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

Phase = Literal["waiting", "running", "ended"]
Kind = Literal["", "exited", "oom", "evicted", "lost", "image", "config", "deadline", "unschedulable"]

PULL_S = 300.0
"""A registry that fails for a moment is not an image that does not exist; nor a Secret that is being made."""
GRACE_S = 120.0
"""How long after the deadline the kubelet may still end a pod by itself."""
TAKEN_AWAY: frozenset[Kind] = frozenset({"evicted", "lost"})
"""The cluster's doing: another try may end well. The others would end as they did."""

_EVICTIONS = {"Evicted", "Preempting", "Preempted", "NodeShutdown", "Shutdown", "Terminated", "NodeLost"}
_NOT_ADMITTED = ("OutOf", "NodeAffinity", "UnexpectedAdmissionError")
_PULLING = {"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "RegistryUnavailable", "ImageInspectError"}
_NEVER = {"InvalidImageName"}
_CONFIG = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}


@dataclass(frozen=True)
class State:
    """A pod, judged. `reason` is Kubernetes' own word, `said` its sentence; both are text of others."""

    phase: Phase
    kind: Kind = ""
    reason: str = ""
    said: str = ""
    node: str = ""
    exit_code: int | None = None

    @property
    def told(self) -> str:
        """One line for people."""
        code = "" if self.exit_code is None else f" (exit code {self.exit_code})"
        return " ".join(f"{self.reason or self.kind or self.phase}{code}: {self.said}".rstrip(": ").split())[:500]


GONE = State("ended", "lost", "Deleted", "the pod is not there any more")


def judge(pod: Any, *, now: datetime, timeout_s: float, pending_s: float) -> State:
    """The state of a V1Pod, or of None for one that is not there. `timeout_s`: of its work; `pending_s`: until it has
    a node."""
    if pod is None:
        return GONE
    status, node = pod.status, pod.spec.node_name or ""
    if status is None:
        return State("waiting", reason="Pending")
    ended = _ended(status, node)
    if ended is not None:
        return ended
    container = _container(status)
    if status.phase != "Running" and (container is None or container.state.running is None):
        return _waiting(pod, container, node, now, pending_s)
    running = container.state.running if container is not None else None
    started = (running.started_at if running is not None else None) or status.start_time
    if started and now > started + timedelta(seconds=timeout_s + GRACE_S):
        return State("ended", "deadline", "Overdue", f"it runs since {started.isoformat()}", node)
    return State("running", node=node)


def _ended(status: Any, node: str) -> State | None:
    container = _container(status)
    over = container.state.terminated if container is not None else None
    code = over.exit_code if over is not None else None
    reason = status.reason or (over.reason if over is not None else "") or ""
    said = status.message or (over.message if over is not None else "") or ""
    if status.phase not in ("Succeeded", "Failed") and over is None:
        return None
    if over is not None and over.reason == "OOMKilled":
        return State("ended", "oom", "OOMKilled", said, node, code)
    if status.reason == "DeadlineExceeded":
        return State("ended", "deadline", "DeadlineExceeded", said, node, code)
    disrupted = next((c for c in status.conditions or () if c.type == "DisruptionTarget" and c.status == "True"), None)
    if status.reason in _EVICTIONS or (status.reason or "").startswith(_NOT_ADMITTED):
        return State("ended", "evicted", status.reason, said, node, code)
    if disrupted is not None and code != 0:
        return State("ended", "evicted", disrupted.reason or "DisruptionTarget", disrupted.message or said, node, code)
    return State("ended", "exited", reason or status.phase, said, node, code)


def _waiting(pod: Any, container: Any, node: str, now: datetime, pending_s: float) -> State:
    waits = container.state.waiting if container is not None else None
    reason, said = (waits.reason or "", waits.message or "") if waits is not None else ("", "")
    placed = pod.status.start_time or pod.metadata.creation_timestamp
    if reason in _NEVER or (reason in _PULLING and _older(placed, now, PULL_S)):
        return State("ended", "image", reason, said, node)
    if reason in _CONFIG and _older(placed, now, PULL_S):
        return State("ended", "config", reason, said, node)
    unplaced = next((c for c in pod.status.conditions or () if c.type == "PodScheduled" and c.status == "False"), None)
    if unplaced is not None:
        reason, said = unplaced.reason or reason, unplaced.message or said
    if not node and _older(pod.metadata.creation_timestamp, now, pending_s):
        return State("ended", "unschedulable", reason or "Pending", said)
    return State("waiting", reason=reason or "Pending", said=said, node=node)


def _container(status: Any) -> Any:
    """The status of the stage's container, the only one."""
    return next((c for c in status.container_statuses or () if c.state is not None), None)


def _older(since: datetime | None, now: datetime, seconds: float) -> bool:
    return since is not None and now > since + timedelta(seconds=seconds)
