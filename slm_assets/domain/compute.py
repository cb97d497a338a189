"""Where a stage runs: which engine, and what a cluster must give its container.

`pod` turns the block into what a container is made of; every engine that starts one reads it there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from slm_assets.domain.block import Block

EngineName = Literal["in_process", "noetl", "kubernetes"]
KubeName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]
LabelKey = Annotated[
    str, StringConstraints(pattern=r"^([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$")
]
LabelValue = Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?$")]
Quantity = Annotated[str, StringConstraints(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$")]
Image = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:@-]{0,399}$")]
MountPath = Annotated[str, StringConstraints(pattern=r"^(/\.?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*)+/?$", max_length=200)]
GPU_RESOURCE = "nvidia.com/gpu"


class Toleration(Block):
    """A taint that the pod may stand."""

    key: LabelKey = Field(description="Key of the taint.")
    operator: Literal["Exists", "Equal"] = Field(default="Exists", description="Exists takes no value.")
    value: LabelValue | None = Field(default=None, description="Value of the taint, with Equal.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] = Field(
        default="NoSchedule", description="Which effect is tolerated."
    )


class Volume(Block):
    """A persistent volume claim and where it is seen."""

    claim: KubeName = Field(description="Name of the persistent volume claim.")
    mount: MountPath = Field(description="Where it is mounted.")
    read_only: bool = Field(default=False, description="Mounted for reading only.")


class Container(Block):
    """What a cluster must give the stage's container."""

    image: Image = Field(default="slm-assets:latest", description="Image that holds `slm`; best by digest.")
    namespace: KubeName = Field(default="slm", description="Kubernetes namespace.")
    service_account: KubeName = Field(default="slm-stage", description="Service account of the pod.")
    cpu: Quantity = Field(default="4", description="CPU cores asked for.")
    memory: Quantity = Field(default="16Gi", description="Memory asked for, and its limit.")
    gpus: int = Field(default=0, ge=0, le=64, description="GPUs asked for.")
    node_selector: dict[LabelKey, LabelValue] = Field(default={}, description="Labels that the node must have.")
    tolerations: list[Toleration] = Field(default=[], description="Taints that the pod may stand.")
    volumes: list[Volume] = Field(default=[], description="Volumes; with NoETL one of them holds SLM_HOME.")
    priority_class: KubeName | None = Field(default=None, description="Priority class of the pod.")
    retries: int = Field(
        default=2, ge=0, le=10, description="How often a pod that the cluster took away is started again."
    )


class StageRun(Block):
    """How one stage is run."""

    engine: EngineName = Field(default="in_process", description="Who runs it; `--engine` overrides it for one run.")
    timeout_s: int = Field(
        default=21_600,
        ge=1,
        le=604_800,
        description="Longest time for one run of it by another engine than this process.",
    )
    wait: bool = Field(
        default=False,
        description="The Dagster run stays until an engine elsewhere has ended it, with its log: for steps of minutes.",
    )
    container: Container | None = Field(default=None, description="Runs it in a container of a cluster.")


@dataclass(frozen=True)
class Pod:
    """What a container of a cluster is made of: texts, as Kubernetes and NoETL both want them.

    Keys inside are NoETL's (snake case). `volumes` and `mounts` have one entry per claim.
    """

    image: str
    namespace: str
    service_account: str
    timeout_seconds: int
    requests: dict[str, str] = field(default_factory=dict)
    limits: dict[str, str] = field(default_factory=dict)
    node_selector: dict[str, str] = field(default_factory=dict)
    tolerations: list[dict[str, str]] = field(default_factory=list)
    volumes: list[dict[str, Any]] = field(default_factory=list)
    mounts: list[dict[str, Any]] = field(default_factory=list)


def pod(container: Container, timeout_s: int) -> Pod:
    """The container of a stage with this block; memory and GPUs are limits too, CPU is only asked for."""
    memory, gpus = {"memory": container.memory}, str(container.gpus)
    gpu = {GPU_RESOURCE: gpus} if gpus != "0" else {}
    return Pod(
        image=container.image,
        namespace=container.namespace,
        service_account=container.service_account,
        timeout_seconds=timeout_s,
        requests={"cpu": container.cpu} | memory | gpu,
        limits=memory | gpu,
        node_selector=dict(container.node_selector),
        tolerations=[_toleration(toleration) for toleration in container.tolerations],
        volumes=[
            {"name": f"volume-{index}", "persistent_volume_claim": {"claim_name": volume.claim}}
            for index, volume in enumerate(container.volumes)
        ],
        mounts=[
            {"name": f"volume-{index}", "mount_path": volume.mount, "read_only": volume.read_only}
            for index, volume in enumerate(container.volumes)
        ],
    )


def _toleration(toleration: Toleration) -> dict[str, str]:
    found = {"key": toleration.key, "operator": toleration.operator, "effect": toleration.effect}
    return found if toleration.value is None else found | {"value": toleration.value}


def settings(runs: Mapping[str, StageRun], stage: str) -> StageRun:
    """How a stage is run: as the config's `stages` says, else in process."""
    return runs.get(stage, StageRun())
